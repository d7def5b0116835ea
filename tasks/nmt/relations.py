"""What is known, without any model, of how the languages of a corpus relate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlbench.catalogue.relation import Relation

from .._families.relations import descent
from .._text.relations import genealogical, overlap
from .preparing import Prepared

Array = NDArray[Any]


def known_relations(data: Prepared) -> list[Relation]:
    """Families first, known ones or those of the genealogical table; then `resource`, `overlap` and what else there is.

    Objectives of one language and both directions are alike in all of them but `direction`.
    """
    languages = [pair.language for pair in data.pairs]
    truth = data.corpus_facts.get("families")
    known = descent(truth, languages) if truth else genealogical(languages)
    return [*known, _resource(data), _overlap(data), *_scripts(data, languages), *_directions(data)]


def _overlap(data: Prepared) -> Relation:
    """Of the training pairs, on the side that is not the central language's, without end symbols and tags."""
    return overlap(np.array([_subwords(data, k) for k in range(len(data.pairs))]))


def _subwords(data: Prepared, k: int) -> Array:
    """(V,) how often each subword is in the training text of objective k that is not in the central language."""
    examples = data.train[k]
    side = examples.source if data.pairs[k].target == data.centre else examples.target
    ends = np.zeros(len(side.ids) + 1, dtype=np.int64)
    np.add.at(ends, side.starts, 1)
    np.add.at(ends, side.starts + side.lengths, -1)
    return np.bincount(side.ids, weights=np.cumsum(ends)[:-1], minlength=data.subwords.size)


def _resource(data: Prepared) -> Relation:
    sizes = [data.train[k].size for k in range(len(data.pairs))]
    return Relation("resource", "amount", "training sentence pairs", np.array(sizes))


def _directions(data: Prepared) -> list[Relation]:
    """Nothing where there is one."""
    into = [pair.target == data.centre for pair in data.pairs]
    if len(set(into)) == 1:
        return []
    labels = np.array(["into" if towards else "out of" for towards in into])
    return [Relation("direction", "label", f"into {data.centre} or out of it", labels)]


def _scripts(data: Prepared, languages: Sequence[str]) -> list[Relation]:
    """The scripts, where the reader of the corpus knows all of them."""
    known = data.corpus_facts.get("languages", {})
    scripts = [known.get(language, {}).get("script") for language in languages]
    return [Relation("script", "label", "script of the text (ISO 15924)", np.array(scripts))] if all(scripts) else []
