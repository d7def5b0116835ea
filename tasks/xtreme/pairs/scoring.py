"""The official score of problems on pairs, and what is scored without a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mtlbench.catalogue.task import Estimate, Metric
from mtlbench.statistics import ratio_error

from .labels import Pair


def metrics(scored_on: str) -> tuple[Metric, ...]:
    """Accuracy alone.

    Args:
        scored_on: what the test split is, where that is not a test file of its own.
    """
    return (Metric(name="accuracy", higher_is_better=True, unit="%", signature=scored_on),)


def scores(pairs: Sequence[Pair], predicted: Sequence[str]) -> dict[str, Estimate]:
    """Accuracy in percent, with the standard error that the choice of texts leaves.

    Pairs that share their first text, such as the three hypotheses of one premise in XNLI, count as drawn together.

    Args:
        pairs: with their right labels.
        predicted: (pairs,) labels.
    """
    right: Counter[str] = Counter()
    drawn: Counter[str] = Counter()
    for pair, label in zip(pairs, predicted, strict=True):
        right[pair.first] += label == pair.label
        drawn[pair.first] += 1
    error = ratio_error([100 * right[text] for text in drawn], list(drawn.values()))
    return {"accuracy": Estimate(100 * right.total() / len(pairs), error, len(drawn))}


def baselines(train: Sequence[Pair], scored: Sequence[Pair]) -> dict[str, dict[str, float]]:
    """What is scored without a model: `label`, the most frequent label of training everywhere."""
    ((label, _),) = Counter(pair.label for pair in train).most_common(1)
    found = scores(scored, [label] * len(scored))
    return {"label": {metric: one.value for metric, one in found.items()}}
