"""Tables over several tasks aggregate what single tables say, count missing tasks, and test ranks from ten tasks on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handmade import constant

from mtlbench.cells.cell import identity
from mtlbench.record.runs import Collection, Run
from mtlbench.record.schema import CellInfo, Record
from mtlbench.statistics import stratified_mean, welch_error
from mtlbench.tables.across import Across, across
from mtlbench.tables.leaderboard import report
from mtlbench.tables.options import DeltaConvention, TableOptions
from mtlbench.tables.power import detectable_mean

BASE = [(80.0, 50.0), (82.0, 52.0), (78.0, 48.0)]


def moved(made: Record, task: str, variant: str = "real") -> Record:
    """The same record of another task."""
    cell = {**made.cell.canonical(), "task": task, "variant": variant}
    return made.model_copy(update={"cell": CellInfo(**cell), "id": identity(cell)})


def grid(tasks: int, gains: dict[str, float], seeds: int = 3, spread: float = 0.1) -> list[Record]:
    """On every task single-task training, and methods that are better by so many percent, give or take."""
    rng = np.random.default_rng(0)
    made = []
    for task in range(tasks):
        made += [moved(r, f"task{task}") for r in constant("single_task", BASE[:seeds])]
        for method, gain in gains.items():
            factors = 1 + (gain + spread * rng.standard_normal(seeds)) / 100
            made += [moved(r, f"task{task}") for r in constant(method, [(80 * f, 50 * f) for f in factors])]
    return made


def over(records: list[Record], **options: Any) -> list[Across]:
    boards = report(Collection([Run.of(r, Path(r.id)) for r in records]), TableOptions(**options)).boards
    return across(boards, TableOptions(**options))


def only(found: list[Across]) -> Across:
    (one,) = found
    return one


GAINS = {"uniform": 1.0, "gradvac": 2.0, "mgda": 1.05}


def values(found: Across, key: str) -> dict[str, float]:
    return {row.label: row.values[key].mean for row in found.table.rows if key in row.values}


def test_aggregates_are_of_delta_m_over_tasks() -> None:
    found = only(over(grid(4, GAINS)))
    assert found.table.title == "4 tasks on real data"
    assert [row.label for row in found.table.rows] == ["gradvac", "mgda", "uniform"]
    for key in ("iqm", "mean"):
        assert values(found, key)["gradvac"] == pytest.approx(2.0, abs=0.15)
        assert values(found, key)["uniform"] == pytest.approx(1.0, abs=0.15)
    by_task = [row.values["task2"].mean for row in found.table.rows]
    assert by_task == pytest.approx([float(found.scores[row.label][2].mean()) for row in found.table.rows])
    assert values(found, "rank")["gradvac"] == 1.0
    assert not found.table.incomplete


def test_what_cannot_be_told_apart_over_tasks_is_bold() -> None:
    found = only(over(grid(4, GAINS)))
    assert {r.label for r in found.table.rows if r.values["mean"].best} == {"gradvac"}
    close = only(over(grid(4, {"uniform": 1.0, "mgda": 1.02})))
    assert {r.label for r in close.table.rows if r.values["mean"].best} == {"uniform", "mgda"}


def test_ranks_over_tasks_stand_only_where_something_is_told_apart() -> None:
    def said(found: Across) -> str:
        (text,) = [note.text for note in found.table.notes if "rank: " in note.text and "test" not in note.text]
        return text

    assert said(only(over(grid(4, GAINS)))).startswith("rank: mean rank over tasks")
    for found, reason in (
        (only(over(grid(2, GAINS))), "No rank: it takes 3 tasks at least, and these are 2."),
        (only(over(grid(4, {"uniform": 1.0, "mgda": 1.02}))), "No rank: nothing is told apart in the mean over tasks"),
        (only(over(grid(4, GAINS, seeds=1))), "No rank: nothing is told apart"),
    ):
        assert said(found).startswith(reason)
        assert not values(found, "rank")


def test_tasks_without_delta_m_are_named() -> None:
    nothing = [moved(r, "empty") for r in constant("single_task", [(0.0, 50.0)] * 3)]
    nothing += [moved(r, "empty") for r in constant("uniform", BASE)]
    table = only(over([*grid(3, GAINS), *nothing])).table
    assert table.title == "3 tasks on real data"
    assert any(n.text.startswith("Not among the tasks: empty/real digits@1; why") for n in table.notes)


def test_the_difference_to_the_baseline_is_over_common_seeds() -> None:
    found = only(over(grid(4, GAINS)))
    difference = next(r for r in found.table.rows if r.label == "gradvac").values["difference"]
    assert difference.mean == pytest.approx(1.0, abs=0.15)
    assert difference.p is not None
    assert difference.p < 0.001
    records = [
        r for r in grid(4, GAINS) if not (r.cell.method == "gradvac" and r.cell.task == "task0" and r.cell.seed == 0)
    ]
    fewer = next(r for r in only(over(records)).table.rows if r.label == "gradvac").values["difference"]
    assert fewer.mean != pytest.approx(difference.mean, abs=1e-12)
    assert fewer.mean == pytest.approx(1.0, abs=0.2)


def test_a_method_that_misses_a_task_is_counted_and_has_no_aggregate() -> None:
    records = [r for r in grid(3, GAINS) if not (r.cell.method == "mgda" and r.cell.task == "task1")]
    table = only(over(records)).table
    row = next(r for r in table.rows if r.label == "mgda")
    assert row.count == "2/3"
    assert "mean" not in row.values
    assert "task0" in row.values
    assert table.rows[-1] is row
    assert table.heading.endswith("(incomplete: 8 of 9 methods x tasks)")
    assert any("mgda: no result on task1/real" in note.text for note in table.notes)


def test_the_other_sign_turns_every_number() -> None:
    usual, turned = only(over(grid(3, GAINS))), only(over(grid(3, GAINS), convention=DeltaConvention(negative=True)))
    for key in ("task0", "iqm", "mean", "difference"):
        for label, value in values(usual, key).items():
            assert values(turned, key)[label] == pytest.approx(-value)
    assert [r.label for r in turned.table.rows] == [r.label for r in usual.table.rows]
    assert {r.label for r in turned.table.rows if r.values["mean"].best} == {"gradvac"}
    assert turned.table.facts["delta_m sign"] == "negative = better"


def test_ranks_are_tested_from_ten_tasks_on() -> None:
    def said(tasks: int) -> str:
        return "\n".join(note.text for note in only(over(grid(tasks, GAINS))).table.notes)

    assert "No rank test: it is made from 10 tasks on, and these are 9." in said(9)
    assert not values(only(over(grid(9, GAINS))), "signed_rank")
    p = values(only(over(grid(10, GAINS))), "signed_rank")
    assert p["gradvac"] == pytest.approx(2 * 2 / 2**10)  # better on all ten tasks; of two hypotheses, Holm doubles it
    assert p["mgda"] > p["gradvac"]
    assert "Rank test (Friedman, 3 methods on 10 tasks): p = " in said(10)


def test_one_task_or_no_reference_makes_no_table() -> None:
    assert not over(grid(1, GAINS))
    assert not over([r for r in grid(3, GAINS) if r.cell.method != "single_task"])


def test_embedded_and_real_data_never_share_a_table() -> None:
    def on(variant: str) -> list[Record]:
        made = [*constant("single_task", BASE), *constant("uniform", BASE)]
        return [moved(r, "multimnist", variant) for r in made]

    assert not over([*on("digits"), *on("mnist")])
    found = over([*on("digits"), *on("mnist"), *on("fashion"), *grid(2, GAINS)])
    assert [a.table.title for a in found] == ["4 tasks on real data"]


def test_of_two_protocols_of_one_variant_its_own_stands_for_the_task() -> None:
    def on(variant: str, protocol: str) -> list[Record]:
        made = [r for m in ("single_task", "uniform") for r in constant(m, BASE, protocol={"name": protocol})]
        return [moved(r, "multimnist", variant) for r in made]

    assert not over([*on("mnist", "another"), *on("mnist", "cpu")])
    found = only(over([*on("mnist", "another"), *on("mnist", "cpu"), *on("fashion", "another")]))
    titles = [column.title for column in found.table.columns[:2]]
    assert titles == ["multimnist/fashion another@1", "multimnist/mnist cpu@1"]


def test_one_seed_leaves_aggregates_without_interval() -> None:
    found = only(over(grid(3, GAINS, seeds=1)))
    value = found.table.rows[0].values["iqm"]
    assert value.interval is not None
    assert not value.interval.known
    assert not any(r.values["mean"].best for r in found.table.rows)
    assert any("without two common seeds on every task nothing is" in note.text for note in found.table.notes)


def test_bold_over_tasks_is_adjusted_for_the_number_of_methods() -> None:
    close = np.array([0.1835, 1.0, 1.8165])
    p = stratified_mean([close, close]).p
    assert 0.025 < p < 0.05

    def made(method: str, gains: Any) -> list[Record]:
        scores = [(80 * (1 + g / 100), 50 * (1 + g / 100)) for g in gains]
        return [moved(r, f"task{task}") for task in range(2) for r in constant(method, scores)]

    base = [*made("single_task", [0.0, 0.0, 0.0]), *made("gradvac", [3.0, 9.0, 6.0])]
    behind = np.array([3.0, 9.0, 6.0]) - close

    def bold(*methods: str) -> set[str]:
        rows = only(over([*base, *(r for m in methods for r in made(m, behind))])).table.rows
        return {r.label for r in rows if r.values["mean"].best}

    assert bold("uniform") == {"gradvac"}
    assert bold("uniform", "mgda") == {"gradvac", "uniform", "mgda"}


def test_what_cannot_be_told_apart_over_tasks_stands_with_what_is_detectable() -> None:
    made = only(over(grid(4, GAINS)))
    (bold,) = [note.text for note in made.table.notes if "told apart" in note.text]
    (said,) = [note.text for note in made.table.notes if note.text.startswith("Detectable")]
    told = bold.partition("detectable is mean Δm [%] ")[2].removesuffix(".")
    assert f"differ by mean Δm [%] {told} (" in said
    tasks = [[x - y for x, y in zip(made.scores[m], made.scores["uniform"], strict=True)] for m in ("gradvac", "mgda")]
    found = detectable_mean([welch_error(d, np.full(4, 0.25)) for d in tasks])
    assert told == found.told
    assert not [note for note in only(over(grid(4, GAINS, seeds=1))).table.notes if "etectable" in note.text]


def test_differences_over_tasks_say_on_how_many_pairs_they_rest() -> None:
    def said(records: list[Record]) -> str:
        return "\n".join(note.text for note in only(over(records)).table.notes)

    assert "vs uniform: mean over tasks of differences paired by seed; pairs over all tasks: 12." in said(
        grid(4, GAINS)
    )
    fewer = [r for r in grid(4, GAINS) if (r.cell.method, r.cell.task, r.cell.seed) != ("mgda", "task0", 0)]
    assert "pairs over all tasks: gradvac 12, mgda 11." in said(fewer)


def test_tasks_that_keep_themselves_out_are_not_in() -> None:
    shown = [moved(r, "toy") for r in grid(1, GAINS)]
    assert not over([*grid(1, GAINS), *shown])  # one task is no table over several
    assert only(over([*grid(2, GAINS), *shown])).table.facts["tasks"] == "task0/real digits@1; task1/real digits@1"
