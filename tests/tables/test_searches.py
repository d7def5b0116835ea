"""The best of k trials is the exact expectation, and intervals of tuned methods include the search."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from mtlbench.catalogue.search import Range
from mtlbench.cells.trials import AXIS, FINALISTS, RUNOFF_RUNS, sample
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


def test_the_run_off_decides_between_the_best_two_of_a_repetition() -> None:
    judged, trials, decided = [3.0, 2.0, 1.0, 0.0], [3000.0, 2000.0, 1000.0, 0.0], [1.5, 2.5, math.nan, math.nan]
    searches = repeated_searches(4, generator(0))
    found = repeated(judged, trials, 1, [2000.0, 2000.0], searches, generator(1), decided=decided)
    drawn = np.array([[trial in search for trial in range(4)] for search in searches])
    # Trial 1 won the run-off, and wins every repetition that draws it: third it cannot be.
    assert (found.search[drawn[:, 1]] == 0).all()
    assert (found.search[drawn[:, 0] & ~drawn[:, 1]] == 1000).all()  # 1.5 in the run-off against 1 or less in a trial
    assert (found.search[~drawn[:, 0] & ~drawn[:, 1] & drawn[:, 2]] == -1000).all()
    assert (found.search[~drawn[:, :3].any(1)] == -2000).all()


def test_where_one_trial_finished_it_wins_every_repetition() -> None:
    judged, decided = [3.0, -math.inf, -math.inf, -math.inf], [2.0, math.nan, math.nan, math.nan]
    searches = repeated_searches(4, generator(0))
    found = repeated(judged, [5.0, *[math.nan] * 3], 0, [5.0, 5.0], searches, generator(1), decided=decided)
    assert not found.search.any()


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


# --- simulated searches: the quality of N trials spreads by some shape and size, noise of a run has the size 1

Qualities = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

SHAPES: dict[str, Qualities] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "optimum": lambda rng, shape: -((rng.uniform(size=(*shape, 3)) - 0.4) ** 2).sum(-1) / 0.15,
    "lucky": lambda rng, shape: rng.exponential(size=shape),
    "trials": lambda rng, shape: surfaces(rng, shape),
}


def surfaces(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Trials as they are made, on quadratic surfaces with an optimum anywhere and defaults that lie about it."""
    keys, unit = [AXIS, "a", "b"], Range(low=0.0, high=1.0)
    optimum = rng.uniform([0.15, 0, 0], [0.85, 1, 1], (*shape[:-1], 3))
    default = np.clip(optimum + rng.normal(0, 0.25, optimum.shape), 0, 1)
    points = [sample(dict.fromkeys(keys, unit), trial) for trial in range(shape[-1])]
    given = np.stack(
        [
            np.stack([default[..., i] * 0 + p[k] if k in p else default[..., i] for i, k in enumerate(keys)], -1)
            for p in points
        ],
        -2,
    )  # (..., N, 3)
    return -(np.array([10.0, 1.0, 1.0]) * (given - optimum[..., None, :]) ** 2).sum(-1)


def noisy(quality: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Validation and test scores of a run each, half of whose noise is that of the run and in both."""
    own, *apart = rng.standard_normal((3, *quality.shape))
    val, test = (quality + math.sqrt(0.5) * (own + noise) for noise in apart)
    return val, test


def run_off(quality: np.ndarray, judged: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Of (..., N) trials the best two, (..., 2), and what is found of them in the run-off: on validation, on test."""
    best = np.argsort(-judged, axis=-1, kind="stable")[..., :FINALISTS]
    again = np.take_along_axis(quality, best, -1)
    val, test = noisy(np.broadcast_to(again[..., None], (*again.shape, RUNOFF_RUNS)), rng)
    return best, val.mean(-1), test.mean(-1)


def searched(
    quality: np.ndarray, rng: np.random.Generator, searches: np.ndarray, n: int, has_runoff: bool = True
) -> tuple[Repeated, list[float]]:
    """What a search over trials of this quality finds, and n reruns."""
    judged, trials = noisy(quality, rng)
    winner, decided = int(judged.argmax()), np.full(len(quality), np.nan)
    if has_runoff:
        best, val, test = run_off(quality, judged, rng)
        winner, decided[best], trials[best] = int(best[val.argmax()]), val, test
    _, finals = noisy(np.full(n, quality[winner]), rng)
    return repeated(judged, trials, winner, finals, searches, rng, decided=decided), finals.tolist()


def found_on_average(qualities: np.ndarray, rng: np.random.Generator, has_runoff: bool) -> float:
    """The mean quality of what searches find, over (R, N) trials."""
    judged, _ = noisy(qualities, rng)
    won = judged.argmax(1)[:, None]
    if has_runoff:
        best, val, _ = run_off(qualities, judged, rng)
        won = np.take_along_axis(best, val.argmax(1)[:, None], 1)
    return float(np.take_along_axis(qualities, won, 1).mean())


@pytest.mark.parametrize(
    ("shape", "size", "has_runoff", "least"),
    [
        ("normal", 0.0, True, 0.97),
        ("normal", 3.0, True, 0.94),
        ("normal", 100.0, True, 0.92),
        ("normal", 100.0, False, 0.92),
        ("optimum", 100.0, True, 0.94),
        ("trials", 1.0, True, 0.97),
        ("trials", 100.0, True, 0.97),
        ("lucky", 100.0, True, 0.85),
    ],
)
def test_the_interval_of_a_tuned_method_covers_what_searches_find_on_average(
    shape: str, size: float, has_runoff: bool, least: float
) -> None:
    rng = generator(5)
    found = found_on_average(size * SHAPES[shape](rng, (50_000, 8)), rng, has_runoff)
    searches, covered = repeated_searches(8, rng), []
    for quality in size * SHAPES[shape](rng, (600, 8)):
        repetitions, finals = searched(quality, rng, searches, 3, has_runoff)
        interval = search_interval(finals, repetitions)
        covered.append(interval.low <= found <= interval.high)
    assert np.mean(covered) >= least


@pytest.mark.parametrize(
    ("shape", "size"),
    [("normal", 0.0), ("normal", 100.0), ("optimum", 100.0), ("trials", 100.0), ("lucky", 100.0)],
)
def test_equal_methods_with_searches_of_their_own_are_seldom_told_apart(shape: str, size: float) -> None:
    rng = generator(6)
    searches, told = repeated_searches(8, rng), []
    for qualities in size * SHAPES[shape](rng, (500, 2, 8)):
        (one, mine), (other, theirs) = (searched(quality, rng, searches, 3) for quality in qualities)
        told.append(search_difference(float(np.mean(mine) - np.mean(theirs)), one, other, 3).p < 0.05)
    assert np.mean(told) <= 0.05
