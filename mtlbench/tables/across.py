"""Tables over several tasks: Delta-m aggregated over leaderboards, with what can and what cannot be concluded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mtlbench import statistics
from mtlbench.catalogue.variants import task_data
from mtlbench.errors import UsageError
from mtlbench.record.runs import Array
from mtlbench.rendering.table import Column, Note, Row, Table, Value
from mtlbench.statistics import Interval
from mtlbench.tables.columns import Cells
from mtlbench.tables.comparison import DeltaConvention
from mtlbench.tables.entries import BASELINE, Entry
from mtlbench.tables.leaderboard import Leaderboard, Options


@dataclass(frozen=True)
class Across:
    """A table over several tasks, with what it was made from."""

    table: Table
    boards: tuple[Leaderboard, ...]
    scores: dict[str, list[Array]]
    """For each method that ran on all tasks: T arrays (n_t,) of Delta-m in percent, positive = better."""


def across(boards: Sequence[Leaderboard], options: Options | None = None) -> list[Across]:
    """A table for each regime and kind of data with leaderboards of at least two tasks that have a reference row.

    Embedded and real data never share a table. Of several protocols of one variant, its own one counts.
    """
    options = options or Options()
    kinds: dict[tuple[str, int | None, str], dict[tuple[str, str], Leaderboard]] = {}
    for board in boards:
        if board.delta is not None:
            tasks = kinds.setdefault((_data(board), board.budget, str(board.rule)), {})
            place = board.task, board.variant
            if place not in tasks or _is_default(board):
                tasks[place] = board
    ordered = sorted(kinds.items(), key=_name)
    return [_across(kind, [*tasks.values()], options) for (kind, _, _), tasks in ordered if len(tasks) > 1]


def _is_default(board: Leaderboard) -> bool:
    """Whether the protocol is the variant's own, unchanged: of several, this one stands for the task."""
    try:
        data = task_data(board.task)
        return data.protocols[data.variants[board.variant].protocol].label == board.protocol
    except (UsageError, KeyError):
        return False


def _name(item: tuple[tuple[str, int | None, str], object]) -> tuple[str, int, str]:
    (kind, budget, rule), _ = item
    return kind, budget or 0, rule


def _data(board: Leaderboard) -> str:
    """`embedded` or `real` data, as the task declares it."""
    try:
        variant = task_data(board.task).variants.get(board.variant)
    except UsageError:  # its task is not installed here
        return "real"
    return "embedded" if variant is not None and not variant.needs else "real"


def _across(kind: str, boards: Sequence[Leaderboard], options: Options) -> Across:
    names = [f"{b.task}/{b.variant} {b.protocol}" for b in boards]
    found: dict[str, list[Entry | None]] = {}
    for place, board in enumerate(boards):
        for e in board.entries:
            if e.role == "method":
                found.setdefault(e.label, [None] * len(boards))[place] = e if e.runs else None
    everywhere = {label: [e for e in row if e] for label, row in found.items() if all(row)}
    scores = {label: [_delta(b, e) for b, e in zip(boards, row, strict=True)] for label, row in everywhere.items()}
    values: Cells = {label: {} for label in found}
    columns = _single(boards, names, found, values, options)
    columns += _aggregates(scores, _Pairs(boards, everywhere), values, options)
    means = {label: float(np.mean([x.mean() for x in tasks])) for label, tasks in scores.items()}
    order = sorted(found, key=lambda label: -means.get(label, -math.inf))
    rows = [
        Row(label, "method", values[label], sum(e is not None for e in found[label]), len(boards)) for label in order
    ]
    missing = [
        Note(f"{label}: no result on {name}, so nothing over all tasks.", "warning")
        for label in order
        for name, e in zip(names, found[label], strict=True)
        if e is None
    ]
    budget, split = boards[0].budget, boards[0].split
    done, asked = sum(row.n for row in rows), len(rows) * len(boards)
    made = Table(
        slug=f"across-{kind}-data" + (f"-tuned{budget}" if budget else "") + (f"-{split}" if split != "test" else ""),
        title=f"{len(boards)} tasks on {kind} data"
        + (f", tuned on {budget} trials" if budget else "")
        + (f", split {split}" if split != "test" else ""),
        incomplete="" if done == asked else f"incomplete: {done} of {asked} methods x tasks",
        columns=tuple(columns),
        rows=tuple(rows),
        notes=(*_about(options, budget), *_rank_test(scores), *missing),
        facts={
            "tasks": "; ".join(names),
            **({"split": split} if split != "test" else {}),
            "regime": f"tuned, {budget} trials per method" if budget else "fixed",
            "selection": str(boards[0].rule),
            "level": f"{options.level:g}",
            "delta_m base row": "single_task of each task, mean over its seeds",
            "delta_m sign": options.convention.sign_in_words,
            "delta_m weighting": options.convention.weighting_in_words,
        },
    )
    return Across(made, tuple(boards), scores)


