"""The statistics of comparison: intervals, paired tests, ranks, Delta-m, sampling errors; pure functions of arrays.

Shapes: n seeds, M measures, T tasks, R methods. Nothing here draws randomness but from the generator it is given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Array = NDArray[np.float64]

LEVEL = 0.95
RANK_TEST_TASKS = 10
"""Rank tests over fewer tasks than this have hardly any power and are not made."""
RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval."""

    mean: float
    low: float
    high: float
    n: int
    """Seeds behind it."""

    @property
    def known(self) -> bool:
        """Whether there is an interval: two seeds at least."""
        return math.isfinite(self.low) and math.isfinite(self.high)


@dataclass(frozen=True)
class Difference(Interval):
    """A mean difference with its confidence interval and its p-value (two-sided, of no difference)."""

    p: float
    """NaN where there is no test: fewer than two pairs."""


# --- one quantity over seeds


def t_interval(values: ArrayLike, level: float = LEVEL) -> Interval:
    """The mean of (n,) values and Student's t interval; low and high are NaN for one value."""
    x = np.asarray(values, dtype=np.float64)
    if len(x) < 2:
        return Interval(float(x[0]), math.nan, math.nan, 1)
    return _interval(float(x.mean()), float(x.std(ddof=1) / math.sqrt(len(x))), len(x) - 1, len(x), level)


