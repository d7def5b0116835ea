"""Figures of a leaderboard, for papers and pages: pure functions from a `Leaderboard` to a matplotlib `Figure`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mtlbench.errors import UsageError
from mtlbench.record.runs import Array
from mtlbench.rendering.drawing import (
    GREY,
    LIGHT,
    STATIC_LOOK,
    Key,
    Look,
    few_ticks,
    finished,
    logarithmic,
    looks,
    panels,
    point,
    styled,
    toward,
    whole_numbers,
    wrapped,
)
from mtlbench.statistics import LEVEL, Interval, best_of, performance_profile, t_interval
from mtlbench.tables import comparison
from mtlbench.tables.across import Across
from mtlbench.tables.comparison import DeltaConvention, Quantity
from mtlbench.tables.entries import BASELINE, REFERENCE, STATIC, Entry
from mtlbench.tables.leaderboard import MANY, Leaderboard

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


MOST_CURVES = 10
WARM_UP = 0.2
"""The share of the epochs that learning curves may have outside the frame, so that the differences at the end show."""
MOST_OBJECTIVES = 4
"""Trade-offs of more objectives are not drawn: pairs say too little then."""


def draw_all(board: Leaderboard) -> dict[str, Figure]:
    """Every figure that makes sense for `board`, by name: `scores`, `trade-off`, `learning-curves`, ..."""
    figures: dict[str, Figure] = {}
    if any(entry.runs for entry in board.entries):
        figures["scores"] = scores(board)
        if 2 <= len(board.main) <= MOST_OBJECTIVES:
            figures["trade-off"] = trade_off(board)
        figures["learning-curves"] = learning_curves(board)
        figures["score-against-cost"] = score_against_cost(board)
    if any(_was_searched(entry) for entry in board.entries):
        figures["best-of-k"] = best_of_k(board)
    return figures


def draw_across(table: Across) -> dict[str, Figure]:
    """The figures of a table over several tasks, by name; none where no method ran on all of them."""
    if not table.scores:
        return {}
    names, runs = list(table.scores), list(table.scores.values())
    return {"performance-profiles": performance_profiles(names, runs, quantity="Δm [%]", about=table.table.heading)}


@styled()
def scores(board: Leaderboard) -> Figure:
    """The main measure of each objective, or the means of many: every method's mean and interval, in table order.

    The reference is a dashed line, its interval a band.
    """
    entries = [entry for entry in board.entries if entry.role == "method"]
    reference, look = _reference(board), _looks(board)
    names = [wrapped(entry.label, 34) for entry in entries]
    heights = [max(1.4, name.count("\n") + 1.2) for name in names]
    # Rows from the top; a label of several lines takes more room.
    rows = -np.cumsum([(a + b) / 2 for a, b in itertools.pairwise([0.0, *heights])])
    left = 0.3 + 0.065 * max((len(line) for name in names for line in name.split("\n")), default=0)
    shown = _shown(board)
    figure, axes_of = panels(len(shown), 2.4, 0.9 + 0.16 * sum(heights), 4, left=left, sharey=True)
    for axes, quantity in zip(axes_of, shown, strict=True):
        if reference is not None:
            inside = _interval(quantity, reference)
            if inside.known:
                axes.axvspan(inside.low, inside.high, color=GREY, alpha=0.15, linewidth=0)
            axes.axvline(inside.mean, color=GREY, linestyle="--", linewidth=1)
        for row, entry in zip(rows, entries, strict=True):
            if entry.runs:
                inside = _interval(quantity, entry)
                point(axes, look[entry.label], inside.mean, row, across=inside)
            else:
                across = axes.get_yaxis_transform()
                none = axes.text(0.5, row, "no result", transform=across, ha="center", va="center")
                none.set(color=GREY, fontsize=8, style="italic")
        axes.set_xlabel(toward(quantity.column), fontsize=8)
        axes.set_yticks(rows, names)
        axes.tick_params("y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False, axis="y")
        axes.set_ylim(-sum(heights) - 0.3, 0.3)
        axes.margins(x=0.08)
        few_ticks(axes, y=False)
    return finished(figure, [*_about(board), _dashed(reference)])


@styled()
def trade_off(board: Leaderboard) -> Figure:
    """One objective against another: means with intervals, the reference as a cross-hair, the static front as a line.

    The front joins the runs with static weights, equal ones included, in the order of the first objective's share.
    With more than two objectives such weights span a surface and are points.

    Raises:
        UsageError: not 2 to 4 objectives.
    """
    main = list(enumerate(_main(board)))
    if not 2 <= len(main) <= MOST_OBJECTIVES:
        raise UsageError(f"A trade-off needs 2 to {MOST_OBJECTIVES} objectives; {board.task} has {len(main)}.")
    pairs = list(itertools.combinations(main, 2)) if len(main) < 4 else list(itertools.pairwise(main))
    entries, look, reference = _methods(board), _looks(board), _reference(board)
    figure, axes_of = panels(len(pairs), *((5.0, 4.0) if len(pairs) == 1 else (3.1, 3.0)))
    for axes, ((i, x), (j, y)) in zip(axes_of, pairs, strict=True):
        front = _front(board, i, j)
        if len(front):
            line = "-" if len(main) == 2 else ""
            axes.plot(*front.T, color=LIGHT, linestyle=line, linewidth=0.8, marker=".", zorder=1)
        for entry in entries:
            across, up = _interval(x, entry), _interval(y, entry)
            point(axes, look[entry.label], across.mean, up.mean, across=across, up=up)
        if reference is not None:
            axes.axvline(_interval(x, reference).mean, color=GREY, linestyle="--", linewidth=1)
            axes.axhline(_interval(y, reference).mean, color=GREY, linestyle="--", linewidth=1)
        axes.set_xlabel(x.column.title)
        axes.set_ylabel(y.column.title)
        arrow = "↙↘↖↗"[bool(x.column.higher_is_better) + 2 * bool(y.column.higher_is_better)]
        axes.set_title(f"better {arrow}", loc="right", color=GREY)
        axes.margins(0.1)
        few_ticks(axes)
    keys = [Key(entry.label, look[entry.label]) for entry in entries]
    keys += [Key(reference.label, Look(GREY, "", "--", 1.0))] if reference is not None else []
    keys += [Key("static weights", STATIC_LOOK)] if _static(board) else []
    return finished(figure, _about(board), keys)


@styled()
def learning_curves(board: Leaderboard) -> Figure:
    """The main measure of each objective, or the means of many, on the validation split by epoch.

    The mean over seeds, the t interval as a band. Only epochs that all seeds of a method have. With more than
    `MOST_CURVES` methods: the baseline and those that come first in the table. Static weights are thin grey lines.
    """
    entries, look, reference = _methods(board), _looks(board), _reference(board)
    few = ""
    if len(entries) > MOST_CURVES:
        few = f"{MOST_CURVES} of {len(entries)} methods, the first of the table and {BASELINE}"
        chosen = {e.label for e in sorted(entries, key=lambda e: e.method != BASELINE)[:MOST_CURVES]}
        entries = [entry for entry in entries if entry.label in chosen]
    static = _static(board)
    shown = [*entries, *([reference] if reference is not None else [])]
    start = WARM_UP * max((int(run.epochs[-1]) for entry in shown for run in entry.runs), default=0)
    crops = False
    quantities, columns = _shown(board), _columns(board)
    figure, axes_of = panels(len(quantities), 3.5, 3.0)
    for axes, quantity in zip(axes_of, quantities, strict=True):
        late: list[float] = []
        for entry in static:
            epochs, curves = _curves(entry, quantity, columns)
            axes.plot(epochs, curves.mean(0), color=STATIC_LOOK.color, linewidth=0.6, zorder=1)
        for entry in shown:
            epochs, curves = _curves(entry, quantity, columns)
            band = [t_interval(scores) for scores in curves.T]
            bounds = np.array([(b.low, b.high) if b.known else (b.mean, b.mean) for b in band]).reshape(-1, 2)
            one = look[entry.label]
            if len(curves) > 1:
                axes.fill_between(epochs, *bounds.T, color=one.color, alpha=0.15, linewidth=0, zorder=2)
            _line(axes, one, epochs, [b.mean for b in band], one.marker if len(epochs) == 1 else "")
            late += bounds[epochs > start].flatten().tolist()
        low, high = axes.get_ylim()
        if len(set(late)) > 1:
            pad = 0.05 * (max(late) - min(late))
            axes.set_ylim(max(low, min(late) - pad), min(high, max(late) + pad))
        crops |= axes.get_ylim() != (low, high)
        axes.set_xlabel("epoch")
        axes.set_ylabel(toward(quantity.column))
        whole_numbers(axes)
    keys = [Key(entry.label, look[entry.label]) for entry in shown]
    keys += [Key("static weights", STATIC_LOOK)] if static else []
    cropped = f"the first {WARM_UP:.0%} of the epochs are cropped" if crops else ""
    about = ["validation split", *_about(board, selected=False), few, cropped]
    return finished(figure, about, keys, lines=True)


@styled()
def score_against_cost(board: Leaderboard) -> Figure:
    """The score that sorts the table against the time per step, the median over seeds; the reference as a line too."""
    quantity, look, reference = _summary(board), _looks(board), _reference(board)
    entries, static = _methods(board), _static(board)
    entries += [reference] if reference is not None else []
    figure, (axes,) = panels(1, 5.0, 4.0)
    keys = []
    for entry in static:
        axes.plot(_milliseconds(entry), _interval(quantity, entry).mean, color=LIGHT, marker=".", zorder=1)
    for entry in entries:
        inside = _interval(quantity, entry)
        if entry is reference:
            axes.axhline(inside.mean, color=GREY, linestyle="--", linewidth=1, zorder=1)
        point(axes, look[entry.label], _milliseconds(entry), inside.mean, up=inside)
        keys.append(Key(entry.label, look[entry.label], (_milliseconds(entry), inside.mean)))
    is_log = logarithmic(axes, [_milliseconds(entry) for entry in (*entries, *static)])
    few_ticks(axes, x=not is_log)
    axes.set_xlabel("← better, median time per step [ms]")
    axes.set_ylabel(toward(quantity.column))
    axes.margins(x=0.2, y=0.1)
    hosts = {run.provenance.host for entry in (*entries, *static) for run in entry.runs}
    mixed = f"times of {len(hosts)} hosts do not compare" if len(hosts) > 1 else ""
    return finished(figure, [*_about(board), "grey points: static weights" if static else "", mixed], keys)


@styled()
def best_of_k(board: Leaderboard) -> Figure:
    """The expected test score of the best of k trials by k, for methods that were tuned (`statistics.best_of`).

    A trial without a result is chosen only where all k have none; it then counts like the worst trial with one.

    Raises:
        UsageError: no method was tuned.
    """
    entries, look, quantity = [e for e in board.entries if _was_searched(e)], _looks(board), _summary(board)
    if not entries:
        raise UsageError("A best-of-k curve needs a tuned method with a trial that finished.")
    figure, (axes,) = panels(1, 4.4, 3.4)
    holes = False
    for entry in entries:
        curve = _best_of(entry, quantity)
        one = look[entry.label]
        _line(axes, one, np.arange(1, len(curve) + 1), curve, one.marker)
        holes |= entry.search is not None and not np.isfinite(entry.search.merit).all()
    axes.set_xlabel("k, of which the best trial counts")
    axes.set_ylabel(toward(replace(quantity.column, title=f"expected {quantity.column.title}")))
    whole_numbers(axes)
    few_ticks(axes, x=False)
    failed = "where all k have no result: the worst that there is" if holes else ""
    return finished(
        figure,
        [*_about(board, spread=False), failed],
        [Key(entry.label, look[entry.label]) for entry in entries],
        lines=True,
    )


@styled()
def performance_profiles(
    names: Sequence[str],
    runs: Sequence[Sequence[Array]],
    thresholds: ArrayLike | None = None,
    quantity: str = "normalised score",
    about: str = "",
) -> Figure:
    """For tables over several tasks: the share of runs that reach each threshold, every task counting alike.

    Args:
        names: R methods.
        runs: for each method, T arrays (n_t,) of normalised scores, higher is better.
        thresholds: (X,) ascending; every score that occurs if None.
        quantity: what the scores are, for the axis.
        about: what the tasks are.
    """
    look = looks(names, BASELINE, REFERENCE)
    values = np.unique(np.concatenate([task for tasks in runs for task in tasks]))
    pad = 0.04 * (values[-1] - values[0]) or 1.0
    x = np.array([values[0] - pad, *values, values[-1] + pad]) if thresholds is None else np.asarray(thresholds)
    figure, (axes,) = panels(1, 4.4, 3.4)
    for name, tasks in zip(names, runs, strict=True):
        (line,) = axes.plot(x, performance_profile(tasks, x), drawstyle="steps-pre")  # exact between the scores
        line.set(color=look[name].color, linestyle=look[name].dashes, linewidth=look[name].width)
    axes.set_xlabel(f"{quantity} at least, better →")
    axes.set_ylabel("share of runs")
    axes.set_ylim(-0.03, 1.03)
    few_ticks(axes)
    return finished(figure, [about, "every task counts alike"], [Key(name, look[name]) for name in names], lines=True)


def _line(axes: Axes, look: Look, x: ArrayLike, y: ArrayLike, marker: str) -> None:
    (line,) = axes.plot(x, y, marker=marker, markersize=4, zorder=3)
    line.set(color=look.color, linestyle=look.dashes, linewidth=look.width)


# --- what is drawn


def _main(board: Leaderboard) -> list[Quantity]:
    """The main measure of every objective."""
    return comparison.quantities(board.measures, None, DeltaConvention())[: len(board.main)]


def _shown(board: Leaderboard) -> list[Quantity]:
    """What has a panel of its own: the main measures, or of many the means over all and over groups."""
    found = comparison.quantities(board.measures, None, DeltaConvention(), groups=board.groups)
    means = [quantity for quantity in found if quantity.sums_up]
    return means if means and len(board.main) > MANY else found[: len(board.main)]


def _columns(board: Leaderboard) -> list[int]:
    """Where the table's measures, of which an extra split may have some only, stand in the runs' curves."""
    first = next((run for entry in board.entries for run in entry.runs), None)
    places = {(m.objective, m.metric): place for place, m in enumerate(first.measures)} if first is not None else {}
    return [places[m.objective, m.metric] for m in board.measures] if places else []


def _summary(board: Leaderboard) -> Quantity:
    """What sorts the table: the mean over objectives, else Delta-m, else the first measure."""
    found = comparison.quantities(board.measures, None, DeltaConvention())
    return comparison.summary([*found, *([board.delta] if board.delta is not None and len(board.main) > 1 else [])])


def _interval(quantity: Quantity, entry: Entry) -> Interval:
    """The one that the table shows at the usual level."""
    return comparison.interval(quantity, entry, LEVEL)


def _is_static(entry: Entry) -> bool:
    """Whether it is a point of the static front; a tuned entry is a method like any other."""
    weighted = entry.method == STATIC and entry.runs[0].cell.parameters.get("weights") is not None
    return weighted and entry.search is None


def _static(board: Leaderboard) -> list[Entry]:
    return [entry for entry in board.entries if _is_static(entry)]


def _methods(board: Leaderboard) -> list[Entry]:
    """Methods with a result, the static front excepted, in the order of the table."""
    return [e for e in board.entries if e.role == "method" and e.runs and not _is_static(e)]


def _reference(board: Leaderboard) -> Entry | None:
    return next((e for e in board.entries if e.role == "reference" and e.runs), None)


def _was_searched(entry: Entry) -> bool:
    return entry.search is not None and bool(np.isfinite(entry.search.merit).any())


def _looks(board: Leaderboard) -> dict[str, Look]:
    baseline = next((entry.label for entry in board.entries if entry.method == BASELINE), None)
    reference = next((entry.label for entry in board.entries if entry.role == "reference"), None)
    apart = {entry.label: STATIC_LOOK for entry in _static(board)}
    return {**looks([e.label for e in board.entries if e.label not in apart], baseline, reference), **apart}


def _milliseconds(entry: Entry) -> float:
    return 1000 * float(np.median([run.cost.seconds_per_step for run in entry.runs]))


def _curves(entry: Entry, quantity: Quantity, columns: Sequence[int]) -> tuple[NDArray[np.int64], Array]:
    """Epochs (E,) that all seeds have, and their validation scores (n, E)."""
    epochs = reduce(np.intersect1d, [run.epochs for run in entry.runs])
    return epochs, np.array([quantity.of(run.val[np.isin(run.epochs, epochs)][:, columns]) for run in entry.runs])


def _front(board: Leaderboard, i: int, j: int) -> Array:
    """(F, 2): means of objectives i and j at static weights, ordered by the share of the weight of i among both."""
    found = []
    for entry in board.entries:
        if _is_static(entry):
            weights = entry.runs[0].cell.parameters["weights"]
        elif entry.method == BASELINE and entry.search is None:
            weights = [1.0] * len(board.main)
        else:
            continue
        if weights[i] + weights[j] > 0:
            means = [_interval(_main(board)[k], entry).mean for k in (i, j)]
            found.append((weights[i] / (weights[i] + weights[j]), *means))
    points = np.array(sorted(found), dtype=np.float64).reshape(-1, 3)[:, 1:]
    return points if _static(board) else points[:0]


def _best_of(entry: Entry, quantity: Quantity) -> Array:
    assert entry.search is not None
    found = np.isfinite(entry.search.merit)
    values = np.empty(len(found))
    values[found] = quantity.of(entry.search.scores[found])
    values[~found] = values[found].min() if quantity.column.higher_is_better else values[found].max()
    return best_of(entry.search.merit, values)


# --- what a reader must know


def _about(board: Leaderboard, selected: bool = True, spread: bool = True) -> list[str]:
    several = any(len(entry.runs) > 1 for entry in board.entries)
    search = ", the search included" if board.budget and selected else ""
    return [
        board.table.heading,
        f"selection {board.rule}" if selected else "",
        (f"mean over seeds, {LEVEL:.0%} interval{search}" if several else "one seed, no interval") if spread else "",
    ]


def _dashed(reference: Entry | None) -> str:
    return f"dashed: {reference.label}" if reference is not None else ""
