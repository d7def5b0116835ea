"""What longer training would add: where cells of a table were also trained longer, the table says what that gained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mtlbench import statistics
from mtlbench.tables.contest import Contest
from mtlbench.tables.grids import Grid
from mtlbench.tables.options import TableOptions
from mtlbench.tables.wording import seeds

LENGTH = ("epochs", "evaluate_every")
"""The keys of a protocol that cells of different length may differ in."""


def longer(grid: Grid, grids: Sequence[Grid], options: TableOptions) -> list[Contest]:
    """The grids that differ from `grid` in their length alone and train longer, from the shortest on."""
    if grid.budget is not None:
        return []
    found = [other for other in grids if other.budget is None and _is_longer(other, grid)]
    return [Contest.of(other, options) for other in sorted(found, key=_epochs)]


def gains(contest: Contest, others: Sequence[Contest]) -> list[str]:
    """A sentence for each of the longer grids that have a row and a seed in common with `contest`.

    A gain is that of what sums the scores up, paired by seed: at equal seed the longer run is the shorter one, and what
    comes after it.
    """
    return [sentence for other in others if (sentence := _sentence(contest, other))]


def _sentence(contest: Contest, other: Contest) -> str:
    told = [gain for entry in contest.methods if (gain := _gain(contest, other, entry.label))]
    if not told:
        return ""
    factor = _epochs(other.grid) / _epochs(contest.grid)
    return f"Trained {factor:.3g} times as long: {'; '.join(told)}."


def _gain(contest: Contest, other: Contest, label: str) -> str:
    short = next(entry for entry in contest.entries if entry.label == label)
    long = next((entry for entry in other.entries if entry.label == label), None)
    if long is None or contest.summary is None or other.measures != contest.measures:
        return ""
    shared = [seed for seed in short.seeds if seed in long.seeds]
    if not shared:
        return ""
    quantity = contest.summary
    after, before = (quantity.of(entry.scores)[[entry.seeds.index(seed) for seed in shared]] for entry in (long, short))
    interval = statistics.t_interval(np.asarray(after) - np.asarray(before), contest.options.level)
    noise = f" ± {interval.high - interval.mean:.2f}" if interval.known else ""
    return f"{label} {interval.mean:+.2f}{noise} in {quantity.column.title} ({seeds(len(shared))})"


def _is_longer(other: Grid, grid: Grid) -> bool:
    same_place = (other.task, other.variant) == (grid.task, grid.variant)
    return same_place and _rest(other) == _rest(grid) and _epochs(other) > _epochs(grid) > 0


def _rest(grid: Grid) -> dict[str, Any]:
    """The protocol without its length, and without what was changed to get it."""
    return {key: value for key, value in _protocol(grid).items() if key not in (*LENGTH, "modified")}


def _epochs(grid: Grid) -> int:
    return int(_protocol(grid)["epochs"])


def _protocol(grid: Grid) -> dict[str, Any]:
    return next(iter(grid.settings.values())).cell.protocol
