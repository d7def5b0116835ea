"""A table says what its single-task models got of a step, where objectives have data of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from handmade import record

from mtlbench.record.runs import Collection, Run
from mtlbench.record.schema import Record
from mtlbench.rendering.files import FORMATS, render
from mtlbench.rendering.table import Table
from mtlbench.tables.leaderboard import report
from mtlbench.tables.options import TableOptions

STEP = {"single_task_budget": "same_step"}


def rows(task: str, *methods: str, protocol: dict[str, Any] | None = None) -> list[Record]:
    return [
        record(m, seed, separate=m == "single_task", task=task, protocol=protocol, words="against=none")
        for m in methods
        for seed in range(2)
    ]


def table(records: list[Record]) -> Table:
    (board,) = report(Collection([Run.of(r, Path(f"{r.id}.json")) for r in records]), TableOptions()).boards
    return board.table


def told(made: Table) -> list[str]:
    return [note.text for note in made.notes if note.text.startswith("Single-task models:")]


def test_a_table_says_the_rule_that_its_protocol_states_and_else_the_old_one() -> None:
    new = table(rows("nmt", "uniform", "single_task", protocol=STEP))
    assert new.facts["single-task budget"] == "same_step"
    assert told(new) == [
        "Single-task models: each gets in a step as much as the joint model gets of all K objectives, so that together "
        "they see K times what it sees (single_task_budget: same_step)."
    ]
    old = table(rows("xtreme", "uniform", "single_task"))
    assert old.facts["single-task budget"] == "same_share"
    assert len(told(old)) == 1
    assert told(old)[0].endswith("(single_task_budget: same_share).")


@pytest.mark.parametrize("form", [*FORMATS])
def test_every_rendering_says_it(form: str) -> None:
    assert "same_step" in render(form, [table(rows("nmt", "single_task", protocol=STEP))]).replace("\\_", "_")


def test_nothing_is_said_without_such_models_and_where_objectives_share_their_input() -> None:
    for records in (
        rows("nmt", "uniform", "gradvac", protocol=STEP),
        rows("multimnist", "uniform", "single_task"),
        rows("nmt", "uniform", "single_task", protocol={"epochs": 0}),
    ):
        made = table(records)
        assert not told(made)
        assert "single-task budget" not in made.facts


def test_the_two_rules_share_no_table() -> None:
    records = [*rows("xtreme", "single_task"), *rows("xtreme", "uniform", "single_task", protocol=STEP)]
    boards = report(Collection([Run.of(r, Path(f"{r.id}.json")) for r in records]), TableOptions()).boards
    assert sorted(board.table.facts["single-task budget"] for board in boards) == ["same_share", "same_step"]
