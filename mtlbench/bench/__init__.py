"""What methods cost: time and memory of combining a Jacobian, of whole training steps, and of tables, as ratios."""
