"""Which methods are told apart from the best one, where the same data choose the best.

The best of R equal methods is the one whose seeds were lucky. So t tests against it, paired by seed and Holm-adjusted
for R - 1 comparisons, tell one of eight equal methods from it in 9 % of tables with 3 seeds and in 12 % with 10, where
5 % are meant. What is needed is the distribution of the smallest of these p-values in tables of equal methods, the
choice of the best included; here it is simulated.

The simulated methods have independent noise of equal size. Of all noise that was tried (unequal sizes, methods that go
together, skewed and heavy-tailed noise) none brings smaller p-values, since each test has the spread of its own pair:
the level holds there too. Tests that pool the spread over methods, as Tukey's does, tell more apart with few seeds;
but one noisier method among eight equal ones, by a factor of 2 or 5, makes their 5 % to 8 or 18 %.

Pure functions of numbers, repeatable: the simulation has a seed of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy import special

from mtlbench.statistics import Array

TABLES = 20_000
"""Simulated ones for each number of methods and seeds: an adjusted p-value of 5 % is good to 0.15 %."""
MOST_SEEDS = 30
"""From here on t tests are as good as normal ones, and more seeds change nothing."""
_AT_ONCE = 2_000


def adjusted(p_values: Sequence[float], seeds: int) -> list[float]:
    """The p-values of paired t tests against the best, adjusted for the choice of the best and for their number.

    Step by step, as in Holm's procedure: the smallest p-value is judged among all methods, the next one among all but
    the method that has just been told apart. At 5 %, some method that is as good as any is told apart from the best in
    at most 5 % of tables.

    Args:
        p_values: R - 1, two-sided; NaN (no test) stays NaN and counts as no method.
        seeds: that the pairs have in common; the largest number, if they differ.
    """
    tested = [i for i, p in enumerate(p_values) if not math.isnan(p)]
    found = [math.nan] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(tested, key=lambda i: p_values[i])):
        largest = max(largest, _chance(p_values[i], len(tested) + 1 - rank, seeds))
        found[i] = largest
    return found


def _chance(p: float, methods: int, seeds: int) -> float:
    """How often the smallest p-value of a table of equal methods is at most p."""
    if methods == 2:  # there is no choice
        return p
    # Of many methods a simulation of some more serves, on the side of caution.
    methods = methods if methods <= 10 else 5 * math.ceil(methods / 5)
    known = smallest_p_values(methods, min(seeds, MOST_SEEDS))
    return float(np.searchsorted(known, p, side="right") + 1) / (len(known) + 1)


@lru_cache(maxsize=256)
def smallest_p_values(methods: int, seeds: int) -> Array:
    """(TABLES,), sorted: the smallest p-value against the best method in tables of equal methods.

    Args:
        methods: R, two at least.
        seeds: n, two at least.
    """
    generator = np.random.default_rng([methods, seeds])
    parts = [_largest_t(generator.standard_normal((_AT_ONCE, methods, seeds))) for _ in range(TABLES // _AT_ONCE)]
    return np.asarray(np.sort(2.0 * special.stdtr(seeds - 1, -np.concatenate(parts))))


def _largest_t(scores: Array) -> Array:
    """(B,): the largest paired t statistic against the best method of each table, of scores (B, R, n)."""
    seeds = scores.shape[-1]
    best = scores.sum(-1).argmax(-1)
    behind = np.take_along_axis(scores, best[:, None, None], 1) - scores
    mean = behind.sum(-1) / seeds
    variance = (np.einsum("brn,brn->br", behind, behind) - seeds * mean**2) / (seeds - 1)
    variance[np.arange(len(scores)), best] = np.inf
    return np.asarray((mean / np.sqrt(variance / seeds)).max(-1))
