"""The rules that choose a point of the curves do what they say, and only the oracle looks at test scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handmade import ACCURACY, ERROR, record

from mtlbench.cells.request import parse
from mtlbench.errors import UsageError
from mtlbench.record.runs import Measure, Run
from mtlbench.record.schema import Evaluation, MetricInfo, ObjectiveInfo, Record
from mtlbench.record.selection import Rule, choose, merit, merits, winner

CURVES = [
    ({"left": 90.0, "right": 80.0}, {"left": 91.0, "right": 81.0}),  # mean of validation 85
    ({"left": 88.0, "right": 84.0}, {"left": 87.0, "right": 83.0}),  # 86: the best
    ({"left": 84.0, "right": 88.0}, {"left": 99.0, "right": 99.0}),  # 86: as good, but later
    ({"left": 70.0, "right": 85.0}, {"left": 60.0, "right": 86.0}),
]


def chosen(made: Record, rule: str = "best-val") -> list[float]:
    return choose(Run.of(made), Rule.parse(rule)).scores.tolist()


def test_the_epoch_with_the_best_mean_validation_score_counts_and_the_earliest_of_equals() -> None:
    assert chosen(record(curves=CURVES)) == [87.0, 83.0]
    assert choose(Run.of(record(curves=CURVES)), Rule("best-val")).val.tolist() == [88.0, 84.0]


def test_lower_is_better_where_the_metric_says_so() -> None:
    assert chosen(record(curves=CURVES, metric=ERROR)) == [60.0, 86.0]


def test_separate_models_are_selected_apart() -> None:
    made = record("single_task", curves=CURVES, separate=True)
    assert chosen(made) == [91.0, 99.0]
    assert chosen(made, "oracle") == [99.0, 99.0]


def test_last_and_the_mean_over_the_last_evaluations() -> None:
    made = record(curves=CURVES)
    assert chosen(made, "last") == [60.0, 86.0]
    assert chosen(made, "mean-last-2") == [(99.0 + 60.0) / 2, (99.0 + 86.0) / 2]
    assert chosen(made, "mean-last-1") == chosen(made, "last")


def test_test_scores_never_select_unless_an_oracle_is_asked_for() -> None:
    worse = record(curves=[(val, {"left": -test["left"], "right": 7.0}) for val, test in CURVES])
    assert chosen(worse)[0] == -87.0
    assert chosen(worse, "mean-last-4")[0] == -(91 + 87 + 99 + 60) / 4
    assert chosen(worse, "oracle")[0] == -60.0
    assert chosen(record(curves=CURVES), "oracle") == [99.0, 99.0]


def test_a_run_that_is_too_short_for_a_rule_is_named() -> None:
    with pytest.raises(UsageError, match=r"mean-last-5 needs 5 evaluations and somewhere.json has 4"):
        choose(Run.of(record(curves=CURVES), Path("somewhere.json")), Rule.parse("mean-last-5"))


@pytest.mark.parametrize("text", ["best", "mean-last", "mean-last-0", "mean-last-x", "best-test", ""])
def test_unknown_rules_are_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(UsageError, match="best-val, last, mean-last-N"):
        Rule.parse(text)


@pytest.mark.parametrize("text", ["best-val", "last", "mean-last-10", "oracle"])
def test_a_rule_is_written_as_it_is_read(text: str) -> None:
    assert str(Rule.parse(text)) == text


def test_where_metrics_differ_units_have_no_say() -> None:
    def measures(unit: str) -> list[Measure]:
        return [Measure("seg", "miou", "%", True, True), Measure("depth", "error", unit, False, True)]

    scores = np.array([[40.0, 0.50], [41.0, 0.52], [38.0, 0.47], [0.0, 0.01]])
    centimetres = scores * [1, 100]
    assert merit(scores, measures("m")).argsort().tolist() == merit(centimetres, measures("cm")).argsort().tolist()
    assert merit(scores, measures("m")).argmax() == 2  # 5 % worse than the first and 6 % better
    assert merit(scores, measures("m")).argmin() == 3  # a score of zero is never chosen


def test_only_the_main_metric_of_an_objective_selects() -> None:
    def scores(first: float, second: float) -> dict[str, dict[str, float]]:
        return {"a": {"accuracy": first, "nll": second}}

    nll = MetricInfo(name="nll", higher_is_better=False, unit="")
    made = record(
        objectives=(ObjectiveInfo(name="a", metrics=(ACCURACY, nll)),),
        evaluations=tuple(
            Evaluation(epoch=e, step=e, losses={}, scores={"val": scores(x, y), "test": scores(x, y)})
            for e, (x, y) in enumerate([(80.0, 0.1), (90.0, 0.9)], 1)
        ),
    )
    assert chosen(made) == [90.0, 0.9]


# --- objectives with metrics of different kinds


R2 = MetricInfo(name="r2", higher_is_better=True, unit="")


def two_kinds(points: list[tuple[float, float]], second: MetricInfo = R2, **changes: Any) -> Record:
    """A record whose objective `a` has accuracies and `b` the second metric, alike on validation and test."""
    return record(
        **{
            "objectives": (ObjectiveInfo(name="a", metrics=(ACCURACY,)), ObjectiveInfo(name="b", metrics=(second,))),
            "evaluations": tuple(
                Evaluation(epoch=e, step=e, losses={}, scores=dict.fromkeys(("val", "test"), scores))
                for e, scores in enumerate(({"a": {"accuracy": x}, "b": {second.name: y}} for x, y in points), 1)
            ),
            **changes,
        }
    )


def test_a_metric_below_zero_counts_by_how_far_it_is_below() -> None:
    assert chosen(two_kinds([(0.5, -0.9), (0.7, -0.3), (0.9, -0.05)])) == [0.9, -0.05]
    assert chosen(two_kinds([(0.70, -0.3), (0.71, -0.9), (0.69, -2.0)])) == [0.70, -0.3]
    assert chosen(two_kinds([(0.5, -0.2), (0.6, 0.1), (0.7, 0.4), (0.1, 0.41)])) == [0.7, 0.4]
    likelihood = MetricInfo(name="loss", higher_is_better=False, unit="nats")
    assert chosen(two_kinds([(0.5, 1.0), (0.5, -1.0), (0.5, -3.0), (0.1, -3.01)], likelihood)) == [0.5, -3.0]


def test_units_have_no_say_below_zero_either() -> None:
    measures = [Measure("a", "accuracy", "", True, True), Measure("b", "r2", "", True, True)]
    scores = np.array([[0.9, -3.0], [0.8, -0.5], [0.7, 0.2], [0.2, 0.3]])
    for units in ([1.0, 1000.0], [100.0, 1.0], [0.01, 0.001]):
        np.testing.assert_allclose(np.diff(merit(scores * units, measures)), np.diff(merit(scores, measures)))


def test_positive_metrics_count_by_the_mean_of_their_signed_logarithms() -> None:
    measures = [Measure("a", "accuracy", "%", True, True), Measure("b", "error", "", False, True)]
    scores = np.array([[80.0, 0.5], [90.0, 0.6]])
    assert merit(scores, measures).tolist() == ((np.log(scores) * [1, -1]).mean(1)).tolist()
    assert merit(scores[0], measures) == merit(scores, measures)[0]


def test_a_useless_model_is_never_chosen_though_its_error_is_zero() -> None:
    assert chosen(two_kinds([(0.0, 0.0), (60.0, 0.3)], ERROR)) == [60.0, 0.3]
    # An error of zero is good, but does not silence the other objective.
    assert chosen(two_kinds([(60.0, 0.0), (90.0, 0.0), (91.0, 0.9)], ERROR)) == [90.0, 0.0]


def test_no_score_is_worse_than_any() -> None:
    measures = [Measure("a", "accuracy", "", True, True), Measure("b", "r2", "", True, True)]
    found = merit(np.array([[0.9, np.nan], [0.1, -0.5], [np.nan, 0.5]]), measures)
    assert found.argmax() == 1
    assert found[[0, 2]].tolist() == [-np.inf, -np.inf]


def trials(points: list[tuple[float, float]], second: MetricInfo) -> list[Run]:
    cells = parse(["method=uniform", "task=multimnist", f"tune={len(points)}"]).cells
    return [Run.of(two_kinds([point], second, cell=cell)) for cell, point in zip(cells, points, strict=True)]


def test_the_winning_trial_has_the_best_merit_and_never_one_without_a_number() -> None:
    def won(points: list[tuple[float, float]], second: MetricInfo) -> int:
        runs = trials(points, second)
        best = winner(runs[::-1])
        assert best is not None
        return [run.id for run in runs].index(best.id)

    assert won([(0.5, -0.9), (0.9, -0.05), (0.7, -0.3)], R2) == 1
    assert won([(0.0, 0.0), (0.6, 0.3), (0.7, 0.3)], ERROR) == 2  # the first has no merit at all
    assert won([(0.6, -0.3), (0.6, -0.3)], R2) == 0


def test_trials_whose_metrics_differ_are_judged_each_alone() -> None:
    runs = [*trials([(0.5, 0.2), (0.4, 0.1)], R2), *trials([(0.6, 0.3), (0.7, 0.3)], ERROR)]
    assert merits(runs, Rule("last")).tolist() == [merit(run.val[-1], run.measures) for run in runs]
