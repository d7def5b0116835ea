"""What tables of controls must show, as data beside the protocols of a task, and whether they do.

A task with a file `expectations.yaml` beside its protocols states for a variant which settings are compared, on which
seeds, and what must come out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pydantic

from mtlbench.catalogue.registry import tasks
from mtlbench.catalogue.variants import task_data
from mtlbench.catalogue.yaml_file import read_yaml
from mtlbench.errors import UsageError
from mtlbench.record.runs import Collection, Run
from mtlbench.record.schema import CellInfo
from mtlbench.rendering.table import Row, Value
from mtlbench.strict import Strict, first_error
from mtlbench.tables.leaderboard import Leaderboard
from mtlbench.tables.making import Tables, make
from mtlbench.tables.options import TableOptions
from mtlbench.tables.wording import listed

FILE = "expectations.yaml"
TOLD_APART = 0.05
"""A difference that must be there has a smaller p-value than this, after Holm's adjustment over the rows."""
CHANCE = 0.001
"""A difference that must not be there has no smaller p-value than this: one false alarm in a thousand."""
AGAIN = "under other seeds"


class Better(Strict):
    """A row is told apart from another in what sums up the table, and better by some amount at least."""

    row: str
    better_than: str
    by: Annotated[float, pydantic.Field(ge=0)] = 0.0
    """In the unit of the score."""

    @property
    def claim(self) -> str:
        """In words."""
        margin = f" by at least {self.by:g}" if self.by else ""
        return f"{self.row} is told apart from {self.better_than} and better{margin}"


class Like(Strict):
    """A row is not told apart from another."""

    row: str
    like: str

    @property
    def claim(self) -> str:
        """In words."""
        return f"{self.row} is not told apart from {self.like}"


class Repeated(Strict):
    """A row is not told apart from itself under other seeds: the first half of its seeds against the second."""

    repeated: str

    @property
    def claim(self) -> str:
        """In words."""
        return f"{self.repeated} is not told apart from itself under other seeds"


class Bold(Strict):
    """At least one of these rows is bold in what sums up the table, and no other row is."""

    bold: Annotated[tuple[str, ...], pydantic.Field(min_length=1)]

    @property
    def claim(self) -> str:
        """In words."""
        return f"bold in the mean: {listed(self.bold)}, and nothing else"


Expectation = Better | Like | Repeated | Bold


class Control(Strict):
    """A variant whose outcome is known."""

    about: str
    """Why it must come out so."""
    settings: Annotated[tuple[str, ...], pydantic.Field(min_length=1)]
    """Words of `mtlbench run`, beside task and seeds: each makes one or more rows."""
    seeds: str
    """As they are typed: `0..4`."""
    expected: Annotated[tuple[Expectation, ...], pydantic.Field(min_length=1)]


@dataclass(frozen=True)
class Verdict:
    """One expectation and what was found."""

    claim: str
    holds: bool
    found: str
    """In words, with the numbers."""


def controls() -> dict[str, Control]:
    """Every control by its task/variant, in the order of its file.

    Raises:
        UsageError: a file that cannot be read or names a variant that there is not.
    """
    found = {}
    for name, entry in sorted(tasks.entries().items()):
        if not isinstance(entry.protocols, Path) or not (path := entry.protocols.with_name(FILE)).is_file():
            continue
        try:
            stated = pydantic.TypeAdapter(dict[str, Control]).validate_python(read_yaml(path))
        except pydantic.ValidationError as error:
            raise UsageError(f"{path} cannot be read: {first_error(error)}.") from error
        for variant, control in stated.items():
            if variant not in task_data(name).variants:
                raise UsageError(f"{path} names the unknown variant {variant!r}.")
            found[f"{name}/{variant}"] = control
    return found


def judge(control: Control, collection: Collection) -> tuple[Tables, list[Verdict]]:
    """The tables of the control's cells, and what they say to each expectation.

    Args:
        control: what is expected.
        collection: its cells and no others.
    """
    tables = make(collection)
    return tables, [_judged(expectation, collection, tables) for expectation in control.expected]


