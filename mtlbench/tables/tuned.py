"""What the footnotes of a leaderboard say of searches: how trials were made, what was selected, what is at an edge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mtlbench.catalogue.search import Choice
from mtlbench.cells.cell import Tuning
from mtlbench.cells.trials import AXIS, FINALISTS, RUNOFF_RUNS, SWEEP
from mtlbench.rendering.table import Note
from mtlbench.tables.contest import Contest
from mtlbench.tables.entries import Entry


def searches(contest: Contest) -> list[str]:
    """How values were searched, what the intervals cover, and what was selected; nothing in the fixed regime."""
    tuned = [(entry, tuning) for entry in contest.entries if (tuning := _tuning(entry)) is not None]
    if not tuned or contest.grid.budget is None:
        return []
    chosen = [f"{entry.label}: {_told(dict(selected(entry)))}" for entry, _ in tuned]
    return [
        *(_design(contest.grid.budget, tuned, design) for design in sorted({tuning.design for _, tuning in tuned})),
        "Intervals of tuned methods are for what such a search finds on average. Simulated at 95 %, they cover it in "
        "94 to 100 % where trials spread as a normal or up to an optimum, in 87 to 89 % where a few lucky ones stand "
        "out.",
        f"Selected: {'; '.join(chosen)}.",
    ]


def _design(budget: int, tuned: Sequence[tuple[Entry, Tuning]], design: int) -> str:
    spaces = [(entry.label, tuning.space) for entry, tuning in tuned if tuning.design == design]
    shared = ", ".join(_short(key) for key in spaces[0][1] if not key.startswith("method."))
    owns = [(label, [key for key in space if key.startswith("method.")]) for label, space in spaces]
    own = "; ".join(f"{label}: {', '.join(keys)}" for label, keys in owns if keys)
    text = (
        f"Tuned: {budget} trials for every method, at the same points of the protocol's space ({shared})"
        f"{f' and of its own ({own})' if own else ''}"
    )
    if design == 1:
        return (
            f"{text}; the best on validation was rerun on fresh seeds. All values moved together from trial to trial "
            f"(points of a Halton sequence), which is no longer how trials are made: tune={budget} now makes others, "
            "and a table of their own."
        )
    if any(AXIS in space for _, space in spaces):
        first = f"{min(len(SWEEP), budget)} of {_short(AXIS)} alone, with all else at its default, then of all together"
    else:
        first = "the defaults, then all together"
    return (
        f"{text}: {first}. The best {FINALISTS} on validation were run on {RUNOFF_RUNS} further seeds each, the better "
        "one of these on fresh seeds. No test score chooses anything."
    )


def selected(entry: Entry) -> Iterator[tuple[str, Any]]:
    """Keys and values that the search found, in the order of the space; of an entry with runs."""
    cell = entry.runs[0].cell
    for key in cell.tuning.space if cell.tuning else ():
        room, *path = key.split(".")
        value: Any = cell.parameters if room == "method" else cell.protocol
        for part in path:
            value = value[part]
        yield key, value


def edges(entries: Sequence[Entry]) -> list[Note]:
    """What was selected at an edge of its range, or outside where the default is: the best may lie beyond it.

    That is the outermost level of the sweep for the learning rate; for other numbers, and in searches of the first
    design, the outermost n-th of the scale where there are n trials, and a sixth where there are few.
    """
    found: dict[str, list[str]] = {}
    for entry in entries:
        if (tuning := _tuning(entry)) is None:
            continue
        for key, value in selected(entry):
            if is_at_edge(tuning, key, value):
                found.setdefault(f"{_told({key: value})} of {tuning.space[key]}", []).append(entry.label)
    if not found:
        return []
    told = "; ".join(f"{what} ({', '.join(labels)})" for what, labels in found.items())
    return [Note(f"Selected at an edge of the range, so that the best may lie beyond it: {told}.", "warning")]


def is_at_edge(tuning: Tuning, key: str, value: Any) -> bool:
    """Whether a value that a rerun has lies at an edge of the range where it was searched; see `edges`."""
    searched, budget = tuning.space[key], tuning.budget
    if isinstance(searched, Choice) or budget is None or isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if key == AXIS and tuning.design > 1:
        levels = SWEEP[:budget]
        return not searched.at(min(levels)) < value < searched.at(max(levels))
    share = min(1 / budget, min(SWEEP))  # of a few trials each one stands for more than an edge
    return not share < searched.position(value) < 1 - share


def overtaken(entries: Sequence[Entry]) -> list[Note]:
    """Reruns whose trial is not, or no longer, the one that the search finds."""
    notes = []
    for entry in entries:
        s = entry.search
        if s is not None and s.best != s.winner:
            now = "no trial is there" if s.best is None else f"trial {s.best} is the best on validation now"
            notes.append(Note(f"{entry.label}: trial {s.winner} was rerun, but {now}.", "warning"))
    return notes


def _tuning(entry: Entry) -> Tuning | None:
    return entry.runs[0].cell.tuning if entry.runs else None


def _told(values: dict[str, Any]) -> str:
    """`optimizer.lr=0.003, method.beta=0.1`."""
    return ", ".join(f"{_short(key)}={value}" for key, value in values.items())


def _short(key: str) -> str:
    return key.removeprefix("protocol.")
