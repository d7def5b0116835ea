"""Tagged sentences: what every corpus of the task is read into, and the tags that there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Kind = Literal["pos", "ner"]
"""Parts of speech, or named entities."""

UPOS = (
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM"),
    *("PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X"),
)
"""The parts of speech of Universal Dependencies 2."""

ENTITIES = ("O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-PER", "I-PER")
"""The tags of WikiAnn."""

TAGS: Mapping[Kind, tuple[str, ...]] = {"pos": UPOS, "ner": ENTITIES}
"""The one label set that all languages of a problem have."""

SPLITS = ("train", "val", "test")


class Sentence(NamedTuple):
    """Words, and the tag of each; a sentence without labels has no tags."""

    words: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Corpus:
    """Tagged sentences of several languages."""

    kind: Kind
    splits: Mapping[str, Mapping[str, Sequence[Sentence]]]
    """`train`, `val` and `test` -> language -> sentences. `train` holds the languages that are trained on."""
    unlabelled: Mapping[str, Sequence[Sequence[str]]]
    """Language -> sentences as words, which `tiny` is made from; no sentence of `val` or `test` is among them."""
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
