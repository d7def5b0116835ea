"""Figures draw exactly the statistics of the runs, are readable whatever the labels are, and are reproducible files."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from PIL import Image

from mtlbench.errors import UsageError
from mtlbench.record.runs import Collection, Run
from mtlbench.record.schema import MetricInfo
from mtlbench.record.selection import Rule, choose
from mtlbench.rendering.drawing import looks, save
from mtlbench.rendering.table import Table
from mtlbench.statistics import performance_profile, t_interval
from mtlbench.tables.across import Across
from mtlbench.tables.entries import Entry, Search
from mtlbench.tables.figures import (
    best_of_k,
    draw_across,
    draw_all,
    learning_curves,
    performance_profiles,
    score_against_cost,
    scores,
    trade_off,
)
from mtlbench.tables.leaderboard import Leaderboard, report
from mtlbench.tables.searches import best_of
from tests.handmade import ACCURACY, ERROR, record

OBJECTIVES = ("left", "right", "third", "fourth", "fifth")


@pytest.fixture(autouse=True)
def any_warning_fails() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def entry(
    method: str,
    finals: Any,
    words: str = "",
    label: str = "",
    epochs: int = 4,
    metric: MetricInfo = ACCURACY,
    seconds: Sequence[float] = (),
    search: Search | None = None,
) -> Entry:
    """A method whose test scores at its last and best epoch are `finals`, (n, K)."""
    runs = []
    sign = 1 if metric.higher_is_better else -1
    for seed, final in enumerate(finals):
        curves = []
        for epoch in range(1, epochs + 1):
            behind = sign * 3.0 * (epochs - epoch)
            test = {name: float(x) - behind for name, x in zip(OBJECTIVES, final, strict=False)}
            curves.append(({name: value + 0.5 + 0.1 * seed for name, value in test.items()}, test))
        made = record(
            method,
            seed,
            curves,
            metric=metric,
            separate=method == "single_task",
            seconds=seconds[seed] if seconds else 0.01,
            words=words,
        )
        runs.append(Run.of(made))
    role = "reference" if method == "single_task" else "method"
    selected = np.array([choose(run, Rule("best-val")).scores for run in runs])
    return Entry(label or runs[0].label, role, tuple(runs), selected, search=search)


def without_result(label: str) -> Entry:
    return Entry(label, "method", (), np.empty((0, 2)), missing=((0, "diverged"),))


def board(*entries: Entry, budget: int | None = None) -> Leaderboard:
    measures = next((e.runs[0].measures for e in entries if e.runs), ())
    table = Table("slug", "multimnist/digits, protocol digits@1", "", (), (), ())
    return Leaderboard(table, "multimnist", "digits", "digits@1", measures, entries, Rule("best-val"), budget=budget)


LEFT_RIGHT = np.array([[95.0, 94.0], [95.4, 93.8], [95.1, 94.3]])

UNIFORM = entry("uniform", LEFT_RIGHT)
PCGRAD = entry("pcgrad", LEFT_RIGHT + np.array([0.4, -0.3]), seconds=(0.02, 0.09, 0.03))
MGDA = entry("mgda", LEFT_RIGHT - 0.2)
SINGLE = entry("single_task", LEFT_RIGHT + 1)
WEIGHTS = [(0.5, 1.5), (1.8, 0.2), (0.2, 1.8)]
STATIC = [
    entry("scalarization", LEFT_RIGHT + np.array([w - 1, 1 - w]), words=f"method.weights=[{w},{v}]") for w, v in WEIGHTS
]


def bars(axes: Any) -> list[np.ndarray]:
    """The end points of all error bars, (2, 2) each."""
    return [
        segment
        for container in axes.containers
        for collection in container.lines[2]
        for segment in collection.get_segments()
    ]


def lines(axes: Any) -> list[np.ndarray]:
    return [line.get_xydata() for line in axes.lines if len(line.get_xdata()) > 1]


def words_in(figure: Any) -> str:
    from matplotlib.text import Text

    return "\n".join(text.get_text().replace("\n", " ") for text in figure.findobj(Text))


# --- what is drawn is what the runs say


def test_scores_are_means_with_t_intervals_in_the_order_of_the_table() -> None:
    shown = (PCGRAD, UNIFORM, MGDA)
    for column, axes in enumerate(scores(board(SINGLE, *shown)).axes):
        dots = [container.lines[0].get_xydata()[0] for container in axes.containers]
        assert [x for x, _ in dots] == [e.scores[:, column].mean() for e in shown]
        assert [y for _, y in dots] == sorted((y for _, y in dots), reverse=True)
        for segment, e in zip(bars(axes), shown, strict=True):
            inside = t_interval(e.scores[:, column])
            np.testing.assert_allclose(segment[:, 0], [inside.low, inside.high])
        base = t_interval(SINGLE.scores[:, column])
        (line,) = lines(axes)
        np.testing.assert_allclose(line[:, 0], base.mean)
        (band,) = axes.patches
        np.testing.assert_allclose([band.get_x(), band.get_x() + band.get_width()], [base.low, base.high])
    labels = [label.get_text() for label in scores(board(SINGLE, *shown)).axes[0].get_yticklabels()]
    assert labels == ["pcgrad", "uniform", "mgda"]


def test_one_seed_has_no_whiskers_and_the_figure_says_so() -> None:
    figure = scores(board(entry("uniform", LEFT_RIGHT[:1])))
    assert not any(bars(axes) for axes in figure.axes)
    assert "one seed" in words_in(figure)


def test_a_method_without_a_result_keeps_its_row() -> None:
    figure = scores(board(UNIFORM, without_result("gradvac")))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["uniform", "gradvac"]
    assert words_in(figure).count("no result") == 2


def test_the_trade_off_has_means_with_intervals_in_both_directions() -> None:
    (axes,) = trade_off(board(SINGLE, UNIFORM, PCGRAD)).axes
    for container, e in zip(axes.containers, (UNIFORM, PCGRAD), strict=True):
        x, y = (t_interval(e.scores[:, column]) for column in (0, 1))
        np.testing.assert_allclose(container.lines[0].get_xydata(), [[x.mean, y.mean]])
        across, up = (collection.get_segments()[0] for collection in container.lines[2])
        np.testing.assert_allclose(across, [[x.low, y.mean], [x.high, y.mean]])
        np.testing.assert_allclose(up, [[x.mean, y.low], [x.mean, y.high]])


def test_the_static_front_is_ordered_by_the_share_of_the_first_weight_and_includes_equal_weights() -> None:
    (axes,) = trade_off(board(SINGLE, PCGRAD, *STATIC, UNIFORM)).axes
    by_share = [STATIC[2], STATIC[0], UNIFORM, STATIC[1]]
    front = next(line for line in lines(axes) if len(line) == 4)
    np.testing.assert_allclose(front, [e.scores.mean(0) for e in by_share])
    assert len(axes.containers) == 2  # points of the front are no methods of their own
    assert "static weights" in words_in(axes.figure)


CROWD = ["gradvac", "mgda", "gradnorm", "cagrad", "config", "dualproj", "famo", "gls", "imtl_g", "moco", "upgrad"]


def crowd(methods: int) -> list[Entry]:
    """Methods that lie close together, and one far away."""
    spread = np.random.default_rng(0).normal(size=(methods, 3, 2))
    near = [entry(name, 90 + 0.1 * scores) for name, scores in zip(CROWD, spread, strict=False)]
    return [*near, entry("pcd", 30 + spread[0])]


def test_where_many_methods_crowd_the_frame_is_theirs_and_what_lies_outside_is_named() -> None:
    many = trade_off(board(UNIFORM, *crowd(11)))
    (axes,) = many.axes
    assert 89 < axes.get_xlim()[0] < axes.get_xlim()[1] < 91
    assert 89 < axes.get_ylim()[0] < axes.get_ylim()[1] < 91
    assert "beyond the frame: uniform, pcd" in words_in(many).replace("\n", " ")
    few = trade_off(board(*crowd(4)))
    assert few.axes[0].get_ylim()[0] < 30
    assert "beyond the frame" not in words_in(few).replace("\n", " ")


def test_without_static_weights_there_is_no_front() -> None:
    figure = trade_off(board(UNIFORM, PCGRAD))
    assert lines(figure.axes[0]) == []
    assert "static weights" not in words_in(figure)


@pytest.mark.parametrize(("objectives", "drawn"), [(2, 1), (3, 3), (4, 3)])
def test_trade_offs_of_pairs_of_objectives_mention_every_objective(objectives: int, drawn: int) -> None:
    finals = np.random.default_rng(0).normal(90, 1, (3, objectives))
    figure = trade_off(board(entry("uniform", finals), entry("mgda", finals + 0.1)))
    assert len(figure.axes) == drawn
    assert all(name in words_in(figure) for name in OBJECTIVES[:objectives])


@pytest.mark.parametrize("objectives", [1, 5])
def test_no_trade_off_of_one_objective_or_of_too_many(objectives: int) -> None:
    made = board(entry("uniform", np.full((2, objectives), 90.0)))
    assert set(draw_all(made)) == {"scores", "learning-curves", "score-against-cost"}
    with pytest.raises(UsageError, match="needs 2 to 4 objectives"):
        trade_off(made)


def test_the_direction_that_is_better_is_shown() -> None:
    higher, lower = (board(entry("uniform", LEFT_RIGHT, metric=metric)) for metric in (ACCURACY, ERROR))
    assert "better ↗" in words_in(trade_off(higher))
    assert "better ↙" in words_in(trade_off(lower))
    assert "left accuracy [%], better →" in words_in(scores(higher))
    assert "← better, left error" in words_in(scores(lower))


def test_learning_curves_are_validation_means_with_t_bands() -> None:
    for column, axes in enumerate(learning_curves(board(UNIFORM, PCGRAD)).axes):
        drawn = [collection for collection in axes.collections if isinstance(collection, PolyCollection)]
        for e, line, band in zip((UNIFORM, PCGRAD), lines(axes), drawn, strict=True):
            curves = np.array([run.val[:, column] for run in e.runs])
            expected = [t_interval(curves[:, epoch]) for epoch in range(4)]
            np.testing.assert_allclose(line, [(epoch + 1, b.mean) for epoch, b in enumerate(expected)])
            corners = {(round(x, 6), round(y, 6)) for x, y in band.get_paths()[0].vertices}
            for epoch, b in enumerate(expected, 1):
                assert {(float(epoch), round(b.low, 6)), (float(epoch), round(b.high, 6))} <= corners


def test_curves_of_different_lengths_are_drawn_where_all_seeds_are() -> None:
    short, long = entry("uniform", LEFT_RIGHT[:1], epochs=3), entry("uniform", LEFT_RIGHT[1:2], epochs=5)
    mixed = Entry("uniform", "method", (*short.runs, *long.runs), LEFT_RIGHT[:2])
    (line,) = lines(learning_curves(board(mixed)).axes[0])
    assert line[:, 0].tolist() == [1, 2, 3]


def test_crops_keep_all_later_epochs_in_the_frame_and_are_mentioned() -> None:
    figure = learning_curves(board(entry("uniform", LEFT_RIGHT, epochs=10), entry("mgda", LEFT_RIGHT, epochs=10)))
    low, high = figure.axes[0].get_ylim()
    (line, *_) = lines(figure.axes[0])
    inside = (low <= line[:, 1]) & (line[:, 1] <= high)
    assert inside.tolist() == [False] * 2 + [True] * 8
    assert "20% of the epochs are cropped" in words_in(figure)
    assert "cropped" not in words_in(learning_curves(board(UNIFORM)))


def test_many_curves_are_reduced_to_the_first_of_the_table_and_the_baseline() -> None:
    many = [entry("gradvac", LEFT_RIGHT + i / 10, words=f"method.beta={i / 20}") for i in range(1, 15)]
    figure = learning_curves(board(*many, UNIFORM))
    assert len(lines(figure.axes[0])) == 10
    assert "10 of 15 methods" in words_in(figure)
    assert "uniform" in words_in(figure)
    assert "gradvac(beta=0.45)" in words_in(figure)
    assert "gradvac(beta=0.5)" not in words_in(figure)


def test_score_against_cost_is_the_mean_over_objectives_at_the_median_time() -> None:
    (axes,) = score_against_cost(board(UNIFORM, PCGRAD)).axes
    for container, e, median in zip(axes.containers, (UNIFORM, PCGRAD), (10.0, 30.0), strict=True):
        inside = t_interval(e.scores.mean(1))
        np.testing.assert_allclose(container.lines[0].get_xydata(), [[median, inside.mean]])
    for segment, e in zip(bars(axes), (UNIFORM, PCGRAD), strict=True):
        inside = t_interval(e.scores.mean(1))
        np.testing.assert_allclose(segment[:, 1], [inside.low, inside.high])
    assert axes.get_xscale() == "linear"
    slow = entry("mgda", LEFT_RIGHT, seconds=(0.2, 0.2, 0.2))
    assert score_against_cost(board(UNIFORM, slow)).axes[0].get_xscale() == "log"


def test_no_axis_has_times_of_two_hosts() -> None:
    there = entry("mgda", LEFT_RIGHT)
    elsewhere = tuple(replace(r, provenance=r.provenance.model_copy(update={"host": "two"})) for r in there.runs)
    both = (*elsewhere[:1], *there.runs[1:])
    figure = score_against_cost(board(UNIFORM, PCGRAD, replace(there, runs=elsewhere)))
    assert [len(axes.containers) for axes in figure.axes] == [2, 1]
    assert [axes.get_title(loc="left").split(":")[0] for axes in figure.axes] == ["host 1", "host 2"]
    assert {"uniform", "pcgrad", "mgda"} <= set(words_in(figure).split("\n"))
    split = score_against_cost(board(UNIFORM, replace(there, runs=both)))
    assert [len(axes.containers) for axes in split.axes] == [2, 1]


def searched(method: str, merit: Sequence[float], test: Any, metric: MetricInfo = ACCURACY) -> Entry:
    judged, scores = np.asarray(merit, dtype=np.float64), np.asarray(test, dtype=np.float64)
    best = int(judged.argmax())
    found = Search(len(judged), best, judged, scores, np.full_like(judged, np.nan), np.full_like(scores, np.nan), best)
    return entry(method, LEFT_RIGHT, metric=metric, search=found)


def test_the_best_of_k_curve_is_the_exact_expectation() -> None:
    test = np.array([[90.0, 80], [93, 85], [91, 84], [95, 79]])
    e = searched("pcgrad", [1, 4, 2, 3], test)
    (axes,) = best_of_k(board(e, UNIFORM, budget=4)).axes
    (line,) = lines(axes)
    np.testing.assert_allclose(line[:, 0], [1, 2, 3, 4])
    np.testing.assert_allclose(line[:, 1], best_of([1, 4, 2, 3], test.mean(1)))
    np.testing.assert_allclose(line[[0, 3], 1], [test.mean(), 89.0])


@pytest.mark.parametrize(("metric", "worst"), [(ACCURACY, 84.0), (ERROR, 90.0)])
def test_failed_trials_are_drawn_last_and_count_like_the_worst_that_finished(metric: MetricInfo, worst: float) -> None:
    nothing = [np.nan, np.nan]
    e = searched("pcgrad", [-np.inf, 2, 1, -np.inf], [nothing, [90, 90], [84, 84], nothing], metric)
    figure = best_of_k(board(e, budget=4))
    (line,) = lines(figure.axes[0])
    filled = [worst, 90, 84, worst]
    assert line[0, 1] == np.mean(filled)
    assert line[1, 1] == (3 * 90 + 2 * 84 + worst) / 6  # only one of the six pairs is of failed trials alone
    assert line[3, 1] == 90
    assert "no result" in words_in(figure)


def test_a_search_in_which_everything_failed_has_no_curve() -> None:
    nothing = searched("mgda", [-np.inf] * 2, np.full((2, 2), np.nan))
    assert "best-of-k" not in draw_all(board(nothing, UNIFORM))
    assert len(lines(best_of_k(board(nothing, searched("pcgrad", [1, 2], [[1, 2], [3, 4]]))).axes[0])) == 1
    with pytest.raises(UsageError, match="needs a tuned method"):
        best_of_k(board(UNIFORM))


def test_performance_profiles_are_exact_steps() -> None:
    rng = np.random.default_rng(0)
    runs = [[rng.normal(m, 1, 3), rng.normal(m, 1, 5)] for m in (0, 0.5)]
    (axes,) = performance_profiles(["uniform", "mgda"], runs).axes
    for line, tasks in zip(axes.lines, runs, strict=True):
        x, y = line.get_data()
        assert line.get_drawstyle() == "steps-pre"
        np.testing.assert_allclose(y, performance_profile(tasks, x))
        between = (np.asarray(x)[1:] + np.asarray(x)[:-1]) / 2
        np.testing.assert_allclose(performance_profile(tasks, between), np.asarray(y)[1:])
        assert (y[0], y[-1]) == (1, 0)
    (axes,) = performance_profiles(["uniform"], runs[:1], thresholds=[0.0, 1.0]).axes
    np.testing.assert_allclose(axes.lines[0].get_xdata(), [0, 1])


def test_a_table_over_several_tasks_has_the_profiles_of_the_methods_that_ran_on_all() -> None:
    runs = {"uniform": [np.array([0.0, 1.0]), np.array([-1.0])], "mgda": [np.array([2.0]), np.array([1.0])]}
    table = Table("across", "2 tasks on real data", "", (), (), ())
    (figure,) = draw_across(Across(table, (), runs)).values()
    assert {"2 tasks on real data; every task counts alike", "uniform", "mgda"} <= set(words_in(figure).split("\n"))
    assert [line.get_ydata()[0] for line in figure.axes[0].lines] == [1, 1]
    assert draw_across(Across(table, (), {})) == {}


# --- how it looks


def test_a_method_has_one_colour_in_every_figure_and_the_baseline_is_black() -> None:
    made = board(SINGLE, UNIFORM, PCGRAD, MGDA)
    by_figure = []
    for figure in (scores(made), trade_off(made)):
        by_figure.append([container.lines[0].get_color() for container in figure.axes[0].containers])
    curves = [line.get_color() for line in learning_curves(made).axes[0].lines]
    assert by_figure[0] == by_figure[1] == curves[:3]
    assert len(set(curves)) == 4
    assert by_figure[0][0] == "#222222"


def test_looks_are_distinct_and_stay_when_others_leave() -> None:
    labels = [f"method{i}" for i in range(24)]
    found = looks(labels, None, None)
    assert len({(look.color, look.marker) for look in found.values()}) == 24
    assert len({(look.color, look.dashes) for look in found.values()}) == 24
    assert len({look.color for look in looks(labels[:6], None, None).values()}) == 6
    alone = looks(["gradvac"], None, None)["gradvac"]
    assert looks(["gradvac", "uniform"], "uniform", None)["gradvac"] == alone


STRANGE = [
    "$x^2$ 100%",
    "_under_score <b>",
    "\\frac{$ & #",
    "a" * 200,
    "pcgrad(" + ", ".join(f"parameter{i}=0.12345" for i in range(20)) + ")",
]


def test_labels_are_taken_literally_and_stay_inside() -> None:
    entries = [entry("pcgrad", LEFT_RIGHT, label=label) for label in STRANGE]
    for name, figure in draw_all(board(SINGLE, *entries)).items():
        shown = words_in(figure)
        assert all(label in shown for label in STRANGE[:3]), name
        frame = figure.bbox.padded(1)
        names = figure.axes[0].get_yticklabels() if name == "scores" else []
        for text in [*names, *(text for legend in figure.legends for text in legend.get_texts())]:
            box = text.get_window_extent()
            assert frame.x0 <= box.x0, name
            assert box.x1 <= frame.x1, name
            assert frame.y0 <= box.y0, name
            assert box.y1 <= frame.y1, name


def test_twenty_long_labels_do_not_overflow() -> None:
    rng = np.random.default_rng(1)
    entries = [
        entry("gradvac", LEFT_RIGHT + rng.normal(0, 1, 2), label=f"gradvac(beta=0.{i:02d}, target=0.5, all_layer)")
        for i in range(20)
    ]
    for name, figure in draw_all(board(UNIFORM, *entries)).items():
        boxes = [legend.get_window_extent() for legend in figure.legends]
        assert all(figure.bbox.padded(1).containsy(y) for box in boxes for y in (box.y0, box.y1)), name
        assert all(figure.bbox.padded(1).containsx(x) for box in boxes for x in (box.x0, box.x1)), name
        for axes in figure.axes:
            assert axes.get_window_extent().width > 250, name


def test_names_beside_points_cover_neither_each_other_nor_a_point() -> None:
    figure = score_against_cost(board(SINGLE, UNIFORM, PCGRAD, MGDA))
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert [text.get_text() for text in axes.texts] != []
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    dots = [axes.transData.transform(container.lines[0].get_xydata()[0]) for container in axes.containers]
    assert not any(box.contains(*dot) for box in boxes for dot in dots)


def test_where_names_have_no_room_there_is_a_legend() -> None:
    same = [entry("gradvac", LEFT_RIGHT, words=f"method.beta={i / 100}") for i in range(1, 15)]
    figure = score_against_cost(board(*same))
    assert len(figure.axes[0].texts) == 0
    assert len(figure.legends[0].get_texts()) == 14


@pytest.mark.parametrize(
    "entries",
    [
        (entry("uniform", LEFT_RIGHT[:1], epochs=1),),
        (entry("uniform", LEFT_RIGHT[:1] * 0, epochs=1),),
        (entry("uniform", np.full((3, 2), 90.0)), entry("mgda", np.full((3, 2), 90.0))),
        (SINGLE,),
        (*STATIC,),
        (UNIFORM, without_result("mgda")),
        (without_result("uniform"), PCGRAD),
        (entry("uniform", LEFT_RIGHT, seconds=(0.0, 0.0, 0.0)), PCGRAD),
        (entry("uniform", LEFT_RIGHT[:, :1]),),
        (entry("single_task", LEFT_RIGHT[:1]), UNIFORM),
    ],
    ids=[
        "one seed and epoch",
        "zero",
        "equal values",
        "reference only",
        "static only",
        "one failed",
        "baseline failed",
        "no time",
        "one objective",
        "reference with one seed",
    ],
)
def test_degenerate_boards_are_drawn_without_a_warning(entries: tuple[Entry, ...], tmp_path: Path) -> None:
    figures = draw_all(board(*entries))
    assert {"scores", "learning-curves", "score-against-cost"} <= set(figures)
    assert all(path.stat().st_size > 1000 for path in save(figures, tmp_path, "x"))


def test_nothing_is_drawn_where_everything_failed() -> None:
    assert draw_all(board(without_result("uniform"), without_result("mgda"))) == {}


def test_the_board_of_records_is_drawn() -> None:
    (made,) = report(Collection(runs=[run for e in (SINGLE, UNIFORM, PCGRAD) for run in e.runs])).boards
    figures = draw_all(made)
    assert set(figures) == {"scores", "trade-off", "learning-curves", "score-against-cost"}
    assert made.table.heading.split(",")[0] in words_in(figures["scores"])


# --- files


def test_files_are_png_and_svg_that_are_not_blank(tmp_path: Path) -> None:
    written = save(draw_all(board(SINGLE, UNIFORM, PCGRAD)), tmp_path / "new", "digits")
    names = [
        f"digits-{n}.{s}"
        for n in ("scores", "trade-off", "learning-curves", "score-against-cost")
        for s in ("png", "svg")
    ]
    assert [path.name for path in written] == names
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(names)
    for path in written:
        if path.suffix == ".png":
            with Image.open(path) as image:
                assert image.format == "PNG"
                assert round(image.info["dpi"][0]) == 150
                colours = image.convert("RGB").getcolors(1 << 20)
                corner = image.convert("RGB").getpixel((0, 0))
            assert colours is not None
            assert len(colours) > 20
            assert corner == (255, 255, 255)
        else:
            text = path.read_text()
            assert text.startswith("<?xml")
            assert "<svg" in text
            assert "<dc:date>" not in text


def test_equal_records_give_byte_identical_files_whatever_the_user_configured(tmp_path: Path) -> None:
    made = board(SINGLE, UNIFORM, PCGRAD, *STATIC)
    first = [path.read_bytes() for path in save(draw_all(made), tmp_path / "a", "x")]
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "svg.hashsalt": "other"}):
        second = [path.read_bytes() for path in save(draw_all(made), tmp_path / "b", "x")]
        assert matplotlib.rcParams["font.size"] == 30
    assert first == second


def test_matplotlib_is_loaded_only_to_draw_and_pyplot_never() -> None:
    code = (
        "import sys, mtlbench.tables.figures as f; assert 'matplotlib' not in sys.modules;"
        "f.performance_profiles(['uniform'], [[f.np.array([1.0, 2.0])]]);"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
