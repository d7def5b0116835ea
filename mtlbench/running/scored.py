"""What a task answers of a split, taken apart: the scores, and what it knows of their sampling."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

from mtlbench.catalogue.task import Estimate
from mtlbench.record.schema import Sampling

Answer = Mapping[str, Mapping[str, float | Estimate]]
"""Objective -> metric -> score, as `Task.evaluate` gives it."""


def value(score: float | Estimate) -> float:
    """The score without what is known of its sampling."""
    return score.value if isinstance(score, Estimate) else score


def values(found: Answer) -> dict[str, dict[str, float]]:
    """Every score without what is known of its sampling."""
    return {name: {metric: value(score) for metric, score in metrics.items()} for name, metrics in found.items()}


def samplings(answers: Mapping[str, Answer]) -> dict[str, dict[str, dict[str, Sampling]]]:
    """Split -> objective -> metric -> what is known of the sampling, of those scores that are estimates.

    Args:
        answers: by split.

    Raises:
        ValueError: what an estimate says cannot be (`problem`).
    """
    told: dict[str, dict[str, dict[str, Sampling]]] = {}
    for split, found in answers.items():
        for name, metrics in found.items():
            for metric, score in metrics.items():
                if not isinstance(score, Estimate):
                    continue
                if what := problem(score):
                    raise ValueError(f"{metric} of {name} on {split} has {what}")
                error = None if score.error is None else float(score.error)
                sampling = Sampling(error=error, count=int(score.count))
                told.setdefault(split, {}).setdefault(name, {})[metric] = sampling
    return told


def problem(estimate: Estimate) -> str:
    """What is wrong with the error and the count of an estimate, in words; empty if nothing is."""
    if estimate.error is not None and not _is_error(estimate.error):
        return f"the error {estimate.error!r}: allowed are numbers from 0 on, and None where it cannot be said"
    if not isinstance(estimate.count, numbers.Integral) or isinstance(estimate.count, bool) or estimate.count < 1:
        return f"the count {estimate.count!r}: allowed are whole numbers from 1 on"
    return ""


def _is_error(error: Any) -> bool:
    return isinstance(error, numbers.Real) and math.isfinite(error) and float(error) >= 0
