"""The columns of a leaderboard and their values."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mtlbench import statistics
from mtlbench.record.runs import Measure
from mtlbench.record.selection import Rule
from mtlbench.rendering.table import Column, Value
from mtlbench.tables import comparison
from mtlbench.tables.comparison import Quantity
from mtlbench.tables.entries import Entry

Cells = dict[str, dict[str, Value]]
"""Row label -> column key -> value."""


def scores(
    found: Sequence[Quantity], entries: Sequence[Entry], methods: Sequence[Entry], cells: Cells, level: float
) -> list[Column]:
    """One column for each quantity."""
    for quantity in found:
        good = {e.label for e in comparison.as_good_as_the_best(quantity, methods, level)}
        for e in (e for e in entries if e.runs):
            interval = comparison.interval(quantity, e, level)
            cells[e.label][quantity.column.key] = Value(interval.mean, interval, best=e.label in good)
    return [quantity.column for quantity in found]


def differences(summary: Quantity, methods: Sequence[Entry], baseline: Entry, cells: Cells, level: float) -> Column:
    """Seed-paired differences to the baseline."""
    column = Column(
        "difference",
        f"{summary.column.title.split(' [')[0]} vs {baseline.label}",
        summary.column.higher_is_better,
        signed=True,
        about=f"seed-paired difference of {summary.column.title} to {baseline.label}, Holm-adjusted p",
    )
    others = [e for e in methods if e is not baseline]
    found = [comparison.difference(summary, e, baseline, level) for e in others]
    for e, d, p in zip(others, found, statistics.holm([d.p for d in found]), strict=True):
        if d.n:
            cells[e.label][column.key] = Value(d.mean, d, p=None if math.isnan(p) else p)
    return column


def ranks(measures: Sequence[Measure], methods: Sequence[Entry], cells: Cells) -> Column:
    """Mean ranks over metrics."""
    column = Column("rank", f"rank of {len(methods)}", False, about="mean rank over metrics; depends on the pool")
    ranks = statistics.mean_ranks([e.scores.mean(0) for e in methods], [m.sign for m in measures])
    for e, rank in zip(methods, ranks, strict=True):
        cells[e.label][column.key] = Value(float(rank))
    return column


def gaps(measures: Sequence[Measure], official: Rule, entries: Sequence[Entry], cells: Cells) -> list[Column]:
    """What selecting on the test split adds to each score."""
    columns = []
    for place, m in enumerate(measures):
        if not m.main:
            continue
        about = "what choosing on the test split adds: oracle minus official selection"
        key = f"{m.objective}.{m.metric}.gap"
        columns.append(Column(key, f"{m.objective} gap to {official}", signed=True, about=about))
        for e in entries:
            if e.official is not None and e.runs:
                cells[e.label][key] = Value(float((e.scores[:, place] - e.official[:, place]).mean()))
    return columns
