"""What methods did to conflicting gradients in training: what PCGrad would have corrected, what was corrected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mtlbench.errors import UsageError
from mtlbench.geometry.labelled import Labelled
from mtlbench.record.trajectory import MethodTrace, Trajectory
from mtlbench.statistics import LEVEL

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Corrections:
    """Of one run or several, M groups of the method's own granularity; intervals are over runs, NaN for one.

    Means over training are over all steps, the windows between snapshots weighted by their steps.
    """

    would: Labelled
    """(M, K, K) share of steps in which the training gradients of a pair conflict. It is what PCGrad would correct if
    it visited this pair first, on the path that the method took."""
    did: Labelled
    """(M, K, K) share of visits in which the method changed the gradient of `objective` by that of `other`; NaN where
    it makes no visits."""
    cosine: Labelled
    """(M, K, K) mean cosine of the training gradients."""
    target: Labelled
    """(M, K, K) mean target of Gradient Vaccine; NaN for others."""
    would_by_step: Labelled
    """(T,) `would` in the window that ends at each snapshot, mean over groups and pairs."""
    did_by_step: Labelled
    """(T,) `did` in that window."""
    norm_ratio: Labelled
    """(T, M) mean norm of the update over that of the plain sum of gradients."""
    update_cosine: Labelled
    """(T, K) mean cosine of the update with each objective's training gradient, mean over groups."""


def corrections(runs: Sequence[Trajectory]) -> Corrections | None:
    """Read from what the runs' methods left; None where one of them saw no Gramian of the training gradients.

    Raises:
        UsageError: no run, or runs with other objectives, groups of the method or snapshots.
    """
    traces = [run.method for run in runs if run.method is not None]
    if not runs:
        raise UsageError("No run was given; at least one is needed.")
    if len(traces) < len(runs):
        return None
    first, trace = runs[0], traces[0]
    for run, other in zip(runs, traces, strict=True):
        mine = (run.objectives, other.groups, run.steps.tolist())
        if mine != (first.objectives, trace.groups, first.steps.tolist()):
            raise UsageError(
                f"The runs {first.cell} and {run.cell} have other objectives, groups of the method or snapshots and "
                "cannot be combined."
            )
    pair = (trace.groups, first.objectives, first.objectives), ("group", "objective", "other")
    steps = tuple(str(step) for step in first.steps.tolist())
    over = (steps,), ("step",)

    def whole(name: str, about: str) -> Labelled:
        return _labelled([_over_training(t, getattr(t, name)) for t in traces], *pair, about)

    def by_step(name: str, about: str) -> Labelled:
        return _labelled([_known_mean(_off_diagonal(getattr(t, name))) for t in traces], *over, about)

    ratios = [np.asarray(t.norm_ratio, dtype=np.float64) for t in traces]
    toward = [np.stack([_known_mean(one) for one in np.moveaxis(t.update_cosine, -1, 0)], -1) for t in traces]
    return Corrections(
        would=whole("negative", "share of steps with conflicting training gradients, which PCGrad would correct"),
        did=whole("corrected", "share of visits in which the method changed the gradient"),
        cosine=whole("cosine", "mean cosine of the training gradients"),
        target=whole("target", "mean target of Gradient Vaccine"),
        would_by_step=by_step("negative", "share of conflicts in training, mean over pairs and groups"),
        did_by_step=by_step("corrected", "share of corrected visits, mean over pairs and groups"),
        norm_ratio=_labelled(
            ratios, (steps, trace.groups), ("step", "group"), "norm of the update over that of the sum of gradients"
        ),
        update_cosine=_labelled(
            toward, (steps, first.objectives), ("step", "objective"), "cosine of the update with the training gradient"
        ),
    )


def _over_training(trace: MethodTrace, shares: Array) -> Array:
    """(M, K, K) from windows (T, M, K, K), weighted by their steps where they are known; the diagonal is NaN."""
    values = _off_diagonal(shares)
    weights = np.where(np.isnan(values), 0.0, np.asarray(trace.steps, dtype=np.float64)[:, None, None, None])
    total = weights.sum(0)
    with np.errstate(invalid="ignore"):
        return np.asarray((np.where(weights > 0, values, 0.0) * weights).sum(0) / np.where(total > 0, total, np.nan))


def _off_diagonal(pairs: Array) -> Array:
    """Float64, NaN for an objective with itself."""
    own = np.eye(pairs.shape[-1], dtype=bool)
    return np.where(own, np.nan, np.asarray(pairs, dtype=np.float64))


def _known_mean(values: Array) -> Array:
    """(T, ...) -> (T,): the mean of what is known; NaN where nothing is."""
    flat = values.reshape(len(values), -1)
    known = ~np.isnan(flat)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, flat, 0.0).sum(1) / known.sum(1))


def _labelled(
    runs: Sequence[Array], labels: tuple[tuple[str, ...], ...], axes: tuple[str, ...], about: str
) -> Labelled:
    """Mean over runs with Student's t interval over them."""
    each = np.stack(runs)
    value = each.mean(0)
    half = np.full_like(value, np.nan)
    if len(runs) > 1:
        half = special.stdtrit(len(runs) - 1, 0.5 + LEVEL / 2) * each.std(0, ddof=1) / np.sqrt(len(runs))
    unknown = np.isnan(each).sum(0).astype(np.int64)
    return Labelled(value, value - half, value + half, axes, labels, unknown, len(runs), about)
