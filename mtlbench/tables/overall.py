"""Scores over the variants of one task, as the task declares them: a benchmark's own, such as XTREME's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mtlbench import statistics
from mtlbench.catalogue.variants import OverallScore, task_data
from mtlbench.errors import UsageError
from mtlbench.record.runs import Array, Run
from mtlbench.rendering.table import Column, Note, Row, Table, Value
from mtlbench.statistics import Interval
from mtlbench.tables.across import is_default
from mtlbench.tables.columns import Cells
from mtlbench.tables.entries import Entry
from mtlbench.tables.leaderboard import Leaderboard
from mtlbench.tables.options import TableOptions
from mtlbench.tables.wording import listed


def overall(boards: Sequence[Leaderboard], options: TableOptions | None = None) -> list[Table]:
    """A table for each score that a task declares, with leaderboards of at least two of its variants.

    Regimes, selections and splits have tables of their own, and so has every value of what must be alike. Of several
    protocols of one variant, its own one counts. A score over boards that are all in another one has no table.
    """
    options = options or TableOptions()
    sums: list[tuple[str, _Sum]] = []
    for task in dict.fromkeys(board.task for board in boards):
        for name, score in _declared(task).items():
            kinds: dict[tuple[str, ...], dict[str, Leaderboard]] = {}
            for board in boards:
                if board.task == task and board.variant in score.variants and any(e.runs for e in board.entries):
                    found = kinds.setdefault(_kind(board, score), {})
                    if board.variant not in found or is_default(board):
                        found[board.variant] = board
            sums += [(name, _Sum(task, score, kind, options)) for kind in kinds.values() if len(kind) > 1]
    shown = [(name, one) for place, (name, one) in enumerate(sums) if not _is_within_another(place, sums)]
    made: list[Table] = []
    for name, one in shown:
        same = [other for known, other in shown if (known, other.task) == (name, one.task)]
        made.append(_table(one, name, 1 + same.index(one) if len(same) > 1 else 0))
    return made


def _is_within_another(place: int, sums: Sequence[tuple[str, _Sum]]) -> bool:
    """Whether another sum has all the boards of the one at a place, or the same ones and comes first."""
    mine = {id(board) for board in sums[place][1].boards.values()}
    for at, (_, other) in enumerate(sums):
        theirs = {id(board) for board in other.boards.values()}
        if mine < theirs or (mine == theirs and at < place):
            return True
    return False


def _declared(task: str) -> Mapping[str, OverallScore]:
    try:
        return task_data(task).scores
    except UsageError:  # the task is not installed here
        return {}


def _kind(board: Leaderboard, score: OverallScore) -> tuple[str, ...]:
    """What boards of one table have in common."""
    alike = [json.dumps(_told(board, key)) for key in score.alike]
    return str(board.budget), str(board.rule if board.budget else ""), board.split, *alike


def _told(board: Leaderboard, key: str) -> Any:
    """The value of the protocol's dotted key."""
    place: Any = next(run for e in board.entries for run in e.runs).cell.protocol
    for part in key.split("."):
        place = place.get(part) if isinstance(place, dict) else None
    return place


@dataclass(frozen=True, eq=False)
class _Sum:
    """One score over some variants."""

    task: str
    score: OverallScore
    boards: Mapping[str, Leaderboard]
    """By variant."""
    options: TableOptions
    values: dict[str, dict[str, Array]] = field(default_factory=dict)
    """Method -> variant -> (n,) by seed, of those that it has."""
    fixed: set[str] = field(default_factory=set)
    """Variants in which nothing is trained."""

    def __post_init__(self) -> None:
        for variant in self.variants:
            board = self.boards[variant]
            metrics = self.score.variants[variant]
            entries = [e for e in board.entries if e.runs]
            if not _trains(entries[0].runs[0]):
                self.fixed.add(variant)
            for e in entries:
                if (value := _of_problem(board, e, metrics)) is not None:
                    self.values.setdefault(e.label, {})[variant] = value
        fixed = {v: found[v] for found in self.values.values() for v in self.fixed if v in found}
        trained = {label for label, found in self.values.items() if found.keys() - self.fixed}
        for label in [*self.values]:
            if label in trained:  # a model that is only scored is every method's
                self.values[label] |= {v: value for v, value in fixed.items() if v not in self.values[label]}
            elif trained:
                del self.values[label]

    @property
    def variants(self) -> list[str]:
        """Those that are present, in the order of the declaration."""
        return [variant for variant in self.score.variants if variant in self.boards]

    @property
    def labels(self) -> list[str]:
        """The best first, those that lack a variant last."""
        return sorted(self.values, key=lambda label: -self._mean(label))

    def _mean(self, label: str) -> float:
        found = self.interval(label, self.variants)
        return -np.inf if found is None else found.mean

    def interval(self, label: str, variants: Sequence[str]) -> Interval | None:
        """Of the mean over some variants; None where the method lacks one."""
        own = self.values[label]
        if not {*variants} <= own.keys():
            return None
        runs = max(len(own[variant]) for variant in variants)
        # The same at every seed where nothing is trained.
        parts = [np.repeat(own[v], runs) if v in self.fixed and len(own[v]) == 1 else own[v] for v in variants]
        found = statistics.stratified_mean(parts, self.options.level)
        return Interval(found.mean, found.low, found.high, found.n)


