"""A table, or how a figure looks, as files and on the terminal."""
