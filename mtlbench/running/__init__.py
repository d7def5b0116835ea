"""From cells to records: launching, training, checkpoints."""
