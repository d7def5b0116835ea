"""What is known, without any model, of how the languages of a problem relate."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlbench.catalogue.relation import Relation

from .._families.relations import descent
from .._text.relations import genealogical, overlap
from .problem import Problem

ROWS = 512
"""That are looked at at once."""


def known_relations(p: Problem[Any]) -> list[Relation]:
    """Families first, known ones or those of the genealogical table; where all languages are trained on also `resource`
    and `overlap`, of what they are trained on.
    """
    truth = p.corpus.facts.get("families")
    known = descent(truth, p.languages) if truth else genealogical(p.languages)
    if len(p.trained) < len(p.languages):
        return known
    sizes = np.array([len(p.kept["train"][name]) for name in p.languages])
    counts = np.array([_subwords(p, k) for k in range(len(p.languages))])
    return [*known, Relation("resource", "amount", f"training {p.unit}", sizes), overlap(counts)]


def _subwords(p: Problem[Any], language: int) -> NDArray[np.int64]:
    """(V,) how often each subword is in the training rows of a language, without the symbols around texts."""
    number, size = len(p.lengths(language)), len(p.encoder.tokenizer)
    counts = np.zeros(size, dtype=np.int64)
    for start in range(0, number, ROWS):
        batch = p.batch(language, np.arange(start, min(start + ROWS, number)))
        counts += np.bincount(batch.ids.flatten().cpu().numpy(), minlength=size)
    symbols = p.encoder.symbols
    counts[[symbols.pad, symbols.start, symbols.end]] = 0
    return counts
