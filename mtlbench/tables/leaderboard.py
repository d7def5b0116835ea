"""From cells to leaderboards: one table for each task/variant, protocol and regime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mtlbench import statistics
from mtlbench.errors import UsageError, unknown
from mtlbench.record.runs import Collection, Measure, Run
from mtlbench.record.selection import Rule
from mtlbench.rendering.table import Note, Row, Table
from mtlbench.tables import comparison
from mtlbench.tables.columns import Cells, differences, gaps, ranks, scores
from mtlbench.tables.comparison import DeltaConvention, Quantity
from mtlbench.tables.costs import costs
from mtlbench.tables.entries import BASELINE, Entry, entry
from mtlbench.tables.grids import Grid, mixture, sort
from mtlbench.tables.notes import Facts, footnotes, missing
from mtlbench.tables.published import published_rows

MARKS = "†‡§¶"
MANY = 6
"""Objectives; of more than these, single scores stand after the columns that sum them up."""


@dataclass(frozen=True)
class Options:
    """How leaderboards are made."""

    selection: str | None = None
    """A rule of `mtlbench.record.selection`; None for the one that the protocol states."""
    split: str = "test"
    """What is reported: `test` or an extra split; tasks without it have no table then."""
    level: float = statistics.LEVEL
    against: str | None = None
    """The label of the row that the others are compared with; None for uniform where it is there."""
    convention: DeltaConvention = field(default_factory=DeltaConvention)
    all_metrics: bool = False
    """A column for every metric instead of the main one of each objective."""
    allow_mixed: bool = False
    """Mark what must not differ within a table instead of refusing it."""
    published: bool = False
    """Add the rows that were published for the same task and protocol."""


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
    budget: int | None = None
    """Trials per method in the tuned regime; None in the fixed one."""
    delta: Quantity | None = None
    """Delta-m, positive = better; None where there is no single-task reference."""
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Named groups of objectives."""
    split: str = "test"
    """What the scores are on."""

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


def report(collection: Collection, options: Options | None = None) -> Report:
    """Every leaderboard among the cells of `collection`.

    Raises:
        UsageError: a selection rule that does not exist or that a run is too short for, a row to compare with that no
            table has, a split that no run has or that a run lacks where the rule needs it.
    """
    options = options or Options()
    _check_split(collection, options)
    found = sort(collection, options.allow_mixed)
    made = Report(warnings=found.warnings)
    for grid in found.grids:
        if not _has(grid, options.split):
            continue
        mixed = mixture(grid)
        if mixed and not options.allow_mixed:
            made.refused.append(_refusal(grid, mixed))
            continue
        board = _leaderboard(grid, mixed, options)
        made.boards.append(board)
        made.warnings += [f"{grid.task}/{grid.variant}: {text}" for text in missing(board.entries)]
    labels = {e.label for board in made.boards for e in board.entries}
    if options.against is not None and labels and options.against not in labels:
        raise unknown("row", options.against, labels, "--against takes the label of a row.")
    return made


def _check_split(collection: Collection, options: Options) -> None:
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


def _measures(grid: Grid, split: str) -> tuple[Measure, ...]:
    """What `split` has; raises `UsageError` where runs disagree."""
    runs = [run for s in grid.settings.values() for run in (*s.runs.values(), *s.trials.values())]
    having = [run for run in runs if run.measured(split)]
    if not having or not grid.runs:
        return ()
    first, places = having[0], having[0].measured(split)
    for run in having:
        if run.measured(split) != places:
            raise UsageError(
                f"{run.path} and {first.path} were scored on the split {split} for different objectives. "
                "Train the cells of one of them again."
            )
    return tuple(first.measures[place] for place in places)


