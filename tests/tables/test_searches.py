"""The best of k trials is the exact expectation, and intervals of tuned methods include the search."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from mtlbench.statistics import paired_difference, t_interval
from mtlbench.tables.searches import (
    TEST_STRETCH,
    Repeated,
    best_of,
    repeated,
    repeated_searches,
    search_difference,
    search_interval,
)


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


def repeated_of(judged: list[float], trials: list[float], winner: int, finals: list[float]) -> Repeated:
    searches = repeated_searches(len(judged), generator(0))
    return repeated(judged, trials, winner, finals, searches, generator(1))


def test_an_undisputed_winner_has_the_interval_of_its_seeds() -> None:
    finals = [90.0, 91.0, 92.0, 91.5]
    failed = [-math.inf] * 7
    found = search_interval(finals, repeated_of([1.0, *failed], [91.0, *[math.nan] * 7], 0, finals))
    seeds = t_interval(finals)
    assert found.mean == seeds.mean
    assert found.low == pytest.approx(seeds.low, abs=0.15)
    assert found.high == pytest.approx(seeds.high, abs=0.15)


def test_a_search_that_could_have_ended_otherwise_widens_the_interval_in_both_directions() -> None:
    finals = [90.0, 90.1, 89.9, 90.0]
    judged, trials = [5.0, 4.9, 1.0, 0.0], [90.0, 85.0, 60.0, 50.0]
    found, seeds = search_interval(finals, repeated_of(judged, trials, 0, finals)), t_interval(finals)
    assert found.low < 86 < seeds.low
    assert seeds.high < 94 < found.high


def test_repeating_the_search_keeps_the_winner_as_often_as_it_is_drawn() -> None:
    judged, trials = [3.0, 2.0, 1.0, 0.0], [3000.0, 2000.0, 1000.0, 0.0]
    found = repeated_of(judged, trials, 0, [3000.0, 3000.0])
    assert (found.search == 0).mean() == pytest.approx(1 - (3 / 4) ** 4, abs=0.04)
    assert (found.search == -1000).mean() == pytest.approx((3 / 4) ** 4 - (2 / 4) ** 4, abs=0.04)


def test_a_p_value_from_repetitions_is_never_zero_and_counts_both_directions() -> None:
    still = Repeated(0.0, np.zeros(99), np.zeros(99))
    moved = Repeated(50.0, np.zeros(99), np.arange(-49.0, 50.0))
    assert search_difference(50.0, moved, still, 3).p == 1 / 100
    assert search_difference(48.0, moved, still, 3).p == (1 + 4) / 100  # -49, -48, 48, 49
    assert search_difference(0.0, still, still, 3).p == 1.0
    searched = Repeated(50.0, np.arange(-49.0, 50.0), np.zeros(99))
    assert search_difference(TEST_STRETCH * 48.0, searched, still, 3).p == (1 + 4) / 100


def test_reruns_that_are_all_equal_are_no_certainty_where_scores_lie_on_a_grid() -> None:
    searches = repeated_searches(2, generator(0))
    sure, rounded = (
        repeated([1.0, -math.inf], [5.0, math.nan], 0, [5.0, 5.0, 5.0], searches, generator(1), floor)
        for floor in (0.0, 1 / 12)
    )
    assert not sure.seeds.any()
    assert np.quantile(np.abs(rounded.seeds), 0.95) == pytest.approx(4.3 / 6, rel=0.1)  # of t, times sqrt(1 / 36)


def test_tuned_methods_whose_searches_overlap_are_not_told_apart() -> None:
    finals = ([90.0, 90.1, 89.9], [88.0, 88.1, 87.9])
    sure = [repeated_of([2.0, *[-math.inf] * 3], [x[0], *[math.nan] * 3], 0, x) for x in finals]
    unsure = [repeated_of([2.0, 1.9, 1.8, 1.7], [x[0], x[0] - 3, x[0] + 2, x[0] - 1], 0, x) for x in finals]
    assert search_difference(2.0, *sure, 3).p < 0.05
    assert search_difference(2.0, sure[0], unsure[1], 3).p > 0.05
    assert paired_difference(finals[0], [88.0, 88.1, 87.8]).p < 0.05


# --- simulated searches: the quality of N trials spreads by some shape and size, noise of seeds has the size 1

Qualities = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

SHAPES: dict[str, Qualities] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "optimum": lambda rng, shape: -((rng.uniform(size=(*shape, 3)) - 0.4) ** 2).sum(-1) / 0.15,
    "lucky": lambda rng, shape: rng.exponential(size=shape),
}


def searched(
    quality: np.ndarray, rng: np.random.Generator, searches: np.ndarray, n: int
) -> tuple[Repeated, list[float]]:
    """What a search over trials of this quality finds, and n reruns."""
    judged, trials = quality + rng.standard_normal((2, len(quality)))
    winner = int(judged.argmax())
    finals = (quality[winner] + rng.standard_normal(n)).tolist()
    return repeated(judged, trials, winner, finals, searches, rng), finals


@pytest.mark.parametrize(
    ("shape", "size", "least"),
    [
        ("normal", 0.0, 0.97),
        ("normal", 3.0, 0.94),
        ("normal", 100.0, 0.92),
        ("optimum", 100.0, 0.94),
        ("lucky", 100.0, 0.86),
    ],
)
def test_the_interval_of_a_tuned_method_covers_what_searches_find_on_average(
    shape: str, size: float, least: float
) -> None:
    rng = generator(5)
    many = size * SHAPES[shape](rng, (100_000, 8))
    found = np.take_along_axis(many, (many + rng.standard_normal(many.shape)).argmax(1)[:, None], 1).mean()
    searches, covered = repeated_searches(8, rng), []
    for quality in size * SHAPES[shape](rng, (800, 8)):
        repetitions, finals = searched(quality, rng, searches, 3)
        interval = search_interval(finals, repetitions)
        covered.append(interval.low <= found <= interval.high)
    assert np.mean(covered) >= least


@pytest.mark.parametrize(("shape", "size"), [("normal", 0.0), ("normal", 100.0), ("optimum", 100.0), ("lucky", 100.0)])
def test_equal_methods_with_searches_of_their_own_are_seldom_told_apart(shape: str, size: float) -> None:
    rng = generator(6)
    searches, told = repeated_searches(8, rng), []
    for qualities in size * SHAPES[shape](rng, (600, 2, 8)):
        (one, mine), (other, theirs) = (searched(quality, rng, searches, 3) for quality in qualities)
        told.append(search_difference(float(np.mean(mine) - np.mean(theirs)), one, other, 3).p < 0.05)
    assert np.mean(told) <= 0.065
