"""Leaderboards say what the records say: over which seeds, against which base, at what cost, and what is missing."""

from __future__ import annotations

import json
import math
import statistics as plain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handmade import ACCURACY, constant, failed, record, save
from scipy import stats

from mtlbench.cells.request import parse
from mtlbench.cells.trials import reruns, runoff
from mtlbench.errors import UsageError
from mtlbench.record.reading import cells
from mtlbench.record.runs import Absent, Collection, Run, collect
from mtlbench.record.schema import Evaluation, MetricInfo, ObjectiveInfo, Provenance, Record, Sampling
from mtlbench.rendering.table import Row, Table, Value
from mtlbench.statistics import mean_ranks
from mtlbench.tables import figures
from mtlbench.tables.leaderboard import Leaderboard, Report, report
from mtlbench.tables.making import make, write
from mtlbench.tables.options import DeltaConvention, TableOptions
from mtlbench.tables.ranking import separation

LEFT, RIGHT = "left.accuracy", "right.accuracy"


def of(finished: list[Record], absent: list[Record] = [], **options: Any) -> Report:  # noqa: B006
    """The report of records that stand nowhere on disk."""
    return report(collection(finished, absent), TableOptions(**options))


def collection(finished: list[Record], absent: list[Record] = []) -> Collection:  # noqa: B006
    return Collection(
        [Run.of(r, Path(f"{r.id}.json")) for r in finished],
        [Absent(Path(f"{r.id}.json"), r.id, r.status, r.reason, r.cell, r.label) for r in absent],
    )


def only(made: Report) -> Leaderboard:
    (board,) = made.boards
    return board


def row(table: Table, label: str) -> Row:
    return next(r for r in table.rows if r.label == label)


def value(table: Table, label: str, key: str) -> Value:
    return row(table, label).values[key]


def notes(table: Table) -> str:
    return "\n".join(note.text for note in table.notes)


SCORES = {
    "single_task": [(80.0, 50.0), (82.0, 52.0), (78.0, 48.0)],
    "uniform": [(88.0, 55.0), (90.0, 54.0), (86.0, 56.0)],
    "gradvac": [(89.0, 55.5), (90.2, 53.9), (88.4, 57.0)],
    "mgda": [(60.0, 40.0), (61.0, 39.0), (60.5, 41.0)],
}


def grid(*methods: str) -> list[Record]:
    return [r for method in methods or SCORES for r in constant(method, SCORES[method])]


def ttest(one: str, other: str) -> float:
    """The p-value of the paired t test on means over objectives."""
    means = [np.mean(SCORES[method], axis=1) for method in (one, other)]
    return float(stats.ttest_rel(*means).pvalue)


# --- scores and intervals


def test_means_and_t_intervals_over_seeds() -> None:
    table = only(of(grid())).table
    left = [x for x, _ in SCORES["gradvac"]]
    half = 4.302652729911275 * plain.stdev(left) / math.sqrt(3)  # t of 2 degrees of freedom
    found = value(table, "gradvac", LEFT)
    assert found.mean == pytest.approx(plain.fmean(left))
    assert found.interval is not None
    assert found.interval.high - found.mean == pytest.approx(half)
    assert value(table, "gradvac", "mean").mean == pytest.approx(np.mean(SCORES["gradvac"]))
    assert "seeds (0..2)" in notes(table)
    assert table.cells(row(table, "gradvac"))[:3] == ["gradvac", "3", f"{plain.fmean(left):.2f} ± {half:.2f}"]


def test_the_reference_stands_first_and_methods_go_from_best_to_worst() -> None:
    table = only(of(grid())).table
    assert [r.label for r in table.rows] == ["single_task", "gradvac", "uniform", "mgda"]
    assert [r.role for r in table.rows] == ["reference", "method", "method", "method"]


def test_lower_is_better_where_the_metric_says_so() -> None:
    error = MetricInfo(name="error", higher_is_better=False, unit="")
    given = [r for m in ("uniform", "gradvac", "mgda") for r in constant(m, SCORES[m], metric=error)]
    table = only(of(given)).table
    assert [r.label for r in table.rows] == ["mgda", "uniform", "gradvac"]
    assert value(table, "mgda", "mean").best
    assert not value(table, "gradvac", "mean").best


def test_parameters_make_rows_of_their_own() -> None:
    given = [
        record("gradvac"),
        record("gradvac", words="method.beta=0.1"),
        record("gradvac", words="granularity=all_layer"),
    ]
    made = only(of(given)).table
    assert sorted(r.label for r in made.rows) == ["gradvac", "gradvac(all_layer)", "gradvac(beta=0.1)"]


def test_delta_m_is_over_main_metrics_unless_all_are_asked_for() -> None:
    nll = MetricInfo(name="nll", higher_is_better=False, unit="nats")

    def made(method: str, accuracy: float, loss: float) -> Record:
        scores = {"a": {"accuracy": accuracy, "nll": loss}}
        return record(
            method,
            objectives=(ObjectiveInfo(name="a", metrics=(ACCURACY, nll)),),
            evaluations=(Evaluation(epoch=1, step=1, losses={}, scores={"val": scores, "test": scores}),),
        )

    given = [made("single_task", 80.0, 0.5), made("uniform", 88.0, 0.4)]
    few, all_of_them = only(of(given)).table, only(of(given, all_metrics=True)).table
    assert [c.key for c in few.columns][:2] == ["a.accuracy", "delta_m"]
    assert [c.key for c in all_of_them.columns][:3] == ["a.accuracy", "a.nll", "delta_m"]
    for table in (few, all_of_them):
        assert value(table, "uniform", "delta_m").mean == pytest.approx(10)
        assert "mean over the main metrics of objectives (1 metric)" in notes(table)
    for weighting in ("objective", "metric"):
        table = only(of(given, convention=DeltaConvention(weighting))).table
        assert value(table, "uniform", "delta_m").mean == pytest.approx((10 + 20) / 2)
        assert "(2 metrics)" in notes(table)


def test_weightings_differ_where_objectives_have_different_numbers_of_metrics() -> None:
    given = [two_objectives("single_task", 0, 50.0, 50.0, 50.0), two_objectives("uniform", 0, 51.0, 53.0, 56.0)]
    for weighting, expected in (("main", (2 + 12) / 2), ("objective", ((2 + 6) / 2 + 12) / 2), ("metric", 20 / 3)):
        table = only(of(given, convention=DeltaConvention(weighting))).table
        assert value(table, "uniform", "delta_m").mean == pytest.approx(expected)