def paired_difference(values: ArrayLike, baseline: ArrayLike, level: float = LEVEL, floor: float = 0.0) -> Difference:
    """`values - baseline`, both (n,) and paired by position: mean, t interval and t test over the n differences.

    Args:
        values: (n,).
        baseline: (n,).
        level: of confidence.
        floor: the variance that the differences have at least (`mtlbench.tables.rounding`). Without one, differences
            that are all equal show no spread to judge by: no interval and no test, or, if they are zero, p = 1.
    """
    d = np.asarray(values, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
    return stratified_mean([d], level, [floor]) if len(d) else Difference(math.nan, math.nan, math.nan, 0, math.nan)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment; NaN (no test) stays NaN and counts as no hypothesis."""
    tested = [i for i, p in enumerate(p_values) if not math.isnan(p)]
    adjusted = [math.nan] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(tested, key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(tested) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


# --- one score over test examples


def mean_error(values: ArrayLike) -> float | None:
    """The standard error of the mean of (n,) values, one for each test example: `sd / sqrt(n)`.

    The examples count as drawn independently of each other, so values within one example, such as those of its tokens,
    are summed up first (`ratio_error`). It is 0 where all values are equal, as where every answer was right: the sample
    shows no spread then, which does not mean that another one had none.

    Args:
        values: (n,), in the unit in which the error is asked for: 0 and 100 for accuracy in percent.

    Returns:
        The error in the unit of the values; None where it cannot be said, for n < 2 or values that are not finite.
    """
    x = np.asarray(values, dtype=np.float64)
    return ratio_error(x, np.ones_like(x))


def ratio_error(numerators: ArrayLike, denominators: ArrayLike) -> float | None:
    """The standard error of `R = sum_i a_i / sum_i b_i`, a ratio of sums over n test examples.

    F1 is such a ratio with `a = 2 TP` and `b = 2 TP + FP + FN` of each sentence, accuracy over tokens one with `a` the
    right and `b` all tokens of each sentence. For a score in percent multiply the error, or all `a`, by 100.

    By linearisation (the delta method), `sqrt(n / (n - 1) sum_i (a_i - R b_i)^2) / sum_i b_i`, good for some tens of
    examples and more (Cochran, Sampling Techniques, 1977, chapter 6). Examples count as drawn independently of each
    other. One with `b_i = 0` adds nothing to the ratio, and is one of the n all the same.

    Args:
        numerators: (n,), the a_i.
        denominators: (n,), the b_i, none negative.

    Returns:
        The error in the unit of R; None where it cannot be said, for n < 2, denominators that sum to 0, or values that
        are not finite.
    """
    a, b = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"one numerator and one denominator for each example, not {a.shape} and {b.shape}")
    n, total = len(a), float(b.sum())
    if n < 2 or total == 0 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    residuals = a - float(a.sum()) / total * b
    return math.sqrt(n / (n - 1) * float((residuals * residuals).sum())) / total


# --- several measures of one task


def measure_weights(objectives: Sequence[str], weighting: str = "objective", main: Sequence[bool] = ()) -> Array:
    """The weight of each of M measures in Delta-m, summing to 1.

    Args:
        objectives: the objective that each measure belongs to.
        weighting: `main`, the mean over the main metrics of objectives; `objective`, the mean over objectives of the
            mean over their metrics; or `metric`, the plain mean.
        main: whether each measure is its objective's main one, for `main`.
    """
    count = len(objectives)
    if weighting == "main":
        return np.asarray(main, dtype=np.float64) / sum(main)
    if weighting == "metric":
        return np.full(count, 1.0 / count)
    return np.array([1.0 / (len(set(objectives)) * list(objectives).count(o)) for o in objectives])


def delta_m(values: ArrayLike, base: ArrayLike, signs: ArrayLike, weights: ArrayLike) -> Array:
    """Delta-m in percent, positive = better: `100 sum_m w_m s_m (v_m - b_m) / |b_m|`.

    Args:
        values: (..., M).
        base: (M,), the single-task scores; none of them zero.
        signs: (M,), 1 where higher is better and -1 where lower is.
        weights: (M,), summing to 1.

    Returns:
        (...,).
    """
    v, b = np.asarray(values, dtype=np.float64), np.asarray(base, dtype=np.float64)
    return np.asarray(100.0 * ((v - b) / np.abs(b) * np.asarray(signs) * np.asarray(weights)).sum(-1))


def delta_interval(
    values: Array,
    base: Array,
    signs: ArrayLike,
    weights: ArrayLike,
    paired: bool,
    level: float = LEVEL,
) -> Interval:
    """Delta-m of the mean over seeds against the base's mean over seeds; the interval includes the base's own noise.

    Delta-m is linear in the values and, to first order, in the base. So its error is that of a mean of one number per
    seed: of the differences of both parts where method and base ran with the same seeds, else of two independent means
    (Welch and Satterthwaite).

    Args:
        values: (n, M).
        base: (n_b, M).
        signs: (M,), see `delta_m`.
        weights: (M,), see `delta_m`.
        paired: whether row s of both has the same seed; then n = n_b.
        level: of confidence.
    """
    s, w = np.asarray(signs), np.asarray(weights)
    v, b = values.mean(0), base.mean(0)
    mean = float(delta_m(v, b, s, w))
    mine = 100.0 * (values / np.abs(b) * s * w).sum(-1)
    theirs = 100.0 * (base * (v / (b * np.abs(b))) * s * w).sum(-1)
    if paired:
        spread = t_interval(mine - theirs, level)
        half = (spread.high - spread.low) / 2
        return Interval(mean, mean - half, mean + half, len(values))
    if min(len(values), len(base)) < 2:
        return Interval(mean, math.nan, math.nan, len(values))
    error, freedom = welch_error([mine, theirs], np.ones(2))
    return _interval(mean, error, freedom, len(values), level)


def mean_ranks(scores: ArrayLike, signs: ArrayLike) -> Array:
    """The mean over measures of the ranks among methods: 1 is best, ties share the average of their ranks.

    It depends on the pool: adding a method changes the others' ranks, so ranks of different tables do not compare.
    NaN, no score, comes last.

    Args:
        scores: (R, M).
        signs: (M,), 1 where higher is better.

    Returns:
        (R,).
    """
    return average_ranks(-np.asarray(scores, dtype=np.float64).T * np.asarray(signs)[:, None]).mean(0)


def average_ranks(values: ArrayLike) -> Array:
    """Ranks along the last axis, 1 for the smallest; equal values, and all NaN at the end, share their average."""
    x = np.asarray(values, dtype=np.float64)
    mine, others = x[..., :, None], x[..., None, :]
    below = ((others < mine) | (~np.isnan(others) & np.isnan(mine))).sum(-1)
    equal = ((others == mine) | (np.isnan(others) & np.isnan(mine))).sum(-1)
    return np.asarray(below + (equal + 1) / 2.0)


# --- several tasks


def trimmed_weights(count: int) -> Array:
    """(count,): the weight of each of `count` sorted values in their interquartile mean, summing to 1.

    A quarter of the mass is cut at either end; values that straddle a cut count in part.
    """
    cut = count / 4
    edges = np.arange(count + 1)
    inside = np.minimum(edges[1:], count - cut) - np.maximum(edges[:-1], cut)
    return np.asarray(np.clip(inside, 0.0, 1.0) / (count - 2 * cut))


def interquartile_mean(tasks: Sequence[Array], level: float = LEVEL, *, generator: np.random.Generator) -> Interval:
    """The mean of the middle half of all runs of all tasks, and its interval by a hierarchical bootstrap.

    Tasks are strata: every one counts as much as any other, whatever its number of seeds, and stays in every resample
    with its seeds drawn anew (the tasks are the benchmark, not a sample of it). As three to five seeds make the plain
    percentile interval far too short, the interval is the bootstrap's standard error, freed of its (n-1)/n shrinkage
    and multiplied by Student's t, with the degrees of freedom of the tasks that the middle half is made of.

    Args:
        tasks: T arrays (n_t,) of normalised scores.
        level: of confidence.
        generator: draws the resamples.

    Returns:
        The interval, with n the number of runs; low and high are NaN if a task has one seed only.
    """
    # Equal weight for every task: seeds are repeated up to a common number of runs.
    common = math.lcm(*(len(x) for x in tasks))
    repeats = [common // len(x) for x in tasks]
    weights = trimmed_weights(common * len(tasks))

    def trimmed(parts: Sequence[Array]) -> tuple[Array, Array]:
        """IQM (B,) and the share of each task in it (B, T)."""
        values = np.concatenate([np.repeat(p, r, axis=-1) for p, r in zip(parts, repeats, strict=True)], axis=-1)
        order = np.argsort(values, axis=-1, kind="stable")
        mean = (np.take_along_axis(values, order, -1) * weights).sum(-1)
        share = np.empty_like(values)
        np.put_along_axis(share, order, np.broadcast_to(weights, values.shape), -1)
        return mean, share.reshape(len(values), len(tasks), common).sum(-1)

    estimate = float(trimmed([x[None] for x in tasks])[0][0])
    runs = sum(len(x) for x in tasks)
    if min(len(x) for x in tasks) < 2:
        return Interval(estimate, math.nan, math.nan, runs)
    means, shares = trimmed([x[generator.integers(0, len(x), (RESAMPLES, len(x)))] for x in tasks])
    share = shares.mean(0)
    error, freedom = welch_error(list(tasks), share)
    shrunk = math.sqrt(sum((f * x.std() / math.sqrt(len(x))) ** 2 for f, x in zip(share, tasks, strict=True)))
    growth = error / shrunk if shrunk else 1.0
    return _interval(estimate, growth * float(means.std()), freedom, runs, level)


def stratified_mean(tasks: Sequence[Array], level: float = LEVEL, floors: Sequence[float] = ()) -> Difference:
    """The mean over T tasks of their means over seeds, with its interval and its p-value against zero.

    The tasks are fixed; the error is that of their seeds (Welch and Satterthwaite). Of paired differences, this tests
    whether two methods differ on the tasks at hand.

    Args:
        tasks: T arrays (n_t,).
        level: of confidence.
        floors: T variances that the values have at least; none for no such knowledge. Values without any spread
            then have no interval and no test, or, if they are zero, p is 1.
    """
    mean, runs = float(np.mean([x.mean() for x in tasks])), sum(len(x) for x in tasks)
    if min(len(x) for x in tasks) < 2:
        return Difference(mean, math.nan, math.nan, runs, math.nan)
    error, freedom = welch_error(tasks, np.full(len(tasks), 1 / len(tasks)), floors)
    if error <= 1e-12 * abs(mean):
        unknown = math.nan if mean else 0.0
        return Difference(mean, unknown, unknown, runs, math.nan if mean else 1.0)
    inside = _interval(mean, error, freedom, runs, level)
    p = 2.0 * float(special.stdtr(freedom, -abs(mean) / error))
    return Difference(mean, inside.low, inside.high, runs, p)


def performance_profile(tasks: Sequence[Array], thresholds: ArrayLike) -> Array:
    """The share of runs that reach each threshold, every task counting alike.

    Args:
        tasks: T arrays (n_t,) of normalised scores, higher is better.
        thresholds: (X,).

    Returns:
        (X,), falling from 1 to 0.
    """
    x = np.asarray(thresholds, dtype=np.float64)
    return np.asarray(np.mean([(runs[:, None] >= x).mean(0) for runs in tasks], axis=0))


def rank_test(scores: Array) -> float | None:
    """Friedman's test that R methods do not differ over T tasks: its p-value.

    Args:
        scores: (T, R), one number for each task and method.

    Returns:
        None with fewer than 10 tasks or 3 methods: there is no test then. 1 where all methods tie on every task.
    """
    if len(scores) < RANK_TEST_TASKS or scores.shape[1] < 3:
        return None
    if (scores == scores[:, :1]).all():
        return 1.0
    from scipy import stats

    return float(stats.friedmanchisquare(*scores.T).pvalue)


def signed_rank_test(scores: Array, baseline: Array) -> float:
    """Wilcoxon's signed-rank test over T tasks, two-sided: its p-value; NaN with fewer than 10 tasks."""
    if len(scores) < RANK_TEST_TASKS:
        return math.nan
    from scipy import stats

    difference = scores - baseline
    return float(stats.wilcoxon(difference).pvalue) if difference.any() else 1.0


def _interval(mean: float, error: float, freedom: float, n: int, level: float) -> Interval:
    half = float(special.stdtrit(freedom, 0.5 + level / 2)) * error
    return Interval(mean, mean - half, mean + half, n)


def welch_error(samples: Sequence[Array], factors: Array, floors: Sequence[float] = ()) -> tuple[float, float]:
    """Standard error and degrees of freedom of `sum_i factors_i mean(samples_i)`, the samples being independent.

    No sample's variance counts as less than its floor.
    """
    variances = np.maximum([x.var(ddof=1) for x in samples], floors or 0.0)
    parts = factors**2 * variances / [len(x) for x in samples]
    total = float(parts.sum())
    if total == 0:
        return 0.0, float(min(len(x) for x in samples) - 1)
    freedom = total**2 / sum(p * p / (len(x) - 1) for p, x in zip(parts, samples, strict=True))
    return math.sqrt(total), float(freedom)
