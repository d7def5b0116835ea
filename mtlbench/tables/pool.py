"""The methods of a table over several tasks: their Delta-m on each, differences, which ones are told apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mtlbench import statistics
from mtlbench.catalogue.registry import holder
from mtlbench.record.runs import Array
from mtlbench.statistics import Difference
from mtlbench.tables import best, comparison, power, ranking
from mtlbench.tables.comparison import Quantity
from mtlbench.tables.entries import Entry
from mtlbench.tables.leaderboard import Leaderboard
from mtlbench.tables.options import TableOptions
from mtlbench.tables.power import Detectable


@dataclass(frozen=True)
class Pool:
    """The methods that are compared over some tasks, by the seeds that both have."""

    boards: Sequence[Leaderboard]
    """One for each of T tasks."""
    options: TableOptions
    entries: Mapping[str, Sequence[Entry | None]]
    """Of each method T entries; None where it has no result."""

    @classmethod
    def of(cls, boards: Sequence[Leaderboard], options: TableOptions) -> Pool:
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
        return [task_name(board) for board in self.boards]

    @cached_property
    def everywhere(self) -> dict[str, list[Entry]]:
        """The methods with a result on every task."""
        return {label: [e for e in row if e] for label, row in self.entries.items() if all(row)}

    @cached_property
    def scores(self) -> dict[str, list[Array]]:
        """Of each of them T arrays (n_t,) of Delta-m, positive = better."""
        return {
            label: [delta(board, e) for board, e in zip(self.boards, row, strict=True)]
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

    @cached_property
    def good(self) -> set[str]:
        """The methods that cannot be told apart from the best, which is among them; none where nothing is tested."""
        if not self.scores:
            return set()
        leader = max(self.scores, key=lambda label: float(np.mean([x.mean() for x in self.scores[label]])))
        others = [label for label in self.scores if label != leader]
        behind = [self.difference(leader, label) for label in others]
        tasks = len(self.boards)
        # On the seeds that both have, the leader can be behind.
        p_values = [1.0 if d.mean < 0 or (math.isnan(d.p) and d.n > tasks) else d.p for d in behind]
        # A test over T tasks has T - 1 degrees of freedom less than one over all its pairs.
        adjusted = best.adjusted(p_values, max((d.n - tasks + 1 for d in behind), default=0))
        tested = {label: p for label, p in zip(others, adjusted, strict=True) if not math.isnan(p)}
        good = {label for label, p in tested.items() if p >= 1 - self.options.level}
        return {leader} | good if tested else set()

    @property
    def without_rank(self) -> str:
        """Why there is no mean rank, as a sentence; empty where there is one."""
        if len(self.boards) < ranking.LEAST:
            return f"No rank: it takes {ranking.LEAST} tasks at least, and these are {len(self.boards)}."
        if self.good in (set(), {*self.scores}):
            return "No rank: nothing is told apart in the mean over tasks, and ranks have the same noise."
        return ""

    def difference(self, one: str, other: str) -> Difference:
        """The mean over tasks of `one` minus `other`, positive = better; without a common seed in one, no number."""
        tasks = self.paired(one, other)
        if not all(map(len, tasks)):
            return Difference(math.nan, math.nan, math.nan, 0, math.nan)
        return statistics.stratified_mean(tasks, self.options.level, self.floors)

    def paired(self, one: str, other: str) -> list[Array]:
        """T arrays (n_t,) of `one` minus `other` over the seeds that both have."""
        pairs = zip(self.boards, self.everywhere[one], self.everywhere[other], strict=True)
        found = [comparison.paired_scores(quantity(board), mine, theirs) for board, mine, theirs in pairs]
        return [x - y for x, y in found]

    @property
    def floors(self) -> list[float]:
        """Of each task, the variance that differences have at least, from rounding."""
        return [quantity(board).floor for board in self.boards]

    def detectable(self, against: str) -> Detectable | None:
        """The mean difference over tasks that is told from zero with 80 % power; None without two seeds in common."""
        pairs = [self.paired(label, against) for label in self.scores if label != against]
        compared = [tasks for tasks in pairs if min(map(len, tasks)) > 1]
        if not compared:
            return None
        shares = np.full(len(self.boards), 1 / len(self.boards))
        found = [statistics.welch_error(tasks, shares, self.floors) for tasks in compared]
        return power.detectable_mean(found, self.options.level)


def delta(board: Leaderboard, e: Entry) -> Array:
    """(n,): Delta-m of each seed, positive = better."""
    return quantity(board).of(e.scores)


def quantity(board: Leaderboard) -> Quantity:
    """Delta-m of a leaderboard that has it, positive = better."""
    assert board.delta is not None
    return board.delta


def task_name(board: Leaderboard) -> str:
    """`multimnist/mnist cpu@1`."""
    return f"{board.task}/{board.variant} {board.protocol}"
