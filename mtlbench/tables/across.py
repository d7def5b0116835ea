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
from mtlbench.tables import power
from mtlbench.tables.budget import budgets_over_tasks, single_task_budget
from mtlbench.tables.columns import Cells
from mtlbench.tables.leaderboard import Leaderboard
from mtlbench.tables.options import DeltaConvention, TableOptions
from mtlbench.tables.pool import Pool, delta, task_name


@dataclass(frozen=True)
class Across:
    """A table over several tasks, with what it was made from."""

    table: Table
    boards: tuple[Leaderboard, ...]
    scores: dict[str, list[Array]]
    """For each method that ran on all tasks: T arrays (n_t,) of Delta-m in percent, positive = better."""


def across(boards: Sequence[Leaderboard], options: TableOptions | None = None) -> list[Across]:
    """A table for each regime and kind of data with leaderboards of at least two tasks that have a reference row.

    Embedded and real data never share a table. Of several protocols of one variant, its own one counts. Tasks that keep
    themselves out of these tables (`catalogue.variants.TaskData`) are not in them.
    """
    options = options or TableOptions()
    kinds: dict[tuple[str, int | None, str], dict[tuple[str, str], Leaderboard]] = {}
    without: dict[tuple[str, int | None, str], list[str]] = {}
    for board in filter(_takes_part, boards):
        kind = _data(board), board.budget, str(board.rule)
        if board.delta is None and any(e.role == "reference" and e.runs for e in board.entries):
            without.setdefault(kind, []).append(task_name(board))
        if board.delta is not None:
            tasks = kinds.setdefault(kind, {})
            place = board.task, board.variant
            if place not in tasks or is_default(board):
                tasks[place] = board
    ordered = sorted(kinds.items(), key=_name)
    return [
        _across(kind[0], [*tasks.values()], options, without.get(kind, [])) for kind, tasks in ordered if len(tasks) > 1
    ]


def is_default(board: Leaderboard) -> bool:
    """Whether the protocol is the variant's own, unchanged: of several, this one stands for the task."""
    try:
        data = task_data(board.task)
        return data.protocols[data.variants[board.variant].protocol].label == board.protocol
    except (UsageError, KeyError):
        return False


def _takes_part(board: Leaderboard) -> bool:
    try:
        return task_data(board.task).in_tables_over_tasks
    except UsageError:  # its task is not installed here
        return True


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


# --- the table


def _across(kind: str, boards: Sequence[Leaderboard], options: TableOptions, without: Sequence[str]) -> Across:
    pool = Pool.of(boards, options)
    columns, values = _columns(pool)
    tasks = len(boards)
    rows = [Row(label, "method", values[label], tasks - pool.entries[label].count(None), tasks) for label in pool.order]
    budget, split = boards[0].budget, boards[0].split
    done, asked = sum(row.n for row in rows), len(rows) * tasks
    made = Table(
        slug=f"across-{kind}-data" + (f"-tuned{budget}" if budget else "") + (f"-{split}" if split != "test" else ""),
        title=f"{tasks} tasks on {kind} data"
        + (f", tuned on {budget} trials" if budget else "")
        + (f", split {split}" if split != "test" else ""),
        incomplete="" if done == asked else f"incomplete: {done} of {asked} methods x tasks",
        columns=tuple(columns),
        rows=tuple(rows),
        notes=(*_about(pool), *_rank_test(pool), *_without(without), *_missing(pool)),
        facts=_facts(pool),
    )
    return Across(made, tuple(boards), pool.scores)


def _facts(pool: Pool) -> dict[str, str]:
    """What every export carries, in words."""
    board, options = pool.boards[0], pool.options
    return {
        "tasks": "; ".join(pool.names),
        **({"split": board.split} if board.split != "test" else {}),
        "regime": f"tuned, {board.budget} trials per method" if board.budget else "fixed",
        "selection": str(board.rule),
        "level": f"{options.level:g}",
        "delta_m base row": f"{pool.reference} of each task, mean over its seeds",
        "delta_m sign": options.convention.sign_in_words,
        "delta_m weighting": options.convention.weighting_in_words,
    }


# --- columns


def _columns(pool: Pool) -> tuple[list[Column], Cells]:
    """All columns in their order, and the value of each row that has one."""
    values: Cells = {label: {} for label in pool.entries}
    columns = [*_single(pool, values), *_aggregates(pool, values)]
    if len(pool.scores) > 1 and not pool.without_rank:
        columns.append(_ranks(pool, values))
    if len(pool.scores) > 1 and pool.against is not None:
        columns.append(_differences(pool, pool.against, values))
        if len(pool.boards) >= statistics.RANK_TEST_TASKS:
            columns.append(_signed_ranks(pool, pool.against, values))
    return columns, values


def _single(pool: Pool, values: Cells) -> list[Column]:
    """Delta-m on each task."""
    columns = [_column(f"task{place}", name, pool.options.convention) for place, name in enumerate(pool.names)]
    for label, entries in pool.entries.items():
        for board, column, e in zip(pool.boards, columns, entries, strict=True):
            if e is not None:
                interval = statistics.t_interval(pool.turn * delta(board, e), pool.options.level)
                values[label][column.key] = Value(interval.mean, interval)
    return columns


def _aggregates(pool: Pool, values: Cells) -> list[Column]:
    """Interquartile mean and mean over all tasks."""
    convention, level = pool.options.convention, pool.options.level
    iqm, mean = _column("iqm", "IQM Δm [%]", convention), _column("mean", "mean Δm [%]", convention)
    for label, tasks in pool.scores.items():
        turned = [pool.turn * x for x in tasks]
        middle = statistics.interquartile_mean(turned, level, generator=np.random.default_rng(0))
        plain = statistics.stratified_mean(turned, level)
        values[label][iqm.key] = Value(middle.mean, middle)
        values[label][mean.key] = Value(plain.mean, plain, best=label in pool.good)
    return [iqm, mean]