def two_objectives(method: str, seed: int, accuracy: float, f1: float, other: float) -> Record:
    """A record of two objectives, of which the first has two metrics."""
    scores = {"x": {"accuracy": accuracy, "f1": f1}, "y": {"accuracy": other}}
    both = (ACCURACY, ACCURACY.model_copy(update={"name": "f1"}))
    return record(
        method,
        seed,
        objectives=(ObjectiveInfo(name="x", metrics=both), ObjectiveInfo(name="y", metrics=both[:1])),
        evaluations=(Evaluation(epoch=1, step=1, losses={}, scores={"val": scores, "test": scores}),),
    )


# --- Delta-m


def test_delta_m_is_against_the_mean_of_single_task_over_seeds() -> None:
    table = only(of(grid())).table
    expected = 100 * ((88 - 80) / 80 + (55 - 50) / 50) / 2
    assert value(table, "uniform", "delta_m").mean == pytest.approx(expected)
    assert value(table, "single_task", "delta_m").mean == 0.0
    assert table.facts["delta_m base row"] == "single_task, mean over 3 seeds"


def test_adding_a_method_changes_no_number_of_another() -> None:
    few, more = only(of(grid("single_task", "uniform", "gradvac"))).table, only(of(grid())).table
    for label in ("single_task", "uniform", "gradvac"):
        for key in (LEFT, RIGHT, "mean", "delta_m", "milliseconds_per_step", "time_ratio"):
            one, other = value(few, label, key), value(more, label, key)
            assert (one.mean, one.interval) == (other.mean, other.interval), (label, key)


def test_the_other_sign_and_the_other_weighting_are_said_everywhere() -> None:
    base, turned = only(of(grid())).table, only(of(grid(), convention=DeltaConvention("metric", True))).table
    for label in ("uniform", "mgda"):
        assert value(turned, label, "delta_m").mean == pytest.approx(-value(base, label, "delta_m").mean)
    delta = next(c for c in turned.columns if c.key == "delta_m")
    assert delta.higher_is_better is False
    assert turned.facts["delta_m sign"] == "negative = better"
    assert turned.facts["delta_m weighting"] == "mean over all metrics"
    assert "negative = better; mean over all metrics" in notes(turned)
    assert "positive = better; mean over the main metrics of objectives" in notes(base)
    assert value(turned, "gradvac", "delta_m").best
    assert not value(turned, "mgda", "delta_m").best


def test_without_single_task_or_with_a_base_of_zero_there_is_no_delta_m_and_a_word_why() -> None:
    table = only(of(grid("uniform", "gradvac"))).table
    assert "delta_m" not in [c.key for c in table.columns]
    assert "method=single_task" in notes(table)
    assert table.facts["delta_m base row"] == "none"
    zero = only(of([*constant("single_task", [(0.0, 1.0)]), *constant("uniform", [(1.0, 1.0)])])).table
    assert "No Δm: the base row single_task cannot be told from zero in left accuracy 0.00 (95 %" in notes(zero)


def test_a_base_within_its_own_noise_of_zero_makes_no_delta_m() -> None:
    def table(base: list[tuple[float, float]]) -> Table:
        return only(of([*constant("single_task", base), *grid("uniform", "gradvac")])).table

    noisy = table([(80.0, 1.0), (82.0, 2.0), (78.0, 0.1)])
    assert "delta_m" not in [c.key for c in noisy.columns]
    assert "No Δm: the base row single_task cannot be told from zero in right accuracy 1.03 ± 2.36 (95 %" in notes(
        noisy
    )
    assert noisy.facts["delta_m base row"] == "none"
    sure = table([(80.0, 1.0), (82.0, 1.2), (78.0, 1.1)])
    assert value(sure, "uniform", "delta_m").mean == pytest.approx(100 * ((88 - 80) / 80 + (55 - 1.1) / 1.1) / 2)


def test_a_metric_that_delta_m_is_not_over_may_have_a_base_of_nothing() -> None:
    given = [two_objectives("single_task", 0, 50.0, 0.0, 50.0), two_objectives("uniform", 0, 51.0, 53.0, 56.0)]
    assert value(only(of(given)).table, "uniform", "delta_m").mean == pytest.approx((2 + 12) / 2)
    assert "cannot be told from zero in x f1 0.00" in notes(only(of(given, convention=DeltaConvention("metric"))).table)


def test_of_one_seed_the_choice_of_test_examples_tells_whether_a_base_is_nothing() -> None:
    def told(error: float) -> str:
        sampling = {"test": {"left": {"accuracy": Sampling(error=error, count=100)}}}
        (base,) = constant("single_task", [(1.0, 50.0)])
        evaluation = base.evaluations[0].model_copy(update={"sampling": sampling})
        given = [base.model_copy(update={"evaluations": (evaluation,)}), *constant("uniform", [(2.0, 60.0)])]
        return notes(only(of(given)).table)

    assert "cannot be told from zero in left accuracy 1.00 (95 %" in told(0.7)
    assert "Δm: base row single_task" in told(0.3)


def test_the_interval_of_delta_m_holds_the_noise_of_the_base_row() -> None:
    quiet = [*constant("single_task", [(80.0, 50.0)] * 3), *grid("uniform")]
    noisy = [*constant("single_task", [(70.0, 50.0), (80.0, 50.0), (90.0, 50.0)]), *grid("uniform")]
    widths = []
    for given in (quiet, noisy):
        interval = value(only(of(given)).table, "uniform", "delta_m").interval
        assert interval is not None
        widths.append(interval.high - interval.low)
    assert widths[1] > 3 * widths[0]


# --- what can be told apart


def test_bold_marks_all_that_cannot_be_told_apart_from_the_best() -> None:
    table = only(of(grid())).table
    bold = {r.label for r in table.rows if r.values["mean"].best}
    assert bold == {"gradvac", "uniform"}  # uniform is lower in every seed, but not by an equal amount
    for key in (LEFT, RIGHT, "delta_m"):
        assert not value(table, "mgda", key).best
    assert not value(table, "single_task", "mean").best


def test_at_a_lower_level_more_is_told_apart() -> None:
    assert not value(only(of(grid(), level=0.5)).table, "uniform", "mean").best


def test_with_one_seed_nothing_is_told_apart() -> None:
    table = only(of([r for r in grid() if r.cell.seed == 0])).table
    assert not [column.key for r in table.rows for column in table.columns if table.is_bold(r, column)]
    assert "Nothing is bold: with fewer than two seeds in common" in notes(table)
    assert table.cells(row(table, "mgda"))[2] == "60.00"
    assert "difference" not in [c.key for c in table.columns]