def _leaderboard(grid: Grid, mixed: Mapping[str, Mapping[str, list[Run]]], options: Options) -> Leaderboard:
    first = next(iter(grid.settings.values())).cell
    official = Rule.parse(first.protocol["selection"])
    rule = Rule.parse(options.selection) if options.selection else official
    split, measures = options.split, _measures(grid, options.split)
    groups = next((run.groups for run in grid.runs if run.groups), {})
    entries = [entry(s, rule, official, len(measures), grid.budget, split) for s in grid.settings.values()]
    reference = next((e for e in entries if e.role == "reference" and e.runs), None)
    against = options.against or BASELINE
    baseline = next((e for e in entries if e.label == against and e.runs), None)
    found = comparison.quantities(measures, reference, options.convention, options.all_metrics, groups)
    summary = comparison.summary(found) if found else None
    entries.sort(key=lambda e: _order(e, summary))
    methods = [e for e in entries if e.role == "method" and e.runs]

    cells: Cells = {e.label: {} for e in entries}
    columns = scores(found, entries, methods, cells, options.level)
    if rule.name == "oracle":
        columns += gaps(measures, official, entries, cells)
    if len(methods) > 1:
        columns.append(ranks(measures, methods, cells))
    if summary is not None and baseline is not None and len(methods) > 1 and len(grid.seeds) > 1:
        columns.append(differences(summary, methods, baseline, cells, options.level))
    cost_columns, cost_values = costs(entries, baseline)
    columns += cost_columns
    for label, values in cost_values.items():
        cells[label].update(values)

    if sum(m.main for m in measures) > MANY:  # then what sums them up comes first
        single = {q.column.key for q in found if not q.sums_up}
        columns.sort(key=lambda column: column.key in single)
    facts = Facts(
        grid=grid,
        rule=rule,
        official=official,
        level=options.level,
        baseline=baseline.label if baseline else None,
        reference=reference,
        convention=options.convention,
        has_delta=any(q.column.key == "delta_m" for q in found),
        measures=measures,
        all_metrics=options.all_metrics,
        groups={
            name: [measures[place].objective for place in places]
            for name, places in comparison.group_places(measures, groups).items()
        },
        split=split,
        lacking=_lacking(grid, measures),
        pool=len(methods),
        summary=summary.column.title if summary else None,
    )
    marks, mark_notes = _marks(entries, mixed)
    seeds = len(grid.seeds)
    rows = [Row(e.label, e.role, cells[e.label], len(e.runs), seeds, marks.get(e.label, "")) for e in entries]
    notes = [*footnotes(facts, entries), *mark_notes]
    if options.published and split != "test":
        notes.append(Note(f"Published rows are not shown: they are not of the split {split}."))
    elif options.published:
        more_rows, more_notes = published_rows(grid.task, grid.variant, grid.protocol)
        rows += more_rows
        notes += more_notes
    done = sum(len(e.runs) for e in entries)
    asked = seeds * len(entries)
    table = Table(
        slug=_slug(grid, rule, official, split),
        title=grid.place if split == "test" else f"{grid.place}, split {split}",
        incomplete="" if done == asked else f"incomplete: {done} of {asked} cells",
        columns=tuple(columns),
        rows=tuple(rows),
        notes=tuple(notes),
        facts=facts.words(),
    )
    positive = comparison.quantities(measures, reference, replace(options.convention, negative=False))
    delta = next((q for q in positive if q.column.key == "delta_m"), None)
    return Leaderboard(
        table,
        grid.task,
        grid.variant,
        grid.protocol,
        measures,
        tuple(entries),
        rule,
        grid.budget,
        delta,
        groups,
        split,
    )


def _lacking(grid: Grid, measures: Sequence[Measure]) -> list[str]:
    """The objectives of the task that are not among `measures`."""
    there = {m.objective for m in measures}
    return [*dict.fromkeys(m.objective for run in grid.runs[:1] for m in run.measures if m.objective not in there)]


def _order(e: Entry, summary: Quantity | None) -> tuple[int, float, str]:
    """The reference first, then methods from best to worst, those without a result last."""
    if e.role == "reference":
        return 0, 0.0, e.label
    if summary is None or not e.runs:
        return 2, 0.0, e.label
    mean = float(summary.of(e.scores).mean())
    return 1, -mean if summary.column.higher_is_better else mean, e.label


def _marks(entries: Sequence[Entry], mixed: Mapping[str, Mapping[str, list[Run]]]) -> tuple[dict[str, str], list[Note]]:
    """A symbol for each entry that differs from most others in what must not differ, and what it means."""
    marks: dict[str, str] = {}
    notes: list[Note] = []
    for what, by_value in mixed.items():
        usual, *odd = by_value
        for value in odd:
            place = len(notes)
            mark = MARKS[place % len(MARKS)] * (1 + place // len(MARKS))
            ids = {run.id for run in by_value[value]}
            text = (
                f"{what} {value} instead of {usual}: not comparable as it stands (such as {by_value[value][0].path})."
            )
            notes.append(Note(text, "warning", mark))
            for e in entries:
                if any(run.id in ids for run in e.runs):
                    marks[e.label] = marks.get(e.label, "") + mark
    return marks, notes


def _refusal(grid: Grid, mixed: Mapping[str, Mapping[str, list[Run]]]) -> str:
    parts = []
    for what, by_value in mixed.items():
        told = ", ".join(f"{value} ({len(runs)} records, such as {runs[0].path})" for value, runs in by_value.items())
        parts.append(f"{what}: {told}")
    return (
        f"{grid.place}: no table, as its records differ in what must be equal within one. {'; '.join(parts)}. "
        "Run the smaller part again, move it to another results folder, or say --allow-mixed to mark it instead."
    )


def _slug(grid: Grid, rule: Rule, official: Rule, split: str) -> str:
    words = [grid.task, grid.variant, grid.protocol.replace("@", "-")]
    words += [grid.digest] if grid.ambiguous else []
    words += [f"tuned{grid.budget}"] if grid.budget else []
    words += [str(rule)] if rule != official else []
    words += [split] if split != "test" else []
    return "-".join("".join(c if c.isalnum() or c in "._" else "-" for c in word) for word in words)
