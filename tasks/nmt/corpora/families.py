"""Artificial languages of a known family tree: the embedded corpora, whose truth goes into the record.

`families` is as it comes. `families-private` is the same text, but every language, the central one too, has an alphabet
of its own, so that no two share a subword. In `families-crossed` the words are those of `families`, and the grammar is
inherited along another tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..._families import GRAMMAR_TREE, generate
from ..._text.languages import chosen
from ..corpus import REQUIRED, Bitext, Corpus

WORLDS: Mapping[str, Mapping[str, Any]] = {
    "families": {},
    "families-private": {"alphabets": "private"},
    "families-crossed": {"grammar_tree": GRAMMAR_TREE},
}
"""Variant -> what `generate` is told."""


def load(variant: str, wanted_by: str, languages: Sequence[str] | None) -> Corpus:
    """The text of `mtlbench.tasks._families` in its default sizes; facts: the true tree and all distances.

    Args:
        variant: one of `WORLDS`.
        wanted_by: the `task/variant` that needs the corpus, for messages.
        languages: some of them; None for all.

    Raises:
        UsageError: a language that is not among them.
    """
    families = generate(**WORLDS[variant])
    codes = chosen(languages, families.languages, wanted_by)
    splits = {split: {code: Bitext(*families.bitext(code, split)) for code in codes} for split in REQUIRED}
    corpus = Corpus(splits, families.centre, facts={"families": families.as_dict()})
    return corpus if variant != "families-private" else _with_letters(corpus)


def _with_letters(corpus: Corpus) -> Corpus:
    bitexts = [text for by_language in corpus.splits.values() for text in by_language.values()]
    letters = {corpus.centre: _letters(text.central for text in bitexts)}
    for code in corpus.languages:
        letters[code] = _letters(by_language[code].foreign for by_language in corpus.splits.values())
    return replace(corpus, letters=letters)


def _letters(texts: Iterable[Sequence[str]]) -> str:
    """Every letter of the sentences once, in order."""
    return "".join(sorted({letter for text in texts for sentence in text for letter in sentence} - {" "}))
