"""What a search for hyper-parameters adds to the statistics of one method: the best of k, and the search repeated.

Pure functions of arrays. Nothing here draws randomness but from the generator it is given.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mtlbench.statistics import LEVEL, RESAMPLES, Array, Difference, Interval, t_interval


def best_of(judged: ArrayLike, scores: ArrayLike) -> Array:
    """The expected score of the best of k trials, for k = 1..N, drawn without replacement from N that were made.

    Exact: with trials sorted by what judges them, the r-th best is the best of k with probability
    C(N - r, k - 1) / C(N, k).

    Args:
        judged: (N,), what selects, higher is better: the validation merit.
        scores: (N,), what is reported: the test score.

    Returns:
        (N,).
    """
    order = np.argsort(-np.asarray(judged, dtype=np.float64), kind="stable")
    sorted_scores = np.asarray(scores, dtype=np.float64)[order]
    count = len(order)
    curve = np.empty(count)
    for k in range(1, count + 1):
        chances = np.array([math.comb(count - r, k - 1) for r in range(1, count + 1)], dtype=np.float64)
        curve[k - 1] = (chances * sorted_scores).sum() / math.comb(count, k)
    return curve


def search_draws(
    judged: ArrayLike,
    trials: ArrayLike,
    winner: int,
    finals: ArrayLike,
    searches: NDArray[np.int64],
    generator: np.random.Generator,
) -> Array:
    """What the mean over fresh seeds would be if search and seeds were repeated: one number for each repetition.

    A search is repeated by drawing as many trials anew from those that were made. Where another trial wins, its own
    test score takes the place of the mean. Around either, seeds add noise from the t distribution of the winner's
    fresh seeds; so an undisputed winner has the t interval, and a search that could have ended otherwise a wider one.

    Args:
        judged: (N,), the validation merit of each trial; -inf for one that failed.
        trials: (N,), the test score of each trial; ignored where it failed.
        winner: the index of the trial that was rerun.
        finals: (n,), test scores of the reruns; two at least.
        searches: (B, N), the trials that each repetition draws (`repeated_searches`). The same for every method, as
            trials of equal index share the values of the protocol.
        generator: draws the seeds' noise.

    Returns:
        (B,).
    """
    merit, test, x = (np.asarray(given, dtype=np.float64) for given in (judged, trials, finals))
    won = np.take_along_axis(searches, merit[searches].argmax(-1)[:, None], -1)[:, 0]
    other = (won != winner) & np.isfinite(merit[won])
    centre = np.where(other, test[won], x.mean())
    noise = generator.standard_t(len(x) - 1, len(searches)) * x.std(ddof=1) / math.sqrt(len(x))
    return np.asarray(centre + noise)


def repeated_searches(budget: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """(B, N): for each repetition of a search the N trials it draws, with replacement, from the N that were made."""
    return generator.integers(0, budget, (RESAMPLES, budget))


def search_interval(finals: ArrayLike, draws: Array, level: float = LEVEL) -> Interval:
    """The mean of (n,) reruns, with an interval that includes the search: never shorter than their t interval."""
    seeds = t_interval(finals, level)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(seeds.mean, min(float(low), seeds.low), max(float(high), seeds.high), seeds.n)


def search_difference(mean: float, draws: Array, baseline: Array, n: int, level: float = LEVEL) -> Difference:
    """The difference of two tuned methods, with interval and p-value from the draws of both: search included.

    Both draw the same trials in each repetition; the noise of their seeds is drawn apart, which errs on the side of
    caution where equal seeds would cancel some of it.
    """
    d = draws - baseline
    low, high = np.quantile(d, [(1 - level) / 2, (1 + level) / 2])
    beyond = min(int((d <= 0).sum()), int((d >= 0).sum()))
    p = min(1.0, 2.0 * (beyond + 1) / (len(d) + 1))
    return Difference(mean, min(float(low), mean), max(float(high), mean), n, p)
