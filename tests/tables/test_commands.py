"""The commands under a table make exactly its cells."""

from __future__ import annotations

import shlex

import pytest

from mtlbench.cells.cell import Cell
from mtlbench.cells.request import parse
from mtlbench.cells.trials import reruns
from mtlbench.record.schema import CellInfo
from mtlbench.tables.commands import commands
from mtlbench.tables.wording import spans


def info(cells: list[Cell]) -> list[CellInfo]:
    return [CellInfo(**cell.canonical()) for cell in cells]


def words(command: str) -> list[str]:
    program, verb, *rest = shlex.split(command)
    assert (program, verb) == ("mtlbench", "run")
    return rest


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ("method=uniform,gradvac,mgda seed=0..4", 1),
        ("method=gradvac method.beta=0.01,0.1 seed=0,2", 2),  # the default goes without the word
        ("method=scalarization method.weights=[0.2,1.8],[1,1],[1.8,0.2] seed=3", 1),
        ("method=gradvac,uniform granularity=all_layer jacobian_dtype=bfloat16 seed=0..2", 2),
        ("method=gradvac,uniform treated=all,left,[left,right] granularity=all_layer seed=0", 4),
        ("method=gradvac method.target=0.5 method.shuffle=false,true seed=0", 2),
        ("method=uniform protocol.epochs=2 protocol.optimizer.lr=0.01 protocol.options.dropout=0.1", 1),
        ("method=mgda,uniform,gradvac method.normalize=l2 method.beta=0.5 seed=0", 3),
    ],
)
def test_the_commands_make_the_same_cells(given: str, count: int) -> None:
    cells = parse([*given.split(), "task=multimnist/digits"]).cells
    seeds = sorted({cell.seed for cell in cells})
    settings = {cell.setting_id: cell for cell in cells}
    found = commands(info([*settings.values()]), seeds)
    assert len(found) == count
    made = [cell.id for command in found for cell in parse(words(command)).cells]
    assert sorted(made) == sorted(cell.id for cell in cells)


@pytest.mark.parametrize(
    "given", ["method=uniform,gradvac", "method=gradvac method.beta=0.01", "method=uniform protocol.optimizer.lr=0.01"]
)
def test_the_commands_make_the_same_trials_and_reruns(given: str) -> None:
    request = parse([*given.split(), "task=multimnist", "tune=3", "seed=0..2"])
    finals = [reruns(cell, 3, [0])[0] for cell in request.cells if cell.tuning and cell.tuning.trial == 1]
    (command,) = commands(info(finals), [0, 1, 2])
    again = parse(words(command))
    assert [cell.id for cell in again.cells] == [cell.id for cell in request.cells]
    assert (again.tune, again.seeds) == (3, [0, 1, 2])


def test_seeds_are_spans_where_they_have_no_gaps() -> None:
    assert [spans(s) for s in ([0], [0, 1], [0, 1, 2], [2, 3, 4, 5], [0, 2, 3])] == [
        "0",
        "0,1",
        "0..2",
        "2..5",
        "0,2,3",
    ]
