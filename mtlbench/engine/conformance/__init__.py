"""What every method must do whatever its mathematics, and what most promise: tried on small problems."""
