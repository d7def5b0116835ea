"""Methods that are as good as any are seldom told apart from the best, whatever their noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special

from mtlbench.statistics import holm
from mtlbench.tables.best import adjusted, smallest_p_values

TABLES = 4000
WORST = 0.05 + 3 * math.sqrt(0.05 * 0.95 / TABLES)
"""What a procedure at 5 % exceeds in one of a thousand simulations of so many tables."""


def p_values(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of (B, R, n) scores the best row (B,), and the p-values (B, R - 1) of paired t tests of the others against it."""
    methods, seeds = scores.shape[1:]
    best = scores.mean(-1).argmax(-1)
    others = np.array([[i for i in range(methods) if i != b] for b in range(methods)])[best]
    behind = np.take_along_axis(scores, best[:, None, None], 1) - np.take_along_axis(scores, others[:, :, None], 1)
    t = behind.mean(-1) / (behind.std(-1, ddof=1) / math.sqrt(seeds))
    return others, 2 * special.stdtr(seeds - 1, -t)


def told_apart(scores: np.ndarray) -> np.ndarray:
    """(B, R): which methods are told apart from the best at 5 %."""
    others, found = p_values(scores)
    apart = np.zeros(scores.shape[:2], dtype=bool)
    for table, (row, p) in enumerate(zip(others, found, strict=True)):
        apart[table, row] = np.array(adjusted(p.tolist(), scores.shape[-1])) < 0.05
    return apart


def noise(kind: str, seeds: int) -> np.ndarray:
    """(TABLES, 8, n) of methods that are equal on average, on top of what seeds have in common."""
    rng = np.random.default_rng([seeds, *kind.encode()])
    made = rng.standard_normal((TABLES, 8, seeds))
    if kind == "one noisy":
        made[:, 0] *= 5
    elif kind == "half noisy":
        made[:, :4] *= 5
    elif kind == "one quiet":
        made[:, 0] /= 10
    elif kind == "alike":  # four methods that nearly do the same
        made[:, 1:4] = made[:, :1] + 0.1 * made[:, 1:4]
    elif kind == "skewed":
        made = np.exp(made)
    elif kind == "heavy-tailed":
        made = rng.standard_t(3, made.shape)
    return np.asarray(made + 3 * rng.standard_normal((TABLES, 1, seeds)))


@pytest.mark.parametrize("kind", ["equal", "one noisy", "half noisy", "one quiet", "alike", "skewed", "heavy-tailed"])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_of_eight_equal_methods_one_is_told_apart_in_at_most_5_of_100_tables(kind: str, seeds: int) -> None:
    assert told_apart(noise(kind, seeds)).any(1).mean() <= WORST


@pytest.mark.parametrize("seeds", [3, 10])
def test_the_level_is_used_up_where_all_methods_are_equal_and_holm_alone_exceeds_it(seeds: int) -> None:
    scores = noise("equal", seeds)
    assert told_apart(scores).any(1).mean() >= 0.05 - 3 * math.sqrt(0.05 * 0.95 / TABLES)
    _, found = p_values(scores)
    assert np.mean([min(holm(p.tolist())) < 0.05 for p in found]) > 0.075


@pytest.mark.parametrize("best", [2, 4, 7])
@pytest.mark.parametrize("behind", [0.5, 2.0, 8.0])
@pytest.mark.parametrize("seeds", [3, 10])
def test_the_best_ones_are_kept_beside_worse_ones(best: int, behind: float, seeds: int) -> None:
    scores = noise("equal", seeds)
    scores[:, best:] -= behind
    assert told_apart(scores)[:, :best].any(1).mean() <= WORST


def test_a_worse_method_is_told_apart_when_there_are_seeds_enough() -> None:
    scores = noise("equal", 10)
    scores[:, 7] -= 4.0
    assert told_apart(scores)[:, 7].mean() > 0.9


def test_two_methods_have_a_plain_t_test_and_more_methods_a_stricter_one() -> None:
    assert adjusted([0.03], 5) == [0.03]
    chances = [adjusted([0.01] * (methods - 1), 5)[0] for methods in (2, 3, 5, 8, 15)]
    assert chances == sorted(chances)
    assert chances[3] > 7 * 0.01  # beyond Holm's


def test_p_values_are_adjusted_step_by_step_and_what_was_not_tested_does_not_count() -> None:
    first, second, none = adjusted([1e-6, 0.04, math.nan], 5)
    assert first == adjusted([1e-6, 0.5], 5)[0]
    assert second == 0.04  # two are left then
    assert math.isnan(none)
    assert adjusted([0.04, 0.04], 5)[0] == adjusted([0.04, 0.04], 5)[1]
    assert adjusted([], 5) == []


def test_simulated_p_values_are_the_same_each_time() -> None:
    one = smallest_p_values(4, 3).copy()
    smallest_p_values.cache_clear()
    assert (smallest_p_values(4, 3) == one).all()