def test_the_difference_to_the_baseline_is_paired_by_seed_and_adjusted() -> None:
    table = only(of(grid())).table
    mean = [(a + b) / 2 - (c + d) / 2 for (a, b), (c, d) in zip(SCORES["gradvac"], SCORES["uniform"], strict=True)]
    found = value(table, "gradvac", "difference")
    assert found.mean == pytest.approx(plain.fmean(mean))
    assert found.p == pytest.approx(ttest("gradvac", "uniform"))
    assert value(table, "mgda", "difference").p == pytest.approx(2 * ttest("mgda", "uniform"))  # the smaller of two
    assert "difference" not in row(table, "uniform").values
    assert "difference" not in row(table, "single_task").values


def test_pairing_is_by_equal_seed_not_by_position() -> None:
    gradvac = [
        record("gradvac", seed, [({"left": x, "right": x}, {"left": x, "right": x})])
        for seed, x in ((1, 90.5), (2, 86.5))
    ]
    uniform = constant("uniform", [(50.0, 50.0), (90.0, 90.0), (86.0, 86.0)])
    found = value(only(of([*gradvac, *uniform])).table, "gradvac", "difference")
    assert found.mean == pytest.approx(0.5)


def test_another_row_can_be_compared_with() -> None:
    table = only(of(grid(), against="mgda")).table
    assert next(c for c in table.columns if c.key == "difference").title == "mean accuracy vs mgda"
    assert value(table, "gradvac", "difference").mean > 20
    assert value(table, "mgda", "time_ratio").mean == 1.0
    with pytest.raises(UsageError, match=r"'mgd'\. Did you mean 'mgda'"):
        of(grid(), against="mgd")


def ranked(gaps: dict[str, float], seeds: int = 3) -> list[Record]:
    """Two objectives with three metrics; methods are that far from the others, with noise of the size 1."""
    rng = np.random.default_rng(3)
    return [
        two_objectives(method, seed, *(80 + gap + rng.standard_normal(3)).tolist())
        for method, gap in gaps.items()
        for seed in range(seeds)
    ]


def test_ranks_are_over_methods_only_and_say_of_how_many() -> None:
    given = ranked({"single_task": 30.0, "uniform": 0.0, "gradvac": 10.0, "mgda": -10.0})
    table = only(of(given, convention=DeltaConvention("metric"))).table
    assert next(c for c in table.columns if c.key == "rank").title == "rank of 3"
    assert value(table, "gradvac", "rank").mean == 1.0
    assert value(table, "mgda", "rank").mean == 3.0
    assert "rank" not in row(table, "single_task").values
    assert "rank: mean rank over 3 metrics among these 3 methods" in notes(table)
    assert "depends on the pool" in notes(table)


def test_ranks_over_two_metrics_are_left_out_and_that_is_said() -> None:
    given = ranked({"uniform": 0.0, "gradvac": 10.0, "mgda": -10.0})
    table = only(of(given)).table
    assert "rank" not in [c.key for c in table.columns]
    assert "No rank: it takes 3 metrics at least; 2 tell no more than their columns do." in notes(table)


def test_ranks_that_differ_by_noise_alone_are_left_out_and_that_is_said() -> None:
    every = DeltaConvention("metric")
    table = only(of(ranked({"uniform": 0.0, "gradvac": 0.0, "mgda": 0.0}), convention=every)).table
    assert "rank" not in [c.key for c in table.columns]
    (said,) = [n.text for n in table.notes if n.text.startswith("No rank")]
    assert said.startswith("No rank: mean ranks over 3 metrics differ by no more than their noise over 3 seeds (perm")
    one = only(of(ranked({"uniform": 0.0, "gradvac": 10.0, "mgda": -10.0}, seeds=1), convention=every)).table
    assert "No rank: without two seeds that all methods have its noise is not known." in notes(one)


def test_of_equal_methods_mean_ranks_are_shown_in_5_of_100_tables() -> None:
    rng, shown = np.random.default_rng(8), []
    for _ in range(500):
        common = rng.standard_normal((4, 6, 1))  # metrics of a method go together
        scores = common + 0.5 * rng.standard_normal((4, 6, 5))
        shown.append(separation(np.array([mean_ranks(of_seed, np.ones(5)) for of_seed in scores]), 199) <= 0.05)
    assert 0.02 <= np.mean(shown) <= 0.08


def test_methods_that_rank_alike_on_all_of_many_seeds_are_separated() -> None:
    assert separation(np.tile([1.0, 2.0, 3.0], (5, 1))) < 0.01
    assert separation(np.tile([1.0, 2.0], (2, 1))) > 0.3  # as likely as not by chance


def paired(method: str, differences: list[float], best: str = "gradvac") -> list[Record]:
    """A method that is by these differences behind the best on every seed, whose scores vary more."""
    base = [80.0, 90.0, 70.0]
    assert method != best
    return constant(method, [(x - d, x - d) for x, d in zip(base, differences, strict=True)])


def test_bold_is_adjusted_for_the_number_of_methods() -> None:
    close = [0.643, 1.0, 1.357]
    p = float(stats.ttest_1samp(close, 0).pvalue)
    assert 0.025 < p < 0.05
    best = constant("gradvac", [(x, x) for x in (80.0, 90.0, 70.0)])
    one = only(of([*best, *paired("uniform", close)])).table
    assert [r.label for r in one.rows if r.values["mean"].best] == ["gradvac"]
    two = only(of([*best, *paired("uniform", close), *paired("mgda", close)])).table
    assert {r.label for r in two.rows if r.values["mean"].best} == {"gradvac", "uniform", "mgda"}
    assert "adjusted for the number of methods and for the choice of the best by the same seeds" in notes(two)


def test_the_same_difference_on_every_seed_is_no_certainty_where_scores_lie_on_a_grid() -> None:
    base = [(95.5, 94.0), (96.0, 93.5), (94.5, 95.0)]  # accuracies on 200 examples
    better = [(x + 0.5, y) for x, y in base]
    table = only(of([*constant("uniform", base), *constant("gradvac", better)])).table
    found = value(table, "gradvac", "difference")
    assert found.mean == pytest.approx(0.25)
    assert found.interval is not None
    spread = 0.5 / math.sqrt(2 * 6)  # of a mean of two scores
    assert found.interval.high - 0.25 == pytest.approx(4.302652729911275 * spread / math.sqrt(3))
    assert found.p == pytest.approx(2 * stats.t.sf(0.25 / (spread / math.sqrt(3)), 2))
    assert {r.label for r in table.rows if r.values["mean"].best} == {"uniform", "gradvac"}
    (said,) = [note.text for note in table.notes if "steps of their scores" in note.text]
    assert said.startswith("left accuracy [%], right accuracy [%], mean accuracy [%]: ")
    assert "steps of their scores" not in notes(only(of(grid("uniform", "gradvac"))).table)


