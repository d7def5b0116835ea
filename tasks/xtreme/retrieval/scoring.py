"""The official scores of retrieval, in percent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from mtlbench.catalogue.task import Estimate, Metric
from mtlbench.statistics import mean_error, ratio_error

Pairs = Collection[tuple[str, str]]
"""Ids of a sentence and of its English translation."""


def accuracy(chosen: NDArray[np.int64]) -> Estimate:
    """How many of n sentences chose the n-th of the others.

    Args:
        chosen: (n,).
    """
    right = 100.0 * (chosen == np.arange(len(chosen)))
    return Estimate(float(right.mean()), mean_error(right), len(right))


def pair_scores(sentences: Sequence[str], predicted: Pairs, gold: Pairs) -> dict[str, Estimate]:
    """`f1`, `precision` and `recall` of pairs, with the sampling errors that the choice of sentences leaves.

    Without a right pair all are 0, as in XTREME's `evaluate.py`.

    Args:
        sentences: the ids of the first side.
        predicted: one-to-one.
        gold: the right ones.
    """
    right = Counter(own for own, _ in {*predicted} & {*gold})
    made, wanted = Counter(own for own, _ in predicted), Counter(own for own, _ in gold)
    tp, p, g = (np.array([count[name] for name in sentences], np.float64) for count in (right, made, wanted))
    found = {}
    for name, numerators, denominators in (("f1", 2 * tp, p + g), ("precision", tp, p), ("recall", tp, g)):
        total = denominators.sum()
        value = 100 * numerators.sum() / total if total else 0.0
        found[name] = Estimate(float(value), ratio_error(100 * numerators, denominators), len(sentences))
    return found


def tatoeba_metrics(how: str) -> tuple[Metric, ...]:
    """Accuracy, the direction of XTREME's scripts first: they look up an English sentence among the others."""
    return (
        Metric(name="accuracy", higher_is_better=True, unit="%", signature=f"English sentences look for theirs; {how}"),
        Metric(name="accuracy_to_english", higher_is_better=True, unit="%", signature=f"the other direction; {how}"),
    )


def bucc_metrics(how: str) -> tuple[Metric, ...]:
    """F1, then precision and recall."""
    signature = f"pairs of sentences above the threshold with the best F1 on dev; {how}"
    return (
        Metric(name="f1", higher_is_better=True, unit="%", signature=signature),
        Metric(name="precision", higher_is_better=True, unit="%"),
        Metric(name="recall", higher_is_better=True, unit="%"),
    )
