"""Tables show, where it is asked for, how much each score depends on the choice of its test examples."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from handmade import ACCURACY, constant, multilingual, record, save

from mtlbench.record.runs import Collection, Run
from mtlbench.record.schema import Evaluation, MetricInfo, ObjectiveInfo, Record, Sampling
from mtlbench.rendering.files import FORMATS, render
from mtlbench.rendering.table import Table, Value
from mtlbench.tables.leaderboard import report
from mtlbench.tables.options import TableOptions

LEFT, RIGHT = "left.accuracy", "right.accuracy"

Told = Mapping[str, tuple[float | None, int]]
"""Objective -> error and count."""


def telling(made: Record, *by_evaluation: Told, split: str = "test", metric: str = "accuracy") -> Record:
    """The record with what is known of the sampling of its scores on `split`, at each evaluation in turn."""
    changed = []
    for evaluation, told in zip(made.evaluations, by_evaluation, strict=True):
        found = {name: {metric: Sampling(error=error, count=count)} for name, (error, count) in told.items()}
        changed.append(evaluation.model_copy(update={"sampling": {**evaluation.sampling, split: found}}))
    return made.model_copy(update={"evaluations": tuple(changed)})


def table(given: list[Record], **options: Any) -> Table:
    collection = Collection([Run.of(r, Path(f"{r.id}.json")) for r in given])
    (board,) = report(collection, TableOptions(**{"sampling": True, **options})).boards
    return board.table


def value(made: Table, label: str, key: str) -> Value:
    return next(row for row in made.rows if row.label == label).values[key]


def error(made: Table, label: str, key: str) -> float | None:
    found = value(made, label, key).sampling
    return None if found is None else found.error


def notes(made: Table) -> str:
    return "\n".join(note.text for note in made.notes)


def warnings(made: Table) -> list[str]:
    return [note.text for note in made.notes if note.kind == "warning"]


def two_seeds() -> list[Record]:
    """Scores 80 and 82 of left, 50 and 54 of right, with errors of their own."""
    one, other = constant("uniform", [(80.0, 50.0), (82.0, 54.0)])
    return [
        telling(one, {"left": (4.0, 100), "right": (3.0, 900)}),
        telling(other, {"left": (3.0, 100), "right": (1.0, 900)}),
    ]


# --- what is shown


def test_a_score_has_the_mean_of_its_errors_over_seeds_and_the_number_of_examples() -> None:
    made = table(two_seeds())
    found = value(made, "uniform", LEFT)
    assert found.mean == 81.0
    assert found.sampling is not None
    assert (found.sampling.error, found.sampling.count) == (3.5, 100)
    shown = dict(zip(made.header(), made.cells(made.rows[0]), strict=True))
    assert shown["left accuracy [%] ↑"] == "81.00 ± 12.71 (se 3.50, N 100)"
    assert shown["right accuracy [%] ↑"] == "52.00 ± 25.41 (se 2.00, N 900)"


def test_a_mean_over_objectives_has_the_error_of_independent_ones_and_no_number_of_examples() -> None:
    made = table(two_seeds())
    found = value(made, "uniform", "mean").sampling
    assert found is not None
    assert found.error == pytest.approx(math.sqrt(3.5**2 + 2.0**2) / 2)
    assert found.count is None
    assert "as if their examples were drawn independently" in notes(made)


def test_more_seeds_do_not_make_it_smaller() -> None:
    many = [telling(r, {"left": (4.0, 100), "right": (3.0, 900)}) for r in constant("uniform", [(80.0, 50.0)] * 9)]
    assert error(table(many), "uniform", LEFT) == error(table(many[:1]), "uniform", LEFT) == 4.0
    assert "More seeds do not make it smaller" in notes(table(many))


def test_costs_differences_and_delta_m_have_none() -> None:
    base = [telling(r, {"left": (4.0, 9), "right": (3.0, 9)}) for r in constant("single_task", [(70.0, 40.0)] * 2)]
    mgda = [telling(r, {"left": (4.0, 9), "right": (3.0, 9)}) for r in constant("mgda", [(71.0, 42.0), (70.0, 41.0)])]
    made = table([*base, *mgda, *two_seeds()])
    having = {key for row in made.rows for key, found in row.values.items() if found.sampling is not None}
    assert having == {LEFT, RIGHT, "mean"}
    assert {"delta_m", "difference"} <= {column.key for column in made.columns}
    assert "Δm has none" in notes(made)


def test_the_notes_say_what_does_not_follow() -> None:
    told = notes(table(two_seeds()))
    assert "over seeds alone and leave it out" in told
    assert "by itself no contradiction to a test" in told


def test_the_error_is_that_of_the_evaluation_that_counts() -> None:
    curves = [
        ({"left": 1.0, "right": 1.0}, {"left": 10.0, "right": 10.0}),
        ({"left": 3.0, "right": 2.0}, {"left": 20.0, "right": 20.0}),
        ({"left": 1.0, "right": 3.0}, {"left": 40.0, "right": 30.0}),
    ]
    told = [{"left": (float(e), 100), "right": (10.0 * e, 100)} for e in (1, 2, 3)]
    one = [telling(record("uniform", 0, curves), *told)]
    apart = [telling(record("single_task", 0, curves, separate=True), *told)]

    def errors(given: list[Record], selection: str) -> list[float | None]:
        made = table(given, selection=selection)
        return [error(made, given[0].label, key) for key in (LEFT, RIGHT)]

    assert errors(one, "best-val") == [2.0, 20.0]
    assert errors(one, "last") == [3.0, 30.0]
    assert errors(one, "oracle") == [3.0, 30.0]
    assert errors(one, "mean-last-2") == [2.5, 25.0]
    assert errors(apart, "best-val") == [2.0, 30.0]
    assert "over the evaluations that count" in notes(table(one, selection="mean-last-2"))
    assert "over the evaluations that count" not in notes(table(one, selection="last"))


def test_an_error_that_cannot_be_said_leaves_the_number_of_examples_and_no_error_of_the_mean() -> None:
    (one,) = constant("uniform", [(80.0, 50.0)])
    made = table([telling(one, {"left": (None, 100), "right": (3.0, 900)})])
    assert value(made, "uniform", LEFT).text(made.columns[0]) == "80.00 (N 100)"
    assert error(made, "uniform", RIGHT) == 3.0
    assert value(made, "uniform", "mean").sampling is None


def test_every_metric_has_its_own_where_all_are_shown() -> None:
    nll = MetricInfo(name="nll", higher_is_better=False, unit="nats")
    scores = {"a": {"accuracy": 80.0, "nll": 0.5}}
    sampling = {"a": {"accuracy": Sampling(error=4.0, count=100), "nll": Sampling(error=0.25, count=100)}}
    evaluation = Evaluation(
        epoch=1, step=1, losses={}, scores={"val": scores, "test": scores}, sampling={"test": sampling}
    )
    made = record(objectives=(ObjectiveInfo(name="a", metrics=(ACCURACY, nll)),), evaluations=(evaluation,))
    assert error(table([made], all_metrics=True), "uniform", "a.nll") == 0.25
    assert error(table([made]), "uniform", "a.accuracy") == 4.0


def test_records_with_objectives_in_another_order_give_each_column_its_own_error() -> None:
    one, other = two_seeds()
    turned = other.model_copy(update={"objectives": other.objectives[::-1]})
    made = table([one, turned])
    assert (error(made, "uniform", LEFT), error(made, "uniform", RIGHT)) == (3.5, 2.0)


def test_groups_and_extra_splits_have_theirs() -> None:
    told = [{f"l{k}": (float(k), 10 * k) for k in range(6, 20)}] * 2
    made = table([telling(multilingual(), *told, split="news", metric="bleu")], split="news")
    found = value(made, "uniform", "l7.bleu").sampling
    assert found is not None
    assert (found.error, found.count) == (7.0, 70)
    high = math.sqrt(sum(k**2 for k in range(6, 20))) / 14
    assert error(made, "uniform", "mean.high") == pytest.approx(high)
    of_test = table([telling(multilingual(), *told, split="news", metric="bleu")])
    assert "no record holds any on test" in notes(of_test)


# --- what is not there


def test_records_without_any_are_told_in_one_sentence_and_shown_as_before() -> None:
    given = constant("uniform", [(80.0, 50.0), (82.0, 54.0)])
    made = table(given)
    (told,) = warnings(made)
    assert told.startswith("There are no sampling errors to show: no record holds any on test")
    assert "se:" not in notes(made)
    assert made.rows == table(given, sampling=False).rows


def test_where_some_records_have_none_it_is_over_the_others_and_that_is_said() -> None:
    one, _ = two_seeds()
    other = constant("uniform", [(80.0, 50.0), (82.0, 54.0)])[1]
    made = table([one, other])
    assert error(made, "uniform", LEFT) == 4.0
    assert warnings(made) == ["1 of 2 records hold no sampling errors on test; se is over the others."]


def test_without_the_option_tables_are_what_they_are_of_records_that_know_nothing() -> None:
    plain = table(constant("uniform", [(80.0, 50.0), (82.0, 54.0)]), sampling=False)
    telling_all = table(two_seeds(), sampling=False)
    assert {form: render(form, [telling_all]) for form in FORMATS} == {form: render(form, [plain]) for form in FORMATS}


# --- the command


def test_the_command_shows_it_in_every_format(command: Callable[..., Any], tmp_path: Path) -> None:
    save(two_seeds(), tmp_path / "runs")
    for form in ("terminal", "md", "latex", "html", "csv", "json"):
        shown = " ".join(command(f"table --sampling --format {form}").output.split())
        assert "se: standard error of a score" in shown, form
        assert "se 3.50, N 100" in shown or form in ("csv", "json"), form
        assert "se 3.50" not in command(f"table --format {form}").output, form
    (row,) = json.loads(command("table --sampling --format json").output)["rows"]
    assert (row["values"][LEFT]["sampling_error"], row["values"][LEFT]["examples"]) == (3.5, 100)
    assert row["values"]["mean"]["examples"] is None
    assert "sampling_error" not in row["values"]["milliseconds_per_step"]
