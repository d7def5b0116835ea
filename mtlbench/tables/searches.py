"""What a search for hyper-parameters adds to the statistics of one method: the best of k, and the search repeated.

Pure functions of arrays. Nothing here draws randomness but from the generator it is given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mtlbench.statistics import LEVEL, RESAMPLES, Array, Difference, Interval, t_interval

INTERVAL_STRETCH = 3.0
"""Factor on how far repeated searches end from the one that was made, in the interval of one method.

Trials that are drawn anew from those that were made never beat the best of them, and so show the spread of searches
from below only: as they are, intervals cover .99 where the noise of seeds decides, and .47 where trials differ by far
more than that. Taken in both directions and stretched by this factor, they cover .94 to 1 where the scores of trials
spread as a normal, or up to an optimum (quadratic, exponential from below), however far; .87 to .89 where a few lucky
ones stand out (exponential from above). With a run-off or without, and for trials as they are made over quadratic
surfaces, .99 to 1.
"""
TEST_STRETCH = 2.0
"""The same factor in the difference of two methods, of which each has its luck.

Without it, two equal methods whose trials are independent are told apart at 5 % in up to 22 % of tables; with it in at
most 4 %.
"""


@dataclass(frozen=True)
class Repeated:
    """A search with its reruns, and by how much it would have ended elsewhere if it were repeated B times."""

    mean: float
    """Of the reruns."""
    search: Array
    """(B,): the score of the configuration that a repeated search finds, minus the mean; 0 where it is the same one."""
    seeds: Array
    """(B,): the error of a mean over as many fresh seeds."""

    def deviations(self, stretch: float) -> Array:
        """(B,): of both kinds together."""
        return stretch * self.search + self.seeds


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


def repeated(
    judged: ArrayLike,
    trials: ArrayLike,
    winner: int,
    finals: ArrayLike,
    searches: NDArray[np.int64],
    generator: np.random.Generator,
    floor: float = 0.0,
    decided: ArrayLike | None = None,
) -> Repeated:
    """What comes of a search, its run-off and its reruns if all of it is repeated.

    A search is repeated by drawing as many trials anew from those that were made. The run-off decides between the two
    best of them: by what it found of a trial, else by the trial itself. Where another trial wins, its own test score
    takes the place of the mean. Seeds add noise from the t distribution of the winner's fresh seeds.

    Args:
        judged: (N,), the validation merit of each trial; -inf for one that failed.
        trials: (N,), the test score of each trial, in the run-off where it was there; ignored where it failed.
        winner: the index of the trial that was rerun.
        finals: (n,), test scores of the reruns; two at least.
        searches: (B, N), the trials that each repetition draws (`repeated_searches`). The same for every method, as
            trials of equal index share the values of the protocol.
        generator: draws the seeds' noise.
        floor: the variance that scores have at least, from rounding.
        decided: (N,), the validation merit of each trial in the run-off, NaN for those that were not in it; None where
            there was none, and the best trial was rerun at once.
    """
    merit, test, x = (np.asarray(given, dtype=np.float64) for given in (judged, trials, finals))
    won = _won(merit, None if decided is None else np.asarray(decided, dtype=np.float64), searches)
    other = (won != winner) & np.isfinite(merit[won])
    error = math.sqrt(max(x.var(ddof=1), floor) / len(x))
    noise = generator.standard_t(len(x) - 1, len(searches)) * error
    return Repeated(float(x.mean()), np.where(other, test[won] - x.mean(), 0.0), noise)


def _won(merit: Array, decided: Array | None, searches: NDArray[np.int64]) -> NDArray[np.int64]:
    """(B,): the trial that wins each repetition; the earlier of equals among all trials."""
    order = np.argsort(-merit, kind="stable")
    ranks = np.argsort(order, kind="stable")[searches]
    first = ranks.min(-1)
    if decided is None:
        return order[first]
    others = np.where(ranks == first[:, None], merit.size, ranks).min(-1)
    second = np.where(others == merit.size, first, others)  # a single trial, drawn again and again
    final = np.where(np.isnan(decided), merit, decided)[order]
    return order[np.where(final[second] > final[first], second, first)]


def repeated_searches(budget: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """(B, N): for each repetition of a search the N trials it draws, with replacement, from the N that were made."""
    return generator.integers(0, budget, (RESAMPLES, budget))


def search_interval(finals: ArrayLike, found: Repeated, level: float = LEVEL) -> Interval:
    """The mean of (n,) reruns, with an interval that includes the search: never shorter than their t interval.

    It is symmetric, see `INTERVAL_STRETCH`.
    """
    seeds = t_interval(finals, level)
    half = float(np.quantile(np.abs(found.deviations(INTERVAL_STRETCH)), level))
    return Interval(seeds.mean, min(seeds.mean - half, seeds.low), max(seeds.mean + half, seeds.high), seeds.n)


def search_difference(mean: float, one: Repeated, other: Repeated, n: int, level: float = LEVEL) -> Difference:
    """The difference of two tuned methods, with interval and p-value from the repetitions of both: search included.

    Both draw the same trials in each repetition; the noise of their seeds is drawn apart, which errs on the side of
    caution where equal seeds would cancel some of it.

    Args:
        mean: the difference.
        one: with B repetitions.
        other: with as many.
        n: seeds.
        level: of confidence.
    """
    beyond = difference_deviations(one, other)
    half = float(np.quantile(beyond, level))
    p = (1 + int((beyond >= abs(mean)).sum())) / (1 + len(beyond))
    return Difference(mean, mean - half, mean + half, n, p)


def difference_deviations(one: Repeated, other: Repeated) -> Array:
    """(B,), none negative: how far the difference of two methods that are equal is from zero."""
    return np.abs(one.deviations(TEST_STRETCH) - other.deviations(TEST_STRETCH))
