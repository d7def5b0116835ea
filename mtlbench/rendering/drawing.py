"""How figures look: style, colours, panels, means with intervals, names beside points, a layout that stands."""

from __future__ import annotations

import io
import itertools
import math
import textwrap
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mtlbench.rendering.table import Column
from mtlbench.statistics import Interval
from mtlbench.storage import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D


DPI = 150
BLACK, GREY, LIGHT, PALE = "#222222", "#707070", "#a8a8a8", "#e6e6e6"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours without black, which is the baseline's, and yellow, which is invisible on white."""
MARKERS = "s^DvPX<>"
Dashes = Literal["-", "--", "-.", ":"]
DASHES: tuple[Dashes, ...] = ("-", "--", "-.", ":")
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 8,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": PALE,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": BLACK,
    "ytick.labelcolor": BLACK,
    "lines.linewidth": 1.2,
    "lines.markersize": 5,
    "figure.facecolor": "white",
    "figure.dpi": DPI,
    "text.parse_math": False,  # `$` in a label is a dollar sign
    "svg.hashsalt": "mtlbench",
}


@contextmanager
def styled() -> Iterator[None]:
    """The project's style whatever the user's is, which is as it was afterwards."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


@dataclass(frozen=True)
class Look:
    """How a method is drawn in every figure."""

    color: str
    marker: str = "o"
    dashes: Dashes = "-"
    width: float = 1.2


STATIC_LOOK = Look(LIGHT, ".", width=0.8)


def looks(labels: Iterable[str], baseline: str | None, reference: str | None) -> dict[str, Look]:
    """A look for each label: the colour that the label's checksum names, the next free one if it is taken.

    So a method mostly keeps its colour when others join or leave.
    """
    found: dict[str, Look] = {}
    free: list[int] = []
    for label in sorted(set(labels)):
        if label in (baseline, reference):
            found[label] = Look(BLACK, width=1.8) if label == baseline else Look(GREY, "*", "--")
            continue
        free = free or list(range(len(PALETTE) * len(DASHES)))
        wanted = zlib.crc32(label.encode()) % len(PALETTE)
        slot = min(free, key=lambda s: (s // len(PALETTE), (s - wanted) % len(PALETTE)))
        free.remove(slot)
        found[label] = Look(PALETTE[slot % len(PALETTE)], MARKERS[slot % len(MARKERS)], DASHES[slot // len(PALETTE)])
    return found


def panels(
    count: int, width: float, height: float, columns: int = 3, *, left: float = 0.0, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels of `width` x `height` inches, at most `columns` beside each other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(count, columns)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(left + columns * width, rows * height), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=sharey).flatten().tolist()
    for unused in grid[count:]:
        unused.remove()
    return figure, grid[:count]


def point(
    axes: Axes, look: Look, x: float, y: float, *, across: Interval | None = None, up: Interval | None = None
) -> None:
    """A mean with its intervals along x and along y, where they are known."""
    from matplotlib.colors import to_rgba

    axes.errorbar(
        x,
        y,
        xerr=_arms(across),
        yerr=_arms(up),
        color=look.color,
        marker=look.marker,
        markersize=8 if look.marker in "*." else 5,
        markeredgecolor="white",
        markeredgewidth=0.5,
        elinewidth=1.0,
        ecolor=to_rgba(look.color, 0.6),
        zorder=3,
    )


def toward(column: Column) -> str:
    """An axis label with the direction that is better; along y the text, and so the arrow, is turned."""
    title = textwrap.shorten(column.title, 48, placeholder="…")
    if column.higher_is_better is None:
        return title
    return f"{title}, better →" if column.higher_is_better else f"← better, {title}"


def wrapped(label: str, width: int, lines: int = 3) -> str:
    """`label` on at most `lines` lines."""
    spaced = label if len(label) <= width else label.replace(", ", ",").replace(",", ", ")
    parts = textwrap.wrap(spaced, width) or [label]
    return "\n".join(parts[:lines]) + ("…" if len(parts) > lines else "")


@dataclass(frozen=True)
class Key:
    """One entry of a legend, and where its point is if it has one that a name can stand beside."""

    label: str
    look: Look
    place: tuple[float, float] | None = None


def finished(figure: Figure, about: Sequence[str], keys: Sequence[Key] = (), *, lines: bool = False) -> Figure:
    """Add what a reader must know, names beside points or else a legend, and fix the layout.

    Args:
        figure: with its data.
        about: phrases for the line above the panels; empty ones are left out.
        keys: names stand beside the points where there is one panel, every key has a point and there is room.
        lines: whether the legend shows lines instead of markers.
    """
    phrases = "; ".join(phrase for phrase in about if phrase)
    title = textwrap.fill(phrases, int(16.5 * figure.get_figwidth()), break_on_hyphens=False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=7.5, color=GREY)
    if keys and not (len(figure.axes) == 1 and _named(figure.axes[0], keys)):
        names = [wrapped(key.label, 30) for key in keys]
        parts = [part for name in names for part in name.split("\n")]
        columns = math.ceil(0.16 * (len(parts) + 0.3 * len(keys)) / figure.get_figheight())
        figure.set_figwidth(figure.get_figwidth() + columns * (0.6 + 0.07 * max(map(len, parts))))
        handles = [_handle(key.look, lines) for key in keys]
        legend = figure.legend(handles, [""] * len(keys), loc="outside right upper", ncols=columns)
        for text, name in zip(legend.get_texts(), names, strict=True):
            text.set_text(name)  # afterwards: as an argument, `_label` would be left out
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def _arms(interval: Interval | None) -> list[list[float]] | None:
    if interval is None or not interval.known:
        return None
    return [[interval.mean - interval.low], [interval.high - interval.mean]]


def _handle(look: Look, lines: bool) -> Line2D:
    from matplotlib.lines import Line2D

    drawn = Line2D([], [], color=look.color, linestyle=look.dashes, linewidth=look.width)
    if not lines:
        drawn.set_marker(look.marker)
        drawn.set_linestyle("" if look.marker else look.dashes)
    return drawn


def _named(axes: Axes, keys: Sequence[Key]) -> bool:
    """Write each name beside its point and over no other; False, and nothing written, where there is no room."""
    from matplotlib.colors import to_rgb
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

    places = [key.place for key in keys if key.place is not None]
    if len(places) < len(keys):
        return False
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    unit, frame = figure.dpi / 72, axes.get_window_extent()
    centres = axes.transData.transform(places)

    def around(middle: NDArray[Any], half: Any) -> Bbox:
        return Bbox([middle - half, middle + half])

    marks = [around(centre, 4 * unit) for centre in centres]
    bars = [
        Bbox(axes.transData.transform(segment)).padded(unit)
        for collection in axes.collections
        for segment in getattr(collection, "get_segments", list)()
    ]
    for line in axes.lines:
        path = line.get_transform().transform_path(line.get_path())
        if line.get_transform() == axes.transData:
            marks += [around(xy, 2 * unit) for xy in np.asarray(path.vertices)]
        else:  # a line across the whole panel
            bars.append(path.get_extents().padded(unit))
    sides = np.array([(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)])
    written: list[Annotation] = []
    for centre, key, place in sorted(zip(centres, keys, places, strict=True), key=lambda each: tuple(-each[0])):
        text = axes.annotate(
            wrapped(key.label, 26),
            place,
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8,
            color=tuple(0.7 * c for c in to_rgb(key.look.color)),  # darker: thin strokes look paler than markers
            zorder=4,
        )
        written.append(text)
        half = np.array([text.get_window_extent().width, text.get_window_extent().height]) / 2
        for obstacles, distance in itertools.product(([*marks, *bars], marks), (6, 12)):
            steps = sides * (half + distance * unit / np.linalg.norm(sides, axis=1, keepdims=True))
            fits = [s for s in steps if _is_free(around(centre + s, half), obstacles, frame)]
            if fits:
                break
        else:
            for text in written:
                text.remove()
            return False
        marks.append(around(centre + fits[0], half))
        text.set_position(tuple(fits[0] / unit))
    return True


def _is_free(box: Any, obstacles: Sequence[Any], frame: Any) -> bool:
    inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
    return bool(inside and not box.count_overlaps(obstacles))


def few_ticks(axes: Axes, x: bool = True, y: bool = True) -> None:
    """Ticks that do not collide in small panels."""
    for axis, nbins in [("x", 5)] * x + [("y", 6)] * y:
        axes.locator_params(axis, nbins=nbins)  # type: ignore[arg-type]


def whole_numbers(axes: Axes) -> None:
    """Ticks of the x axis at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))


def logarithmic(axes: Axes, values: Sequence[float]) -> bool:
    """Make the x axis logarithmic, with plain numbers, where values differ by more than a factor of five."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    if not values or min(values) <= 0 or max(values) <= 5 * min(values):
        return False
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    return True


def save(figures: Mapping[str, Figure], folder: Path, slug: str) -> list[Path]:
    """Write `slug-NAME.png` and `slug-NAME.svg` of each figure into `folder`, which is made if it is missing.

    Equal records give byte-identical files: they carry no date and no version.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in figures.items():
        for suffix, metadata in (("png", {"Software": None}), ("svg", {"Date": None, "Creator": None})):
            content = io.BytesIO()
            with styled():
                figure.savefig(content, format=suffix, dpi=DPI, metadata=metadata)
            written.append(folder / f"{slug}-{name}.{suffix}")
            write_atomically(written[-1], content.getvalue())
    return written
