"""The best of k trials is the exact expectation, and intervals of tuned methods include the search."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from mtlbench.statistics import paired_difference, t_interval
from mtlbench.tables.searches import best_of, repeated_searches, search_difference, search_draws, search_interval


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_best_of_k_is_the_mean_over_all_choices_of_k() -> None:
    judged, scores = generator(3).standard_normal((2, 6))
    curve = best_of(judged, scores)
    for k in range(1, 7):
        chosen = [scores[max(c, key=lambda i: judged[i])] for c in itertools.combinations(range(6), k)]
        assert curve[k - 1] == pytest.approx(np.mean(chosen))
    assert curve[0] == pytest.approx(scores.mean())
    assert curve[-1] == pytest.approx(scores[judged.argmax()])


def draws_of(judged: list[float], trials: list[float], winner: int, finals: list[float]) -> np.ndarray:
    searches = repeated_searches(len(judged), generator(0))
    return search_draws(judged, trials, winner, finals, searches, generator(1))


def test_an_undisputed_winner_has_the_interval_of_its_seeds() -> None:
    finals = [90.0, 91.0, 92.0, 91.5]
    failed = [-math.inf] * 7
    found = search_interval(finals, draws_of([1.0, *failed], [91.0, *[math.nan] * 7], 0, finals))
    seeds = t_interval(finals)
    assert found.mean == seeds.mean
    assert found.low == pytest.approx(seeds.low, abs=0.15)
    assert found.high == pytest.approx(seeds.high, abs=0.15)


def test_a_search_that_could_have_ended_otherwise_widens_the_interval() -> None:
    finals = [90.0, 90.1, 89.9, 90.0]
    judged, trials = [5.0, 4.9, 1.0, 0.0], [90.0, 85.0, 60.0, 50.0]
    found, seeds = search_interval(finals, draws_of(judged, trials, 0, finals)), t_interval(finals)
    assert found.low < 86 < seeds.low
    assert found.high == pytest.approx(seeds.high, abs=0.1)


def test_repeating_the_search_keeps_the_winner_as_often_as_it_is_drawn() -> None:
    judged, trials = [3.0, 2.0, 1.0, 0.0], [3000.0, 2000.0, 1000.0, 0.0]
    centres = np.round(draws_of(judged, trials, 0, [3000.0, 3000.1]), -3)
    assert (centres == 3000).mean() == pytest.approx(1 - (3 / 4) ** 4, abs=0.04)
    assert (centres == 2000).mean() == pytest.approx((3 / 4) ** 4 - (2 / 4) ** 4, abs=0.04)


def test_a_p_value_from_draws_is_never_zero() -> None:
    draws, zero = np.arange(1.0, 100.0), np.zeros(99)
    assert search_difference(50.0, draws, zero, 3).p == 2 / 100  # (0 + 1) / (99 + 1) on either side
    assert search_difference(50.0, draws - 3, zero, 3).p == pytest.approx(2 * (3 + 1) / 100)
    assert search_difference(0.0, zero, zero, 3).p == 1.0


def test_tuned_methods_whose_searches_overlap_are_not_told_apart() -> None:
    finals = ([90.0, 90.1, 89.9], [88.0, 88.1, 87.9])
    sure = [draws_of([2.0, *[-math.inf] * 3], [x[0], *[math.nan] * 3], 0, x) for x in finals]
    unsure = [draws_of([2.0, 1.9, 1.8, 1.7], [x[0], x[0] - 3, x[0] + 2, x[0] - 1], 0, x) for x in finals]
    assert search_difference(2.0, *sure, 3).p < 0.05
    assert search_difference(2.0, sure[0], unsure[1], 3).p > 0.05
    assert paired_difference(*finals).p < 0.05
