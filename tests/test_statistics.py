"""Intervals cover what they say, tests reject what they should, and closed forms come out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mtlbench import statistics
from mtlbench.statistics import (
    average_ranks,
    delta_interval,
    delta_m,
    holm,
    interquartile_mean,
    mean_error,
    mean_ranks,
    measure_weights,
    paired_difference,
    performance_profile,
    rank_test,
    ratio_error,
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


@pytest.mark.parametrize(("size", "least", "most"), [(0.3, 0.92, 0.95), (1.0, 0.80, 0.86)])
def test_the_interval_covers_less_where_noise_is_skewed(size: float, least: float, most: float) -> None:
    """As `docs/architecture/tables.md` tells: .83 of lognormal noise whose logarithm has the standard deviation 1."""
    draws = np.exp(size * generator(2).standard_normal((10_000, 5)))
    covered = [found.low <= math.exp(size**2 / 2) <= found.high for found in map(t_interval, draws)]
    assert least <= np.mean(covered) <= most


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


def test_equal_differences_are_not_tested_and_equal_scores_are_not_different() -> None:
    found = paired_difference([2.0, 3.0], [1.0, 2.0])
    assert (found.mean, found.n, found.known) == (1.0, 2, False)
    assert math.isnan(found.p)
    assert paired_difference([2.0, 3.0], [2.0, 3.0]).p == 1.0


def test_a_floor_of_the_spread_makes_a_test_of_equal_differences() -> None:
    found = paired_difference([2.0, 3.0, 4.0], [1.0, 2.0, 3.0], floor=1 / 6)
    assert found.p == pytest.approx(2 * stats.t.sf(math.sqrt(18), 2))
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, 2) / math.sqrt(18))
    tasks = [np.array([1.0, 1.0]), np.array([2.0, 2.0])]
    assert math.isnan(stratified_mean(tasks).p)
    assert 0 < stratified_mean(tasks, floors=[0.1, 0.1]).p < 1


def test_differences_that_are_equal_but_for_rounding_have_no_spread() -> None:
    one, other = np.array([1.1, 2.2, 3.3]), np.array([1.0, 2.1, 3.2])
    assert (one - other).std() > 0
    found = paired_difference(one, other)
    assert math.isnan(found.p)
    assert not found.known
    real = paired_difference([1.1, 2.2, 3.3 + 1e-9], other)
    assert real.p > 0
    assert real.low < real.mean < real.high


def test_holm_adjusts_step_by_step_and_leaves_out_what_was_not_tested() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    adjusted = holm([math.nan, 0.02, 0.03])
    assert math.isnan(adjusted[0])
    assert adjusted[1:] == pytest.approx([0.04, 0.04])


# --- one score over test examples


def bootstrap_error(numerators: np.ndarray, denominators: np.ndarray, rng: np.random.Generator) -> float:
    """The spread of the ratio over resamples of the examples, freed of the bootstrap's (n-1)/n shrinkage."""
    n = len(numerators)
    drawn = rng.integers(0, n, (20_000, n))
    ratios = numerators[drawn].sum(1) / denominators[drawn].sum(1)
    return float(ratios.std() * math.sqrt(n / (n - 1)))


def test_the_error_of_a_mean_is_that_of_the_textbook() -> None:
    assert mean_error([1.0, 2.0, 3.0, 6.0]) == pytest.approx(math.sqrt((4 + 1 + 0 + 9) / 3 / 4))
    right = [100.0] * 80 + [0.0] * 20
    assert mean_error(right) == pytest.approx(100 * math.sqrt(0.8 * 0.2 / 99))
    assert mean_error([100.0] * 7) == 0.0


def test_the_error_of_a_ratio_is_that_of_a_calculation_by_hand() -> None:
    # R = 6 / 10; residuals 2 - 2.4, 1 - 0.6 and 3 - 3
    assert ratio_error([2, 1, 3], [4, 1, 5]) == pytest.approx(math.sqrt(3 / 2 * (0.16 + 0.16)) / 10)
    assert ratio_error([2, 1, 3], [4, 2, 6]) == pytest.approx(0.0, abs=1e-12)  # every example has the same ratio
    assert ratio_error([200, 100, 300], [4, 1, 5]) == pytest.approx(100 * (ratio_error([2, 1, 3], [4, 1, 5]) or 0))


@pytest.mark.parametrize("n", [50, 400])
def test_the_error_of_a_ratio_agrees_with_the_bootstrap_where_tokens_of_a_sentence_are_alike(n: int) -> None:
    rng = generator(n)
    lengths = rng.integers(1, 40, n)
    right = rng.binomial(lengths, rng.beta(4, 1, n))  # some sentences are hard as a whole
    found = ratio_error(right, lengths)
    assert found == pytest.approx(bootstrap_error(right, lengths, rng), rel=0.05)
    share = right.sum() / lengths.sum()
    assert found > 1.5 * math.sqrt(share * (1 - share) / lengths.sum())  # as if every token were drawn apart


def test_the_error_of_f1_agrees_with_the_bootstrap_where_many_sentences_have_no_entity() -> None:
    rng = generator(8)
    gold = rng.poisson(1.2, 300)
    hits, false = rng.binomial(gold, 0.8), rng.poisson(0.2, 300)
    numerators, denominators = 2 * hits, hits + false + gold  # 2 TP + FP + FN
    assert (denominators == 0).sum() > 50
    found = ratio_error(numerators, denominators)
    assert found == pytest.approx(bootstrap_error(numerators, denominators, rng), rel=0.05)


def test_the_error_of_a_ratio_covers_the_truth_95_times_in_100() -> None:
    rng, covered = generator(5), []
    for _ in range(4000):
        lengths = rng.integers(1, 40, 100)
        right = rng.binomial(lengths, rng.beta(4, 1, 100))
        error = ratio_error(right, lengths)
        assert error is not None
        covered.append(abs(right.sum() / lengths.sum() - 0.8) <= stats.t.ppf(0.975, 99) * error)
    assert 0.93 <= np.mean(covered) <= 0.97


@pytest.mark.parametrize(
    ("numerators", "denominators"),
    [([], []), ([3], [4]), ([0, 0], [0, 0]), ([1, math.nan], [2, 2]), ([1, 1], [2, math.inf])],
)
def test_an_error_that_cannot_be_said_is_none_and_never_nan(numerators: list[float], denominators: list[float]) -> None:
    assert ratio_error(numerators, denominators) is None


def test_the_mean_of_one_example_has_no_error() -> None:
    assert mean_error([5.0]) is None
    assert mean_error([]) is None
    assert mean_error([1.0, math.nan]) is None


def test_numerators_and_denominators_belong_together() -> None:
    with pytest.raises(ValueError, match=r"not \(3,\) and \(2,\)"):
        ratio_error([1, 2, 3], [1, 2])


# --- several measures of one task


def test_delta_m_weighs_objectives_or_metrics_alike() -> None:
    objectives = ["seg", "seg", "depth"]
    assert measure_weights(objectives).tolist() == pytest.approx([0.25, 0.25, 0.5])
    assert measure_weights(objectives, "metric").tolist() == pytest.approx([1 / 3] * 3)
    base, signs = [10.0, 20.0, 2.0], [1, 1, -1]
    assert measure_weights(objectives, "main", [True, False, True]).tolist() == [0.5, 0.0, 0.5]
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