def test_an_objective_on_which_all_scores_are_equal_has_no_step() -> None:
    given = [*constant("uniform", [(95.0, 100.0), (96.1, 100.0)]), *constant("mgda", [(95.5, 100.0), (96.7, 100.0)])]
    found = value(only(of(given)).table, "mgda", "difference")
    assert found.p == pytest.approx(float(stats.ttest_rel([0.5, 0.6], [0.0, 0.0]).pvalue))


def test_the_step_of_the_scores_is_that_of_all_evaluations() -> None:
    base = [({"left": 95.5, "right": 1.0}, {"left": 95.1, "right": 1.0}), ({"left": 99.0, "right": 1.0},) * 2]
    better = [({"left": 95.5, "right": 1.0}, {"left": 95.5, "right": 1.0}), ({"left": 99.5, "right": 1.0},) * 2]
    given = [record(method, seed, curve) for method, curve in (("uniform", base), ("mgda", better)) for seed in (0, 1)]
    found = value(only(of(given, selection="last")).table, "mgda", "difference").interval
    assert found is not None
    assert found.high - found.mean == pytest.approx(12.706204736432095 * 0.1 / 2 / math.sqrt(6) / math.sqrt(2))


def test_the_best_on_its_own_seeds_is_told_from_nothing_that_beats_it_on_common_ones() -> None:
    mgda = constant("mgda", [(80.0, 80.0), (82.0, 82.1), (99.0, 99.0), (98.0, 98.0)])
    uniform = constant("uniform", [(83.0, 83.0), (85.0, 85.1)])
    table = only(of([*mgda, *uniform])).table
    assert value(table, "mgda", "mean").mean > value(table, "uniform", "mean").mean
    assert value(table, "uniform", "mean").best
    assert value(table, "mgda", "mean").best


def test_what_shares_no_two_seeds_with_the_best_is_not_bold_and_that_is_said() -> None:
    table = only(of([*grid("uniform", "gradvac"), record("pcgrad")])).table
    assert {r.label for r in table.rows if r.values["mean"].best} == {"gradvac", "uniform"}
    assert "fewer than two seeds in common with the best is not compared with it, and not bold" in notes(table)
    alone = only(of(grid("uniform"))).table
    assert not alone.rows[0].values["mean"].best
    assert "Nothing is bold: there is no other method to compare with." in notes(alone)


def test_the_difference_says_on_how_many_common_seeds_it_rests() -> None:
    assert "over common seeds (3);" in notes(only(of(grid())).table)
    fewer = [r for r in grid() if (r.cell.method, r.cell.seed) != ("mgda", 2)]
    assert "over common seeds (3; mgda 2);" in notes(only(of(fewer)).table)


# --- selection


CURVES = [
    ({"left": 90.0, "right": 90.0}, {"left": 70.0, "right": 71.0}),
    ({"left": 80.0, "right": 80.0}, {"left": 75.0, "right": 79.0}),
]


def test_the_protocols_rule_is_the_default_and_another_is_said_to_be_another() -> None:
    given = [record(curves=CURVES), record("gradvac", curves=CURVES)]
    official, last = only(of(given)).table, only(of(given, selection="last")).table
    assert value(official, "uniform", LEFT).mean == 70.0
    assert value(last, "uniform", LEFT).mean == 75.0
    assert "(the protocol's official rule)" in notes(official)
    assert last.facts["selection"] == "last (official: best-val)"
    assert last.slug == f"{official.slug}-last"
    mean = only(of(given, selection="mean-last-2")).table
    assert value(mean, "uniform", LEFT).mean == 72.5


def test_a_protocol_can_make_another_rule_official() -> None:
    given = [record(curves=CURVES, words="protocol.selection=mean-last-2")]
    assert value(only(of(given)).table, "uniform", LEFT).mean == 72.5
    with pytest.raises(UsageError, match="selection"):
        parse(["method=uniform", "task=multimnist", "protocol.selection=oracle"])


def test_the_oracle_comes_with_its_gap() -> None:
    table = only(of([record(curves=CURVES), record("gradvac", curves=CURVES)], selection="oracle")).table
    assert value(table, "uniform", RIGHT).mean == 79.0
    assert value(table, "uniform", f"{RIGHT}.gap").mean == 79.0 - 71.0
    assert "upper bound, not a result" in notes(table)


# --- cost


def test_cost_ratios_compare_medians_on_the_same_host_only() -> None:
    given = [
        *(record(seed=s, seconds=t, host="one") for s, t in enumerate((0.010, 0.012, 0.9))),
        *(record("gradvac", seed=s, seconds=t, host="one") for s, t in enumerate((0.018, 0.030, 0.020))),
        *(record("pcgrad", seed=s, seconds=0.5, host="two") for s in range(3)),
    ]
    table = only(of(given)).table
    assert value(table, "gradvac", "milliseconds_per_step").mean == pytest.approx(20.0)
    assert value(table, "gradvac", "time_ratio").mean == pytest.approx(0.020 / 0.012)
    assert value(table, "pcgrad", "milliseconds_per_step").mean == pytest.approx(500.0)
    assert "time_ratio" not in row(table, "pcgrad").values
    assert "memory_ratio" not in row(table, "pcgrad").values
    assert "cpu of one; cpu of two" in notes(table)


def test_a_row_from_two_hosts_is_compared_on_each_with_the_baseline_there() -> None:
    given = [
        record(seed=0, seconds=0.01, host="one"),
        record(seed=1, seconds=0.10, host="two"),
        record("gradvac", seed=0, seconds=0.02, host="one"),
        record("gradvac", seed=1, seconds=0.40, host="two"),
    ]
    assert value(only(of(given)).table, "gradvac", "time_ratio").mean == pytest.approx(3.0)  # of 2 and 4


# --- what is missing


def test_failed_and_missing_cells_are_counted_with_their_reason() -> None:
    given = [*constant("uniform", [(1.0, 1.0)] * 3), record("mgda", seed=0), record("mgda", seed=2)]
    made = of(given, [failed("mgda", 1, "loss is nan"), failed("pcgrad", 0, "no")])
    table = only(made).table
    assert row(table, "uniform").count == "3"
    assert row(table, "mgda").count == "2/3"
    assert row(table, "pcgrad").count == "0/3"
    assert table.rows[-1].label == "pcgrad"
    assert not row(table, "pcgrad").values
    assert table.heading == "multimnist/digits, protocol digits@1 (incomplete: 5 of 9 cells)"
    for text in ("mgda, seed 1: diverged: loss is nan", "pcgrad, seed 0: diverged: no", "pcgrad, seeds 1,2: missing"):
        assert any(text in note.text for note in table.notes if note.kind == "warning"), text
        assert any(text in warning for warning in made.warnings), text