def _trains(run: Run) -> bool:
    return bool(run.cell.protocol.get("epochs"))


def _of_problem(board: Leaderboard, entry: Entry, metrics: Sequence[str]) -> Array | None:
    """(n,): the mean over metrics of their means over objectives; None where a metric is not there."""
    means = []
    for metric in metrics:
        places = [place for place, m in enumerate(board.measures) if m.metric == metric]
        if not places:
            return None
        means.append(entry.scores[:, places].mean(1))
    return np.asarray(np.mean(means, 0), dtype=np.float64)


def _table(found: _Sum, name: str, place: int) -> Table:
    score, variants = found.score, found.variants
    groups = {group: [v for v in members if v in variants] for group, members in score.groups.items()}
    shown: list[tuple[Column, Sequence[str]]] = [
        (Column("score", f"score over {len(variants)}", True, about=f"mean over {listed(variants)}"), variants),
        *(
            (Column(f"group.{n}", group, True, about=f"mean over {listed(members)}"), members)
            for n, (group, members) in enumerate(groups.items())
            if len(members) > 1 and len(members) < len(variants)
        ),
        *((Column(f"variant.{v}", v, True, about=" and ".join(score.variants[v])), [v]) for v in variants),
    ]
    values: Cells = {label: {} for label in found.values}
    for label in found.values:
        for column, members in shown:
            if (interval := found.interval(label, members)) is not None:
                values[label][column.key] = Value(interval.mean, interval)
    board = found.boards[variants[0]]
    rows = [Row(label, "method", values[label], len(found.values[label]), len(variants)) for label in found.labels]
    told = [f"{key} {_told(board, key)}" for key in score.alike]
    done, asked = sum(row.n for row in rows), len(rows) * len(variants)
    return Table(
        slug="-".join(
            [found.task, "score", name]
            + ([f"tuned{board.budget}"] if board.budget else [])
            + ([board.split] if board.split != "test" else [])
            + ([str(place)] if place else [])
        ),
        title=f"{score.title} over the {len(variants)} of {len(score.variants)} problems present: {', '.join(variants)}"
        + (f" ({', '.join(told)})" if told else ""),
        incomplete="" if done == asked else f"incomplete: {done} of {asked} methods x problems",
        columns=tuple(column for column, _ in shown),
        rows=tuple(rows),
        notes=tuple(_notes(found)),
        facts={
            "task": found.task,
            "problems": "; ".join(f"{v} {found.boards[v].protocol}" for v in variants),
            "absent": listed([v for v in score.variants if v not in variants]) or "none",
            "regime": f"tuned, {board.budget} trials per method" if board.budget else "fixed",
            "level": f"{found.options.level:g}",
        },
    )


def _notes(found: _Sum) -> list[Note]:
    score, variants = found.score, found.variants
    absent = [v for v in score.variants if v not in variants]
    of = {v: " and ".join(metrics) for v, metrics in score.variants.items() if v in variants}
    metrics = "; ".join(
        f"{metric} of {listed([v for v in of if of[v] == metric])}" for metric in dict.fromkeys(of.values())
    )
    notes = [
        Note(f"Mean over problems of their means over objectives: {metrics}. {score.about}".rstrip()),
        Note("What each problem was scored on, and under which protocol, stands under its own table."),
        Note(f"{100 * found.options.level:.4g} % intervals from the seeds of all problems; no test."),
    ]
    if absent:
        notes.append(Note(f"Not the score over all problems: {listed(absent)} are absent.", "warning"))
    if fixed := [v for v in variants if v in found.fixed]:
        notes.append(Note(f"{listed(fixed)}: nothing is trained there, so that every method has the same score."))
    others = [f"{v} {found.boards[v].protocol}" for v in variants if not is_default(found.boards[v])]
    if others:
        notes.append(Note(f"Not under the problem's own protocol: {'; '.join(others)}.", "warning"))
    for label in found.labels:
        if lacking := [v for v in variants if v not in found.values[label]]:
            notes.append(Note(f"{label}: no result on {listed(lacking)}, so no score over all.", "warning"))
    return notes
