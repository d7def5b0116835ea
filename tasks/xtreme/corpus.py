"""What the files of a problem are read into, whatever its examples are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Example = TypeVar("Example")
"""A tagged sentence, a pair of sentences, a question: what a problem trains on and scores."""

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Corpus(Generic[Example]):
    """Examples of one problem in several languages."""

    splits: Mapping[str, Mapping[str, Sequence[Example]]]
    """`train`, `val` and `test` -> language -> examples. `train` holds the languages that are trained on."""
    unlabelled: Mapping[str, Sequence[Sequence[str]]]
    """Language -> sentences as words, which `tiny` is made from; no text of `val` or `test` is among them."""
    sources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Language -> split -> what it was read from, where that is not the split's own file."""
    notices: Sequence[str] = ()
    """What people should know of the data before training."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else is known of it and belongs in a record, such as the true family tree of artificial languages."""

    @property
    def languages(self) -> list[str]:
        """Those that are scored, in the order of the objectives."""
        return list(self.splits["test"])