def test_a_table_of_failures_alone_is_a_table() -> None:
    table = only(of([], [failed("mgda", 1, "loss is nan")])).table
    assert table.cells(table.rows[0])[:2] == ["mgda", "0/1"]
    assert "diverged: loss is nan" in notes(table)


@pytest.fixture
def results(tmp_path: Path) -> tuple[Path, dict[tuple[str, int], Path]]:
    given = grid()
    return tmp_path, {(r.cell.method, r.cell.seed): path for r, path in zip(given, save(given, tmp_path), strict=True)}


def read(folder: Path, **options: Any) -> Report:
    return report(collect(cells(folder)), TableOptions(**options))


def test_deleting_one_seed_is_seen_and_named(results: tuple[Path, dict[tuple[str, int], Path]]) -> None:
    folder, files = results
    before = only(read(folder)).table
    files["gradvac", 1].unlink()
    files["gradvac", 1].parent.rmdir()
    made = read(folder)
    table = only(made).table
    assert row(table, "gradvac").count == "2/3"
    assert table.incomplete == "incomplete: 11 of 12 cells"
    kept = [x for seed, (x, _) in enumerate(SCORES["gradvac"]) if seed != 1]
    assert value(table, "gradvac", LEFT).mean == pytest.approx(plain.fmean(kept))
    for label in ("single_task", "uniform", "mgda"):
        one, other = value(table, label, "delta_m"), value(before, label, "delta_m")
        assert (one.mean, one.interval) == (other.mean, other.interval)
    (warning,) = made.warnings
    assert "gradvac, seed 1: missing: no record.json below " in warning
    assert str(files["gradvac", 1].parents[2]) in warning


