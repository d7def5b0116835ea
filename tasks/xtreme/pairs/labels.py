"""Pairs of texts, and the labels that there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

LABELS: Mapping[str, tuple[str, ...]] = {
    "xnli": ("contradiction", "entailment", "neutral"),
    "pawsx": ("0", "1"),
}
"""Problem -> its labels, in XTREME's order; `1` in PAWS-X says that both texts mean the same."""

SYNONYMS: Mapping[str, Mapping[str, str]] = {"xnli": {"contradictory": "contradiction"}, "pawsx": {}}
"""Problem -> what XTREME's preprocessing reads as another label: a word of MultiNLI's files."""


class Pair(NamedTuple):
    """Two texts and what they are to each other."""

    first: str
    second: str
    label: str
    """Empty for a pair without one."""
    origin: int = -1
    """The first row of the file that it hangs together with (see `files.linked`); -1 where no file is cut."""
