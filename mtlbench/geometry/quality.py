"""Whether higher similarity goes with better models: correlations with their intervals, at equal step and equal loss.

Of R runs, a correlation says little: with twelve, r = 0.5 has an interval from -0.1 to 0.8. So none is told without its
interval and the number of runs. Similarity falls as training goes on, and better runs are often just further on; at
equal loss that reason for a correlation is gone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special
from scipy.stats import rankdata

from mtlbench.errors import UsageError
from mtlbench.statistics import LEVEL

Array = NDArray[np.float64]
Method = Literal["pearson", "spearman"]
LEAST = 4
"""Points; the interval of fewer is everything."""


@dataclass(frozen=True)
class Correlation:
    """Of n points, with its interval."""

    r: float
    """NaN for fewer than three points, or where all are equal on one side."""
    low: float
    """NaN with r; -1 for fewer than four points."""
    high: float
    p: float
    """Two-sided, of no correlation, by the t test; NaN with r."""
    n: int
    """Points that are known on both sides."""
    left_out: int
    """Points that are not."""
    method: Method


@dataclass(frozen=True, eq=False)
class Quality:
    """How similarity goes with final quality over R runs."""

    at_end: Correlation
    """With the similarity at the end of each run."""
    at_step: Correlation
    """With that at the last step that all runs have."""
    at_loss: Correlation
    """With that where each run first has the lowest loss that all reach."""
    step: float
    loss: float
    end_similarity: Array
    """(R,)."""
    step_similarity: Array
    """(R,)."""
    loss_similarity: Array
    """(R,)."""


def correlation(x: ArrayLike, y: ArrayLike, method: Method = "pearson", level: float = LEVEL) -> Correlation:
    """The correlation of two (n,) and its interval by Fisher's z, of points independent of each other.

    The variance of z is 1 / (n - 3) for Pearson's, (1 + r^2 / 2) / (n - 3) for Spearman's (Bonett and Wright, 2000).

    Args:
        x: (n,); points that are NaN here or there are left out and counted.
        y: (n,).
        method: `pearson` or `spearman`.
        level: of confidence.
    """
    first, second = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    known = ~(np.isnan(first) | np.isnan(second))
    n, left_out = int(known.sum()), int((~known).sum())
    first, second = first[known], second[known]
    if n < LEAST - 1 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return Correlation(math.nan, math.nan, math.nan, math.nan, n, left_out, method)
    if method == "spearman":
        first, second = rankdata(first), rankdata(second)
    r = float(np.clip(np.corrcoef(first, second)[0, 1], -1.0, 1.0))
    p = _t_test(r, n)
    if n < LEAST or abs(r) == 1.0:
        low, high = (-1.0, 1.0) if n < LEAST else (r, r)
        return Correlation(r, low, high, p, n, left_out, method)
    variance = (1.0 if method == "pearson" else 1.0 + r * r / 2) / (n - 3)
    half = float(special.ndtri(0.5 + level / 2)) * math.sqrt(variance)
    z = math.atanh(r)
    return Correlation(r, math.tanh(z - half), math.tanh(z + half), p, n, left_out, method)


def at_step(steps: ArrayLike, values: ArrayLike, step: float) -> float:
    """A curve (T,) at a step, on the line between its neighbours; NaN outside what is known."""
    place, curve = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    known = ~np.isnan(curve)
    if not known.any() or not place[known][0] <= step <= place[known][-1]:
        return math.nan
    return float(np.interp(step, place[known], curve[known]))


def at_loss(losses: ArrayLike, values: ArrayLike, loss: float) -> float:
    """A curve (T,) where the loss (T,) is first as low as asked for, on the line between two snapshots.

    The first crossing, since the loss of a few probe batches may rise again. NaN where it is never that low, where it
    is below from the start, or where a value beside the crossing is unknown.
    """
    heights, curve = np.asarray(losses, dtype=np.float64), np.asarray(values, dtype=np.float64)
    reached = np.flatnonzero(heights <= loss)
    if not len(reached):
        return math.nan
    place = int(reached[0])
    if heights[place] == loss:
        return float(curve[place])
    if place == 0:
        return math.nan
    above, below = heights[place - 1], heights[place]
    part = (above - loss) / (above - below)
    return float(curve[place - 1] + part * (curve[place] - curve[place - 1]))


def common_loss(losses: Sequence[ArrayLike]) -> float:
    """The lowest loss that all R curves (T_r,) reach."""
    return max(float(np.nanmin(np.asarray(curve, dtype=np.float64))) for curve in losses)


def common_step(steps: Sequence[ArrayLike]) -> float:
    """The last step that all R runs (T_r,) have."""
    return min(float(np.max(np.asarray(curve))) for curve in steps)


def over_runs(
    similarities: Sequence[ArrayLike],
    losses: Sequence[ArrayLike],
    steps: Sequence[ArrayLike],
    quality: ArrayLike,
    method: Method = "pearson",
    level: float = LEVEL,
) -> Quality:
    """Mean similarity against final quality over R runs, at the end, at equal step and at equal loss.

    Args:
        similarities: R curves (T_r,) of the mean similarity at each snapshot.
        losses: R curves (T_r,) of the mean probe loss, which must mean the same in all runs.
        steps: R arrays (T_r,) of the snapshots' steps.
        quality: (R,), higher is better.
        method: `pearson` or `spearman`.
        level: of confidence.

    Raises:
        UsageError: no runs.
    """
    if not len(similarities):
        raise UsageError("No run was given; at least four are needed for a correlation over runs.")
    step, loss = common_step(steps), common_loss(losses)
    runs = list(zip(similarities, losses, steps, strict=True))
    end = np.array([float(np.asarray(curve)[-1]) for curve, _, _ in runs])
    by_step = np.array([at_step(places, curve, step) for curve, _, places in runs])
    by_loss = np.array([at_loss(heights, curve, loss) for curve, heights, _ in runs])
    first, second, third = (correlation(x, quality, method, level) for x in (end, by_step, by_loss))
    return Quality(first, second, third, step, loss, end, by_step, by_loss)


def towards(similarity: ArrayLike, chosen: ArrayLike) -> Array:
    """(K,) the mean similarity of each objective to the chosen ones, without itself; NaN where none is known.

    Args:
        similarity: (K, K).
        chosen: (K,) bool.
    """
    matrix = np.array(similarity, dtype=np.float64)
    counted = np.broadcast_to(np.asarray(chosen, dtype=bool), matrix.shape) & ~np.eye(len(matrix), dtype=bool)
    counted = counted & ~np.isnan(matrix)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(counted, matrix, 0.0).sum(1) / counted.sum(1))


def high_resource(amounts: ArrayLike, count: int | None = None) -> NDArray[np.bool_]:
    """(K,) bool: the objectives with the largest amounts (K,), and those that have as much as the last of them.

    Args:
        amounts: (K,), such as training examples.
        count: how many; a third of them, one at least, for None.
    """
    values = np.asarray(amounts, dtype=np.float64)
    wanted = max(1, len(values) // 3) if count is None else count
    return values >= np.sort(values)[::-1][min(wanted, len(values)) - 1]


def over_objectives(
    similarity: ArrayLike,
    amounts: ArrayLike,
    gain: ArrayLike,
    count: int | None = None,
    method: Method = "pearson",
    level: float = LEVEL,
) -> tuple[Correlation, Array]:
    """Over objectives: similarity to those of high resource against the gain over the single-task model.

    The points share the high-resource objectives and so are not quite independent: the interval is rather too short.

    Args:
        similarity: (K, K).
        amounts: (K,), see `high_resource`.
        gain: (K,), higher is better; NaN where it is not known.
        count: see `high_resource`.
        method: `pearson` or `spearman`.
        level: of confidence.

    Returns:
        The correlation, and the similarity (K,) that it is of.
    """
    toward = towards(similarity, high_resource(amounts, count))
    return correlation(toward, gain, method, level), toward


def _t_test(r: float, n: int) -> float:
    if abs(r) == 1.0:
        return 0.0
    return 2.0 * float(special.stdtr(n - 2, -abs(r) * math.sqrt((n - 2) / (1 - r * r))))
