"""The axes of a cell are described once, and everything that tells cells apart reads that description."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from handmade import record, save

import mtlbench
from mtlbench.cells.axes import AXES, GRADIENTS, Axis
from mtlbench.cells.cell import Cell
from mtlbench.cells.request import parse
from mtlbench.engine.grouping import GRANULARITIES
from mtlbench.errors import UsageError, unknown
from mtlbench.record.schema import CellInfo
from mtlbench.running.job import Job
from mtlbench.tables.commands import commands


def trunk(value: object) -> str:
    if value not in ("plain", "wide"):
        raise unknown("trunk", str(value), ("plain", "wide"))
    return str(value)


TRUNK = Axis(
    takes="plain|wide",
    about="what the objectives share",
    type=str | None,
    read=trunk,
    default="plain",
    label=lambda value: f"{value} trunk",
)
WORDS = ["method=uniform,pcgrad", "task=multimnist"]


@pytest.fixture
def throw_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(AXES, "trunk", TRUNK)


def one(*words: str) -> Cell:
    (cell,) = parse([*words, "task=multimnist"]).cells
    return cell


def test_a_new_axis_makes_a_grid_and_refuses_what_it_does_not_take(throw_away: None) -> None:
    cells = parse([*WORDS, "trunk=plain,wide"]).cells
    assert [(c.method, c.axes["trunk"]) for c in cells] == [
        ("uniform", "plain"),
        ("uniform", "wide"),
        ("pcgrad", "plain"),
        ("pcgrad", "wide"),
    ]
    with pytest.raises(UsageError, match=r"Unknown trunk 'wid'. Did you mean 'wide'"):
        parse([*WORDS, "trunk=wid"])


def test_a_new_axis_at_its_default_changes_no_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [cell.id for cell in parse(WORDS).cells]
    monkeypatch.setitem(AXES, "trunk", TRUNK)
    assert [cell.id for cell in parse(WORDS).cells] == before
    assert [cell.id for cell in parse([*WORDS, "trunk=plain"]).cells] == before
    assert not {cell.id for cell in parse([*WORDS, "trunk=wide"]).cells} & {*before}


def test_a_new_axis_is_read_in_labels_and_commands(throw_away: None) -> None:
    assert one("method=pcgrad", "trunk=wide", "granularity=all_layer").label == "pcgrad(all_layer, wide trunk)"
    assert one("method=pcgrad").label == "pcgrad"
    cell = one("method=pcgrad", "trunk=wide")
    (command,) = commands([CellInfo(**cell.canonical())], [0])
    assert parse([*command.split()[2:], "against=none"]).cells == [cell]
    assert "trunk=wide" in command


def test_a_new_axis_goes_through_jobs_and_records(throw_away: None, tmp_path: Path) -> None:
    cell = one("method=pcgrad", "trunk=wide", "treated=left")
    assert Cell.from_data(json.loads(json.dumps(cell.to_data()))).canonical() == cell.canonical()
    job = Job(
        cell=cell, folder=tmp_path, plugins=(), device="cpu", data_root=None, time_limit=None, checkpoint_steps=None
    )
    assert Job.from_json(job.to_json()).cell.canonical() == cell.canonical()
    save([record(cell=cell)], tmp_path)
    (read,) = mtlbench.records(tmp_path)
    assert read.cell.axes == cell.axes
    assert (read.id, read.label) == (cell.id, cell.label)


def test_an_axis_means_something_to_the_kinds_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(AXES, "trunk", Axis(takes="plain|wide", type=str | None, read=trunk, kinds=GRADIENTS))
    assert [(c.method, c.axes["trunk"]) for c in parse([*WORDS, "trunk=wide"]).cells] == [
        ("uniform", None),
        ("pcgrad", "wide"),
    ]


def test_the_committed_axes_hold_what_they_always_held() -> None:
    assert one("method=pcgrad").canonical() == {
        **one("method=pcgrad").canonical(),
        "granularity": "whole_model",
        "jacobian_dtype": None,
    }
    assert "treated" not in one("method=pcgrad").canonical()
    assert one("method=pcgrad", "treated=[right,left]").canonical()["treated"] == ["left", "right"]


def test_help_tells_the_granularities_that_there_are() -> None:
    assert AXES["granularity"].takes == "|".join(GRANULARITIES)


def test_refresh_is_an_axis_of_the_methods_that_weigh_by_gramians() -> None:
    before = one("method=pcgrad")
    assert one("method=pcgrad", "refresh=1") == before
    kept = one("method=pcgrad", "refresh=10")
    assert (kept.label, kept.canonical()["refresh"]) == ("pcgrad(refresh=10)", 10)
    assert kept.id != before.id
    assert dict(Cell.from_data(json.loads(json.dumps(kept.to_data()))).axes) == kept.axes
    (command,) = commands([CellInfo(**kept.canonical())], [0])
    assert parse([*command.split()[2:], "against=none"]).cells == [kept]
    for without in ("uniform", "graddrop", "single_task"):
        assert one(f"method={without}", "refresh=10") == one(f"method={without}")
    assert [c.axes["refresh"] for c in parse([*WORDS, "refresh=1,10"]).cells if c.method == "pcgrad"] == [None, 10]


def test_what_gradients_are_taken_with_respect_to_is_an_axis_of_the_methods_that_need_them() -> None:
    before = one("method=mgda")
    assert one("method=mgda", "wrt=parameters") == before
    found = one("method=mgda", "wrt=representation")
    assert (found.label, found.canonical()["wrt"]) == ("mgda(wrt=representation)", "representation")
    assert "wrt" not in before.canonical()
    assert dict(Cell.from_data(json.loads(json.dumps(found.to_data()))).axes) == found.axes
    (command,) = commands([CellInfo(**found.canonical())], [0])
    assert parse([*command.split()[2:], "against=none"]).cells == [found]
    for without in ("uniform", "single_task"):
        assert one(f"method={without}", "wrt=representation") == one(f"method={without}")
    with pytest.raises(UsageError, match="wrt"):
        parse(["method=mgda", "task=multimnist", "wrt=features"])


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "none", "1e3", "10000000", "[1,2]"])
def test_a_refresh_that_is_no_number_of_steps_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match=r"refresh=.* is not allowed: it is a whole number of steps"):
        parse(["method=pcgrad", "task=multimnist", f"refresh={value}"])
