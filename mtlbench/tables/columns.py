"""The columns of a leaderboard and their values."""

from __future__ import annotations

import math

from mtlbench import statistics
from mtlbench.rendering.table import Column, Value
from mtlbench.tables import comparison
from mtlbench.tables.contest import Contest
from mtlbench.tables.costs import costs
from mtlbench.tables.ranking import without_rank

Cells = dict[str, dict[str, Value]]
"""Row label -> column key -> value."""


def columns(contest: Contest) -> tuple[list[Column], Cells]:
    """All columns in their order, and the value of each row that has one."""
    cells: Cells = {e.label: {} for e in contest.entries}
    found = _scores(contest, cells)
    if contest.rule.name == "oracle":
        found += _gaps(contest, cells)
    if len(contest.methods) > 1 and not without_rank(contest):
        found.append(_ranks(contest, cells))
    if contest.has_differences:
        found.append(_differences(contest, cells))
    found += costs(contest.entries, contest.baseline, cells)
    if contest.has_many_objectives:  # then what sums them up comes first
        single = {q.column.key for q in contest.quantities if not q.sums_up}
        found.sort(key=lambda column: column.key in single)
    return found, cells


def _scores(contest: Contest, cells: Cells) -> list[Column]:
    """One column for each quantity."""
    for quantity in contest.quantities:
        good = {e.label for e in comparison.as_good_as_the_best(quantity, contest.methods, contest.options.level)}
        for e in (e for e in contest.entries if e.runs):
            interval = comparison.interval(quantity, e, contest.options.level)
            sampling = comparison.sampling(quantity, e) if contest.options.sampling else None
            cells[e.label][quantity.column.key] = Value(
                interval.mean, interval, best=e.label in good, sampling=sampling
            )
    return [quantity.column for quantity in contest.quantities]


def _differences(contest: Contest, cells: Cells) -> Column:
    """Seed-paired differences to the baseline."""
    summary, baseline = contest.summary, contest.baseline
    assert summary is not None
    assert baseline is not None
    column = Column(
        "difference",
        f"{summary.column.title.split(' [')[0]} vs {baseline.label}",
        summary.column.higher_is_better,
        signed=True,
        about=f"seed-paired difference of {summary.column.title} to {baseline.label}, Holm-adjusted p",
    )
    others = [e for e in contest.methods if e is not baseline]
    found = [comparison.difference(summary, e, baseline, contest.options.level) for e in others]
    for e, d, p in zip(others, found, statistics.holm([d.p for d in found]), strict=True):
        if d.n:
            cells[e.label][column.key] = Value(d.mean, d, p=None if math.isnan(p) else p)
    return column


def _ranks(contest: Contest, cells: Cells) -> Column:
    """Mean ranks over metrics."""
    methods, places = contest.methods, contest.weighed
    column = Column("rank", f"rank of {len(methods)}", False, about="mean rank over metrics; depends on the pool")
    signs = [contest.measures[place].sign for place in places]
    ranks = statistics.mean_ranks([e.scores.mean(0)[places] for e in methods], signs)
    for e, rank in zip(methods, ranks, strict=True):
        cells[e.label][column.key] = Value(float(rank))
    return column


def _gaps(contest: Contest, cells: Cells) -> list[Column]:
    """What selecting on the test split adds to each score."""
    found = []
    for place, m in enumerate(contest.measures):
        if not m.main:
            continue
        about = "what choosing on the test split adds: oracle minus official selection"
        key = f"{m.objective}.{m.metric}.gap"
        found.append(Column(key, f"{m.objective} gap to {contest.official}", signed=True, about=about))
        for e in contest.entries:
            if e.official is not None and e.runs:
                cells[e.label][key] = Value(float((e.scores[:, place] - e.official[:, place]).mean()))
    return found
