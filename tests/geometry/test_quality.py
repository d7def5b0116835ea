"""Whether similarity goes with quality: correlations that own up to their n, curves at equal step and equal loss."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mtlbench.errors import UsageError
from mtlbench.geometry.quality import (
    Method,
    at_loss,
    at_step,
    common_loss,
    common_step,
    correlation,
    high_resource,
    over_objectives,
    over_runs,
    towards,
)

# an example in the documentation of the R package statpsych (`ci.spear`), which names Bonett and Wright as its source
PUBLISHED_Y = [21, 4, 9, 12, 35, 18, 10, 22, 24, 1, 6, 8, 13, 16, 19]
PUBLISHED_X = [67, 28, 30, 28, 52, 40, 25, 37, 44, 10, 14, 20, 28, 40, 51]


def test_spearmans_interval_is_the_published_one() -> None:
    found = correlation(PUBLISHED_X, PUBLISHED_Y, "spearman")
    assert found.r == pytest.approx(0.8699639)
    assert (found.low, found.high) == pytest.approx((0.5840951, 0.9638297), abs=1e-6)


def test_pearsons_interval_and_p_are_those_of_scipy() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((2, 12))
    theirs = stats.pearsonr(x, y)
    found = correlation(x, y)
    assert found.r == pytest.approx(theirs.statistic)
    assert found.p == pytest.approx(theirs.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval()))


@pytest.mark.parametrize("method", ["pearson", "spearman"])
@pytest.mark.parametrize("rho", [0.0, 0.7])
def test_intervals_of_twelve_runs_cover_95_percent(rho: float, method: Method) -> None:
    generator = np.random.default_rng(4)
    truth = rho if method == "pearson" else 6 / np.pi * np.arcsin(rho / 2)
    count, hits = 400, 0
    for _ in range(count):
        x, rest = generator.standard_normal((2, 12))
        found = correlation(x, rho * x + np.sqrt(1 - rho**2) * rest, method)
        hits += found.low <= truth <= found.high
    assert hits >= stats.binom.ppf(0.001, count, 0.94)  # Spearman's z is approximate: 94 %


def test_unknown_points_are_left_out_and_counted() -> None:
    x, y = np.array([1, 2, np.nan, 3, 4, 9.0]), np.array([2, 1, 5, np.nan, 4, 8.0])
    found = correlation(x, y)
    assert (found.n, found.left_out) == (4, 2)
    assert found.r == pytest.approx(np.corrcoef([1, 2, 4, 9], [2, 1, 4, 8])[0, 1])


def test_few_points_say_nothing() -> None:
    two, three = correlation([1, 2], [3, 5]), correlation([1, 2, 3], [1, 3, 2])
    assert np.isnan(two.r)
    assert (three.low, three.high) == (-1, 1)
    assert three.r == pytest.approx(0.5)
    assert np.isnan(correlation([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]).r)


def test_a_curve_is_read_between_its_snapshots_and_not_beyond() -> None:
    assert at_step([0, 10, 30], [1.0, 2.0, 6.0], 20) == pytest.approx(4)
    assert at_step([0, 10, 30], [1.0, np.nan, 7.0], 10) == pytest.approx(3)
    assert np.isnan(at_step([0, 10, 30], [1.0, 2.0, 6.0], 31))
    assert np.isnan(at_step([0, 10], [np.nan, 2.0], 5))


def test_equal_loss_is_the_first_crossing_by_hand() -> None:
    losses, values = [4.0, 2.0, 3.0, 1.0], [0.8, 0.6, 0.5, 0.2]
    assert at_loss(losses, values, 2.5) == pytest.approx(0.65)  # a quarter of the way back from 2.0 to 4.0
    assert at_loss(losses, values, 2.0) == pytest.approx(0.6)
    assert at_loss(losses, values, 1.5) == pytest.approx(0.2 + 0.3 / 4)
    assert at_loss(losses, values, 4.0) == pytest.approx(0.8)
    assert np.isnan(at_loss(losses, values, 0.5))  # never reached
    assert np.isnan(at_loss(losses, values, 4.5))  # already below at the first snapshot
    assert np.isnan(at_loss(losses, [np.nan, 0.6, 0.5, 0.2], 2.5))  # unknown beside the crossing


def test_what_all_runs_have_in_common() -> None:
    assert common_loss([[4.0, 2.0, 3.0], [4.0, 1.0], [5.0, 2.5]]) == 2.5
    assert common_step([[0, 10, 30], [0, 20]]) == 20


def test_a_correlation_that_is_only_progress_is_gone_at_equal_loss() -> None:
    """Similarity depends on the loss alone and falls with it; runs that are further on are better and less similar."""
    generator = np.random.default_rng(2)
    speeds = np.linspace(0.5, 2.0, 12)
    steps = np.arange(0, 101, 10)
    losses = [4 * np.exp(-speed * steps / 100) for speed in speeds]
    similarities = [0.1 + 0.2 * curve + 1e-3 * generator.standard_normal(len(steps)) for curve in losses]
    quality = np.array([-curve[-1] for curve in losses])
    found = over_runs(similarities, losses, [steps] * 12, quality)
    assert found.at_end.high < -0.9
    assert found.at_step.high < -0.9
    assert found.at_loss.low < 0 < found.at_loss.high
    assert found.loss == pytest.approx(4 * np.exp(-0.5))
    assert found.step == 100
    assert found.at_loss.n == 12
    assert found.loss_similarity == pytest.approx(np.full(12, 0.1 + 0.2 * found.loss), abs=0.02)


def test_runs_of_other_lengths_are_compared_at_the_last_step_of_all() -> None:
    curves = [[1.0, 2.0], [1.0, 3.0, 5.0], [0.0, 4.0]]
    found = over_runs(curves, [[3.0, 1.0], [3.0, 2.0, 1.0], [3.0, 1.0]], [[0, 10], [0, 10, 20], [0, 20]], [1, 2, 3])
    assert found.step == 10
    np.testing.assert_allclose(found.step_similarity, [2.0, 3.0, 2.0])
    np.testing.assert_allclose(found.end_similarity, [2.0, 5.0, 4.0])
    with pytest.raises(UsageError, match="at least four"):
        over_runs([], [], [], [])


def test_similarity_to_the_high_resource_ones_leaves_out_itself() -> None:
    similarity = np.array([[1, 0.5, 0.1, 0.2], [0.5, 1, 0.3, 0.4], [0.1, 0.3, 1, np.nan], [0.2, 0.4, np.nan, 1]])
    chosen = np.array([True, True, False, False])
    np.testing.assert_allclose(towards(similarity, chosen), [0.5, 0.5, 0.2, 0.3])
    np.testing.assert_allclose(towards(similarity, ~chosen), [0.15, 0.35, np.nan, np.nan])


def test_high_resource_are_those_with_the_most() -> None:
    assert high_resource([5, 1, 9, 3, 2, 4]).tolist() == [True, False, True, False, False, False]
    assert high_resource([5, 5, 1, 1], 1).tolist() == [True, True, False, False]  # as much as the last of them
    assert high_resource([1, 2]).tolist() == [False, True]


def test_gains_over_single_task_are_correlated_over_objectives() -> None:
    generator = np.random.default_rng(3)
    amounts, pull = np.arange(9.0), generator.uniform(0, 1, 9)
    similarity = (pull[:, None] + pull) / 2
    found, toward = over_objectives(similarity, amounts, 3 * toward_of(similarity) + 1, count=3)
    assert found.r == pytest.approx(1)
    assert found.n == 9
    np.testing.assert_allclose(toward, toward_of(similarity))


def toward_of(similarity: np.ndarray) -> np.ndarray:
    """Mean similarity to objectives 6, 7 and 8, by hand."""
    return np.array([np.mean([similarity[k, j] for j in (6, 7, 8) if j != k]) for k in range(9)])
