"""What the seeds of a leaderboard can show: the detectable difference of each column, the seeds that others need."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from mtlbench.rendering.table import Column, Note, Row, Table, Value
from mtlbench.statistics import Interval
from mtlbench.tables import comparison, power, searches
from mtlbench.tables.comparison import Quantity
from mtlbench.tables.contest import Contest
from mtlbench.tables.entries import Entry
from mtlbench.tables.power import Detectable, Spread
from mtlbench.tables.wording import seeds

SEEDS = (3, 5, 10, 20)
"""Numbers of seeds that a plan is told for."""


@dataclass(frozen=True)
class Plan:
    """What the seeds of a table can show of differences to one row."""

    against: str
    """The row that the others are compared with; where there is none, the best one."""
    seeds: int
    """That most rows have in common with it."""
    comparisons: int
    """Rows that are compared with it: Holm's family."""
    level: float
    columns: tuple[Column, ...]
    """What is compared, the one that sums the table up first."""
    detectable: Mapping[str, Detectable]
    """By column key."""
    spreads: Mapping[str, Spread] = field(default_factory=dict)
    """Of paired differences over seeds, by column key; none where methods are tuned: searches spread too."""

    @classmethod
    def of(cls, contest: Contest) -> Plan | None:
        """That of a table; None where nothing has two seeds in common with the row that it is compared with."""
        methods, level = contest.methods, contest.options.level
        row = contest.baseline or next(iter(methods), None)
        if row is None:
            return None
        common = {e.label: len({*e.seeds} & {*row.seeds}) for e in methods if e is not row}
        others = [e for e in methods if common.get(e.label, 0) > 1]
        if not others:
            return None
        counts = [common[e.label] for e in others]
        usual, tuned = max(counts, key=lambda count: (counts.count(count), count)), contest.grid.budget is not None
        shown = _shown(contest)
        spreads = {} if tuned else {q.column.key: _spread(q, others, row) for q in shown}
        found = {
            q.column.key: _searched(q, others, row, len(others), level)
            if tuned
            else _detectable(spreads[q.column.key], usual, len(others), level)
            for q in shown
        }
        return cls(row.label, usual, len(others), level, tuple(q.column for q in shown), found, spreads)

    def told(self, column: Column) -> str:
        """`mean accuracy [%] 0.46 (0.40 to 0.54)`."""
        return f"{column.title} {self.detectable[column.key].told}"

    def notes(self) -> list[str]:
        """What is detectable in every column, and what that means."""
        alpha = f"{100 * (1 - self.level):.4g} %"
        family = f"{self.comparisons} comparison{'' if self.comparisons == 1 else 's'}"
        if self.spreads:
            how = (
                f"from the noise of {seeds(self.seeds)}; paired t test at {alpha}, first step of Holm's procedure over "
                f"{family}; {power.LEFT_OPEN}, {100 * self.level:.4g} % intervals"
            )
        else:
            how = (
                f"from repetitions of search and {seeds(self.seeds)}, at {alpha} over {family}; in parentheses the "
                "smallest and the largest of single rows"
            )
        return [
            f"Detectable: in {100 * power.POWER:.0f} of 100 tables like this one a method is told from {self.against} "
            f"if they differ by {'; '.join(map(self.told, self.columns))} ({how}). What is not told apart may differ "
            f"by that much. {power.FAMILY}"
        ]


def _shown(contest: Contest) -> list[Quantity]:
    """What sums the table up, then its other columns; of many objectives the means alone."""
    first = contest.summary
    assert first is not None
    others = [q for q in contest.quantities if q.sums_up or not contest.has_many_objectives]
    return [first, *(q for q in others if q.column.key != first.column.key)]


def _spread(quantity: Quantity, others: list[Entry], row: Entry) -> Spread:
    pairs = [comparison.paired_scores(quantity, e, row) for e in others]
    return power.pooled([mine - theirs for mine, theirs in pairs], quantity.floor)


