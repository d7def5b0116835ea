"""What must be equal within one table and is not: refused, or marked where that is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mtlbench.cells.cell import identity
from mtlbench.record.runs import Run, signatures
from mtlbench.rendering.table import Note
from mtlbench.tables.entries import Entry
from mtlbench.tables.grids import Grid, content_digest
from mtlbench.tables.wording import listed

NOT_COMPARED = ("mtlbench",)
"""Packages whose versions may differ in one table: of the suite itself, commits tell more."""

MARKS = "†‡§¶"

Mixture = Mapping[str, Mapping[str, Sequence[Run]]]
"""What must not differ within one table and does -> value -> its runs, the most common value first."""


def mixture(grid: Grid) -> Mixture:
    """What differs in `grid`.

    Protocol contents, data digests, precision, and what only newer records name, where both sides do: versions of
    packages, groups of objectives, signatures of metrics.
    """
    by_name: dict[str, dict[str, list[Run]]] = {}
    for setting in grid.settings.values():
        content = f"{setting.cell.protocol_label} (content {content_digest(setting.cell)})"
        for run in setting.runs.values():
            made = run.provenance
            told = {"protocol": content, "data": made.data_digest[:12], "precision": made.precision}
            told |= {**made.packages, **_declared(run)}
            for name, value in told.items():
                if name not in NOT_COMPARED:
                    by_name.setdefault(name, {}).setdefault(value, []).append(run)
    return {
        name: dict(sorted(values.items(), key=lambda item: (-len(item[1]), item[0])))
        for name, values in by_name.items()
        if len(values) > 1
    }


def _declared(run: Run) -> dict[str, str]:
    """What the task said of groups and metrics, shortened, with a digest of the whole."""
    groups = {f"group {name}": {"": list(members)} for name, members in run.groups.items()}
    metrics = {f"metric {name}": members for name, members in signatures(run.measures).items()}
    return {
        name: f"{'; '.join(f'{text} ({listed(of)})'.strip() for text, of in told.items())} {identity(told)}"
        for name, told in {**groups, **metrics}.items()
    }


def marks(entries: Sequence[Entry], mixed: Mixture) -> tuple[dict[str, str], list[Note]]:
    """By label a symbol for each entry that differs from most others in what must not differ, and what it means."""
    found: dict[str, str] = {}
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
                    found[e.label] = found.get(e.label, "") + mark
    return found, notes


def refusal(grid: Grid, mixed: Mixture) -> str:
    """Why there is no table of `grid`, and what to do."""
    parts = []
    for what, by_value in mixed.items():
        told = ", ".join(f"{value} ({len(runs)} records, such as {runs[0].path})" for value, runs in by_value.items())
        parts.append(f"{what}: {told}")
    return (
        f"{grid.place}: no table, as its records differ in what must be equal within one. {'; '.join(parts)}. "
        "Run the smaller part again, move it to another results folder, or say --allow-mixed to mark it instead."
    )
