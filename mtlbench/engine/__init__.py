"""Losses to `.grad` with any method: it serves anybody's training loop and knows no task, cell or file."""
