"""Intervals cover what they say, tests reject what they should, and closed forms come out."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from mtlbench import statistics
from mtlbench.statistics import (
    average_ranks,
    best_of,
    delta_interval,
    delta_m,
    holm,
    interquartile_mean,
    mean_ranks,
    measure_weights,
    paired_difference,
    performance_profile,
    rank_test,
    repeated_searches,
    search_difference,
    search_draws,
    search_interval,
    signed_rank_test,
    stratified_mean,
    t_interval,
    trimmed_weights,
)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- one quantity over seeds


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_interval_of_one_task_covers_the_mean_95_times_in_100(seeds: int) -> None:
    draws = generator(seeds).standard_normal((20_000, seeds))
    covered = [interval.low <= 0 <= interval.high for interval in map(t_interval, draws)]
    assert 0.93 <= np.mean(covered) <= 0.97


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("apart", [0.0, 3.0])
def test_the_intervals_of_four_tasks_cover_their_aggregates_95_times_in_100(
    seeds: int, apart: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 400)
    rng = generator(seeds)
    centres = apart * np.array([-1.0, -0.5, 0.2, 1.3])
    everything = np.sort((centres[:, None] + rng.standard_normal((4, 200_000))).ravel())
    middle = (everything * trimmed_weights(len(everything))).sum()
    covered: dict[str, list[bool]] = {"iqm": [], "mean": []}
    for _ in range(3000):
        tasks = list(centres[:, None] + rng.standard_normal((4, seeds)))
        iqm, mean = interquartile_mean(tasks, generator=rng), stratified_mean(tasks)
        covered["iqm"].append(iqm.low <= middle <= iqm.high)
        covered["mean"].append(mean.low <= centres.mean() <= mean.high)
    for name, hits in covered.items():
        assert 0.93 <= np.mean(hits) <= 0.97, name


def test_the_t_interval_is_that_of_scipy() -> None:
    x = generator().standard_normal(7)
    low, high = stats.t.interval(0.9, 6, x.mean(), stats.sem(x))
    found = t_interval(x, 0.9)
    assert (found.low, found.high, found.n) == (pytest.approx(low), pytest.approx(high), 7)


def test_one_value_has_no_interval() -> None:
    found = t_interval([3.0])
    assert (found.mean, found.n, found.known) == (3.0, 1, False)
    assert math.isnan(paired_difference([3.0], [2.0]).p)
    assert paired_difference([], []).n == 0


def test_the_paired_test_is_that_of_scipy() -> None:
    x, y = generator().standard_normal((2, 6))
    found = paired_difference(x, y)
    assert found.p == pytest.approx(stats.ttest_rel(x, y).pvalue)
    assert found.mean == pytest.approx((x - y).mean())
    low, high = stats.ttest_rel(x, y).confidence_interval()
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_pairing_by_seed_sees_what_the_spread_over_seeds_hides() -> None:
    seeds = np.array([0.0, 10.0, 20.0, 30.0, 40.0])
    better = seeds + np.array([1.0, 1.1, 0.9, 1.05, 0.95])
    assert paired_difference(better, seeds).p < 0.001
    assert stats.ttest_ind(better, seeds).pvalue > 0.9


def test_equal_differences_are_certain_and_equal_scores_are_not_different() -> None:
    assert paired_difference([2.0, 3.0], [1.0, 2.0]).p == 0.0
    assert paired_difference([2.0, 3.0], [2.0, 3.0]).p == 1.0


def test_differences_that_are_equal_but_for_rounding_have_no_spread() -> None:
    one, other = np.array([1.1, 2.2, 3.3]), np.array([1.0, 2.1, 3.2])
    assert (one - other).std() > 0
    found = paired_difference(one, other)
    assert (found.p, found.low, found.high) == (0.0, found.mean, found.mean)
    real = paired_difference([1.1, 2.2, 3.3 + 1e-9], other)
    assert real.p > 0
    assert real.low < real.mean < real.high


def test_holm_adjusts_step_by_step_and_leaves_out_what_was_not_tested() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    adjusted = holm([math.nan, 0.02, 0.03])
    assert math.isnan(adjusted[0])
    assert adjusted[1:] == pytest.approx([0.04, 0.04])


# --- several measures of one task


def test_delta_m_weighs_objectives_or_metrics_alike() -> None:
    objectives = ["seg", "seg", "depth"]
    assert measure_weights(objectives).tolist() == pytest.approx([0.25, 0.25, 0.5])
    assert measure_weights(objectives, "metric").tolist() == pytest.approx([1 / 3] * 3)
    base, signs = [10.0, 20.0, 2.0], [1, 1, -1]
    by_objective = delta_m([11.0, 20.0, 1.8], base, signs, measure_weights(objectives))
    assert by_objective == pytest.approx(0.25 * 10 + 0.5 * 10)


def test_delta_m_is_positive_for_better_whatever_the_sign_of_the_base() -> None:
    assert delta_m([-1.0], [-2.0], [1], [1.0]) == pytest.approx(50.0)
    assert delta_m([1.0], [2.0], [-1], [1.0]) == pytest.approx(50.0)


@pytest.mark.parametrize(("paired", "together"), [(True, 0.9), (True, 0.0), (False, 0.0)])
def test_the_interval_of_delta_m_covers_when_base_and_method_are_noisy(paired: bool, together: float) -> None:
    rng, signs, weights = generator(1), np.array([1.0, -1.0]), np.array([0.5, 0.5])
    centre, base_centre = np.array([52.0, 1.9]), np.array([50.0, 2.0])
    truth = float(delta_m(centre, base_centre, signs, weights))
    covered = []
    for _ in range(4000):
        noise, own = rng.standard_normal((5, 2)), rng.standard_normal((5, 2))
        scale = np.array([0.5, 0.02])
        base = base_centre + scale * noise
        values = centre + scale * (together * noise + math.sqrt(1 - together**2) * own)
        found = delta_interval(values, base, signs, weights, paired)
        covered.append(found.low <= truth <= found.high)
    assert 0.93 <= np.mean(covered) <= 0.97


def test_the_interval_of_delta_m_is_centred_on_the_ratio_to_the_mean_base() -> None:
    values, base = np.array([[2.0], [4.0]]), np.array([[1.0], [3.0]])
    found = delta_interval(values, base, [1], [1.0], paired=True)
    assert found.mean == pytest.approx(50.0)
    assert (found.low + found.high) / 2 == pytest.approx(50.0)
    assert not delta_interval(values, base[:1], [1], [1.0], paired=False).known


def test_ranks_share_the_average_of_ties_and_follow_the_direction() -> None:
    assert average_ranks([3.0, 1.0, 3.0, 2.0]).tolist() == [3.5, 1.0, 3.5, 2.0]
    scores = [[90.0, 0.1], [80.0, 0.2], [90.0, 0.3]]
    assert mean_ranks(scores, [1, -1]).tolist() == pytest.approx([1.25, 2.5, 2.25])
    assert (
        average_ranks(generator().standard_normal((4, 9))).tolist()
        == stats.rankdata(generator().standard_normal((4, 9)), axis=-1).tolist()
    )


def test_no_score_ranks_last() -> None:
    assert average_ranks([math.nan, 1.0, math.nan, math.inf]).tolist() == [3.5, 1.0, 3.5, 2.0]
    scores = [[math.nan, 0.3], [80.0, 0.2], [90.0, math.nan]]
    assert mean_ranks(scores, [1, -1]).tolist() == [2.5, 1.5, 2.0]


def test_mean_ranks_depend_on_the_pool() -> None:
    scores = [[3.0, 1.0], [2.0, 2.0], [1.0, 3.0]]
    assert mean_ranks(scores[:2], [1, 1]).tolist() == [1.5, 1.5]
    assert mean_ranks(scores, [1, 1]).tolist() == [2.0, 2.0, 2.0]


# --- several tasks


def test_the_interquartile_mean_is_that_of_the_middle_half() -> None:
    values = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 100.0])
    assert (values * trimmed_weights(8)).sum() == pytest.approx(np.mean([2, 3, 4, 5]))
    assert trimmed_weights(6).tolist() == pytest.approx([0, 1 / 6, 1 / 3, 1 / 3, 1 / 6, 0])
    assert interquartile_mean([values[:4], values[4:]], generator=generator()).mean == pytest.approx(3.5)


def test_tasks_count_alike_whatever_their_number_of_seeds() -> None:
    few, many = np.array([1.0, 2.0]), np.array([5.0, 5.0, 6.0, 6.0, 7.0, 7.0])
    repeated = interquartile_mean([np.repeat(few, 3), many], generator=generator())
    assert interquartile_mean([few, many], generator=generator()).mean == pytest.approx(repeated.mean)
    assert stratified_mean([few, many]).mean == pytest.approx((1.5 + 6.0) / 2)


def test_an_outlying_run_moves_the_mean_and_not_the_interquartile_mean() -> None:
    tasks = [generator(t).standard_normal(5) for t in range(4)]
    moved = [tasks[0].copy(), *tasks[1:]]
    moved[0][moved[0].argmax()] += 1000
    found = [interquartile_mean(x, generator=generator()).mean for x in (tasks, moved)]
    assert found[0] == pytest.approx(found[1])


def test_the_bootstrap_repeats_with_its_generator() -> None:
    tasks = [generator(t).standard_normal(4) for t in range(3)]
    one, same, other = (interquartile_mean(tasks, generator=generator(s)) for s in (1, 1, 2))
    assert one == same
    assert one.low != other.low


def test_tasks_outside_the_middle_half_do_not_widen_the_interval_of_the_interquartile_mean() -> None:
    middle = [np.array([1.0, 1.2, 0.9, 1.1]), np.array([1.05, 0.95, 1.15, 1.0])]

    def width(spread: float) -> float:
        outside = [centre + spread * np.array([-1.0, 1.0, 0.5, -0.5]) for centre in (-1000.0, 1000.0)]
        found = interquartile_mean([outside[0], *middle, outside[1]], generator=generator())
        return found.high - found.low

    assert width(100.0) == pytest.approx(width(0.001))


def test_a_task_with_one_seed_leaves_no_interval() -> None:
    tasks = [np.array([1.0]), np.array([2.0, 3.0])]
    assert not interquartile_mean(tasks, generator=generator()).known
    assert not stratified_mean(tasks).known
    assert stratified_mean(tasks).mean == pytest.approx(1.75)


def test_the_performance_profile_falls_from_all_runs_to_none() -> None:
    tasks = [np.array([1.0, 2.0]), np.array([3.0, 4.0, 5.0, 6.0])]
    found = performance_profile(tasks, [0.0, 1.5, 3.0, 5.5, 7.0])
    assert found.tolist() == pytest.approx([1.0, 0.75, 0.5, 0.125, 0.0])


def test_rank_tests_need_ten_tasks() -> None:
    scores = np.arange(3.0) + 0.1 * generator().standard_normal((12, 3))
    assert rank_test(scores[:9]) is None
    assert math.isnan(signed_rank_test(scores[:9, 0], scores[:9, 1]))
    assert rank_test(scores[:, :2]) is None
    p = rank_test(scores)
    assert p is not None
    assert p < 0.001
    assert signed_rank_test(scores[:, 0], scores[:, 1]) < 0.001
    assert signed_rank_test(scores[:, 0], scores[:, 0]) == 1.0


def test_methods_that_tie_on_every_task_do_not_differ() -> None:
    tied = np.repeat(generator().standard_normal((12, 1)), 3, axis=1)
    assert rank_test(tied) == 1.0
    tied[0, 0] += 1
    assert rank_test(tied) == pytest.approx(stats.friedmanchisquare(*tied.T).pvalue)


# --- search


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
