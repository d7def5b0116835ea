"""The rows of one table and what they are compared by, before anything is written of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mtlbench.catalogue.registry import holder
from mtlbench.record.runs import Array, Measure
from mtlbench.record.selection import Rule
from mtlbench.tables import comparison
from mtlbench.tables.comparison import Quantity
from mtlbench.tables.entries import Entry, entry
from mtlbench.tables.grids import Grid
from mtlbench.tables.mixture import common
from mtlbench.tables.options import TableOptions
from mtlbench.tables.rounding import resolution

MANY = 6
"""Objectives; of more than these, single scores stand after the columns that sum them up."""


@dataclass(frozen=True)
class Contest:
    """The rows of one grid, and what they are compared by."""

    grid: Grid
    options: TableOptions
    rule: Rule
    """By which scores count; `official` is the one that the protocol states."""
    official: Rule
    measures: tuple[Measure, ...]
    """What the split has in every record."""
    groups: Mapping[str, Sequence[str]]
    """Named groups of objectives, as the task states them."""
    entries: tuple[Entry, ...]
    """In the order of the rows: the reference, methods from best to worst, those without a result."""
    quantities: tuple[Quantity, ...]
    """Of which each is a column of scores."""
    reference: Entry | None
    """The base row of Delta-m; None where it has no result."""
    baseline: Entry | None
    """The row that others are compared with; None where it has no result."""
    steps: Array
    """(M,): the grids that the scores that count lie on; 0 where there is none."""

    @classmethod
    def of(cls, grid: Grid, options: TableOptions) -> Contest:
        """The rows of `grid` under `options`.

        Raises:
            UsageError: a run that is too short for the rule, or that lacks the split where the rule needs it.
        """
        official = Rule.parse(next(iter(grid.settings.values())).cell.protocol["selection"])
        rule = Rule.parse(options.selection) if options.selection else official
        measures = common(grid, options.split)
        groups = next((run.groups for run in grid.runs if run.groups), {})
        entries = [
            entry(s, measures, rule, official, budget=grid.budget, split=options.split) for s in grid.settings.values()
        ]
        references = [e for e in entries if e.role == "reference" and e.runs]
        reference = min(references, key=lambda e: (e.label != holder("reference"), e.label), default=None)
        against = options.against or holder("baseline")
        steps = _steps(grid, measures, rule, options.split)
        found = comparison.quantities(measures, reference, options.convention, options.all_metrics, groups, steps)
        summary = comparison.summary(found) if found else None
        return cls(
            grid=grid,
            options=options,
            rule=rule,
            official=official,
            measures=measures,
            groups=groups,
            entries=tuple(sorted(entries, key=lambda e: _order(e, summary))),
            quantities=tuple(found),
            reference=reference,
            baseline=next((e for e in entries if e.label == against and e.runs), None),
            steps=steps,
        )

    @property
    def methods(self) -> list[Entry]:
        """What is ranked: methods with a result."""
        return [e for e in self.entries if e.role == "method" and e.runs]

    @property
    def summary(self) -> Quantity | None:
        """What sorts the rows and is compared with the baseline; None where nothing has a result."""
        return comparison.summary(self.quantities) if self.quantities else None

    @property
    def delta(self) -> Quantity | None:
        """Delta-m with positive = better, whatever is printed; None without a base row."""
        convention = replace(self.options.convention, negative=False)
        return _delta(comparison.quantities(self.measures, self.reference, convention, steps=self.steps))

    @property
    def has_delta(self) -> bool:
        """Whether Delta-m is one of the quantities."""
        return _delta(self.quantities) is not None

    @property
    def weighed(self) -> list[int]:
        """The places of the measures that Delta-m and mean ranks are over."""
        return np.flatnonzero(comparison.weights(self.measures, self.options.convention)).tolist()

    @property
    def has_differences(self) -> bool:
        """Whether there are differences to the baseline: another method, and seeds to pair."""
        pairs = len(self.methods) > 1 and len(self.grid.seeds) > 1
        return self.summary is not None and self.baseline is not None and pairs

    @property
    def has_many_objectives(self) -> bool:
        """Whether what sums them up stands first."""
        return sum(m.main for m in self.measures) > MANY

    @property
    def grouped(self) -> dict[str, list[str]]:
        """Of each group that has a mean, the objectives."""
        places = comparison.group_places(self.measures, self.groups)
        return {name: [self.measures[place].objective for place in found] for name, found in places.items()}

    @property
    def lacking(self) -> list[str]:
        """The objectives that the split does not have."""
        having = next((run for run in self.grid.everything if run.measured(self.options.split)), None)
        if having is None:
            return []
        there = {having.measures[place].objective for place in having.measured(self.options.split)}
        return [*dict.fromkeys(m.objective for m in having.measures if m.objective not in there)]

    @property
    def not_shared(self) -> list[str]:
        """The objectives that some records have on the split and not all of them alike: they have no column."""
        shared, split = {m.objective for m in self.measures}, self.options.split
        found = {run.measures[place].objective: None for run in self.grid.everything for place in run.measured(split)}
        return [name for name in found if name not in shared]


def _order(e: Entry, summary: Quantity | None) -> tuple[int, float, str]:
    """The reference first, then methods from best to worst, those without a result last."""
    if e.role == "reference":
        return 0, 0.0, e.label
    if summary is None or not e.runs:
        return 2, 0.0, e.label
    mean = float(summary.of(e.scores).mean())
    return 1, -mean if summary.column.higher_is_better else mean, e.label


def _steps(grid: Grid, measures: Sequence[Measure], rule: Rule, split: str) -> Array:
    """(M,): the grids of all evaluations on the split; a mean over several of them has that much less of an error."""
    known = [run for run in grid.everything if run.measured(split)]
    curves = [run.curves(split)[:, run.measured(split)][:, run.places(measures, split)] for run in known]
    scores = np.concatenate([np.empty((0, len(measures))), *curves])
    return np.array([resolution(of_one) for of_one in scores.T]) / math.sqrt(rule.count)


def _delta(found: Sequence[Quantity]) -> Quantity | None:
    return next((quantity for quantity in found if quantity.column.key == "delta_m"), None)
