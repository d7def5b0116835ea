"""Artificial languages of a known family tree, tagged by the grammar and the meaning that their sentences come from."""

from __future__ import annotations

from collections.abc import Sequence

from ..._families import Families, generate
from ..._families import Sentence as Said
from ..._text.languages import chosen
from ..corpus import SPLITS, Corpus
from .sentences import Kind, Sentence

LABELLED = {"high": 60, "low": 20}
"""Training sentences with labels, in languages with much and with little text. With labels in all 6,000 sentences of
the former, looking words up would be enough: 999 of 1,000 words of the test split are among them, and hardly one has
two parts of speech."""


def load(kind: Kind, wanted_by: str, languages: Sequence[str] | None) -> Corpus[Sentence]:
    """The sentences of `mtlbench.tasks._families` in its default sizes; facts: the true tree and all distances.

    The first `LABELLED` sentences of the training text have labels, all of it is unlabelled text. The central language
    of the translation corpus, which is in no family, is left out.

    Raises:
        UsageError: a language that is not among them.
    """
    families = generate()
    codes = chosen(languages, families.languages, wanted_by)
    return Corpus(
        {split: {code: _tagged(kind, families, code, split) for code in codes} for split in SPLITS},
        unlabelled={code: [_words(said) for said in families.sentences(code, "train")] for code in codes},
        facts={"families": families.as_dict()},
    )


def _tagged(kind: Kind, families: Families, language: str, split: str) -> list[Sentence]:
    said = families.sentences(language, split)
    if split == "train":
        said = said[: LABELLED["high" if language in families.high else "low"]]
    return [
        Sentence(_words(one), tuple(token.pos if kind == "pos" else token.entity for token in one.tokens))
        for one in said
    ]


def _words(said: Said) -> tuple[str, ...]:
    return tuple(token.form for token in said.tokens)
