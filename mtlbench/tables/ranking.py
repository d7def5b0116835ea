"""Whether mean ranks separate the methods of a leaderboard, or only repeat its columns or the noise of seeds."""

from __future__ import annotations

import numpy as np

from mtlbench import statistics
from mtlbench.statistics import Array
from mtlbench.tables.contest import Contest

LEAST = 3
"""Metrics (or tasks); of two, a mean rank tells no more than the two columns."""
PERMUTATIONS = 4999


def without_rank(contest: Contest) -> str:
    """Why a leaderboard with several methods has no mean rank, as a sentence; empty where it has one."""
    places, methods = contest.weighed, contest.methods
    if len(places) < LEAST:
        return f"No rank: it takes {LEAST} metrics at least; {len(places)} tell no more than their columns do."
    seeds = sorted(set.intersection(*({*e.seeds} for e in methods)))
    if len(seeds) < 2:
        return "No rank: without two seeds that all methods have its noise is not known."
    scores = np.array([[e.scores[e.seeds.index(seed)][places] for e in methods] for seed in seeds])
    signs = [contest.measures[place].sign for place in places]
    p = separation(np.array([statistics.mean_ranks(of_seed, signs) for of_seed in scores]))
    if p >= 1 - contest.options.level:
        return (
            f"No rank: mean ranks over {len(places)} metrics differ by no more than their noise over {len(seeds)} "
            f"seeds (permutation test of all methods being equal: p = {p:.2g})."
        )
    return ""


def separation(ranks: Array, permutations: int = PERMUTATIONS) -> float:
    """The p-value of all methods having the same mean rank, by a permutation test.

    Methods that are equal could have changed places within any seed. The statistic is the variance over methods of
    their means over seeds. The permutations are the same each time.

    Args:
        ranks: (n, R), the mean ranks at each seed.
        permutations: how many.
    """
    generator = np.random.default_rng(0)
    orders = generator.random((permutations, *ranks.shape)).argsort(-1)
    permuted = np.take_along_axis(np.broadcast_to(ranks, orders.shape), orders, -1)
    spread = float(ranks.mean(0).var())
    return float(1 + (permuted.mean(1).var(-1) >= spread - 1e-12).sum()) / (1 + permutations)
