"""Figures of gradient geometry: pure functions from arrays to a matplotlib `Figure`.

Shapes: K objectives, T steps at which gradients were recorded, G groups of parameters. NaN where nothing is known.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import dendrogram

from mtlbench.rendering.drawing import (
    BLACK,
    GREY,
    LIGHT,
    PALE,
    PALETTE,
    Key,
    Look,
    few_ticks,
    finished,
    panels,
    point,
    styled,
    wrapped,
)
from mtlbench.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

MOST_WRITTEN = 14
"""Objectives up to which the cells of a similarity map have their numbers."""
NUMBERS = {"within": Look(PALETTE[0], "o"), "between": Look(PALETTE[1], "s", "--"), "all": Look(BLACK, "o")}
"""How curves look that tell pairs within families from pairs between them."""


def family_colors(families: Sequence[str]) -> dict[str, str]:
    """A colour for each family, in the order in which they come; of more than six the later ones are darker."""
    names = list(dict.fromkeys(families))
    shades = [_shaded(color, 0.78**turn) for turn in range(1 + len(names) // len(PALETTE)) for color in PALETTE]
    return dict(zip(names, shades, strict=False))


def _shaded(color: str, factor: float) -> str:
    from matplotlib.colors import to_hex, to_rgb

    red, green, blue = to_rgb(color)
    return str(to_hex((factor * red, factor * green, factor * blue)))


@styled()
def similarity_map(
    similarity: Array,
    objectives: Sequence[str],
    linkage: Array | None = None,
    families: Sequence[str] | None = None,
    about: Sequence[str] = (),
) -> Figure:
    """Similarities of objectives as a map, ordered by a dendrogram that stands above it.

    Args:
        similarity: (K, K), symmetric; the diagonal is not shown, which is 1 by construction.
        objectives: K names.
        linkage: (K - 1, 4) as scipy's `linkage` answers it; None to keep the order and draw no dendrogram.
        families: the family of each objective, which colours its name.
        about: phrases for the line above.
    """
    count = len(objectives)
    side = max(2.4, min(7.0, 0.27 * count + 0.7))
    figure, (heat,) = panels(1, side + 0.9, side + 0.8)
    order = list(range(count))
    if linkage is not None and count > 2:
        tree = heat.inset_axes((0, 1.01, 1, 0.22))
        order = _dendrogram(tree, linkage)
    shown = np.array(similarity, dtype=np.float64)[np.ix_(order, order)]
    np.fill_diagonal(shown, np.nan)
    _heat(heat, shown, [objectives[i] for i in order], written=count <= MOST_WRITTEN)
    keys = []
    if families is not None:
        colors = family_colors(families)
        for labels in (heat.get_xticklabels(), heat.get_yticklabels()):
            for text, i in zip(labels, order, strict=True):
                text.set(color=colors[families[i]], fontweight="bold")
        keys = [Key(name, Look(color, "s")) for name, color in colors.items()]
    return finished(figure, about, keys)


def _dendrogram(axes: Axes, linkage: Array) -> list[int]:
    """Draw the tree; the order of its leaves from the left."""
    found = dendrogram(linkage, no_plot=True)
    for across, up in zip(found["icoord"], found["dcoord"], strict=True):
        axes.plot(across, up, color=GREY, linewidth=0.9)
    leaves = [int(leaf) for leaf in found["leaves"]]
    axes.set_xlim(0, 10 * len(leaves))
    heights = linkage[:, 2]
    axes.set_ylim(heights.min() - 0.15 * (np.ptp(heights) or 1.0), None)  # stems that say nothing are cut off
    axes.axis("off")
    return leaves


def _scale(values: Array) -> tuple[float, float, str]:
    """The same far on both sides of 0; from the least to the most where all are positive and near each other."""
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    if 0 < low < high < 2 * low:
        return low, high, "Reds"
    far = max(abs(low), abs(high)) or 1.0
    return -far, far, "RdBu_r"


def _heat(axes: Axes, values: Array, names: Sequence[str], written: bool, shares: bool = False) -> None:
    """A square map with a bar of its colours, with its numbers in it if `written`; shares are from 0 to 1."""
    low, high, colors = (0.0, 1.0, "Blues") if shares else _scale(values)
    image = axes.imshow(values, cmap=colors, vmin=low, vmax=high, interpolation="nearest")
    axes.set_facecolor(PALE)
    axes.grid(visible=False)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if written:
        digits = 3 if high - low < 0.1 else 2
        for row, column in itertools.product(range(len(names)), repeat=2):
            value = values[row, column]
            if math.isfinite(value):
                is_dark = abs(2 * (value - low) / (high - low) - (colors == "RdBu_r")) > (0.6, 1.2)[colors == "Reds"]
                _number(axes, column, row, value, digits, "white" if is_dark else BLACK)
    figure = axes.get_figure(root=True)
    assert figure is not None
    bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=22, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7)


def _number(axes: Axes, x: float, y: float, value: float, digits: int, color: str) -> None:
    """`.12`, without the zero in front."""
    text = f"{value:.{digits}f}".replace("0.", ".", 1)
    axes.text(x, y, text, ha="center", va="center", fontsize=4.8, color=color)


@dataclass(frozen=True)
class Curve:
    """One line over steps with its band."""

    label: str
    values: Array
    """(T,)"""
    look: Look
    low: Array | None = None
    """(T,): bounds of the band; None or NaN where there is none."""
    high: Array | None = None


@dataclass(frozen=True)
class Panel:
    """Curves that share a frame."""

    title: str
    curves: Sequence[Curve]
    quantity: str = ""
    """For the y axis."""
    levels: Mapping[str, tuple[float, Look]] = field(default_factory=dict)
    """Lines across the whole panel, by what they are."""


@styled()
def over_steps(steps: Array, shown: Sequence[Panel], about: Sequence[str] = (), sharey: bool = False) -> Figure:
    """Curves over the steps of training, one frame for each panel.

    Args:
        steps: (T,).
        shown: with curves (S, T).
        about: phrases for the line above.
        sharey: whether all panels have the same y axis.
    """
    figure, axes_of = panels(len(shown), 3.2, 2.7, 2 if len(shown) == 4 else 3, sharey=sharey)
    keys: dict[str, Key] = {}
    for axes, panel in zip(axes_of, shown, strict=True):
        axes.axhline(0, color=LIGHT, linewidth=0.8, zorder=1)
        for curve in panel.curves:
            _curve(axes, steps, curve)
            keys.setdefault(curve.label, Key(curve.label, curve.look))
        for name, (level, look) in panel.levels.items():
            if math.isfinite(level):
                axes.axhline(level, color=look.color, linewidth=look.width, linestyle=look.dashes, zorder=2)
                keys.setdefault(name, Key(name, look))
        axes.set_title(wrapped(panel.title, 46), loc="left")
        axes.set_xlabel("step")
        axes.set_ylabel(panel.quantity)
        few_ticks(axes)
    return finished(figure, about, list(keys.values()) if len(keys) > 1 else [], lines=True)


def _curve(axes: Axes, steps: Array, curve: Curve) -> None:
    if curve.low is not None and curve.high is not None:
        known = np.isfinite(curve.low) & np.isfinite(curve.high)
        bounds = np.where(known, curve.low, math.nan), np.where(known, curve.high, math.nan)
        if known.any():
            axes.fill_between(steps, *bounds, color=curve.look.color, alpha=0.15, linewidth=0, zorder=2)
    (line,) = axes.plot(steps, curve.values, marker=curve.look.marker if len(steps) < 12 else "", markersize=3.5)
    line.set(color=curve.look.color, linestyle=curve.look.dashes, linewidth=curve.look.width, zorder=3)


@styled()
def layer_map(
    maps: Mapping[str, Array], groups: Sequence[str], steps: Sequence[int], about: Sequence[str] = ()
) -> Figure:
    """Layers by steps: what each layer's gradients show at each step.

    Args:
        maps: title -> (G, T); every map has a scale of its own.
        groups: names of the G layers, in the order of the forward pass, from the top.
        steps: T.
        about: phrases for the line above.
    """
    left = 0.2 + 0.055 * max(map(len, groups))
    height = 0.9 + 0.17 * len(groups)
    figure, axes_of = panels(len(maps), 1.9 + 0.14 * len(steps), height, 3, left=left, sharey=True)
    for axes, (title, values) in zip(axes_of, maps.items(), strict=True):
        far = float(np.nanmax(np.abs(values), initial=0.0)) if np.isfinite(values).any() else 0.0
        image = axes.imshow(
            values, aspect="auto", cmap="RdBu_r", vmin=-far or -1, vmax=far or 1, interpolation="nearest"
        )
        axes.set_facecolor(PALE)
        axes.grid(visible=False)
        few = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), 6)).round().astype(int))
        axes.set_xticks(few, [str(steps[i]) for i in few], fontsize=7)
        axes.set_yticks(range(len(groups)), groups, fontsize=6.5)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("step")
        axes.set_title(wrapped(title, 34), loc="left")
        figure.colorbar(image, ax=axes, shrink=0.8, aspect=25, pad=0.02).ax.tick_params(labelsize=7)
    return finished(figure, about)


@styled()
def pair_maps(
    shares: Mapping[str, Array],
    objectives: Sequence[str],
    families: Sequence[str] | None = None,
    about: Sequence[str] = (),
) -> Figure:
    """Shares by pair of objectives, from 0 to 1, as maps beside each other in one order.

    Args:
        shares: title -> (K, K): row k and column l are about gradient k as it meets gradient l.
        objectives: K names; families stand together where they are told.
        families: the family of each objective.
        about: phrases for the line above.
    """
    order = list(range(len(objectives)))
    if families is not None:
        first = list(dict.fromkeys(families))
        order.sort(key=lambda i: first.index(families[i]))
    side = max(2.2, min(6.0, 0.24 * len(objectives) + 0.8))
    figure, axes_of = panels(len(shares), side + 0.9, side + 0.4, 2)
    for axes, (title, values) in zip(axes_of, shares.items(), strict=True):
        shown = np.array(values, dtype=np.float64)[np.ix_(order, order)]
        np.fill_diagonal(shown, np.nan)
        _heat(axes, shown, [objectives[i] for i in order], written=False, shares=True)
        axes.set_title(wrapped(title, int(14 * side)), loc="left")
        if families is not None:
            colors = family_colors(families)
            for text, i in zip(
                [*axes.get_xticklabels(), *axes.get_yticklabels()], itertools.cycle(order), strict=False
            ):
                text.set(color=colors[families[i]], fontweight="bold")
    return finished(figure, about)


@dataclass(frozen=True)
class Bar:
    """One quantity of M groups, with its intervals; NaN where there is none."""

    label: str
    values: Array
    """(M,)"""
    low: Array
    high: Array
    look: Look


@styled()
def by_group(groups: Sequence[str], bars: Sequence[Bar], quantity: str, about: Sequence[str] = ()) -> Figure:
    """Numbers of each group of parameters, with intervals.

    Args:
        groups: M names, from the top.
        bars: one point in every group each.
        quantity: for the x axis.
        about: phrases for the line above.
    """
    left = 0.2 + 0.065 * max(map(len, groups))
    figure, (axes,) = panels(1, 3.6, 0.9 + (0.13 * len(bars) + 0.14) * len(groups), left=left)
    rows = -np.arange(len(groups), dtype=np.float64)
    offsets = np.linspace(0.22, -0.22, len(bars)) if len(bars) > 1 else np.zeros(1)
    for offset, bar in zip(offsets, bars, strict=True):
        for row, mean, low, high in zip(rows, bar.values, bar.low, bar.high, strict=True):
            if math.isfinite(mean):
                point(axes, bar.look, mean, row + offset, across=Interval(mean, low, high, 0))
    axes.axvline(0, color=LIGHT, linewidth=0.8, zorder=1)
    axes.set_yticks(rows, groups, fontsize=7)
    axes.tick_params("y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_ylim(1 - len(groups) - 0.6, 0.6)
    axes.set_xlabel(quantity)
    few_ticks(axes, y=False)
    keys = [Key(bar.label, bar.look) for bar in bars]
    return finished(figure, about, keys if len(keys) > 1 else [])


@dataclass(frozen=True)
class Cloud:
    """Points that share a frame: one for each run, or for each objective."""

    title: str
    x: Array
    """(N,)"""
    y: Array
    """(N,)"""
    labels: Sequence[str]
    """N names; points of one name look alike."""
    across: str
    up: str
    """What x and y are, for the axes."""


@styled()
def scatter(clouds: Sequence[Cloud], looks: Mapping[str, Look], about: Sequence[str] = ()) -> Figure:
    """Points beside each other: similarity against quality, over runs or over objectives.

    Args:
        clouds: one frame each.
        looks: of every label.
        about: phrases for the line above.
    """
    alone = len(clouds) == 1
    figure, axes_of = panels(len(clouds), *((4.6, 3.6) if alone else (3.4, 3.0)))
    keys: dict[str, Key] = {}
    for axes, cloud in zip(axes_of, clouds, strict=True):
        seen = [cloud.labels.count(label) for label in cloud.labels]
        for x, y, label, count in zip(cloud.x, cloud.y, cloud.labels, seen, strict=True):
            if not (math.isfinite(x) and math.isfinite(y)):
                continue
            look = looks[label]
            axes.plot(x, y, marker=look.marker, color=look.color, markeredgecolor="white", markeredgewidth=0.5)
            keys.setdefault(label, Key(label, look, (x, y) if alone and count == 1 else None))
        axes.set_title(wrapped(cloud.title, 52), loc="left")
        axes.set_xlabel(cloud.across)
        axes.set_ylabel(cloud.up)
        axes.margins(0.15 if alone else 0.08)
        few_ticks(axes)
    return finished(figure, about, list(keys.values()))
