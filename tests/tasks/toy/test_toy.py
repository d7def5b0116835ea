"""The landscapes: their losses, their Pareto sets, the way that a point takes, and figures of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtlbench.catalogue.variants import resolve, task_data
from mtlbench.cli.main import main
from mtlbench.errors import UsageError
from mtlbench.record.reading import cells
from mtlbench.record.runs import Run, collect
from mtlbench.record.schema import Record
from mtlbench.running.task_conformance import battery
from mtlbench.tasks.toy import Toy
from mtlbench.tasks.toy.figures import draw
from mtlbench.tasks.toy.landscapes import Bowl, Landscape, Valleys

NASH, PCGRAD = Bowl((0.1, 1.0)), Valleys((20.0, 25.0))
SHORT = "protocol.epochs=2 protocol.options.steps_per_epoch=10 protocol.options.keep_every=4"


def build(variant: str, **overrides: Any) -> Toy:
    name, protocol = resolve("toy", variant, None, {k.replace("__", "."): v for k, v in overrides.items()})
    return Toy(name, protocol, None, torch.device("cpu"))


@pytest.mark.parametrize(
    ("landscape", "place", "losses"),
    [
        (PCGRAD, (0.5, -3.0), (20 * math.log(math.tanh(3) - 0.25), 25 * math.log(2.25 + math.tanh(3)))),
        (PCGRAD, (-2.0, 8.0), (20 * math.log(5e-6), 25 * math.log(5e-6))),  # below the bottom of both valleys
        (NASH, (0.0, 0.0), (0.0, 0.0)),
        (NASH, (7.0, -8.0), (-2.0 * math.tanh(4), -0.4 * math.tanh(4))),  # the middle of the first bowl: 196/10 - 20
        (NASH, (-7.0, -18.0), (-0.1 * (20 - 19.6 - 1) * math.tanh(9), -19 * math.tanh(9))),  # (-x2 - 8)^2 is 100
        (
            NASH,
            (1.0, 2.0),
            (
                0.1 * math.tanh(1) * (math.log(4 - math.tanh(2)) + 6),
                math.tanh(1) * (math.log(1 - math.tanh(2) + 2) + 6),  # the sign of the code, not of CAGrad's paper
            ),
        ),
    ],
)
def test_losses_are_those_of_the_formulas(
    landscape: Landscape, place: tuple[float, float], losses: tuple[float, float]
) -> None:
    np.testing.assert_allclose(landscape.at(np.array(place)), losses, rtol=1e-12, atol=1e-12)


def test_the_bottom_of_a_valley_is_flat_and_its_sides_are_not() -> None:
    place = torch.tensor([[-2.0, 8.0], [-1.0, 8.0]], dtype=torch.float64, requires_grad=True)
    sum(PCGRAD.losses(place)).sum().backward()
    assert place.grad is not None
    assert place.grad[0].tolist() == [0.0, 0.0]
    assert place.grad[1, 0] == pytest.approx(20 * 0.5 / 0.5 + 25 * 0.5 / 0.5)  # of log |x1/2 + 1| at x1 = -1


@pytest.mark.parametrize("landscape", [NASH, PCGRAD, Bowl((1.0, 1.0))])
def test_no_place_is_better_in_both_losses_than_one_of_the_pareto_set(landscape: Landscape) -> None:
    pareto = landscape.pareto_set()
    front = landscape.at(pareto[:: len(pareto) // 2 or 1])
    grid = np.stack(np.meshgrid(np.linspace(-25, 25, 301), np.linspace(-25, 25, 301)), -1).reshape(-1, 2)
    near = np.concatenate([pareto[len(pareto) // 2] + 0.05 * k * np.array([[0, 1], [1, 0], [1, 1]]) for k in (-1, 1)])
    others = landscape.at(np.concatenate([grid, near]))
    assert not (others[:, None] < front - 1e-9).all(-1).any()


def test_between_the_bowls_the_gradients_point_against_each_other() -> None:
    places = torch.from_numpy(NASH.pareto_set()[50:-50:90]).requires_grad_()
    first, second = (torch.autograd.grad(loss.sum(), places, retain_graph=True)[0] for loss in NASH.losses(places))
    cosines = torch.nn.functional.cosine_similarity(first, second)
    torch.testing.assert_close(cosines, -torch.ones_like(cosines), rtol=1e-9, atol=0)


def test_the_distance_is_to_the_nearest_place_of_the_pareto_set() -> None:
    middle = NASH.pareto_set()[500]
    assert middle == pytest.approx([0.0, -8.3551], abs=1e-4)
    assert NASH.distance(middle) == pytest.approx(0, abs=1e-9)
    assert NASH.distance(middle + np.array([0, 3])) == pytest.approx(3, abs=1e-3)
    assert NASH.distance(NASH.pareto_set()[0] + np.array([3, 4])) == pytest.approx(5, abs=1e-2)
    assert PCGRAD.distance(np.array([-1.0, 9.0])) == pytest.approx(1)
    assert PCGRAD.distance(np.array([-2.0, 0.0])) == pytest.approx(math.atanh(1 - 5e-6))


def test_starting_points_are_chosen_by_number_and_no_seed_changes_them() -> None:
    five = [build("nash", options__start=k).model().place.tolist() for k in range(1, 6)]
    assert five == [[-8.5, 7.5], [0.0, 0.0], [9.0, 9.0], [-7.5, -0.5], [9.0, -1.0]]
    assert build("pcgrad").model().place.tolist() == [0.5, -3.0]
    with pytest.raises(UsageError, match=r"start=2 is not allowed: it is at most 1"):
        build("pcgrad", options__start=2)
    with pytest.raises(UsageError, match=r"protocol\.options\.scales"):
        build("nash", options__scales=[0.0, 1.0])


@pytest.mark.parametrize("variant", ["nash", "pcgrad"])
def test_it_does_what_every_task_must_do(variant: str) -> None:
    assert [f"{finding.name}: {finding.problem}" for finding in battery("toy", variant) if finding.problem] == []


def way(path: Path) -> np.ndarray:
    assert path.read_text().splitlines()[0] == "step,x1,x2,first,second"
    return np.loadtxt(path, delimiter=",", skiprows=1)


@pytest.mark.parametrize("method", ["uniform", "famo"])
def test_the_way_begins_at_the_start_and_ends_where_the_scores_are(
    train: Callable[..., Record], tmp_path: Path, method: str
) -> None:
    """Famo looks at the losses after each step, which is no place of its own."""
    record = train(f"method={method} task=toy/nash against=none {SHORT}", predictions=tmp_path)
    rows = way(tmp_path / "trajectory.csv")
    assert rows[:, 0].tolist() == [0, 4, 8, 12, 16, 20]
    assert rows[0, 1:3].tolist() == [-8.5, 7.5]
    np.testing.assert_allclose(np.abs(np.diff(rows[:, 1], axis=0)), 4e-3, rtol=0.2)  # four steps of Adam at 1e-3
    scores = record.evaluations[-1].scores["test"]
    assert rows[-1, 3:].tolist() == [scores[name]["loss"] for name in ("first", "second")]
    assert scores["first"]["distance"] == NASH.distance(rows[-1, 1:3])
    np.testing.assert_allclose(rows[:, 3:], NASH.at(rows[:, 1:3]), rtol=1e-12)


def test_each_single_task_model_has_a_way_of_its_own(train: Callable[..., Record], tmp_path: Path) -> None:
    train(f"method=single_task task=toy/nash start=5 against=none {SHORT}", predictions=tmp_path)
    first, second = (way(tmp_path / f"trajectory-{name}.csv") for name in ("first", "second"))
    assert first[0].tolist() == second[0].tolist()
    assert first[-1, 3] < first[0, 3]
    assert second[-1, 4] < second[0, 4]
    assert second[-1, 1] < 9
    assert first[-1].tolist() != second[-1].tolist()


def runs(folder: Path) -> list[tuple[Run, Path]]:
    return [(run, run.path.parent) for run in collect(cells(folder)).runs]


@pytest.fixture
def trained(train: Callable[..., Record], tmp_path: Path) -> Callable[[str], None]:
    """Leave a cell with its trajectory below `tmp_path`."""

    def cell(words: str) -> None:
        folder = tmp_path / "toy" / "nash" / "nash@1" / "method" / f"seed0-{abs(hash(words)):x}"
        folder.mkdir(parents=True)
        task = "" if "task=" in words else "task=toy/nash"
        record = train(f"{task} against=none {SHORT} {words}", folder, predictions=folder)
        folder = folder.rename(folder.with_name(f"seed0-{record.id}"))
        record.save(folder)

    return cell


def test_a_figure_has_a_panel_for_each_method_and_a_line_for_each_start(
    trained: Callable[[str], None], tmp_path: Path
) -> None:
    for words in ("method=uniform start=1", "method=uniform start=3", "method=pcgrad start=1"):
        trained(words)
    figures = draw(runs(tmp_path))
    assert [*figures] == ["landscape", "losses"]
    for figure in figures.values():
        assert [axes.get_title(loc="left") for axes in figure.axes] == ["uniform", "pcgrad"]
        ways = [[c for c in axes.collections if type(c).__name__ == "LineCollection"] for axes in figure.axes]
        assert [len(lines) for lines in ways] == [2, 1]
    starts = {tuple(line.get_segments()[0][0]) for line in figures["landscape"].axes[0].collections[-2:]}
    assert starts == {(-8.5, 7.5), (9.0, 9.0)}


def test_a_pareto_set_with_one_pair_of_losses_is_a_point_between_the_losses(
    trained: Callable[[str], None], tmp_path: Path
) -> None:
    trained("task=toy/pcgrad method=uniform")
    figures = draw(runs(tmp_path))
    (front,) = [line for line in figures["losses"].axes[0].lines if line.get_linewidth() > 3]
    assert front.get_marker() == "o"
    np.testing.assert_allclose(front.get_xydata(), [[20 * math.log(5e-6), 25 * math.log(5e-6)]] * 2, rtol=1e-9)
    (ray,) = [line for line in figures["landscape"].axes[0].lines if line.get_linewidth() > 3]
    assert ray.get_marker() == "None"


def test_the_command_writes_figures_of_what_runs_left(trained: Callable[[str], None], tmp_path: Path) -> None:
    trained("method=uniform")
    (folder,) = [run.path.parent for run in collect(cells(tmp_path)).runs]
    aside = tmp_path / "aside" / folder.relative_to(tmp_path)
    aside.mkdir(parents=True)
    (folder / "trajectory.csv").rename(aside / "trajectory.csv")
    words = ["draw", "toy/nash", f"results={tmp_path}", "--out", str(tmp_path / "out")]
    codes = []
    for more in ([], [f"predictions={tmp_path / 'aside'}"]):
        with pytest.raises(SystemExit) as end:
            main([*words, *more])
        codes.append(end.value.code)
    assert codes == [2, 0]
    expected = [f"toy-nash-{name}.{form}" for name in ("landscape", "losses") for form in ("png", "svg")]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == expected


def test_what_cannot_be_drawn_is_said(trained: Callable[[str], None], tmp_path: Path) -> None:
    trained("method=uniform")
    (one,) = runs(tmp_path)
    with pytest.raises(UsageError, match="No run there has a trajectory"):
        draw([(one[0], tmp_path)])
    trained("method=uniform protocol.options.scales=[1,1]")
    with pytest.raises(UsageError, match="losses of several scales"):
        draw(runs(tmp_path))
    (one[1] / "trajectory.csv").write_text("step,x1\n0,nonsense\n")
    with pytest.raises(UsageError, match=r"trajectory\.csv is no trajectory"):
        draw([one])


def test_it_is_not_in_tables_over_tasks() -> None:
    assert not task_data("toy").in_tables_over_tasks
    assert not task_data("controls").in_tables_over_tasks
    assert task_data("multimnist").in_tables_over_tasks
