"""Strategies that say what share of a step each objective gets: one file each, registered like methods."""
