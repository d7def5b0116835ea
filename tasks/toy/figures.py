"""Where a method takes the point: over the landscape, and between the two losses, with the Pareto set.

`mtlbench draw toy` calls `draw`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtlbench.catalogue.protocol import protocol_label
from mtlbench.catalogue.registry import role
from mtlbench.errors import UsageError
from mtlbench.rendering.drawing import BLACK, LIGHT, Key, Look, few_ticks, finished, panels, styled, wrapped

from .landscapes import LANDSCAPES, Landscape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mtlbench.record.runs import Run

Array = NDArray[np.float64]

MOST = 12
"""Methods in a figure; the others are left out, and counted."""
COLORS = "plasma"
"""Along the way, but for its palest end."""
PARETO = Look("#009E73", "", "-", 4.0)
START, END = Look(BLACK, "o"), Look(BLACK, "*")
FIRST, LAST = Look("#0d0887", "", "-", 2.5), Look("#f2844b", "", "-", 2.5)
LEVELS = 16


class Way(NamedTuple):
    """Where one cell took its point."""

    places: Array
    """(T, 2)"""
    losses: Array
    """(T, 2)"""


def draw(runs: Sequence[tuple[Run, Path]]) -> dict[str, Figure]:
    """`landscape` and `losses`: a panel for each method, the ways from all starting points in it.

    Args:
        runs: of one variant, each with the folder that `predictions=` filled for it.

    Raises:
        UsageError: no folder has a trajectory, or the runs are of several landscapes.
    """
    found: dict[str, list[Way]] = {}
    for run, folder in runs:
        for path in sorted(folder.glob("trajectory*.csv")):
            found.setdefault(run.label, []).append(_read(path))
    if not found:
        raise UsageError(
            "No run there has a trajectory: it is written while a cell trains, with predictions=DIR. Run with "
            "predictions=runs to have it beside the records, and `mtlbench draw` with the same predictions=."
        )
    told = {(run.cell.variant, tuple(run.cell.protocol["options"]["scales"])) for run, _ in runs}
    if len(told) > 1:
        raise UsageError("These runs have losses of several scales, each another landscape: choose one, protocol=.")
    ((variant, scales),) = told
    landscape = LANDSCAPES[variant](scales)
    left_out = len(found) - MOST
    protocols = ", ".join(sorted({_protocol(run) for run, _ in runs}))
    about = [f"toy/{variant}, {protocols}", f"{left_out} more methods are not shown" if left_out > 0 else ""]
    baselines = {run.label for run, _ in runs if role(run.cell.method) == "baseline"}
    shown = dict(sorted(found.items(), key=lambda item: (item[0] not in baselines, item[0]))[:MOST])
    return {"landscape": _over_the_plane(landscape, shown, about), "losses": _between_losses(landscape, shown, about)}


@styled()
def _over_the_plane(landscape: Landscape, found: dict[str, list[Way]], about: list[str]) -> Figure:
    """The sum of the losses as contours, the Pareto set, and each way."""
    (left, right), (bottom, top) = landscape.window
    x1, x2 = np.meshgrid(np.linspace(left, right, 221), np.linspace(bottom, top, 221))
    height = landscape.at(np.stack([x1, x2], -1)).sum(-1)
    levels = np.unique(np.quantile(height, np.linspace(0.01, 0.99, LEVELS)))
    pareto = landscape.pareto_set()

    def background(axes: Axes) -> None:
        axes.contour(x1, x2, height, levels=levels, colors=LIGHT, linewidths=0.5, linestyles="-", zorder=1)
        axes.set_xlim(left, right)
        axes.set_ylim(bottom, top)
        axes.set_aspect("equal")
        axes.grid(visible=False)

    about = [*about, "contours: sum of the losses"]
    return _figure(found, lambda way: way.places, ("Pareto set", pareto), background, ("x1", "x2"), about)


@styled()
def _between_losses(landscape: Landscape, found: dict[str, list[Way]], about: list[str]) -> Figure:
    """The second loss over the first, with the front."""
    front = landscape.at(np.where(np.abs(pareto := landscape.pareto_set()) > 1e3, 1e3, pareto))

    seen = np.concatenate([front, *(way.losses for ways in found.values() for way in ways)])
    low, high = seen.min(0), seen.max(0)
    pad = 0.08 * (high - low)

    def background(axes: Axes) -> None:
        axes.set_xlim(low[0] - pad[0], high[0] + pad[0])
        axes.set_ylim(low[1] - pad[1], high[1] + pad[1])

    of_losses = "first loss", "second loss"
    return _figure(found, lambda way: way.losses, ("Pareto front", front), background, of_losses, about)


def _figure(
    found: dict[str, list[Way]],
    line: Callable[[Way], Array],
    best: tuple[str, Array],
    background: Callable[[Axes], None],
    names: tuple[str, str],
    about: list[str],
) -> Figure:
    """A panel for each method; `best` is what the line along which neither loss can fall is called, and its corners."""
    called, pareto = best
    figure, axes_of = panels(len(found), *((4.2, 4.0) if len(found) == 1 else (2.9, 2.9)))
    for axes, (label, ways) in zip(axes_of, found.items(), strict=True):
        background(axes)
        is_point = bool(np.allclose(pareto, pareto[0]))
        look = {"marker": "o", "markersize": 9} if is_point else {"solid_capstyle": "round"}
        axes.plot(*pareto.T, color=PARETO.color, linewidth=PARETO.width, alpha=0.6, zorder=2, **look)
        for way in ways:
            _way(axes, line(way))
        axes.set_title(wrapped(label, 34), loc="left")
        axes.set_xlabel(names[0])
        axes.set_ylabel(names[1])
        few_ticks(axes)
    keys = [Key(called, PARETO), Key("start", START), Key("end", END), Key("early", FIRST), Key("late", LAST)]
    return finished(figure, about, keys)


def _way(axes: Axes, corners: Array) -> None:
    """A line whose colour tells how much of the way is done, as the steps go."""
    from matplotlib import colormaps
    from matplotlib.collections import LineCollection

    segments = np.stack([corners[:-1], corners[1:]], 1)
    colors = colormaps[COLORS](np.linspace(0, 0.75, len(segments)))
    axes.add_collection(LineCollection([*segments], colors=[*map(tuple, colors)], linewidths=1.6, zorder=3))
    for look, place, size in ((START, corners[0], 4.5), (END, corners[-1], 9)):
        edge: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.6}
        axes.plot(*place, color=look.color, marker=look.marker, markersize=size, zorder=4, **edge)


def _protocol(run: Run) -> str:
    """The label of a run's protocol, whatever the starting point."""
    told = run.cell.protocol
    modified = {key: value for key, value in told["modified"].items() if key != "options.start"}
    return protocol_label(told["name"], told["version"], modified)


def _read(path: Path) -> Way:
    try:
        columns = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
        return Way(columns[:, 1:3], columns[:, 3:5])
    except (OSError, ValueError, IndexError) as error:
        raise UsageError(f"{path} is no trajectory: {error}.") from error
