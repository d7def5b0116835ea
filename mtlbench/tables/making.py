"""Every table that some cells make, leaderboards first, then tables over several tasks; and all of it as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mtlbench.cells.words import RESULTS
from mtlbench.errors import UsageError
from mtlbench.record.reading import cells
from mtlbench.record.runs import Absent, Collection, collect
from mtlbench.record.schema import CellInfo
from mtlbench.rendering.table import Table
from mtlbench.tables.across import Across, across
from mtlbench.tables.entries import is_reference
from mtlbench.tables.leaderboard import Leaderboard, Report, report
from mtlbench.tables.options import TableOptions
from mtlbench.tables.overall import overall
from mtlbench.tables.planning import plan_table

FILTERS = ("task", "method", "protocol", "seed", "regime")
"""The words that choose among the cells."""

REGIMES = ("fixed", "tuned")


@dataclass(frozen=True)
class Tables:
    """All tables of some cells."""

    report: Report
    across: list[Across]
    overall: list[Table] = field(default_factory=list)
    """The scores that tasks declare over several of their variants."""

    @property
    def all(self) -> list[Table]:
        """In the order in which they are shown."""
        return [*(board.table for board in self.report.boards), *(a.table for a in self.across), *self.overall]


def make(collection: Collection, options: TableOptions | None = None) -> Tables:
    """All tables of `collection`; raises `UsageError` for options that fit nothing there."""
    made = report(collection, options)
    return Tables(made, across(made.boards, options), overall(made.boards, options))


def leaderboards(results: str | Path = RESULTS, options: TableOptions | None = None) -> Tables:
    """All tables of the records below `results`, as `mtlbench table` makes them."""
    return make(collect(cells(Path(results))), options)


def plans(tables: Tables, asked: float | None = None) -> list[Table]:
    """For each leaderboard of the fixed regime, how many seeds a difference needs.

    Args:
        tables: made before.
        asked: a difference in the unit of what sums a leaderboard up.

    Raises:
        UsageError: no leaderboard has two methods with two seeds in common.
    """
    boards = [(board.table, board.plan) for board in tables.report.boards]
    found = [plan_table(table, plan, asked) for table, plan in boards if plan is not None and plan.spreads]
    if not found:
        raise UsageError(
            "--power needs the noise of seeds: a leaderboard of the fixed regime with two methods that have two seeds "
            "in common. Run two seeds at least, such as seed=0..2."
        )
    return found


def narrow(collection: Collection, axes: Mapping[str, Sequence[Any]]) -> Collection:
    """The cells that the words ask for; single-task training stays whatever the methods, as Delta-m's base row.

    Args:
        collection: all there are.
        axes: values of `FILTERS`: `task` is a task or task/variant, `protocol` a name or a label, `regime` one of
            `REGIMES`.

    Raises:
        UsageError: a value that none of the cells can have.
    """
    asked = {key: {str(value) for value in axes[key]} for key in FILTERS if key in axes}
    if not asked.get("regime", set()) <= {*REGIMES}:
        raise UsageError(f"regime={','.join(sorted(asked['regime']))} is not allowed: it is {' or '.join(REGIMES)}.")

    def fits(task: str, variant: str, protocol: set[str], method: set[str], seed: int | None, tuned: bool) -> bool:
        told: dict[str, set[str]] = {
            "task": {task, f"{task}/{variant}"},
            "protocol": protocol,
            "method": method,
            "seed": {str(seed)},
            "regime": {REGIMES[tuned]},
        }
        if seed is None:
            told["seed"] |= asked.get("seed", set())
        return all(told[key] & values for key, values in asked.items())

    def methods(name: str, separate_models: bool = False) -> set[str]:
        return {name, *asked.get("method", ())} if is_reference(name, separate_models) else {name}

    def cell_fits(cell: CellInfo, separate_models: bool = False) -> bool:
        label = cell.protocol_label
        trial = cell.tuning is not None and cell.tuning.is_trial
        protocol = {cell.protocol["name"], label}
        seed = None if trial else cell.seed
        named = methods(cell.method, separate_models)
        return fits(cell.task, cell.variant, protocol, named, seed, cell.tuning is not None)

    def absent_fits(absent: Absent) -> bool:
        if absent.cell is not None:
            return cell_fits(absent.cell)
        if absent.cell_folder is None:
            return True
        task, variant, protocol, method, _ = absent.cell_folder
        label = protocol.removesuffix("-modified").removesuffix("-tuned")
        return fits(task, variant, {label, label.partition("@")[0]}, methods(method), None, "-tuned" in protocol)

    return Collection(
        [run for run in collection.runs if cell_fits(run.cell, run.separate_models)],
        [absent for absent in collection.absent if absent_fits(absent)],
    )


def write(tables: Tables, folder: Path) -> list[Path]:
    """All tables in all renderings below `folder`, with their figures and an index page; what was written.

    A protocol that was changed and has one method alone compares nothing: beside the board of the protocol itself it
    is only named.

    Raises:
        UsageError: the folder cannot be written to.
    """
    from mtlbench.rendering import drawing
    from mtlbench.rendering.files import FOLDER, write_all
    from mtlbench.tables import figures

    boards = [board for board in tables.report.boards if _compares(board, tables.report.boards)]
    named_only = [board.table.title for board in tables.report.boards if board not in boards]
    drawn = {board.table.slug: figures.draw_all(board) for board in boards}
    drawn |= {table.table.slug: figures.draw_across(table) for table in tables.across}
    place = folder / FOLDER / "figures"
    try:
        files = {slug: drawing.save(named, place, slug) for slug, named in drawn.items()}
    except OSError as error:
        raise UsageError(
            f"Figures cannot be written to {place}: {error.strerror}. Name another folder: --out DIR."
        ) from error
    kept = replace(tables, report=replace(tables.report, boards=boards)).all
    return [*(path for paths in files.values() for path in paths), *write_all(kept, folder, files, named_only)]


def _compares(board: Leaderboard, boards: Sequence[Leaderboard]) -> bool:
    own = (board.task, board.variant, board.own_protocol)
    return len(board.entries) > 1 or all((o.task, o.variant, o.protocol) != own for o in boards)