def _single(
    boards: Sequence[Leaderboard],
    names: Sequence[str],
    found: dict[str, list[Entry | None]],
    values: Cells,
    options: Options,
) -> list[Column]:
    """Delta-m on each task."""
    columns = [_column(f"task{place}", name, options.convention) for place, name in enumerate(names)]
    for label, entries in found.items():
        for board, column, e in zip(boards, columns, entries, strict=True):
            if e is not None:
                interval = statistics.t_interval(_turn(options) * _delta(board, e), options.level)
                values[label][column.key] = Value(interval.mean, interval)
    return columns


def _aggregates(scores: dict[str, list[Array]], pairs: _Pairs, values: Cells, options: Options) -> list[Column]:
    """Over all tasks: interquartile mean, mean, rank, differences to the baseline."""
    iqm, mean = _column("iqm", "IQM Δm [%]", options.convention), _column("mean", "mean Δm [%]", options.convention)
    good = _as_good_as_the_best(scores, pairs, options.level)
    for label, tasks in scores.items():
        turned = [_turn(options) * x for x in tasks]
        middle = statistics.interquartile_mean(turned, options.level, generator=np.random.default_rng(0))
        plain = statistics.stratified_mean(turned, options.level)
        values[label][iqm.key] = Value(middle.mean, middle)
        values[label][mean.key] = Value(plain.mean, plain, best=label in good)
    columns = [iqm, mean]
    if len(scores) > 1:
        columns.append(_ranks(scores, values))
        against = options.against or BASELINE
        if against in scores:
            columns.append(_against(against, pairs, values, options))
            if len(pairs.boards) >= statistics.RANK_TEST_TASKS:
                columns.append(_signed_ranks(against, scores, values))
    return columns


def _ranks(scores: dict[str, list[Array]], values: Cells) -> Column:
    column = Column("rank", f"rank of {len(scores)}", False, about="mean rank over tasks; depends on the pool")
    means = _means(scores)
    for label, rank in zip(scores, statistics.mean_ranks(means, np.ones(means.shape[1])), strict=True):
        values[label][column.key] = Value(float(rank))
    return column


def _means(scores: dict[str, list[Array]]) -> Array:
    """(R, T)."""
    return np.array([[x.mean() for x in tasks] for tasks in scores.values()])


def _turn(options: Options) -> float:
    return -1.0 if options.convention.negative else 1.0


def _delta(board: Leaderboard, e: Entry) -> Array:
    """(n,): Delta-m of each seed, positive = better."""
    assert board.delta is not None
    return board.delta.of(e.scores)


def _column(key: str, title: str, convention: DeltaConvention) -> Column:
    return Column(key, title, not convention.negative, signed=True, about=f"Delta-m, {convention.sign_in_words}")


