"""From cells to leaderboards: one table for each task/variant, protocol and regime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mtlbench.errors import UsageError, unknown
from mtlbench.record.runs import Collection, Measure
from mtlbench.record.selection import Rule
from mtlbench.rendering.table import Note, Row, Table
from mtlbench.tables.columns import columns
from mtlbench.tables.comparison import Quantity
from mtlbench.tables.contest import Contest
from mtlbench.tables.entries import Entry
from mtlbench.tables.grids import Grid, sort
from mtlbench.tables.mixture import Mixture, have_something_in_common, marks, mixture, refusal
from mtlbench.tables.notes import facts, footnotes, missing
from mtlbench.tables.options import TableOptions
from mtlbench.tables.planning import Plan
from mtlbench.tables.plateau import longer
from mtlbench.tables.published import published_rows
from mtlbench.tables.simple import simple_rows


@dataclass(frozen=True)
class Leaderboard:
    """A table with what it was made from, for figures and for tables over several tasks."""

    table: Table
    task: str
    variant: str
    protocol: str
    """The protocol's label: `cpu@1`."""
    measures: tuple[Measure, ...]
    entries: tuple[Entry, ...]
    """In the order of the table's rows; the reference among them."""
    rule: Rule
    own_protocol: str = ""
    """The label of the protocol that it changes, as in `nmt/families protocol.epochs=6`; empty for one as published."""
    budget: int | None = None
    """Trials per method in the tuned regime; None in the fixed one."""
    delta: Quantity | None = None
    """Delta-m, positive = better; None where there is no single-task reference."""
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Named groups of objectives."""
    split: str = "test"
    """What the scores are on."""
    plan: Plan | None = None
    """What the seeds can show, such as the detectable difference of each column; None where nothing is compared."""

    @property
    def main(self) -> Sequence[Measure]:
        """The main measure of every objective."""
        return [m for m in self.measures if m.main]


@dataclass
class Report:
    """All leaderboards that can be made, and what stands against the others."""

    boards: list[Leaderboard] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """One message for each table that would have mixed what must not be mixed."""
    warnings: list[str] = field(default_factory=list)
    """What is missing, failed or cannot be read; each names a file."""


def report(collection: Collection, options: TableOptions | None = None) -> Report:
    """Every leaderboard among the cells of `collection`.

    Raises:
        UsageError: a selection rule that does not exist or that a run is too short for, a row to compare with that no
            table has, a split that no run has or that a run lacks where the rule needs it.
    """
    options = options or TableOptions()
    _check_split(collection, options)
    found = sort(collection, options.allow_mixed)
    made = Report(warnings=found.warnings)
    for grid in found.grids:
        if not _has(grid, options.split):
            continue
        mixed = mixture(grid, options.split)
        if mixed and (not options.allow_mixed or not have_something_in_common(grid, options.split)):
            made.refused.append(refusal(grid, mixed, options.allow_mixed))
            continue
        same = [g for g in found.grids if g is not grid and _has(g, options.split) and not mixture(g, options.split)]
        board = _leaderboard(grid, mixed, options, longer(grid, same, options))
        made.boards.append(board)
        made.warnings += [f"{grid.task}/{grid.variant}: {text}" for text in missing(board.entries)]
    labels = {e.label for board in made.boards for e in board.entries}
    if options.against is not None and labels and options.against not in labels:
        raise unknown("row", options.against, labels, "--against takes the label of a row.")
    return made


def _check_split(collection: Collection, options: TableOptions) -> None:
    splits = {"test", *(split for run in collection.runs for split in run.extra)}
    if options.split not in splits:
        raise unknown("split", options.split, splits, "--split takes test or an extra split of a task.")
    if options.split != "test" and options.selection is not None and Rule.parse(options.selection).name == "oracle":
        raise UsageError(
            f"--selection oracle chooses by scores on test, and has no meaning for the split {options.split}. "
            "Choose another rule, or leave out --split."
        )


def _has(grid: Grid, split: str) -> bool:
    return split == "test" or any(split in run.extra for run in grid.runs)


def _leaderboard(grid: Grid, mixed: Mixture, options: TableOptions, longer_ones: Sequence[Contest]) -> Leaderboard:
    contest = Contest.of(grid, options)
    plan = Plan.of(contest)
    return Leaderboard(
        table=_table(contest, plan, mixed, longer_ones),
        task=grid.task,
        variant=grid.variant,
        protocol=grid.protocol,
        measures=contest.measures,
        entries=contest.entries,
        rule=contest.rule,
        own_protocol=grid.own_protocol,
        budget=grid.budget,
        delta=contest.delta,
        groups=contest.groups,
        split=options.split,
        plan=plan,
    )


def _table(contest: Contest, plan: Plan | None, mixed: Mixture, longer_ones: Sequence[Contest]) -> Table:
    grid, split, entries = contest.grid, contest.options.split, contest.entries
    found, cells = columns(contest)
    symbols, mark_notes = marks(grid, mixed)
    simple, simple_notes = simple_rows(contest)
    more_rows, more_notes = _published(contest)
    seeds = len(grid.seeds)
    done, asked = sum(len(e.runs) for e in entries), seeds * len(entries)
    rows = [Row(e.label, e.role, cells[e.label], len(e.runs), seeds, symbols.get(e.label, "")) for e in entries]
    return Table(
        slug=_slug(contest),
        title=grid.place if split == "test" else f"{grid.place}, split {split}",
        incomplete="" if done == asked else f"incomplete: {done} of {asked} cells",
        columns=tuple(found),
        rows=(*rows, *simple, *more_rows),
        notes=(*footnotes(contest, plan, longer_ones), *mark_notes, *simple_notes, *more_notes),
        facts=facts(contest, plan),
    )


def _published(contest: Contest) -> tuple[list[Row], list[Note]]:
    """Published rows where they are asked for, and what must be said of them."""
    if not contest.options.published:
        return [], []
    if contest.options.split != "test":
        return [], [Note(f"Published rows are not shown: they are not of the split {contest.options.split}.")]
    return published_rows(contest.grid.task, contest.grid.variant, contest.grid.protocol)


def _slug(contest: Contest) -> str:
    grid, split = contest.grid, contest.options.split
    words = [grid.task, grid.variant, grid.protocol.replace("@", "-")]
    words += [grid.digest] if grid.ambiguous else []
    words += [f"tuned{grid.budget}"] if grid.budget else []
    words += [str(contest.rule)] if contest.rule != contest.official else []
    words += [split] if split != "test" else []
    return "-".join("".join(c if c.isalnum() or c in "._" else "-" for c in word) for word in words)
