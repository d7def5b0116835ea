"""Where workers run: one contract, a file for each place."""
