"""From runs to leaderboards: one table for each task/variant, protocol and regime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mtlbench.runs import Array, Measure, Run
from mtlbench.selection import Rule
from mtlbench.table import Role, Table

BASELINE = "uniform"
REFERENCE = "single_task"
STATIC = "scalarization"
"""The method whose settings trace the front of static weights."""


@dataclass(frozen=True)
class Search:
    """The trials from which a tuned method was selected."""

    budget: int
    winner: int
    """Its index among the trials."""
    merit: Array
    """(N,): the validation merit of each trial (`selection.merit`); -inf where it failed."""
    scores: Array
    """(N, M): test scores of the trials; NaN where one failed."""


@dataclass(frozen=True)
class Entry:
    """One method with its parameters in one leaderboard: its finished runs and the scores that count."""

    label: str
    role: Role
    runs: tuple[Run, ...]
    """By seed."""
    scores: Array
    """(n, M): the test scores that count."""
    missing: tuple[tuple[int, str], ...] = ()
    """Seeds of the grid without a result, and why."""
    search: Search | None = None

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the runs."""
        return tuple(run.cell.seed for run in self.runs)


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

    @property
    def main(self) -> Sequence[Measure]:
        """The main measure of every objective."""
        return [m for m in self.measures if m.main]
