"""Tagged sentences, and the tags that there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

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


class Sentence(NamedTuple):
    """Words, and the tag of each; a sentence without labels has no tags."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
