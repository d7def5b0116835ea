"""Parallel text: what every corpus of the task is read into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

REQUIRED = ("train", "val", "test")
"""The splits that every corpus has; any other one is an extra test set."""


class Bitext(NamedTuple):
    """Sentences of one language and their translations into the centre, line by line."""

    foreign: list[str]
    central: list[str]


@dataclass(frozen=True)
class Corpus:
    """Parallel text of K languages with one central language, English in all real corpora."""

    splits: Mapping[str, Mapping[str, Bitext]]
    """Split -> language -> text. `train`, `val` and `test` hold every language, extra test sets some of them."""
    centre: str = "en"
    counts: Mapping[str, int] = field(default_factory=dict)
    """What was repaired or left out, by rule: `psalms left out: rus` -> 1786; empty where there was nothing."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else is known of it and belongs in a record, such as the true family tree of artificial languages."""
    letters: Mapping[str, str] = field(default_factory=dict)
    """Language, the central one too, -> its letters, where no two share any; empty where they do, as in all real
    corpora. Then no two languages share a subword either."""

    @property
    def languages(self) -> list[str]:
        """The K languages, in the order of the objectives."""
        return list(self.splits["train"])
