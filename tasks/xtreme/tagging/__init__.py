"""Tagging: parts of speech (`udpos`) and named entities (`panx`), and both in the artificial languages."""