def _ranks(pool: Pool, values: Cells) -> Column:
    count = len(pool.scores)
    column = Column("rank", f"rank of {count}", False, about="mean rank over tasks; depends on the pool")
    for label, rank in zip(pool.scores, statistics.mean_ranks(pool.means, np.ones(len(pool.boards))), strict=True):
        values[label][column.key] = Value(float(rank))
    return column


def _differences(pool: Pool, against: str, values: Cells) -> Column:
    better = not pool.options.convention.negative
    column = Column("difference", f"mean Δm vs {against}", better, signed=True)
    others = [label for label in pool.scores if label != against]
    found = [pool.difference(label, against) for label in others]
    for label, d, p in zip(others, found, statistics.holm([d.p for d in found]), strict=True):
        if d.n:
            low, high = sorted((pool.turn * d.low, pool.turn * d.high))
            inside = Interval(pool.turn * d.mean, low, high, d.n)
            values[label][column.key] = Value(inside.mean, inside, p=None if math.isnan(p) else p)
    return column


def _signed_ranks(pool: Pool, against: str, values: Cells) -> Column:
    """Whether a method differs from the baseline, judged by ranks of tasks instead of seeds."""
    column = Column("signed_rank", f"signed-rank p vs {against}", digits=3, about="over tasks; Holm-adjusted")
    means = dict(zip(pool.scores, pool.means, strict=True))
    others = [label for label in pool.scores if label != against]
    found = [statistics.signed_rank_test(means[label], means[against]) for label in others]
    for label, p in zip(others, statistics.holm(found), strict=True):
        values[label][column.key] = Value(p)
    return column


def _column(key: str, title: str, convention: DeltaConvention) -> Column:
    return Column(key, title, not convention.negative, signed=True, about=f"Delta-m, {convention.sign_in_words}")


# --- notes


def _missing(pool: Pool) -> list[Note]:
    return [
        Note(f"{label}: no result on {name}, so nothing over all tasks.", "warning")
        for label in pool.order
        for name, e in zip(pool.names, pool.entries[label], strict=True)
        if e is None
    ]


def _without(labels: Sequence[str]) -> list[Note]:
    text = f"Not among the tasks: {', '.join(labels)}; why there is no Δm is told below its own table."
    return [Note(text, "warning")] if labels else []


def _about_differences(pool: Pool) -> list[Note]:
    against = pool.against
    if against is None or len(pool.scores) < 2:
        return []
    runs = {label: pool.difference(label, against).n for label in pool.scores if label != against}
    told = ", ".join(f"{label} {count}" for label, count in runs.items())
    if len({*runs.values()}) == 1:
        told = str(next(iter(runs.values())))
    text = f"vs {against}: mean over tasks of differences paired by seed; pairs over all tasks: {told}."
    return [Note(f"{text} p is Holm-adjusted."), *_about_power(pool, against)]


def _about_power(pool: Pool, against: str) -> list[Note]:
    found = pool.detectable(against)
    if found is None:
        return []
    return [
        Note(
            f"Detectable: in {100 * power.POWER:.0f} of 100 tables like this one a method is told from {against} if "
            f"they differ by mean Δm [%] {found.told} ({power.LEFT_OPEN}). {power.FAMILY}"
        )
    ]


def _rank_test(pool: Pool) -> list[Note]:
    if len(pool.scores) < 2:
        return []
    table, least = pool.means.T, statistics.RANK_TEST_TASKS
    if len(table) < least:
        return [Note(f"No rank test: it is made from {least} tasks on, and these are {len(table)}.")]
    p = statistics.rank_test(table)
    if p is None:
        return [Note("No rank test: it needs three methods.")]
    return [Note(f"Rank test (Friedman, {table.shape[1]} methods on {len(table)} tasks): p = {p:.3g}.")]


def _budgets(pool: Pool) -> dict[str, str | None]:
    """Task -> what its single-task models get of a step."""
    return {n: single_task_budget(board.entries) for n, board in zip(pool.names, pool.boards, strict=True)}


def _about(pool: Pool) -> list[Note]:
    c, percent = pool.options.convention, f"{100 * pool.options.level:.4g} %"
    found = pool.detectable(pool.against) if pool.against is not None else None
    detectable = f" It need not be as good: detectable is mean Δm [%] {found.told}." if found else ""
    searched = [Note("The search is not part of these intervals; the tables of the single tasks have it.")]
    return [
        Note(
            f"Δm: base row {pool.reference} of each task (mean over its seeds); {c.sign_in_words}; "
            f"{c.weighting_in_words}. The noise of base rows is not part of these intervals."
        ),
        *map(Note, budgets_over_tasks(_budgets(pool))),
        Note(
            f"IQM: interquartile mean over all runs, tasks counting alike; {percent} interval by hierarchical "
            "bootstrap over the seeds within tasks, widened for their small number. The tasks are fixed: nothing is "
            "said of others."
        ),
        Note(
            f"mean: {percent} interval from the seeds of all tasks. Bold: cannot be told apart from the best mean "
            "(paired by seed within tasks, adjusted for the number of methods and for the choice of the best by the "
            f"same seeds); without two common seeds on every task nothing is.{detectable}"
        ),
        *_about_differences(pool),
        Note(pool.without_rank or "rank: mean rank over tasks among these methods; it depends on the pool."),
        *(searched if pool.boards[0].budget else []),
    ]