@pytest.mark.parametrize("damage", ["truncated", "schema", "nan", "empty", "hole"])
def test_a_damaged_record_is_a_missing_seed_of_its_row(
    results: tuple[Path, dict[tuple[str, int], Path]], damage: str
) -> None:
    folder, files = results
    path = files["gradvac", 2]
    text = path.read_text()
    content = json.loads(text)
    scores = content["evaluations"][0]["scores"]["test"]
    if damage == "schema":
        content["schema_version"] = 99
    elif damage == "nan":
        scores["left"]["accuracy"] = math.nan
    elif damage == "hole":
        del scores["left"]["accuracy"]
    damaged = {"truncated": text[: len(text) // 2], "empty": ""}.get(damage, json.dumps(content))
    path.write_text(damaged)
    made = read(folder)
    table = only(made).table
    assert row(table, "gradvac").count == "2/3"
    assert table.incomplete == "incomplete: 11 of 12 cells"
    kept = [x for x, _ in SCORES["gradvac"][:2]]
    assert value(table, "gradvac", LEFT).mean == pytest.approx(plain.fmean(kept))
    (warning,) = made.warnings
    assert "gradvac, seed 2: unreadable" in warning
    assert str(path) in warning
    assert path.read_text() == damaged


def test_a_failed_cell_is_a_missing_seed_and_names_its_file(results: tuple[Path, dict[tuple[str, int], Path]]) -> None:
    folder, _ = results
    (path,) = save([failed("gradvac", 3, "loss is inf")], folder)
    made = read(folder)
    table = only(made).table
    assert {r.label: r.count for r in table.rows} == {
        "single_task": "3/4",
        "gradvac": "3/4",
        "uniform": "3/4",
        "mgda": "3/4",
    }
    assert any(f"gradvac, seed 3: diverged: loss is inf ({path})" in w for w in made.warnings)
    assert len(made.warnings) == 2
    assert "single_task, seed 3; uniform, seed 3; mgda, seed 3: missing: no record.json below " in made.warnings[0]


def test_cells_that_are_running_or_interrupted_are_missing_seeds_too(
    results: tuple[Path, dict[tuple[str, int], Path]],
) -> None:
    folder, files = results
    path = files["mgda", 0]
    path.rename(path.with_name("log.txt"))
    (warning,) = read(folder).warnings
    assert "mgda, seed 0: interrupted" in warning


def test_a_damaged_record_of_a_setting_that_nobody_knows_is_a_row_of_its_own(
    results: tuple[Path, dict[tuple[str, int], Path]],
) -> None:
    folder, _ = results
    (path,) = save([record("gradvac", words="method.beta=0.3")], folder)
    path.write_text("{")
    made = read(folder)
    table = only(made).table
    unknown = row(table, "gradvac (settings unknown)")
    assert unknown.count == "0/3"
    assert any(str(path) in w for w in made.warnings)
    assert row(table, "gradvac").count == "3"


def test_a_damaged_record_beside_no_other_is_warned_of(tmp_path: Path) -> None:
    (path,) = save([record()], tmp_path)
    path.write_text("{")
    made = read(tmp_path)
    assert not made.boards
    assert str(path) in made.warnings[0]


def test_a_copied_record_is_counted_once(results: tuple[Path, dict[tuple[str, int], Path]]) -> None:
    folder, files = results
    copy = folder / "copy" / files["uniform", 0].parent.name
    copy.mkdir(parents=True)
    (copy / "record.json").write_text(files["uniform", 0].read_text())
    made = read(folder)
    assert row(only(made).table, "uniform").count == "3"
    assert any("second record" in w for w in made.warnings)


def test_rows_with_the_very_same_scores_are_told() -> None:
    given = [*constant("uniform", SCORES["uniform"]), *constant("pcgrad", SCORES["uniform"]), *grid("gradvac")]
    (said,) = [note for note in only(of(given)).table.notes if "same scores" in note.text]
    assert said.text.startswith("pcgrad and uniform have the same scores")
    assert "same scores" not in notes(only(of(grid())).table)


def test_many_missing_cells_are_summed_up() -> None:
    given = [record(seed=s) for s in range(60)] + [record("gradvac", seed=0)]
    (unrun,) = of(given).warnings
    assert "gradvac, seeds 1..59: missing: no record.json below" in unrun
    table = only(of(given, [failed("gradvac", s, "loss is nan") for s in range(1, 60)])).table
    warnings = [note.text for note in table.notes if note.kind == "warning"]
    assert len(warnings) == 41
    assert warnings[-1] == "and 19 more such cells."


# --- what must not be mixed


@pytest.mark.parametrize(
    "other",
    [
        {"words": "protocol.epochs=3"},
        {"protocol": {"version": 2}},
        {"words": "protocol.options.dropout=0.3"},
        {"protocol": {"batch_size": 7}},  # changed without a new version
    ],
)
def test_protocols_that_differ_never_share_a_table(other: dict[str, Any]) -> None:
    made = of([record(), record("gradvac"), record(**other), record("gradvac", **other)])
    assert [len(board.table.rows) for board in made.boards] == [2, 2]
    assert len({board.table.title for board in made.boards}) == 2
    assert len({board.table.slug for board in made.boards}) == 2
    versions = "words" not in other
    assert all(("Not mixed with" in notes(board.table)) == versions for board in made.boards)


def provenance(**changes: Any) -> Provenance:
    base = record().provenance
    assert base is not None
    return base.model_copy(update=changes)


MIXED = [
    ("data", {"provenance": provenance(data_digest="f" * 64)}, "ffffffffffff"),
    ("torch", {"provenance": provenance(packages={"torch": "3"})}, "3"),
    ("protocol", {"protocol": {"version": 2}}, "digits@2"),
]


@pytest.mark.parametrize(("what", "change", "told"), MIXED)
def test_what_must_not_be_mixed_is_marked_when_that_is_asked_for(what: str, change: dict[str, Any], told: str) -> None:
    given = [record(), record("pcgrad"), record("gradvac", **change)]
    table = only(of(given, allow_mixed=True)).table
    assert row(table, "gradvac").marks == "†"
    assert row(table, "uniform").marks == ""
    (note,) = [n for n in table.notes if n.mark]
    assert note.kind == "warning"
    assert note.text.startswith(f"{what} {told}")


@pytest.mark.parametrize(("what", "change", "told"), MIXED[:2])
def test_what_must_not_be_mixed_is_refused(what: str, change: dict[str, Any], told: str) -> None:
    made = of([record(), record("pcgrad"), record("gradvac", **change), record("uniform", words="protocol.epochs=2")])
    assert [board.protocol for board in made.boards] == ["digits@1+epochs=2"]
    (message,) = made.refused
    for text in (what, told, "such as", ".json", "--allow-mixed"):
        assert text in message


def test_versions_of_one_protocol_keep_their_rows_apart_in_a_mixed_table() -> None:
    table = only(of([record(), record(protocol={"version": 2})], allow_mixed=True)).table
    assert sorted(r.label for r in table.rows) == ["uniform (digits@1)", "uniform (digits@2)"]


def test_the_version_of_the_suite_and_packages_that_one_side_lacks_may_differ() -> None:
    given = [
        record(provenance=provenance(packages={"torch": "2", "mtlbench": "1"})),
        record("gradvac", provenance=provenance(packages={"torch": "2", "mtlbench": "2", "scipy": "1"})),
    ]
    assert not of(given).refused


def test_commits_hardware_and_uncommitted_changes_are_told() -> None:
    table = only(of([record(), record("gradvac", provenance=provenance(commit="e" * 40, dirty=True))])).table
    assert "commits cccccccccccc, eeeeeeeeeeee" in notes(table)
    assert "1 records were made with uncommitted changes" in notes(table)


def of_objective(name: str, metric: MetricInfo = ACCURACY, method: str = "gradvac") -> Record:
    """A record whose second objective is this one, `right` for all others."""
    scores = {"left": {"accuracy": 70.0}, name: {metric.name: 60.0}}
    return record(
        method,
        objectives=(ObjectiveInfo(name="left", metrics=(ACCURACY,)), ObjectiveInfo(name=name, metrics=(metric,))),
        evaluations=(Evaluation(epoch=1, step=1, losses={}, scores={"val": scores, "test": scores}),),
    )


OTHERS = [
    (of_objective("middle"), "objectives: left, right (2 records", "left, middle (1 records"),
    (of_objective("right", ACCURACY.model_copy(update={"unit": ""})), "metrics of right: accuracy [%], higher", "accu"),
    (
        of_objective("right", ACCURACY.model_copy(update={"higher_is_better": False})),
        "metrics of right",
        "%], lower is",
    ),
    (of_objective("right", ACCURACY.model_copy(update={"name": "f1"})), "metrics of right", "f1 [%], higher is better"),
]


@pytest.mark.parametrize(("odd", "one", "other"), OTHERS)
def test_records_of_other_objectives_or_metrics_are_refused(odd: Record, one: str, other: str) -> None:
    made = of([record(), record("pcgrad"), odd])
    assert not made.boards
    (message,) = made.refused
    for text in (one, other, f"{odd.id}.json", "--allow-mixed"):
        assert text in message


@pytest.mark.parametrize(("odd", "one", "other"), OTHERS)
def test_mixed_objectives_are_marked_and_the_table_has_those_that_all_share(
    odd: Record, one: str, other: str, tmp_path: Path
) -> None:
    tables = make(collection([record(), record("pcgrad"), odd]), TableOptions(allow_mixed=True))
    (board,) = tables.report.boards
    assert {r.label: bool(r.marks) for r in board.table.rows} == {"uniform": False, "pcgrad": False, "gradvac": True}
    assert [c.key for c in board.table.columns][:2] == [LEFT, "milliseconds_per_step"]
    assert value(board.table, "gradvac", LEFT).mean == 70.0
    assert "Left out, as not every record has them alike: right" in notes(board.table)
    assert write(tables, tmp_path)


def test_a_changed_protocol_with_one_method_alone_is_named_and_has_no_files_of_its_own(tmp_path: Path) -> None:
    def pages(records: list[Record], folder: str) -> tuple[set[str], str]:
        write(make(collection(records)), tmp_path / folder)
        below = tmp_path / folder / "leaderboards"
        return {path.stem for path in below.glob("multimnist*.md")}, (below / "README.md").read_text(encoding="utf-8")

    changed = "protocol.epochs=1"
    own, alone = [record(), record("pcgrad")], record(words=changed)
    stems, index = pages([*own, alone], "alone")
    assert len(stems) == 1
    assert "digits@1+epochs=1" in index
    stems, index = pages([*own, alone, record("pcgrad", words=changed)], "compared")
    assert len(stems) == 2
    assert "One method alone" not in index
    stems, _ = pages([alone], "nothing else")
    assert len(stems) == 1


def test_the_order_of_objectives_in_a_record_means_nothing(tmp_path: Path) -> None:
    turned = record("gradvac", curves=[({"right": 2.0, "left": 1.0}, {"right": 4.0, "left": 3.0})])
    tables = make(collection([record(), turned]))
    (board,) = tables.report.boards
    for key, mean in ((LEFT, 3.0), (RIGHT, 4.0)):
        assert value(board.table, "gradvac", key).mean == value(board.table, "uniform", key).mean == mean
    assert write(tables, tmp_path)


def test_records_without_a_common_objective_have_no_table_at_all() -> None:
    scores = {"middle": {"accuracy": 70.0}}
    odd = record(
        "gradvac",
        objectives=(ObjectiveInfo(name="middle", metrics=(ACCURACY,)),),
        evaluations=(Evaluation(epoch=1, step=1, losses={}, scores={"val": scores, "test": scores}),),
    )
    made = of([record(), odd], allow_mixed=True)
    assert not made.boards
    assert "no objective" in made.refused[0]
    assert odd.id in made.refused[0]


def test_a_row_of_separate_and_of_joint_models_is_refused() -> None:
    made = of([record("gradvac", 0), record("gradvac", 1, separate=True)])
    (message,) = made.refused
    assert "models of gradvac: one for all (1 records" in message
    assert only(of([record("gradvac", 0), record("gradvac", 1, separate=True)], allow_mixed=True)).table.rows[0].marks


def test_trials_on_other_data_are_refused_too() -> None:
    made = tuned("uniform", [80, 90, 70, 60], [79.0, 80.0])
    odd = made[0].model_copy(update={"provenance": provenance(data_digest="f" * 64)})
    (message,) = of([odd, *made[1:]]).refused
    assert "data: d (5 records" in message


# --- the tuned regime


def tuned(method: str, merits: list[float], finals: list[float], budget: int = 4) -> list[Record]:
    """A search whose trials have these validation scores (and test scores ten lower), and reruns of the best."""
    trials = parse([f"method={method}", "task=multimnist", f"tune={budget}"]).cells
    best, second = (trials[i] for i in np.argsort(-np.array(merits))[:2])
    made = [
        record(cell=cell, curves=[({"left": x, "right": x}, {"left": x - 10, "right": x - 10})])
        for cell in [*trials, *runoff([best, second])]
        if cell.tuning and (x := merits[cell.tuning.trial])
    ]
    return made + [
        record(cell=cell, curves=[({"left": x, "right": x}, {"left": x, "right": x})])
        for cell, x in zip(reruns(best, budget, range(len(finals))), finals, strict=True)
    ]


def test_a_tuned_table_holds_reruns_only_and_prints_the_budget() -> None:
    given = [
        *tuned("uniform", [80, 90, 70, 60], [79.0, 80.0, 81.0]),
        *tuned("gradvac", [85, 90.5, 70, 60], [80.0, 81.5, 82.0]),
    ]
    made = of([*given, *grid("uniform", "gradvac")])
    fixed, board = made.boards
    assert fixed.budget is None
    assert board.table.title == "multimnist/digits, protocol digits@1, tuned on 4 trials"
    assert not board.table.incomplete
    assert [(r.label, r.count) for r in board.table.rows] == [("gradvac", "3"), ("uniform", "3")]
    assert value(board.table, "uniform", LEFT).mean == pytest.approx(80.0)
    assert board.table.facts["regime"] == "tuned, 4 trials per method"
    assert "gradvac: method.beta" in notes(board.table)
    assert "optimizer.lr" in notes(board.table)
    assert "Selected: gradvac: optimizer.lr=0.00139, options.dropout=0.2, optimizer.weight_decay=0.0, method.beta=" in (
        notes(board.table)
    )


def test_the_interval_of_a_tuned_method_includes_its_search() -> None:
    close = only(of(tuned("uniform", [80, 90, 89.9, 89.8], [79.9, 80.0, 80.1]))).table
    interval = value(close, "uniform", LEFT).interval
    assert interval is not None
    assert interval.high - 80.0 < 0.6
    wide = tuned("uniform", [80, 90, 89.9, 70], [79.9, 80.0, 80.1])
    wide = [
        r if r.cell.tuning is None or not r.cell.tuning.is_trial or r.cell.tuning.trial != 2 else None for r in wide
    ]  # the second best of the search did badly on the test split
    (cell,) = [
        c for c in parse(["method=uniform", "task=multimnist", "tune=4"]).cells if c.tuning and c.tuning.trial == 2
    ]
    other = record(cell=cell, curves=[({"left": 89.9, "right": 89.9}, {"left": 60.0, "right": 60.0})])
    found = value(only(of([*(r for r in wide if r), other])).table, "uniform", LEFT).interval
    assert found is not None
    assert found.low < 61


def test_the_winner_is_judged_by_validation_in_tables_too() -> None:
    trials = parse(["method=uniform", "task=multimnist", "tune=4"]).cells
    val, test = [80.0, 90.0, 70.0, 60.0], [99.0, 10.0, 50.0, 70.0]
    made = [
        record(cell=c, curves=[({"left": x, "right": x}, {"left": y, "right": y})])
        for c, x, y in zip(trials, val, test, strict=True)
    ]
    board = only(of([*made, *(record(cell=c) for c in reruns(trials[1], 4, [0, 1]))]))
    assert "was rerun, but" not in notes(board.table)
    search = board.entries[0].search
    assert search is not None
    assert search.merit.tolist() == val
    assert search.scores[:, 0].tolist() == test


def test_a_search_without_reruns_is_a_row_that_says_how_far_it_is() -> None:
    (*trials, _, _) = tuned("gradvac", [80, 90, 70, 60], [79.0, 80.0])
    made = of([*trials[:3], *tuned("uniform", [80, 90, 70, 60], [79.0, 80.0])])
    table = only(made).table
    assert row(table, "gradvac").count == "0/2"
    assert "gradvac, seeds 0,1: missing: 3 of 4 trials are finished, and none was rerun" in notes(table)


def test_missing_trials_and_a_winner_that_is_none_are_told() -> None:
    given = tuned("uniform", [80, 90, 70, 60], [79.0, 80.0])
    without = [r for r in given if not (r.cell.tuning and r.cell.tuning.is_trial and r.cell.tuning.trial == 1)]
    table = only(of(without)).table
    assert "uniform, trial 1; uniform, run-off of trial 2: missing" in notes(table)
    assert "uniform: trial 1 was rerun, but trial 0 is the best on validation now" in notes(table)


def test_reruns_of_a_trial_that_is_no_longer_the_best_do_not_count() -> None:
    trials = parse(["method=uniform", "task=multimnist", "tune=4"]).cells
    merits = [80.0, 90.0, 70.0, 60.0]
    made = [
        record(cell=c, curves=[({"left": x, "right": x}, {"left": x, "right": x})])
        for c, x in zip(trials, merits, strict=True)
    ]
    old = [
        record(cell=c, curves=[({"left": 1.0, "right": 1.0}, {"left": 1.0, "right": 1.0})])
        for c in reruns(trials[0], 4, range(5))
    ]
    new = [
        record(cell=c, curves=[({"left": 2.0, "right": 2.0}, {"left": 2.0, "right": 2.0})])
        for c in reruns(trials[1], 4, range(3))
    ]
    report_of = of([*made, *old, *new])
    table = only(report_of).table
    assert row(table, "uniform").count == "3"
    assert value(table, "uniform", LEFT).mean == 2.0
    assert "reruns of trial 0, which is not the best" in report_of.warnings[0]


def test_an_interrupted_rerun_is_a_missing_seed_of_its_setting(tmp_path: Path) -> None:
    paths = save(tuned("uniform", [80, 90, 70, 60], [79.0, 80.0, 81.0]), tmp_path)
    paths[-1].rename(paths[-1].with_name("log.txt"))
    paths[0].write_text("{")
    made = read(tmp_path)
    (board,) = made.boards
    assert row(board.table, "uniform").count == "2/3"
    assert any("uniform, seed 2: interrupted" in w and str(paths[-1].parent) in w for w in made.warnings)
    assert any("uniform, trial 0: unreadable" in w and str(paths[0]) in w for w in made.warnings)


def searched(method: str, second: float, finals: list[float]) -> list[Record]:
    """A search whose second best trial, close on validation, has this test score; the others are as good on test."""
    trials = parse([f"method={method}", "task=multimnist", "tune=4"]).cells
    points = [(90.0, finals[0]), (89.9, second), (10.0, finals[0]), (9.0, finals[0])]
    made = [
        record(cell=c, curves=[({"left": x, "right": x}, {"left": y, "right": y})])
        for c, (x, y) in zip(trials, points, strict=True)
    ]
    return made + [
        record(cell=c, curves=[({"left": x, "right": x}, {"left": x, "right": x})])
        for c, x in zip(reruns(trials[0], 4, range(len(finals))), finals, strict=True)
    ]


def test_the_interval_of_delta_m_and_the_difference_of_tuned_methods_include_their_searches() -> None:
    finals = [79.9, 80.0, 80.1]
    worse = [78.9, 79.0, 79.1]
    base = searched("single_task", 80.0, [70.0, 70.1, 69.9])

    def of_gradvac(second: float, key: str) -> Value:
        given = [*base, *searched("uniform", worse[0], worse), *searched("gradvac", second, finals)]
        return value(only(of(given)).table, "gradvac", key)

    for key, low in (("delta_m", -10.0), ("difference", -15.0)):
        sure, unsure = of_gradvac(finals[0], key).interval, of_gradvac(60.0, key).interval
        assert sure is not None
        assert unsure is not None
        assert unsure.low < low < sure.low
    assert (of_gradvac(finals[0], "difference").p or 0) < 0.05 < (of_gradvac(60.0, "difference").p or 0)


def test_a_fixed_hyper_parameter_makes_a_tuned_row_of_its_own() -> None:
    def cells_of(words: str) -> list[Record]:
        trials = parse(["method=gradvac", "task=multimnist", "tune=4", *words.split()]).cells
        return [record(cell=c) for c in [*trials, *reruns(trials[0], 4, [0])]]

    table = only(of([*cells_of(""), *cells_of("method.beta=0.1")])).table
    assert sorted(r.label for r in table.rows) == ["gradvac", "gradvac(beta=0.1)"]


def test_budgets_have_tables_of_their_own_and_share_trials() -> None:
    eight = parse(["method=uniform", "task=multimnist", "tune=8"]).cells
    trials = [record(cell=c) for c in [*eight, *runoff(eight[:2])]]
    finals = [record(cell=c) for budget in (4, 8) for c in reruns(eight[0], budget, [0, 1])]
    made = of([*trials, *finals])
    assert [board.budget for board in made.boards] == [4, 8]
    assert not made.warnings


def test_with_many_objectives_what_sums_them_up_stands_first() -> None:
    def made(method: str, names: int) -> Record:
        scores = {f"l{k}": {"accuracy": float(k + len(method))} for k in range(names)}
        return record(
            method,
            objectives=tuple(ObjectiveInfo(name=name, metrics=(ACCURACY,)) for name in scores),
            evaluations=(Evaluation(epoch=1, step=1, losses={}, scores={"val": scores, "test": scores}),),
        )

    def keys(names: int) -> list[str]:
        given = [made(method, names) for method in ("single_task", "uniform", "gradvac")]
        return [column.key for column in only(of(given)).table.columns]

    assert keys(6)[0] == "l0.accuracy"
    assert keys(7)[:3] == ["mean", "delta_m", "milliseconds_per_step"]
    assert keys(7)[-7:] == [f"l{k}.accuracy" for k in range(7)]
    assert sorted(keys(7)) == sorted([*keys(6), "l6.accuracy"])


def test_noise_that_base_and_method_share_by_seed_is_no_noise_of_delta_m() -> None:
    base = [(80.0, 50.0), (84.0, 52.5), (76.0, 47.5)]
    gained = [(1.1 * x, 1.1 * y) for x, y in base]
    same = [*constant("single_task", base), *constant("uniform", gained)]
    other = [
        r
        if r.cell.method == "uniform"
        else record("single_task", r.cell.seed + 3, [({"left": x, "right": y}, {"left": x, "right": y})])
        for r, (x, y) in zip(same, base * 2, strict=True)
    ]
    widths = []
    for given in (same, other):
        found = value(only(of(given)).table, "uniform", "delta_m")
        assert found.mean == pytest.approx(10.0)
        assert found.interval is not None
        widths.append(found.interval.high - found.interval.low)
    assert widths[0] == pytest.approx(0.0, abs=1e-6)
    assert widths[1] > 10


def test_a_model_that_is_only_scored_has_no_time_of_a_step_and_no_advice_on_methods() -> None:
    made = record(words="protocol.epochs=0", protocol={"epochs": 0})
    assert made.cost is not None
    evaluation = made.evaluations[0].model_copy(update={"epoch": 0, "step": 0})
    cost = made.cost.model_copy(update={"steps": 0, "seconds_per_step": 0.0, "seconds_training": 0.0})
    scored = made.model_copy(update={"evaluations": (evaluation,), "cost": cost})
    table = report(Collection([Run.of(scored)])).boards[0].table
    assert "milliseconds_per_step" not in table.rows[0].values
    told = "\n".join(note.text for note in table.notes)
    assert "Nothing is trained: the model is scored once as it is, so that there is one row." in told
    assert "single_task" not in told
    assert [*figures.draw_all(report(Collection([Run.of(scored)])).boards[0])] == ["scores", "trade-off"]
