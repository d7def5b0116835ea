"""Figures of a leaderboard, for papers and pages: pure functions from a `Leaderboard` to a matplotlib `Figure`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from mtlbench.catalogue.registry import holder, role
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
from mtlbench.statistics import performance_profile, t_interval
from mtlbench.tables import drawn
from mtlbench.tables.across import Across
from mtlbench.tables.costs import Machine
from mtlbench.tables.leaderboard import Leaderboard

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


MOST_CURVES = 10
WARM_UP = 0.2
"""The share of the epochs that learning curves may have outside the frame, so that the differences at the end show."""
REACH = 5.0
"""Where many methods crowd, a trade-off shows means up to so many times the distance of their quartiles from these."""
MOST_MACHINES = 6
MOST_OBJECTIVES = 4
"""Trade-offs of more objectives are not drawn: pairs say too little then."""


def draw_all(board: Leaderboard) -> dict[str, Figure]:
    """Every figure that makes sense for `board`, by name: `scores`, `trade-off`, `learning-curves`, ..."""
    figures: dict[str, Figure] = {}
    if any(entry.runs for entry in board.entries):
        figures["scores"] = scores(board)
        if 2 <= len(board.main) <= MOST_OBJECTIVES:
            figures["trade-off"] = trade_off(board)
    if any(run.cost.steps for entry in board.entries for run in entry.runs):
        figures["learning-curves"] = learning_curves(board)
        figures["score-against-cost"] = score_against_cost(board)
    if any(drawn.was_searched(entry) for entry in board.entries):
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
    reference, look = drawn.reference(board), drawn.looks(board)
    names = [wrapped(entry.label, 34) for entry in entries]
    heights = [max(1.4, name.count("\n") + 1.2) for name in names]
    # Rows from the top; a label of several lines takes more room.
    rows = -np.cumsum([(a + b) / 2 for a, b in itertools.pairwise([0.0, *heights])])
    left = 0.3 + 0.065 * max((len(line) for name in names for line in name.split("\n")), default=0)
    shown = drawn.shown(board)
    figure, axes_of = panels(len(shown), 2.4, 0.9 + 0.16 * sum(heights), 4, left=left, sharey=True)
    for axes, quantity in zip(axes_of, shown, strict=True):
        if reference is not None:
            inside = drawn.interval(quantity, reference)
            if inside.known:
                axes.axvspan(inside.low, inside.high, color=GREY, alpha=0.15, linewidth=0)
            axes.axvline(inside.mean, color=GREY, linestyle="--", linewidth=1)
        for row, entry in zip(rows, entries, strict=True):
            if entry.runs:
                inside = drawn.interval(quantity, entry)
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
    return finished(figure, [*drawn.about(board), drawn.dashed(reference)])


@styled()
def trade_off(board: Leaderboard) -> Figure:
    """One objective against another: means with intervals, the reference as a cross-hair, the static front as a line.

    The front joins the runs with static weights, equal ones included, in the order of the first objective's share.
    With more than two objectives such weights span a surface and are points. With more than `MOST_CURVES` methods the
    frame is drawn around most of the means, and the others are named.

    Raises:
        UsageError: not 2 to 4 objectives.
    """
    main = list(enumerate(drawn.main(board)))
    if not 2 <= len(main) <= MOST_OBJECTIVES:
        raise UsageError(f"A trade-off needs 2 to {MOST_OBJECTIVES} objectives; {board.task} has {len(main)}.")
    pairs = list(itertools.combinations(main, 2)) if len(main) < 4 else list(itertools.pairwise(main))
    entries, look, reference = drawn.methods(board), drawn.looks(board), drawn.reference(board)
    figure, axes_of = panels(len(pairs), *((5.0, 4.0) if len(pairs) == 1 else (3.1, 3.0)))
    beyond: dict[str, bool] = {}
    for axes, ((i, x), (j, y)) in zip(axes_of, pairs, strict=True):
        front = drawn.front(board, i, j)
        if len(front):
            line = "-" if len(main) == 2 else ""
            axes.plot(*front.T, color=LIGHT, linestyle=line, linewidth=0.8, marker=".", zorder=1)
        for entry in entries:
            across, up = drawn.interval(x, entry), drawn.interval(y, entry)
            point(axes, look[entry.label], across.mean, up.mean, across=across, up=up)
        if reference is not None:
            axes.axvline(drawn.interval(x, reference).mean, color=GREY, linestyle="--", linewidth=1)
            axes.axhline(drawn.interval(y, reference).mean, color=GREY, linestyle="--", linewidth=1)
        axes.set_xlabel(x.column.title)
        axes.set_ylabel(y.column.title)
        arrow = "↙↘↖↗"[bool(x.column.higher_is_better) + 2 * bool(y.column.higher_is_better)]
        axes.set_title(f"better {arrow}", loc="right", color=GREY)
        axes.margins(0.1)
        few_ticks(axes)
        if len(entries) > MOST_CURVES:
            means = {e.label: (drawn.interval(x, e).mean, drawn.interval(y, e).mean) for e in board.entries}
            beyond |= dict.fromkeys(_focus(axes, means), True)
    keys = [Key(entry.label, look[entry.label]) for entry in entries]
    keys += [Key(reference.label, Look(GREY, "", "--", 1.0))] if reference is not None else []
    keys += [Key("static weights", STATIC_LOOK)] if drawn.static(board) else []
    outside = f"beyond the frame: {', '.join(beyond)}" if beyond else ""
    return finished(figure, [*drawn.about(board), outside], keys)


@styled()
def learning_curves(board: Leaderboard) -> Figure:
    """The main measure of each objective, or the means of many, on the validation split by epoch.

    The mean over seeds, the t interval as a band. Only epochs that all seeds of a method have. With more than
    `MOST_CURVES` methods: the baseline and those that come first in the table. Static weights are thin grey lines.
    """
    entries, look, reference = drawn.methods(board), drawn.looks(board), drawn.reference(board)
    few = ""
    if len(entries) > MOST_CURVES:
        few = f"{MOST_CURVES} of {len(entries)} methods, the first of the table and {holder('baseline')}"
        chosen = {e.label for e in sorted(entries, key=lambda e: role(e.method) != "baseline")[:MOST_CURVES]}
        entries = [entry for entry in entries if entry.label in chosen]
    static = drawn.static(board)
    shown = [*entries, *([reference] if reference is not None else [])]
    start = WARM_UP * max((int(run.epochs[-1]) for entry in shown for run in entry.runs), default=0)
    crops = False
    quantities = drawn.shown(board)
    figure, axes_of = panels(len(quantities), 3.5, 3.0)
    for axes, quantity in zip(axes_of, quantities, strict=True):
        late: list[float] = []
        for entry in static:
            epochs, curves = drawn.curves(board, entry, quantity)
            axes.plot(epochs, curves.mean(0), color=STATIC_LOOK.color, linewidth=0.6, zorder=1)
        for entry in shown:
            epochs, curves = drawn.curves(board, entry, quantity)
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
    about = ["validation split", *drawn.about(board, selected=False), few, cropped]
    return finished(figure, about, keys, lines=True)


@styled()
def score_against_cost(board: Leaderboard) -> Figure:
    """The score that sorts the table against the time per step, the median over seeds; the reference as a line too.

    Times compare on one machine only: every machine has a panel of its own, of many those with the most rows.
    """
    machines = drawn.machines(board)
    shown = machines[:MOST_MACHINES]
    figure, axes_of = panels(len(shown), *((5.0, 4.0) if len(shown) == 1 else (4.0, 3.4)), sharey=len(shown) > 1)
    keys: dict[str, Key] = {}
    for number, (axes, machine) in enumerate(zip(axes_of, shown, strict=True), 1):
        _costs(axes, board, machine, keys)
        if len(machines) > 1:
            axes.set_title(f"host {number}: {machine.hardware}", loc="left", color=GREY)
    static = "grey points: static weights" if drawn.static(board) else ""
    left_out = f"{len(shown)} of {len(machines)} hosts" if len(shown) < len(machines) else ""
    names = [replace(key, place=key.place if len(shown) == 1 else None) for key in keys.values()]
    return finished(figure, [*drawn.about(board), static, left_out], names)


def _costs(axes: Axes, board: Leaderboard, machine: Machine, keys: dict[str, Key]) -> None:
    """The rows that were trained on one machine; their keys go into `keys`, by label."""
    quantity, look, reference = drawn.summary(board), drawn.looks(board), drawn.reference(board)
    times = {entry.label: drawn.milliseconds(entry, machine) for entry in board.entries}
    for entry in drawn.static(board):
        if (time := times[entry.label]) is not None:
            axes.plot(time, drawn.interval(quantity, entry).mean, color=LIGHT, marker=".", zorder=1)
    for entry in [*drawn.methods(board), *([reference] if reference is not None else [])]:
        if (time := times[entry.label]) is None:
            continue
        inside = drawn.interval(quantity, entry)
        if entry is reference:
            axes.axhline(inside.mean, color=GREY, linestyle="--", linewidth=1, zorder=1)
        point(axes, look[entry.label], time, inside.mean, up=inside)
        keys.setdefault(entry.label, Key(entry.label, look[entry.label], (time, inside.mean)))
    is_log = logarithmic(axes, [time for time in times.values() if time is not None])
    few_ticks(axes, x=not is_log)
    axes.set_xlabel("← better, median time per step [ms]")
    axes.set_ylabel(toward(quantity.column))
    axes.margins(x=0.2, y=0.1)


@styled()
def best_of_k(board: Leaderboard) -> Figure:
    """The expected test score of the best of k trials by k, for methods that were tuned (`searches.best_of`).

    A trial without a result is chosen only where all k have none; it then counts like the worst trial with one.

    Raises:
        UsageError: no method was tuned.
    """
    entries = [entry for entry in board.entries if drawn.was_searched(entry)]
    look, quantity = drawn.looks(board), drawn.summary(board)
    if not entries:
        raise UsageError("A best-of-k curve needs a tuned method with a trial that finished.")
    figure, (axes,) = panels(1, 4.4, 3.4)
    holes = False
    for entry in entries:
        curve = drawn.best_of(entry, quantity)
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
        [*drawn.about(board, spread=False), failed],
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
    look = looks(names, holder("baseline"), holder("reference"))
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


def _focus(axes: Axes, means: Mapping[str, tuple[float, float]]) -> list[str]:
    """Frame where most of the `means` lie, intervals that reach further apart; the labels of what is then outside."""
    points = np.array(list(means.values()), dtype=np.float64)
    first, third = np.quantile(points, (0.25, 0.75), axis=0)
    reach = REACH * (third - first)
    inside = ((points >= first - reach) & (points <= third + reach)).all(axis=1)
    kept = points[inside]
    pad = 0.1 * np.ptp(kept, axis=0)
    if not pad.all():
        return []
    axes.set_xlim(kept[:, 0].min() - pad[0], kept[:, 0].max() + pad[0])
    axes.set_ylim(kept[:, 1].min() - pad[1], kept[:, 1].max() + pad[1])
    return [label for label, shown in zip(means, inside.tolist(), strict=True) if not shown]


def _line(axes: Axes, look: Look, x: ArrayLike, y: ArrayLike, marker: str) -> None:
    (line,) = axes.plot(x, y, marker=marker, markersize=4, zorder=3)
    line.set(color=look.color, linestyle=look.dashes, linewidth=look.width)
