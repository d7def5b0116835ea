"""Tables over several tasks: Delta-m aggregated over leaderboards, with what can and what cannot be concluded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mtlbench import statistics
from mtlbench.catalogue.registry import holder
from mtlbench.catalogue.variants import task_data
from mtlbench.errors import UsageError
from mtlbench.record.runs import Array
from mtlbench.rendering.table import Column, Note, Row, Table, Value
from mtlbench.statistics import Difference, Interval
from mtlbench.tables import best, comparison, power
from mtlbench.tables.columns import Cells
from mtlbench.tables.comparison import Quantity
from mtlbench.tables.entries import Entry
from mtlbench.tables.leaderboard import Leaderboard
from mtlbench.tables.options import DeltaConvention, TableOptions
from mtlbench.tables.power import Detectable


@dataclass(frozen=True)
class Across:
    """A table over several tasks, with what it was made from."""

    table: Table
    boards: tuple[Leaderboard, ...]
    scores: dict[str, list[Array]]
    """For each method that ran on all tasks: T arrays (n_t,) of Delta-m in percent, positive = better."""


def across(boards: Sequence[Leaderboard], options: TableOptions | None = None) -> list[Across]:
    """A table for each regime and kind of data with leaderboards of at least two tasks that have a reference row.

    Embedded and real data never share a table. Of several protocols of one variant, its own one counts.
    """
    options = options or TableOptions()
    kinds: dict[tuple[str, int | None, str], dict[tuple[str, str], Leaderboard]] = {}
    for board in boards:
        if board.delta is not None:
            tasks = kinds.setdefault((_data(board), board.budget, str(board.rule)), {})
            place = board.task, board.variant
            if place not in tasks or is_default(board):
                tasks[place] = board
    ordered = sorted(kinds.items(), key=_name)
    return [_across(kind, [*tasks.values()], options) for (kind, _, _), tasks in ordered if len(tasks) > 1]


def is_default(board: Leaderboard) -> bool:
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


@dataclass(frozen=True)
class _Pool:
    """The methods that are compared over some tasks, by the seeds that both have."""

    boards: Sequence[Leaderboard]
    """One for each of T tasks."""
    options: TableOptions
    entries: Mapping[str, Sequence[Entry | None]]
    """Of each method T entries; None where it has no result."""

    @classmethod
    def of(cls, boards: Sequence[Leaderboard], options: TableOptions) -> _Pool:
        """All methods of the boards."""
        found: dict[str, list[Entry | None]] = {}
        for place, board in enumerate(boards):
            for e in board.entries:
                if e.role == "method":
                    found.setdefault(e.label, [None] * len(boards))[place] = e if e.runs else None
        return cls(boards, options, found)

    @property
    def names(self) -> list[str]:
        """Of the tasks: `multimnist/mnist cpu@1`."""
        return [f"{b.task}/{b.variant} {b.protocol}" for b in self.boards]

    @cached_property
    def everywhere(self) -> dict[str, list[Entry]]:
        """The methods with a result on every task."""
        return {label: [e for e in row if e] for label, row in self.entries.items() if all(row)}

    @cached_property
    def scores(self) -> dict[str, list[Array]]:
        """Of each of them T arrays (n_t,) of Delta-m, positive = better."""
        return {
            label: [_delta(board, e) for board, e in zip(self.boards, row, strict=True)]
            for label, row in self.everywhere.items()
        }

    @property
    def means(self) -> Array:
        """(R, T): over seeds."""
        return np.array([[x.mean() for x in tasks] for tasks in self.scores.values()])

    @property
    def order(self) -> list[str]:
        """From the best mean over tasks to the worst, those without one last."""
        means = dict(zip(self.scores, self.means.mean(1), strict=True)) if self.scores else {}
        return sorted(self.entries, key=lambda label: -means.get(label, -math.inf))

    @property
    def turn(self) -> float:
        """The factor from positive = better to the sign that is printed."""
        return -1.0 if self.options.convention.negative else 1.0

    @property
    def reference(self) -> str:
        """The label of the base row; several where tasks have different ones."""
        labels = [e.label for board in self.boards for e in board.entries if e.role == "reference" and e.runs]
        return " or ".join(dict.fromkeys(labels))

    @property
    def against(self) -> str | None:
        """The method that the others are compared with; None where it misses a task."""
        against = self.options.against or holder("baseline")
        return against if against in self.scores else None

    def difference(self, one: str, other: str) -> Difference:
        """The mean over tasks of `one` minus `other`, positive = better; without a common seed in one, no number."""
        tasks = self.paired(one, other)
        if not all(map(len, tasks)):
            return Difference(math.nan, math.nan, math.nan, 0, math.nan)
        return statistics.stratified_mean(tasks, self.options.level, self.floors)

    def paired(self, one: str, other: str) -> list[Array]:
        """T arrays (n_t,) of `one` minus `other` over the seeds that both have."""
        pairs = zip(self.boards, self.everywhere[one], self.everywhere[other], strict=True)
        found = [comparison.paired_scores(_quantity(board), mine, theirs) for board, mine, theirs in pairs]
        return [x - y for x, y in found]

    @property
    def floors(self) -> list[float]:
        """Of each task, the variance that differences have at least, from rounding."""
        return [_quantity(board).floor for board in self.boards]

    def detectable(self, against: str) -> Detectable | None:
        """The mean difference over tasks that is told from zero with 80 % power; None without two seeds in common."""
        pairs = [self.paired(label, against) for label in self.scores if label != against]
        compared = [tasks for tasks in pairs if min(map(len, tasks)) > 1]
        if not compared:
            return None
        shares = np.full(len(self.boards), 1 / len(self.boards))
        found = [statistics.welch_error(tasks, shares, self.floors) for tasks in compared]
        return power.detectable_mean(found, self.options.level)


def _delta(board: Leaderboard, e: Entry) -> Array:
    """(n,): Delta-m of each seed, positive = better."""
    return _quantity(board).of(e.scores)


def _quantity(board: Leaderboard) -> Quantity:
    assert board.delta is not None
    return board.delta


# --- the table


def _across(kind: str, boards: Sequence[Leaderboard], options: TableOptions) -> Across:
    pool = _Pool.of(boards, options)
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
        notes=(*_about(pool), *_rank_test(pool), *_missing(pool)),
        facts=_facts(pool),
    )
    return Across(made, tuple(boards), pool.scores)


def _facts(pool: _Pool) -> dict[str, str]:
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


def _columns(pool: _Pool) -> tuple[list[Column], Cells]:
    """All columns in their order, and the value of each row that has one."""
    values: Cells = {label: {} for label in pool.entries}
    columns = [*_single(pool, values), *_aggregates(pool, values)]
    if len(pool.scores) > 1:
        columns.append(_ranks(pool, values))
    if len(pool.scores) > 1 and pool.against is not None:
        columns.append(_differences(pool, pool.against, values))
        if len(pool.boards) >= statistics.RANK_TEST_TASKS:
            columns.append(_signed_ranks(pool, pool.against, values))
    return columns, values


def _single(pool: _Pool, values: Cells) -> list[Column]:
    """Delta-m on each task."""
    columns = [_column(f"task{place}", name, pool.options.convention) for place, name in enumerate(pool.names)]
    for label, entries in pool.entries.items():
        for board, column, e in zip(pool.boards, columns, entries, strict=True):
            if e is not None:
                interval = statistics.t_interval(pool.turn * _delta(board, e), pool.options.level)
                values[label][column.key] = Value(interval.mean, interval)
    return columns


def _aggregates(pool: _Pool, values: Cells) -> list[Column]:
    """Interquartile mean and mean over all tasks."""
    convention, level = pool.options.convention, pool.options.level
    iqm, mean = _column("iqm", "IQM Δm [%]", convention), _column("mean", "mean Δm [%]", convention)
    good = _as_good_as_the_best(pool)
    for label, tasks in pool.scores.items():
        turned = [pool.turn * x for x in tasks]
        middle = statistics.interquartile_mean(turned, level, generator=np.random.default_rng(0))
        plain = statistics.stratified_mean(turned, level)
        values[label][iqm.key] = Value(middle.mean, middle)
        values[label][mean.key] = Value(plain.mean, plain, best=label in good)
    return [iqm, mean]


def _as_good_as_the_best(pool: _Pool) -> set[str]:
    if not pool.scores:
        return set()
    leader = max(pool.scores, key=lambda label: float(np.mean([x.mean() for x in pool.scores[label]])))
    others = [label for label in pool.scores if label != leader]
    behind = [pool.difference(leader, label) for label in others]
    tasks = len(pool.boards)
    # On the seeds that both have, the leader can be behind.
    p_values = [1.0 if d.mean < 0 or (math.isnan(d.p) and d.n > tasks) else d.p for d in behind]
    # A test over T tasks has T - 1 degrees of freedom less than one over all its pairs.
    adjusted = best.adjusted(p_values, max((d.n - tasks + 1 for d in behind), default=0))
    tested = {label: p for label, p in zip(others, adjusted, strict=True) if not math.isnan(p)}
    good = {label for label, p in tested.items() if p >= 1 - pool.options.level}
    return {leader} | good if tested else set()


def _ranks(pool: _Pool, values: Cells) -> Column:
    count = len(pool.scores)
    column = Column("rank", f"rank of {count}", False, about="mean rank over tasks; depends on the pool")
    for label, rank in zip(pool.scores, statistics.mean_ranks(pool.means, np.ones(len(pool.boards))), strict=True):
        values[label][column.key] = Value(float(rank))
    return column


def _differences(pool: _Pool, against: str, values: Cells) -> Column:
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


def _signed_ranks(pool: _Pool, against: str, values: Cells) -> Column:
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


def _missing(pool: _Pool) -> list[Note]:
    return [
        Note(f"{label}: no result on {name}, so nothing over all tasks.", "warning")
        for label in pool.order
        for name, e in zip(pool.names, pool.entries[label], strict=True)
        if e is None
    ]


def _about_differences(pool: _Pool) -> list[Note]:
    against = pool.against
    if against is None or len(pool.scores) < 2:
        return []
    runs = {label: pool.difference(label, against).n for label in pool.scores if label != against}
    told = ", ".join(f"{label} {count}" for label, count in runs.items())
    if len({*runs.values()}) == 1:
        told = str(next(iter(runs.values())))
    text = f"vs {against}: mean over tasks of differences paired by seed; pairs over all tasks: {told}."
    return [Note(f"{text} p is Holm-adjusted."), *_about_power(pool, against)]


def _about_power(pool: _Pool, against: str) -> list[Note]:
    found = pool.detectable(against)
    if found is None:
        return []
    return [
        Note(
            f"Detectable: in {100 * power.POWER:.0f} of 100 tables like this one a method is told from {against} if "
            f"they differ by mean Δm [%] {found.told} ({power.LEFT_OPEN}). {power.FAMILY}"
        )
    ]


def _rank_test(pool: _Pool) -> list[Note]:
    if len(pool.scores) < 2:
        return []
    table, least = pool.means.T, statistics.RANK_TEST_TASKS
    if len(table) < least:
        return [Note(f"No rank test: it is made from {least} tasks on, and these are {len(table)}.")]
    p = statistics.rank_test(table)
    if p is None:
        return [Note("No rank test: it needs three methods.")]
    return [Note(f"Rank test (Friedman, {table.shape[1]} methods on {len(table)} tasks): p = {p:.3g}.")]


def _about(pool: _Pool) -> list[Note]:
    c, percent = pool.options.convention, f"{100 * pool.options.level:.4g} %"
    found = pool.detectable(pool.against) if pool.against is not None else None
    detectable = f" It need not be as good: detectable is mean Δm [%] {found.told}." if found else ""
    searched = [Note("The search is not part of these intervals; the tables of the single tasks have it.")]
    return [
        Note(
            f"Δm: base row {pool.reference} of each task (mean over its seeds); {c.sign_in_words}; "
            f"{c.weighting_in_words}. The noise of base rows is not part of these intervals."
        ),
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
        Note("rank: mean rank over tasks among these methods; it depends on the pool."),
        *(searched if pool.boards[0].budget else []),
    ]