def _judged(expectation: Expectation, collection: Collection, tables: Tables) -> Verdict:
    try:
        match expectation:
            case Better():
                holds, found = _better(expectation, _board(collection, expectation.better_than))
            case Like():
                holds, found = _like(_board(collection, expectation.like), expectation.row, expectation.like)
            case Repeated():
                again = _repeated(expectation.repeated, collection)
                label = f"{expectation.repeated} {AGAIN}"
                holds, found = _like(_board(again, expectation.repeated), label, expectation.repeated)
            case Bold():
                holds, found = _bold(expectation, _only(tables))
    except UsageError as error:
        holds, found = False, str(error)
    return Verdict(expectation.claim, holds, found)


def _board(collection: Collection, against: str) -> Leaderboard:
    return _only(make(collection, TableOptions(against=against)))


def _only(tables: Tables) -> Leaderboard:
    """The one leaderboard; raises `UsageError` where the cells make none, or several."""
    if tables.report.refused:
        raise UsageError(tables.report.refused[0])
    if len(tables.report.boards) != 1:
        raise UsageError(f"The cells make {len(tables.report.boards)} tables and not one.")
    return tables.report.boards[0]


def _row(board: Leaderboard, label: str) -> Row:
    for row in board.table.rows:
        if row.label == label and row.n:
            return row
    raise UsageError(f"There is no result of {label}.")


def _difference(board: Leaderboard, label: str) -> tuple[Value, str]:
    """The difference to the row that is compared with, and how it reads; raises `UsageError` where there is none."""
    value = _row(board, label).values.get("difference")
    column = next((column for column in board.table.columns if column.key == "difference"), None)
    if value is None or column is None or value.p is None:
        raise UsageError(f"{label} is not tested: that needs two seeds at least.")
    return value, value.text(column)


def _better(expectation: Better, board: Leaderboard) -> tuple[bool, str]:
    value, text = _difference(board, expectation.row)
    assert value.p is not None
    up = next(column.higher_is_better for column in board.table.columns if column.key == "difference")
    gain = value.mean if up else -value.mean
    return value.p < TOLD_APART and gain > 0 and gain >= expectation.by, text


def _like(board: Leaderboard, label: str, other: str) -> tuple[bool, str]:
    value, text = _difference(board, label)
    assert value.p is not None
    one, two = _by_seed(board, label), _by_seed(board, other)
    spread = float(np.std([one[seed] - two[seed] for seed in one if seed in two], ddof=1))
    return value.p >= CHANCE, f"{text}; single seeds differ with a standard deviation of {spread:.2g}"


def _bold(expectation: Bold, board: Leaderboard) -> tuple[bool, str]:
    column = next((column for column in board.table.columns if column.key == "mean"), None)
    if column is None:
        raise UsageError("The table has no mean over objectives.")
    for label in expectation.bold:
        _row(board, label)
    bold = [row.label for row in board.table.rows if board.table.is_bold(row, column)]
    return bool(bold) and {*bold} <= {*expectation.bold}, f"bold: {listed(bold) if bold else 'nothing'}"


def _by_seed(board: Leaderboard, label: str) -> Mapping[int, float]:
    """Seed -> the mean over objectives of their main score."""
    entry = next(entry for entry in board.entries if entry.label == label)
    main = [place for place, measure in enumerate(board.measures) if measure.main]
    return dict(zip(entry.seeds, entry.scores[:, main].mean(1).tolist(), strict=True))


def _repeated(label: str, collection: Collection) -> Collection:
    """The runs of one row alone, the second half of its seeds as if another method had run on the first half.

    Raises:
        UsageError: there are not two seeds for each half.
    """
    runs = sorted((run for run in collection.runs if run.label == label), key=lambda run: run.cell.seed)
    half = len(runs) // 2
    if half < 2:
        raise UsageError(f"{label} has {len(runs)} seeds, and two halves of two at least are needed.")
    return Collection([*runs[:half], *_renamed(runs[half : 2 * half], runs[:half], f"{label} {AGAIN}")])


def _renamed(runs: Sequence[Run], like: Sequence[Run], label: str) -> list[Run]:
    def cell(run: Run, one: Run) -> CellInfo:
        return run.cell.model_copy(update={"method": label, "seed": one.cell.seed})

    return [replace(run, cell=cell(run, one), label=label) for run, one in zip(runs, like, strict=True)]
