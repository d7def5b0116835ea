"""What is known of languages without a model, as relations of objectives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlbench.catalogue.relation import Relation

from .genealogy import GENEALOGY, SOURCE, distance


def genealogical(languages: Sequence[str]) -> list[Relation]:
    """Family, branch and a coarse distance of the genealogical table; nothing where it lacks a language."""
    if not all(language in GENEALOGY for language in languages):
        return []
    known = [GENEALOGY[language] for language in languages]
    steps = [[float(distance(a, b)) for b in known] for a in known]
    about = f"0 in one branch, 1 in one family, 2 otherwise: coarse ({SOURCE})"
    return [
        Relation("family", "label", f"family of the language ({SOURCE})", np.array([one.family for one in known])),
        Relation("branch", "label", f"branch of the family ({SOURCE})", np.array([one.branch for one in known])),
        Relation("genealogy", "distance", about, np.array(steps)),
    ]


def overlap(counts: NDArray[Any]) -> Relation:
    """How alike languages use subwords: sum_v sqrt(p_v q_v), where p and q are the shares of subword v.

    This is Bhattacharyya's coefficient: 1 for equal shares and 0 where no subword is in both.

    Args:
        counts: (K, V) how often each subword is in the training text of each language, at least one in each.
    """
    roots = np.sqrt(counts / counts.sum(axis=1, keepdims=True))
    values = roots @ roots.T
    about = "overlap of the subword unigrams of the training texts (Bhattacharyya coefficient, 0 to 1), without a model"
    return Relation("overlap", "similarity", about, (values + values.T) / 2)