def _detectable(spread: Spread, count: int, comparisons: int, level: float) -> Detectable:
    factor = power.detectable(1 / math.sqrt(count), count - 1, comparisons, level)
    low, high = spread.interval(level)
    return Detectable(factor * spread.sd, factor * low, factor * high)


def _searched(quantity: Quantity, others: list[Entry], row: Entry, comparisons: int, level: float) -> Detectable:
    base, rows = comparison.repeated(quantity, row), [comparison.repeated(quantity, e) for e in others]
    deviations = [
        (searches.difference_deviations(one, base), one.deviations(1.0) - base.deviations(1.0)) for one in rows
    ]
    return power.searched(deviations, comparisons, level)


# --- the table of a plan


def plan_table(board: Table, plan: Plan, asked: float | None = None) -> Table:
    """How many seeds a difference needs, and what some numbers of seeds show.

    Args:
        board: the leaderboard's table.
        plan: of the same leaderboard, in the fixed regime.
        asked: a difference in the unit of what sums the table up, positive.
    """
    first, *_ = plan.columns
    now = plan.detectable[first.key].difference
    sizes = {"detectable with these seeds": now, "half of that": now / 2}
    sizes |= {"asked for": asked} if asked is not None else {}
    needed = Column("seeds", "seeds needed", digits=0, about=f"for a difference in {first.title}")
    shown = [_column(plan, column) for column in plan.columns]
    by_seeds = [
        Row(seeds(n) + (" (this table)" if n == plan.seeds else ""), "method", _at(plan, n), n, n)
        for n in sorted({*SEEDS, plan.seeds})
    ]
    by_size = [_needing(plan, name, size) for name, size in sizes.items() if size > 0]
    return Table(
        slug=f"{board.slug}-power",
        title=f"{board.title}: seeds and detectable differences to {plan.against}",
        incomplete="",
        columns=(needed, *shown),
        rows=(*by_seeds, *by_size),
        notes=(*map(Note, _about(plan)),),
        facts={
            **{key: board.facts[key] for key in ("task", "protocol", "split", "regime") if key in board.facts},
            "level": f"{plan.level:g}",
            "compared with": plan.against,
            "comparisons": str(plan.comparisons),
            "power": f"{power.POWER:g}",
        },
        rows_are="Seeds or difference",
    )


def _column(plan: Plan, column: Column) -> Column:
    small = plan.detectable[column.key].difference / 4
    return Column(column.key, f"detectable: {column.title}", digits=power.digits(small), about=column.about)


def _at(plan: Plan, count: int) -> dict[str, Value]:
    """What so many seeds show, in every column."""
    found = {key: _detectable(spread, count, plan.comparisons, plan.level) for key, spread in plan.spreads.items()}
    return {key: Value(d.difference, Interval(d.difference, d.low, d.high, count)) for key, d in found.items()}


def _needing(plan: Plan, name: str, size: float) -> Row:
    """The seeds that a difference in the first column needs."""
    first, *_ = plan.columns
    spread = plan.spreads[first.key]
    count, few, many = (
        power.seeds_needed(sd, size, plan.comparisons, plan.level) for sd in (spread.sd, *spread.interval(plan.level))
    )
    if count is None:
        return Row(f"{name}: more than {power.MOST_SEEDS} seeds", "method", {first.key: Value(size)})
    most = math.inf if many is None else many
    interval = Interval(count, few or count, most, count)
    return Row(name, "method", {"seeds": Value(count, interval), first.key: Value(size)}, count, count)


def _about(plan: Plan) -> list[str]:
    title, percent = plan.columns[0].title, f"{100 * plan.level:.4g} %"
    return [
        f"Detectable: told from {plan.against} in {100 * power.POWER:.0f} of 100 tables, by the paired t test at "
        f"{100 * (1 - plan.level):.4g} %, first step of Holm's procedure over the {plan.comparisons} comparisons of "
        f"this table. {power.FAMILY}",
        f"Seeds needed are for differences in {title}. In brackets what the spread over {seeds(plan.seeds)} leaves "
        f"open ({percent} interval). A method that is noisier than the others needs more.",
    ]
