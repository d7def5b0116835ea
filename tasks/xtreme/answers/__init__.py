"""Extractive question answering: `xquad`, `mlqa` and `tydiqa`."""