@dataclass(frozen=True)
class _Pairs:
    """Methods that ran on all tasks, to be compared by the seeds that both have."""

    boards: Sequence[Leaderboard]
    entries: dict[str, list[Entry]]

    def difference(self, one: str, other: str, level: float) -> statistics.Difference:
        """The mean over tasks of `one` minus `other`, positive = better; without a common seed in one, no number."""
        tasks = []
        for board, mine, theirs in zip(self.boards, self.entries[one], self.entries[other], strict=True):
            common = sorted({*mine.seeds} & {*theirs.seeds})
            if not common:
                return statistics.Difference(math.nan, math.nan, math.nan, 0, math.nan)
            x, y = (_delta(board, e)[[e.seeds.index(seed) for seed in common]] for e in (mine, theirs))
            tasks.append(x - y)
        return statistics.stratified_mean(tasks, level)


def _as_good_as_the_best(scores: dict[str, list[Array]], pairs: _Pairs, level: float) -> set[str]:
    if not scores:
        return set()
    best = max(scores, key=lambda label: float(np.mean([x.mean() for x in scores[label]])))
    others = [label for label in scores if label != best]
    adjusted = statistics.holm([pairs.difference(label, best, level).p for label in others])
    return {best} | {label for label, p in zip(others, adjusted, strict=True) if not p < 1 - level}


def _against(against: str, pairs: _Pairs, values: Cells, options: Options) -> Column:
    column = Column("difference", f"mean Δm vs {against}", not options.convention.negative, signed=True)
    turn = _turn(options)
    others = [label for label in pairs.entries if label != against]
    found = [pairs.difference(label, against, options.level) for label in others]
    for label, d, p in zip(others, found, statistics.holm([d.p for d in found]), strict=True):
        if d.n:
            low, high = sorted((turn * d.low, turn * d.high))
            values[label][column.key] = Value(turn * d.mean, Interval(turn * d.mean, low, high, d.n), p=_tested(p))
    return column


def _signed_ranks(against: str, scores: dict[str, list[Array]], values: Cells) -> Column:
    """Whether a method differs from the baseline, judged by ranks of tasks instead of seeds."""
    column = Column("signed_rank", f"signed-rank p vs {against}", digits=3, about="over tasks; Holm-adjusted")
    means = dict(zip(scores, _means(scores), strict=True))
    others = [label for label in scores if label != against]
    found = [statistics.signed_rank_test(means[label], means[against]) for label in others]
    for label, p in zip(others, statistics.holm(found), strict=True):
        values[label][column.key] = Value(p)
    return column


def _tested(p: float) -> float | None:
    return None if math.isnan(p) else p


def _rank_test(scores: dict[str, list[Array]]) -> list[Note]:
    if len(scores) < 2:
        return []
    table, least = _means(scores).T, statistics.RANK_TEST_TASKS
    if len(table) < least:
        return [Note(f"No rank test: it is made from {least} tasks on, and these are {len(table)}.")]
    p = statistics.rank_test(table)
    if p is None:
        return [Note("No rank test: it needs three methods.")]
    return [Note(f"Rank test (Friedman, {table.shape[1]} methods on {len(table)} tasks): p = {p:.3g}.")]


def _about(options: Options, budget: int | None) -> list[Note]:
    c, percent = options.convention, f"{100 * options.level:.4g} %"
    searched = [Note("The search is not part of these intervals; the tables of the single tasks have it.")]
    return [
        Note(
            f"Δm: base row single_task of each task (mean over its seeds); {c.sign_in_words}; {c.weighting_in_words}. "
            "The noise of base rows is not part of these intervals."
        ),
        Note(
            f"IQM: interquartile mean over all runs, tasks counting alike; {percent} interval by hierarchical "
            "bootstrap over the seeds within tasks, widened for their small number. The tasks are fixed: nothing is "
            "said of others."
        ),
        Note(
            f"mean: {percent} interval from the seeds of all tasks. Bold: cannot be told apart from the best mean "
            "(paired by seed within tasks, Holm-adjusted)."
        ),
        Note("rank: mean rank over tasks among these methods; it depends on the pool."),
        *(searched if budget else []),
    ]
