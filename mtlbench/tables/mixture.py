"""What must be equal within one table and is not: refused, or marked where that is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mtlbench.cells.cell import identity
from mtlbench.record.runs import Measure, Run, signatures
from mtlbench.rendering.table import Note
from mtlbench.tables.grids import Grid, content_digest
from mtlbench.tables.wording import listed

NOT_COMPARED = ("mtlbench",)
"""Packages whose versions may differ in one table: of the suite itself, commits tell more."""

MARKS = "†‡§¶"

Mixture = Mapping[str, Mapping[str, Sequence[Run]]]
"""What must not differ within one table and does -> value -> its runs, the most common value first."""


def mixture(grid: Grid, split: str = "test") -> Mixture:
    """What differs in `grid`, trials of searches included.

    Protocol contents, data digests, precision, objectives and their metrics, those that `split` has, whether every
    objective has a model of its own, where one row holds both; and what only newer records name, where both sides do:
    versions of packages, groups of objectives, signatures of metrics.
    """
    by_name: dict[str, dict[str, list[Run]]] = {}
    for setting in grid.settings.values():
        content = f"{setting.cell.protocol_label} (content {content_digest(setting.cell)})"
        for run in (*setting.runs.values(), *setting.trials.values()):
            made = run.provenance
            told = {"protocol": content, "data": made.data_digest[:12], "precision": made.precision}
            told[f"models of {setting.label}"] = "one for each objective" if run.separate_models else "one for all"
            told |= {**made.packages, **_objectives(run, split), **_declared(run)}
            for name, value in told.items():
                if name not in NOT_COMPARED:
                    by_name.setdefault(name, {}).setdefault(value, []).append(run)
    return {
        name: dict(sorted(values.items(), key=lambda item: (-len(item[1]), item[0])))
        for name, values in by_name.items()
        if len(values) > 1
    }


def metrics_by_objective(run: Run, split: str = "test") -> dict[str, str]:
    """`accuracy [%], higher is better; nll, lower is better`, for each objective that `split` has, the main one first.

    Columns hold numbers of records where these are equal.
    """
    found: dict[str, list[str]] = {}
    for place in run.measured(split):
        m = run.measures[place]
        unit, better = f" [{m.unit}]" if m.unit else "", "higher" if m.higher_is_better else "lower"
        found.setdefault(m.objective, []).append(f"{m.metric}{unit}, {better} is better")
    return {name: "; ".join(metrics) for name, metrics in found.items()}


def common(grid: Grid, split: str) -> tuple[Measure, ...]:
    """The measures of the objectives that every record has on `split` with the same metrics, in one record's order."""
    having = [run for run in grid.everything if run.measured(split)]
    if not having or not grid.runs:
        return ()
    shared = set.intersection(*(set(metrics_by_objective(run, split).items()) for run in having))
    objectives = {name for name, _ in shared}
    found = [having[0].measures[place] for place in having[0].measured(split)]
    return tuple(m for m in found if m.objective in objectives)


def have_something_in_common(grid: Grid, split: str) -> bool:
    """Whether a table of the grid would have a column of scores, or no record to have one of."""
    return bool(common(grid, split)) or not grid.runs


def _objectives(run: Run, split: str) -> dict[str, str]:
    """Objectives, in whatever order, and the metrics of each; those of an extra split where the run has it."""
    by_objective = metrics_by_objective(run)
    told = {"objectives": _named(by_objective)}
    if split != "test" and (there := metrics_by_objective(run, split)):
        told[f"objectives on {split}"] = _named(there)
    return told | {f"metrics of {name}": metrics for name, metrics in by_objective.items()}


def _named(names: Iterable[str]) -> str:
    """Sorted; where the list is shortened, with a digest of the whole."""
    ordered = sorted(names)
    short = listed(ordered)
    return short if short == ", ".join(ordered) else f"{short} {identity({'names': ordered})}"


def _declared(run: Run) -> dict[str, str]:
    """What the task said of groups and metrics, shortened, with a digest of the whole."""
    groups = {f"group {name}": {"": list(members)} for name, members in run.groups.items()}
    metrics = {f"metric {name}": members for name, members in signatures(run.measures).items()}
    return {
        name: f"{'; '.join(f'{text} ({listed(of)})'.strip() for text, of in told.items())} {identity(told)}"
        for name, told in {**groups, **metrics}.items()
    }


def marks(grid: Grid, mixed: Mixture) -> tuple[dict[str, str], list[Note]]:
    """By label a symbol for each row that differs from most others in what must not differ, and what it means."""
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
            for setting in grid.settings.values():
                if any(run.id in ids for run in (*setting.runs.values(), *setting.trials.values())):
                    found[setting.label] = found.get(setting.label, "") + mark
    return found, notes


def refusal(grid: Grid, mixed: Mixture, allowed: bool = False) -> str:
    """Why there is no table of `grid`, and what to do; `allowed` where marking was asked for and is not possible."""
    parts = []
    for what, by_value in mixed.items():
        told = ", ".join(f"{value} ({len(runs)} records, such as {runs[0].path})" for value, runs in by_value.items())
        parts.append(f"{what}: {told}")
    why = (
        "no objective has the same metrics in all records"
        if allowed
        else "its records differ in what must be equal within one"
    )
    ways = ["Run the smaller part again", "move it to another results folder"]
    ways += [] if allowed else ["say --allow-mixed to mark it instead"]
    return f"{grid.place}: no table, as {why}. {'; '.join(parts)}. {', '.join(ways[:-1])}, or {ways[-1]}."
