"""Rows of what is scored without a model: as the records tell, apart, and ranked with nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from handmade import record

from mtlbench.record.runs import Collection, Run
from mtlbench.rendering.files import FORMATS, render
from mtlbench.rendering.table import Table
from mtlbench.tables.leaderboard import report
from mtlbench.tables.options import TableOptions

BASELINES = {
    "left": {"tag": {"accuracy": 1.0}, "word": {"accuracy": 2.5}},
    "right": {"tag": {"accuracy": 2.0}, "word": {"accuracy": 3.5}},
}


def run(method: str = "uniform", baselines: Any = BASELINES, **changes: Any) -> Run:
    return Run.of(record(method, facts={"baselines": baselines}, **changes), Path("record.json"))


def table(*runs: Run, **options: Any) -> Table:
    (board,) = report(Collection(runs=list(runs)), TableOptions(**options)).boards
    return board.table


def test_every_baseline_has_a_row_with_the_values_of_all_columns_of_scores() -> None:
    found = table(run(), run("gradvac"), run("single_task", separate=True))
    tag, word = [row for row in found.rows if row.role == "simple"]
    assert (tag.label, word.label) == ("tag", "word")
    assert {key: value.mean for key, value in word.values.items() if key != "delta_m"} == {
        "left.accuracy": 2.5,
        "right.accuracy": 3.5,
        "mean": 3.0,
    }
    # The single-task models score 3 and 4.
    assert tag.values["delta_m"].mean == pytest.approx(100 * ((1 - 3) / 3 + (2 - 4) / 4) / 2)
    assert [section.role for section in found.sections()] == ["reference", "method", "simple"]
    assert tag.count == "-"
    assert any(note.text.startswith("Rows without a model") for note in found.notes)


def test_they_change_no_other_number() -> None:
    def measured(found: Table) -> list[Any]:
        return [row for row in found.rows if row.role != "simple"]

    assert measured(table(run(), run("gradvac"))) == measured(table(run(baselines={}), run("gradvac", {})))


@pytest.mark.parametrize(
    "other",
    [
        {},
        {**BASELINES, "left": {}},
        {"left": {"tag": {"accuracy": 9.0}}, "right": {"tag": {"accuracy": 9.0}}},
        "of another form",
        {"left": {"tag": 3}},
    ],
)
def test_without_the_same_baselines_in_all_records_there_are_no_rows(other: Any) -> None:
    found = table(run(), run("gradvac", other))
    assert not [row for row in found.rows if row.role == "simple"]


def test_a_baseline_that_lacks_an_objective_has_no_row() -> None:
    part = {**BASELINES, "left": {"word": {"accuracy": 2.5}}}
    assert [row.label for row in table(run(baselines=part)).rows if row.role == "simple"] == ["word"]


@pytest.mark.parametrize("form", FORMATS)
def test_every_rendering_shows_them_apart(form: str) -> None:
    text = render(form, [table(run(), run("gradvac"))])
    assert "word" in text
    assert ("simple" if form in ("csv", "json") else "without a model") in text


def test_caveats_of_the_data_stand_below_the_table_once_each() -> None:
    def told(*caveats: Any) -> Run:
        return Run.of(record("gradvac", facts={"caveats": list(caveats)}), Path("record.json"))

    found = table(told("Few images.", "Coarse depth."), run("uniform"))
    texts = [note.text for note in found.notes]
    assert texts.count("Few images.") == texts.count("Coarse depth.") == 1
    assert all("Few images." in render(form, [found]) for form in FORMATS)
    assert told(3).caveats == ()
