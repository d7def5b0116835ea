"""What a cell leaves on disk, read back without torch."""
