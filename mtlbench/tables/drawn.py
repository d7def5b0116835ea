"""What the figures of a leaderboard show: its rows, quantities and intervals, and how each row looks."""

from __future__ import annotations

from collections import Counter
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from mtlbench.catalogue.registry import role
from mtlbench.record.runs import Array
from mtlbench.rendering import drawing
from mtlbench.rendering.drawing import STATIC_LOOK, Look
from mtlbench.statistics import LEVEL, Interval
from mtlbench.tables import comparison, searches
from mtlbench.tables.comparison import Quantity
from mtlbench.tables.contest import MANY
from mtlbench.tables.costs import Machine
from mtlbench.tables.entries import Entry
from mtlbench.tables.leaderboard import Leaderboard
from mtlbench.tables.options import DeltaConvention


def main(board: Leaderboard) -> list[Quantity]:
    """The main measure of every objective."""
    return comparison.quantities(board.measures, None, DeltaConvention())[: len(board.main)]


def shown(board: Leaderboard) -> list[Quantity]:
    """What has a panel of its own: the main measures, or of many the means over all and over groups."""
    found = comparison.quantities(board.measures, None, DeltaConvention(), groups=board.groups)
    means = [quantity for quantity in found if quantity.sums_up]
    return means if means and len(board.main) > MANY else found[: len(board.main)]


def summary(board: Leaderboard) -> Quantity:
    """What sorts the table: the mean over objectives, else Delta-m, else the first measure."""
    found = comparison.quantities(board.measures, None, DeltaConvention())
    return comparison.summary([*found, *([board.delta] if board.delta is not None and len(board.main) > 1 else [])])


def interval(quantity: Quantity, entry: Entry) -> Interval:
    """The one that the table shows at the usual level."""
    return comparison.interval(quantity, entry, LEVEL)


def is_static(entry: Entry) -> bool:
    """Whether it is a point of the static front; a tuned entry is a method like any other."""
    weighted = role(entry.method) == "static" and entry.runs[0].cell.parameters.get("weights") is not None
    return weighted and entry.search is None


def static(board: Leaderboard) -> list[Entry]:
    """The points of the static front."""
    return [entry for entry in board.entries if is_static(entry)]


def methods(board: Leaderboard) -> list[Entry]:
    """Methods with a result, the static front excepted, in the order of the table."""
    return [e for e in board.entries if e.role == "method" and e.runs and not is_static(e)]


def reference(board: Leaderboard) -> Entry | None:
    """Single-task training, where it has a result."""
    return next((e for e in board.entries if e.role == "reference" and e.runs), None)


def was_searched(entry: Entry) -> bool:
    """Whether it was tuned, and a trial finished."""
    return entry.search is not None and bool(np.isfinite(entry.search.merit).any())


def looks(board: Leaderboard) -> dict[str, Look]:
    """By label, the same in every figure of the table."""
    baseline = next((entry.label for entry in board.entries if role(entry.method) == "baseline"), None)
    reference = next((entry.label for entry in board.entries if entry.role == "reference"), None)
    apart = {entry.label: STATIC_LOOK for entry in static(board)}
    return {**drawing.looks([e.label for e in board.entries if e.label not in apart], baseline, reference), **apart}


def machines(board: Leaderboard) -> list[Machine]:
    """Those that the rows were trained on, the one with the most rows first."""
    found = Counter(machine for entry in board.entries for machine in {Machine.of(run) for run in entry.runs})
    return sorted(found, key=lambda machine: (-found[machine], machine))


def milliseconds(entry: Entry, machine: Machine) -> float | None:
    """Per step, the median over seeds on one machine; None where there is none."""
    times = [run.cost.seconds_per_step for run in entry.runs if Machine.of(run) == machine]
    return 1000 * float(np.median(times)) if times else None


def curves(board: Leaderboard, entry: Entry, quantity: Quantity) -> tuple[NDArray[np.int64], Array]:
    """Epochs (E,) that all seeds have, and their validation scores (n, E)."""
    epochs = reduce(np.intersect1d, [run.epochs for run in entry.runs])
    found = [run.val[np.isin(run.epochs, epochs)][:, run.places(board.measures)] for run in entry.runs]
    return epochs, np.array([quantity.of(scores) for scores in found])


def front(board: Leaderboard, i: int, j: int) -> Array:
    """(F, 2): means of objectives i and j at static weights, ordered by the share of the weight of i among both."""
    found = []
    for entry in board.entries:
        if is_static(entry):
            weights = entry.runs[0].cell.parameters["weights"]
        elif role(entry.method) == "baseline" and entry.search is None:
            weights = [1.0] * len(board.main)
        else:
            continue
        if weights[i] + weights[j] > 0:
            means = [interval(main(board)[k], entry).mean for k in (i, j)]
            found.append((weights[i] / (weights[i] + weights[j]), *means))
    points = np.array(sorted(found), dtype=np.float64).reshape(-1, 3)[:, 1:]
    return points if static(board) else points[:0]


def best_of(entry: Entry, quantity: Quantity) -> Array:
    """(N,): the expected test score of the best of k trials, k = 1..N; the entry was searched."""
    assert entry.search is not None
    found = np.isfinite(entry.search.merit)
    values = np.empty(len(found))
    values[found] = quantity.of(entry.search.scores[found])
    values[~found] = values[found].min() if quantity.column.higher_is_better else values[found].max()
    return searches.best_of(entry.search.merit, values)


def about(board: Leaderboard, selected: bool = True, spread: bool = True) -> list[str]:
    """Phrases that a reader of any figure must know: the table, the selection, what the intervals are."""
    several = any(len(entry.runs) > 1 for entry in board.entries)
    search = ", the search included" if board.budget and selected else ""
    return [
        board.table.heading,
        f"selection {board.rule}" if selected else "",
        (f"mean over seeds, {LEVEL:.0%} interval{search}" if several else "one seed, no interval") if spread else "",
    ]


def dashed(reference: Entry | None) -> str:
    """What the dashed line is."""
    return f"dashed: {reference.label}" if reference is not None else ""
