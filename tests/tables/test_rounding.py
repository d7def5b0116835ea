"""The grid that scores lie on is found, and equal differences on it are no certainty."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mtlbench.statistics import holm, paired_difference
from mtlbench.tables.best import adjusted
from mtlbench.tables.rounding import resolution, rounding_variance


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("examples", [7, 200, 1200, 9973, 10_000, 65_536])
def test_the_step_of_accuracies_is_that_of_one_example(examples: int) -> None:
    right = generator(examples).integers(examples // 2, examples, 60)
    assert resolution(100.0 * right / examples) == pytest.approx(100 / examples)
    assert resolution((right / examples).reshape(3, 20)) == pytest.approx(1 / examples)


def test_scores_of_a_continuous_metric_have_no_step() -> None:
    for seed in range(200):
        assert resolution(30 + generator(seed).standard_normal(4)) == 0.0
    assert resolution([]) == 0.0
    assert resolution([0.0, 0.0]) == 0.0
    assert resolution([100.0, 100.0]) == 0.0


def test_of_few_values_the_step_is_a_multiple_of_the_true_one() -> None:
    assert resolution([90.0, 95.0, math.nan]) == 5.0
    assert resolution([90.0, 95.0, 95.5]) == 0.5


def test_the_variance_of_rounding_is_that_of_rounded_scores() -> None:
    rng = generator(1)
    exact = rng.uniform(40, 60, (2, 200_000, 2))
    steps = np.array([0.5, 2.0])
    errors = np.round(exact / steps) * steps - exact
    difference = (errors[0] - errors[1]) @ [0.5, 0.25]
    assert rounding_variance(steps, [0.5, 0.25]) == pytest.approx(difference.var(), rel=0.02)


def told_apart(seeds: int, methods: int, noise: float, objectives: int, floor: bool) -> tuple[float, float]:
    """How often a table of equal methods tells one apart, from the baseline and from the best; 200 examples."""
    rng, tables = generator(seeds), 1500
    hard = 2 * rng.standard_normal((tables, 1, seeds, objectives))
    right = np.round(150 + hard + noise * rng.standard_normal((tables, methods, seeds, objectives)))
    scores = right.mean(-1) / 200
    least = rounding_variance([1 / 200] * objectives, [1 / objectives] * objectives) if floor else 0.0
    from_baseline, from_best = [], []
    for table in scores:
        # without a floor as it was: certain where there is no spread
        found = [paired_difference(row, table[0], floor=least).p for row in table[1:]]
        from_baseline.append(min(holm([0.0 if math.isnan(p) else p for p in found])) < 0.05)
        best = table[table.mean(-1).argmax()]
        found = [paired_difference(best, row, floor=least).p for row in table if row is not best]
        from_best.append(min(adjusted([0.0 if math.isnan(p) else p for p in found], seeds)) < 0.05)
    return float(np.mean(from_baseline)), float(np.mean(from_best))


@pytest.mark.parametrize("objectives", [1, 3])
@pytest.mark.parametrize("noise", [0.3, 0.7, 2.0])
@pytest.mark.parametrize("seeds", [2, 3])
def test_equal_methods_on_a_grid_are_told_apart_in_at_most_5_of_100_tables(
    seeds: int, noise: float, objectives: int
) -> None:
    for share in told_apart(seeds, 8, noise, objectives, floor=True):
        assert share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1500)


def test_without_a_floor_they_are_told_apart_in_many() -> None:
    assert min(told_apart(2, 8, 0.7, 1, floor=False)) > 0.4


def test_the_floor_takes_nothing_from_noise_that_is_larger() -> None:
    x, y = 10 * generator(3).standard_normal((2, 5))
    assert paired_difference(x, y, floor=rounding_variance([1.0], [1.0])) == paired_difference(x, y)
