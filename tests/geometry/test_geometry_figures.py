"""Figures of gradient geometry draw the arrays that they are given, whatever is unknown in them."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.colors import same_color
from matplotlib.figure import Figure

from mtlbench.geometry import figures
from mtlbench.geometry.figures import Bar, Cloud, Curve, Panel
from mtlbench.geometry.proximity import linkage
from mtlbench.rendering.drawing import Look, save

FAMILIES = ("a", "b", "c", "a", "b", "c", "a", "b", "c")
NAMES = tuple(f"{family}{i}" for i, family in enumerate(FAMILIES))
SAME = np.array(FAMILIES)[:, None] == np.array(FAMILIES)


@pytest.fixture(autouse=True)
def any_warning_fails() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def similarity(seed: int = 0) -> np.ndarray:
    noise = 0.05 * np.random.default_rng(seed).normal(size=(9, 9))
    matrix = 0.1 + 0.4 * SAME + (noise + noise.T) / 2
    np.fill_diagonal(matrix, 1.0)
    return matrix


def names(figure: Figure, panel: int = 0) -> list[str]:
    return [text.get_text() for text in figure.axes[panel].get_yticklabels()]


def test_a_map_puts_families_together_that_cluster_and_shows_each_similarity_where_its_names_are() -> None:
    matrix = similarity()
    figure = figures.similarity_map(matrix, NAMES, linkage(matrix), FAMILIES)
    order = [NAMES.index(name) for name in names(figure)]
    assert sorted(order) == list(range(9))
    assert sum(FAMILIES[a] != FAMILIES[b] for a, b in itertools.pairwise(order)) == 2
    shown = np.ma.getdata(figure.axes[0].images[0].get_array())
    off = ~np.eye(9, dtype=bool)
    assert np.allclose(shown[off], matrix[np.ix_(order, order)][off])
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == names(figure)


def test_the_names_of_a_map_have_the_colours_that_its_legend_explains() -> None:
    matrix = similarity()
    figure = figures.similarity_map(matrix, NAMES, linkage(matrix), FAMILIES)
    (legend,) = figure.legends
    told = {
        text.get_text(): line.get_color() for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)
    }
    assert set(told) == {"a", "b", "c"}
    for text in [*figure.axes[0].get_yticklabels(), *figure.axes[0].get_xticklabels()]:
        assert same_color(text.get_color(), told[text.get_text()[0]])


def test_zero_is_white_on_a_map_whether_or_not_there_are_negative_similarities() -> None:
    for low in (0.02, -0.3):
        matrix = np.full((4, 4), 0.2)
        matrix[0, 1] = matrix[1, 0] = low
        image = figures.similarity_map(matrix, NAMES[:4]).axes[0].images[0]
        assert np.allclose(image.to_rgba(np.array([0.0]))[0, :3], 1.0, atol=0.04)


def test_similarities_that_are_near_each_other_are_told_apart_by_colour() -> None:
    matrix = np.full((4, 4), 0.96)
    matrix[0, 1] = matrix[1, 0] = 0.99
    image = figures.similarity_map(matrix, NAMES[:4]).axes[0].images[0]
    assert np.abs(np.diff(image.to_rgba(np.array([0.96, 0.99])), axis=0)).max() > 0.3


def test_the_diagonal_and_unknown_pairs_have_no_number_and_no_colour() -> None:
    matrix = similarity()
    matrix[0, 1] = matrix[1, 0] = np.nan
    figure = figures.similarity_map(matrix, NAMES)
    assert len(figure.axes[0].texts) == 9 * 9 - 9 - 2
    shown = np.ma.masked_invalid(figure.axes[0].images[0].get_array())
    assert shown.mask.sum() == 11
    nothing = figures.similarity_map(np.full((3, 3), np.nan), NAMES[:3])
    assert not nothing.axes[0].texts


def test_more_families_than_colours_are_told_apart() -> None:
    many = [str(i) for i in range(14)]
    assert len({*figures.family_colors(many).values()}) == 14
    assert figures.family_colors(["x", "y", "x"]) == figures.family_colors(["x", "y"])


def test_a_curve_is_drawn_through_its_values_and_banded_only_where_an_interval_is_known() -> None:
    steps = np.array([0.0, 10.0, 20.0, 40.0])
    values, low = np.array([0.1, 0.2, np.nan, 0.4]), np.array([0.0, np.nan, np.nan, 0.3])
    curve = Curve("one", values, Look("#0072B2"), low, low + 0.2)
    figure = figures.over_steps(steps, [Panel("frame", [curve], "cosine", {"alone": (0.7, Look("#707070", "", ":"))})])
    axes = figure.axes[0]
    (line,) = [line for line in axes.lines if len(line.get_xdata()) == 4]
    assert np.array_equal(line.get_ydata(), values, equal_nan=True)
    (band,) = [c for c in axes.collections if isinstance(c, PolyCollection)]
    assert {round(x) for path in band.get_paths() for x in path.vertices[:, 0]} == {0, 40}
    assert any(np.allclose(line.get_ydata(), 0.7) for line in axes.lines)
    bare = figures.over_steps(steps, [Panel("frame", [Curve("one", values, Look("#0072B2"))])])
    assert not [c for c in bare.axes[0].collections if isinstance(c, PolyCollection)]


def test_layers_stand_in_the_order_of_the_forward_pass_and_steps_from_the_left() -> None:
    values = np.arange(12.0).reshape(3, 4)
    values[1, 1] = np.nan
    figure = figures.layer_map({"one": values, "two": -values}, ["embedding", "first", "second"], [0, 5, 10, 20])
    assert names(figure) == ["embedding", "first", "second"]
    assert np.array_equal(np.ma.getdata(figure.axes[0].images[0].get_array()), values, equal_nan=True)
    top = figure.axes[0].transData.transform([(0, 0), (0, 2)])
    assert top[0, 1] > top[1, 1]
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["0", "5", "10", "20"]


def test_maps_of_pairs_keep_rows_as_the_gradient_that_changes_and_put_families_together() -> None:
    shares = np.random.default_rng(0).uniform(size=(9, 9))
    figure = figures.pair_maps({"would": shares, "did": shares.T}, NAMES, FAMILIES)
    order = [NAMES.index(name) for name in names(figure)]
    assert [FAMILIES[i] for i in order] == ["a"] * 3 + ["b"] * 3 + ["c"] * 3
    shown = np.ma.getdata(figure.axes[0].images[0].get_array())
    assert shown[0, 5] == shares[order[0], order[5]]
    assert figure.axes[0].images[0].get_clim() == (0.0, 1.0)


def test_groups_have_their_numbers_with_intervals_and_none_where_nothing_is_known() -> None:
    known = np.array([0.2, np.nan])
    figure = figures.by_group(
        ["encoder", "decoder"], [Bar("negative", known, known - 0.1, known + 0.1, Look("k"))], "share"
    )
    points = [x for line in figure.axes[0].lines for x in np.atleast_1d(line.get_xdata()) if x == 0.2]
    assert points
    assert not [x for line in figure.axes[0].lines for x in np.atleast_1d(line.get_xdata()) if np.isnan(x)]
    ends = np.concatenate([s for c in figure.axes[0].collections for s in c.get_segments()])[:, 0]
    assert np.allclose(sorted(ends), [0.1, 0.3])


def test_points_stand_where_similarity_and_quality_are_and_unknown_ones_are_left_out() -> None:
    x, y = np.array([0.1, 0.2, np.nan]), np.array([30.0, 31.0, 32.0])
    cloud = Cloud("at equal loss", x, y, ["uniform", "gradvac", "gradvac"], "cosine", "BLEU")
    look = {"uniform": Look("#222222"), "gradvac": Look("#D55E00", "s")}
    figure = figures.scatter([cloud, cloud], look)
    drawn = sorted((float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in figure.axes[0].lines)
    assert drawn == [(0.1, 30.0), (0.2, 31.0)]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["uniform", "gradvac"]


def test_equal_arrays_give_equal_files(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        matrix = similarity()
        save({"map": figures.similarity_map(matrix, NAMES, linkage(matrix), FAMILIES)}, tmp_path / folder, "s")
    for name in ("s-map.svg", "s-map.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
