"""The tuned regime: equal trials in one space for all methods, a run-off on validation alone, reruns on fresh seeds."""

from __future__ import annotations

import math
import shlex
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydantic
import pytest
from annotated_types import Interval
from conftest import FIXTURES, ROOT, Commands, curves, files
from handmade import ERROR, record

import mtlbench
from mtlbench.catalogue import building, registry
from mtlbench.catalogue.search import Choice, Range
from mtlbench.catalogue.signature import parameters, validated
from mtlbench.catalogue.variants import task_data
from mtlbench.cells.cell import Cell, identity
from mtlbench.cells.request import Request, parse
from mtlbench.cells.trials import AXIS, RUNOFF_SEEDS, TRIAL_SEEDS, reruns, runoff, sample
from mtlbench.cli.scaffold import scaffold
from mtlbench.errors import UsageError
from mtlbench.record.reading import cells, load
from mtlbench.record.runs import Run, collect
from mtlbench.record.schema import CHECKPOINT, FAILURE, RECORD, CellInfo
from mtlbench.record.selection import Rule, choose, finalists, merit, winner
from mtlbench.running.checking import check
from mtlbench.tables.commands import commands
from mtlbench.tables.grids import content_digest

RESULTS = ROOT / "results"

FRAIL = """
import os
from typing import Annotated
import mtlbench

@mtlbench.register_method("frail")
class Frail(mtlbench.LossWeighting):
    # With the learning rate given, the rates of the first four trials are 0.5, 0.105, 0.837 and 0.569.
    def __init__(self, rate: Annotated[float, mtlbench.Range(low=0.0, high=1.0)] = 0.5) -> None:
        super().__init__()
        self.rate = rate

    def scalarize(self, losses):
        if self.rate > 0.7 and not os.environ.get("FRAIL_HEALTHY"):
            raise RuntimeError("too fast")
        return losses.sum() * (float("nan") if self.rate < 0.3 else 1.0)
"""


@pytest.fixture(scope="module")
def frail(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A method that diverges at low rates and raises at high ones."""
    path = tmp_path_factory.mktemp("plugins") / "frail.py"
    path.write_text(FRAIL)
    registry.load_plugin(path)
    return path


def request(words: str) -> Request:
    return parse(words.split())


def shared(cell: Cell) -> tuple[float, float, float]:
    p = cell.protocol
    return p.optimizer.lr, p.options["dropout"], p.optimizer.weight_decay


def done(cell: Cell, val: float, test: float, **changes: Any) -> Run:
    """A finished run of a trial by hand."""
    found = {"id": cell.id, "cell": CellInfo(**cell.canonical()), **changes}
    return Run.of(record(curves=[({"left": val, "right": val}, {"left": test, "right": test})], **found))


def state(results: Path) -> Counter[tuple[str, str]]:
    """How many trials, runs of run-offs and reruns ended how."""
    found = collect(cells(results))
    ended = [("finished", run.cell) for run in found.runs] + [(absent.status, absent.cell) for absent in found.absent]
    return Counter((stage(cell), status) for status, cell in ended if cell and cell.tuning)


def stage(cell: CellInfo) -> str:
    assert cell.tuning is not None
    return "run-off" if cell.tuning.runoff else "trial" if cell.tuning.is_trial else "rerun"


# --- the space ---------------------------------------------------------------------------------------------


def test_first_the_learning_rate_alone_is_varied_and_all_else_keeps_its_default() -> None:
    unit = Range(low=0.0, high=1.0)
    found = [sample({AXIS: unit, "a": unit}, trial) for trial in range(5)]
    assert found == [{AXIS: u} for u in (0.5, 0.333, 0.667, 0.167, 0.833)]
    found = request("method=gradvac task=multimnist tune=5").cells
    default = request("method=gradvac task=multimnist").cells[0]
    assert [shared(cell)[0] for cell in found] == [0.003, 0.00139, 0.00646, 0.000646, 0.0139]
    assert {shared(cell)[1:] for cell in found} == {shared(default)[1:]}
    assert [cell.parameters for cell in found] == [default.parameters] * 5


def test_then_all_keys_move_by_irrational_steps_that_are_not_those_of_another() -> None:
    unit = Range(low=0.0, high=1.0)
    space = {"a": unit, AXIS: unit, "b": unit}
    assert sample(space, 5) == {
        "a": float(f"{22 * math.sqrt(2) % 1:.3g}"),
        "b": float(f"{22 * math.sqrt(3) % 1:.3g}"),
        AXIS: float(f"{1 / 6 + 2 / 3 * (11 * (math.sqrt(5) - 1) % 1):.3g}"),
    }
    assert sample(space, 8)["b"] == float(f"{25 * math.sqrt(3) % 1:.3g}")


@pytest.mark.parametrize("budget", [8, 16])
def test_the_learning_rate_moves_together_with_no_other_key(budget: int) -> None:
    keys = [AXIS, "a", "b", "c", "d"]
    unit = Range(low=0.0, high=1.0)
    # The default of every key but the learning rate is in the middle.
    points = [{**dict.fromkeys(keys, 0.5), **sample(dict.fromkeys(keys, unit), trial)} for trial in range(budget)]
    later = [[point[key] for key in keys] for point in points[5:]]
    assert np.abs(np.corrcoef([[point[key] for key in keys] for point in points], rowvar=False)[0, 1:]).max() < 0.45
    assert np.ptp([point[1:3] for point in later], axis=0).min() > 0.7  # three values that are low, middle and high
    assert 1 / 6 <= min(point[0] for point in later) < max(point[0] for point in later) <= 5 / 6


@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_a_search_ends_nearer_the_optimum_than_points_in_which_all_keys_move_together(noise: float) -> None:
    rng = np.random.default_rng(3)
    unit = Range(low=0.0, high=1.0)
    keys, surfaces = [AXIS, "a", "b"], 2000
    optimum = np.c_[rng.uniform(0.15, 0.85, surfaces), rng.uniform(size=(surfaces, 2))]
    defaults = np.clip(optimum + rng.normal(0, 0.25, optimum.shape), 0, 1)
    given = [sample(dict.fromkeys(keys, unit), trial) for trial in range(8)]
    mine = np.stack(
        [
            np.stack([np.broadcast_to(point.get(key, defaults[:, i]), surfaces) for i, key in enumerate(keys)])
            for point in given
        ]
    )  # (8, 3, surfaces)
    halton = np.array([[mirrored(index, base) for base in (2, 3, 5)] for index in range(1, 9)])[:, :, None]

    def regret(points: np.ndarray) -> float:
        loss = (np.array([100.0, 20.0, 20.0])[:, None] * (points - optimum.T) ** 2).sum(1)
        chosen = (loss + noise * rng.standard_normal(loss.shape)).argmin(0)
        return float(np.take_along_axis(loss, chosen[None], 0).mean())

    assert regret(mine) < 0.8 * regret(halton + np.zeros(surfaces))


def mirrored(index: int, base: int) -> float:
    """The digits of `index` in `base`, mirrored at the point: a coordinate of the Halton sequence."""
    found, unit = 0.0, 1.0
    while index:
        index, digit = divmod(index, base)
        unit /= base
        found += digit * unit
    return found


def test_without_the_learning_rate_the_first_trial_is_the_defaults() -> None:
    first, second = request("method=uniform task=multimnist tune=2 protocol.optimizer.lr=0.01").cells
    (default,) = request("method=uniform task=multimnist protocol.optimizer.lr=0.01").cells
    assert shared(first) == shared(default)
    second_dropout, second_decay = 0.5 * (22 * math.sqrt(2) % 1), 1e-6 * 1e4 ** (22 * math.sqrt(3) % 1)
    assert shared(second) == (0.01, float(f"{second_dropout:.3g}"), float(f"{second_decay:.3g}"))


def test_a_position_is_the_inverse_of_the_value_there() -> None:
    for searched in (Range(low=0.0, high=0.5), Range(low=3e-4, high=3e-2, scale="log")):
        for u in (0.0, 0.2, 0.5, 0.9):
            assert searched.position(searched.at(u)) == pytest.approx(u, abs=1e-3)
    assert Range(low=1e-6, high=1e-2, scale="log").position(0.0) == -math.inf
    assert Range(low=0.0, high=0.5).position(0.75) == 1.5


def test_ranges_are_linear_or_logarithmic_with_three_digits_inside_their_bounds() -> None:
    assert Range(low=0.0, high=0.5).at(1 / 3) == 0.167
    assert Range(low=1e-4, high=1e-2, scale="log").at(0.5) == 0.001
    assert Range(low=3e-4, high=3e-2, scale="log").at(1 / 3) == 0.00139
    close = Range(low=0.12345, high=0.99996)
    assert (close.at(0), close.at(0.99999)) == (0.12345, 0.99996)


def test_whole_numbers_and_choices_are_equally_likely() -> None:
    points = [i / 60 for i in range(60)]
    whole = [Range(low=1, high=3).at(u) for u in points]
    assert Counter(whole) == {1: 20, 2: 20, 3: 20}
    assert {type(value) for value in whole} == {int}
    assert Counter(Choice(values=("a", False, 2.5)).at(u) for u in points) == {"a": 20, False: 20, 2.5: 20}


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda: Range(low=1, high=1), "low must be less than high"),
        (lambda: Range(low=0.0, high=1.0, scale="log"), "low must be positive"),
        (lambda: Range(low=0.0, high=math.inf), "finite"),
        (lambda: Range(low=0.0, high=1.0, step=2), "step"),
        (lambda: Choice(values=("one",)), "at least 2"),
    ],
)
def test_a_space_without_sense_is_refused(made: Callable[[], object], says: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=says):
        made()


def test_a_space_in_an_annotation_is_found_and_changes_nothing_about_its_validation() -> None:
    class Example:
        def __init__(
            self,
            rate: Annotated[float, mtlbench.Range(low=0.1, high=0.9), Interval(gt=0, le=1)] = 0.5,
            share: Annotated[float, Interval(ge=0), mtlbench.Range(low=0, high=1)] | None = None,
            mode: Annotated[str, mtlbench.Choice(values=("x", "y"))] = "x",
            plain: Annotated[float, Interval(gt=0)] = 1.0,
        ) -> None: ...

    declared = parameters(Example)
    assert {name: str(p.search) for name, p in declared.items()} == {
        "rate": "0.1 .. 0.9",
        "share": "0 .. 1",
        "mode": "one of x, y",
        "plain": "None",
    }
    assert declared["rate"].allowed == "float in (0, 1]"
    given = {"rate": "1e-1", "share": "none", "mode": "z"}
    assert validated("example", Example, given) == {"rate": 0.1, "share": None, "mode": "z", "plain": 1.0}
    with pytest.raises(UsageError, match=r"it takes float in \(0, 1\]"):
        validated("example", Example, {"rate": 1.5})


@pytest.mark.parametrize(
    ("search", "says"),
    [
        ({"optimizer.rate": {"low": 0.1, "high": 1.0}}, "optimizer.rate"),
        ({"optimizer.lr": {"low": -1.0, "high": 1.0}}, "optimizer.lr"),
        ({"options.size": {"low": 1.0, "high": 2.0}}, "options.size=1.5"),
        ({"optimizer.name": {"values": ["adam", "lion"]}}, "optimizer.name"),
        ({"version": {"low": 1, "high": 2}}, "version"),
        ({"optimizer.lr": {"low": 1.0}}, "optimizer.lr"),
    ],
)
def test_a_protocol_whose_space_it_does_not_allow_is_refused(tiny: Path, search: Any, says: str) -> None:
    data = registry.tasks.entry("tiny").protocols
    assert isinstance(data, dict)
    protocols = {**data["protocols"], "short": {**data["protocols"]["short"], "search": search}}

    class Picky(mtlbench.Task):
        pass

    mtlbench.register_task("picky", protocols={**data, "protocols": protocols})(Picky)
    try:
        with pytest.raises(UsageError, match=says):
            task_data("picky")
    finally:
        del registry.tasks.entries()["picky"]


def test_every_stated_space_can_be_searched(tmp_path: Path) -> None:
    for task in registry.tasks.names():
        protocols = {about.protocol: name for name, about in task_data(task).variants.items()}
        for protocol, variant in protocols.items():
            if task_data(task).protocols[protocol].search:
                assert request(f"method=uniform task={task}/{variant} tune=20").cells
    assert request(f"method={','.join(registry.methods.names())} task=multimnist tune=9").cells
    registry.load_plugin(scaffold("task", "my_own", tmp_path))
    assert len(request("method=uniform task=my_own tune=3").cells) == 3


# --- trials ------------------------------------------------------------------------------------------------


def test_at_equal_trial_all_methods_share_learning_rate_and_regularisation() -> None:
    found = request("method=gradvac,uniform,gradnorm task=multimnist tune=8 granularity=all_layer").cells
    assert len(found) == 24
    for index in range(8):
        trial = [c for c in found if c.tuning and c.tuning.trial == index]
        assert [c.method for c in trial] == ["gradvac", "uniform", "gradnorm"]
        assert len({shared(c) for c in trial}) == 1
        assert {c.seed for c in trial} == {TRIAL_SEEDS + index}
    assert len({shared(c) for c in found}) == 8
    assert found[0].parameters["beta"] == 0.01  # its default, while the learning rate alone is varied
    own = [c.parameters["beta"] for c in found if c.method == "gradvac"]
    assert own[5] == float(f"{1e-3 * 500 ** (22 * math.sqrt(5) % 1):.3g}")  # after the two that are shared
    assert len({*own[4:]}) == 4
    assert found[1].parameters == {}


def test_a_small_budget_is_the_beginning_of_a_large_one() -> None:
    words = "method=gradvac,uniform task=multimnist"
    small, large = request(f"{words} tune=8").cells, request(f"{words} tune=16").cells
    assert [c.id for c in large[:16]] == [c.id for c in small]
    assert len({c.id for c in large}) == 32


def test_trials_are_ordered_by_task_then_trial_then_method() -> None:
    found = request("method=gradvac,uniform task=multimnist/mnist,multimnist tune=2").cells
    assert [(c.variant, c.tuning.trial if c.tuning else None, c.method) for c in found] == [
        (variant, trial, method)
        for variant in ("mnist", "digits")
        for trial in (0, 1)
        for method in ("gradvac", "uniform")
    ]


def test_what_the_user_fixes_leaves_the_space() -> None:
    found = request("method=gradvac,uniform task=multimnist tune=2 method.beta=0.1,0.2 protocol.optimizer.lr=0.001")
    assert [(c.method, c.parameters.get("beta")) for c in found.cells[:3]] == [
        ("gradvac", 0.1),
        ("gradvac", 0.2),
        ("uniform", None),
    ]
    for cell in found.cells:
        assert cell.tuning is not None
        assert list(cell.tuning.space) == ["protocol.options.dropout", "protocol.optimizer.weight_decay"]
        assert cell.protocol.optimizer.lr == 0.001
        assert cell.protocol.label == "digits@1+optimizer.lr=0.001"
    assert len({c.setting_id for c in found.cells}) == 3


def test_what_is_fixed_at_its_own_value_is_told_too() -> None:
    default = task_data("multimnist").protocols["digits"].optimizer.lr
    words = "method=gradvac task=multimnist tune=2"
    cell = request(f"{words} method.beta=0.01 protocol.optimizer.lr={default}").cells[0]
    assert cell.protocol.label == f"digits@1+optimizer.lr={default}"
    assert cell.name.startswith("gradvac(beta=0.01) on")
    assert cell.setting_id != request(words).cells[0].setting_id


def test_names_labels_and_folders_tell_trials_and_reruns() -> None:
    found = request("method=gradvac task=multimnist tune=4 granularity=all_layer protocol.epochs=2")
    trial = found.cells[3]
    (rerun,) = reruns(trial, 4, [7])
    assert trial.name == "gradvac(all_layer) on multimnist/digits, trial 3"
    assert rerun.name == "gradvac(all_layer) on multimnist/digits, tuned on 4 trials, seed 7"
    assert trial.protocol.label == "digits@1+epochs=2"
    assert trial.folder(Path("r")) == Path(
        f"r/multimnist/digits/digits@1-tuned-modified/gradvac/seed1000003-{trial.id}"
    )
    plain = request("method=gradvac task=multimnist tune=4").cells[3]
    assert plain.folder(Path("r")).parts[3] == "digits@1-tuned"
    assert plain.name == "gradvac on multimnist/digits, trial 3"
    assert (rerun.parameters, rerun.protocol, rerun.seed) == (trial.parameters, trial.protocol, 7)
    assert len({trial.id, rerun.id, *(c.id for c in reruns(trial, 8, [7]))}) == 3
    again = runoff([trial, plain])
    assert [c.seed for c in again] == [RUNOFF_SEEDS + 1] * 2 + [RUNOFF_SEEDS + 2] * 2
    assert [c.name for c in again[::3]] == [
        f"{trial.name}, run-off 1",
        "gradvac on multimnist/digits, trial 3, run-off 2",
    ]
    assert (again[0].parameters, again[0].protocol) == (trial.parameters, trial.protocol)
    assert len({trial.id, plain.id, *(c.id for c in again)}) == 6


def test_a_setting_is_what_its_trials_and_reruns_have_in_common() -> None:
    found = request("method=gradvac,uniform task=multimnist tune=4").cells
    again = [c for budget in (4, 8) for c in reruns(found[2], budget, [0, 1])] + runoff([found[0], found[4]])
    assert {c.setting_id for c in again} == {c.setting_id for c in found if c.method == "gradvac"}
    assert len({c.setting_id for c in found}) == 2
    assert CellInfo(**found[0].canonical()).setting_id == found[0].setting_id
    fixed = request("method=gradvac task=multimnist seed=0,1 method.beta=0.01,0.1").cells
    assert len({c.setting_id for c in fixed}) == 2
    assert not {c.setting_id for c in fixed} & {c.setting_id for c in found}


def test_the_seeds_of_the_words_are_those_of_the_reruns() -> None:
    found = request("method=gradvac,uniform task=multimnist tune=8 seed=0..4,2")
    assert found.seeds == [0, 1, 2, 3, 4]
    assert (len(found.cells), found.total) == (16, 16 + 2 * 4 + 2 * 5)  # trials, run-offs, reruns


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("tune=1", "tune=1 is not allowed: tune is a whole number, at least 2"),
        ("tune=many", "whole number"),
        ("tune=2,4", "one value"),
        ("tune=2 seed=1000000", "seed=1000000 is not allowed"),
        ("tune=5000 seed=0..5000", "cells; the most is 10000"),
        (
            "tune=2 protocol.optimizer.lr=0.1 protocol.options.dropout=0 protocol.optimizer.weight_decay=0",
            "nothing is left to search for uniform",
        ),
        ("tune=2 protocol.search=1", "search"),
        ("tun=2", "Did you mean 'tune'"),
    ],
)
def test_bad_words_are_refused(words: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        request(f"method=gradvac,uniform task=multimnist {words}")


def test_a_protocol_without_a_space_cannot_be_tuned_and_says_how_it_could(tiny: Path) -> None:
    with pytest.raises(UsageError, match=r"long of task tiny states no search space.*search: \{optimizer.lr"):
        request("method=uniform task=tiny protocol=long tune=2")


def test_run_is_for_one_cell_and_refuses_to_tune(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tune=2 makes 7; use run_grid"):
        mtlbench.run(f"method=uniform task=tiny tune=2 results={tmp_path}")
    assert list(tmp_path.iterdir()) == []


def test_the_check_before_training_builds_one_trial_of_each_setting(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[float] = []
    cls = building.task_class("tiny")
    monkeypatch.setattr(cls, "model", lambda self, made=cls.model: (built.append(self.dropout), made(self))[1])
    found = request("method=gradvac,uniform task=tiny tune=50").cells
    check(found, "cpu", None)
    assert built == [found[0].protocol.options["dropout"]]


# --- identities --------------------------------------------------------------------------------------------


def test_cells_of_the_fixed_regime_are_those_they_always_were() -> None:
    (cell,) = request("method=gradvac task=multimnist/mnist seed=0").cells
    assert cell.id == "c089e5e653eb"
    assert cell.folder(Path("r")) == Path("r/multimnist/mnist/cpu@1/gradvac/seed0-c089e5e653eb")
    assert "tuning" not in cell.canonical()
    assert "search" not in cell.canonical()["protocol"]


def test_every_committed_record_loads_and_is_the_cell_of_its_folder_and_of_its_words() -> None:
    compared = 0
    for path in files(RESULTS, RECORD):
        found = load(path)
        assert found.id == path.parent.name.rpartition("-")[2]
        protocol = task_data(found.cell.task).protocols[found.cell.protocol["name"]]
        if found.cell.tuning is None and found.cell.protocol["version"] == protocol.version:  # what words make
            (line,) = commands([found.cell], [found.cell.seed])
            (cell,) = (c for c in parse(shlex.split(line)[2:]).cells if c.method == found.cell.method)
            assert cell.id == found.id, path
            compared += 1
    assert compared >= 100


def test_committed_searches_of_the_first_design_are_the_cells_they_were() -> None:
    """Their identities know of no designs and no run-offs, and they share no table with trials as they are made now."""
    found = {path: load(path).cell for path in files(RESULTS, RECORD) if "-tuned" in str(path)}
    old = [cell for cell in found.values() if cell.tuning and cell.tuning.design == 1]
    assert len(old) == 144
    assert all(identity(cell.canonical()) == path.parent.name.rpartition("-")[2] for path, cell in found.items())
    for cell in old:
        assert {"space", "fixed", "trial", "budget"} == {*cell.canonical()["tuning"]}
    (first, *_) = (c for c in old if c.variant == "digits" and c.method == "uniform")
    (now, *_) = request("method=uniform task=multimnist tune=2").cells
    assert first.tuning
    assert now.tuning
    assert first.tuning.space == now.tuning.space
    assert content_digest(first) != content_digest(CellInfo(**now.canonical()))
    assert first.setting_id != now.setting_id


@pytest.mark.parametrize("changes", [{"runoff": 1, "budget": 4}, {"runoff": 1, "design": 1}, {"design": 3}])
def test_a_tuning_that_no_search_makes_is_refused(changes: dict[str, int]) -> None:
    cell = request("method=uniform task=multimnist tune=2").cells[0].canonical()
    with pytest.raises(pydantic.ValidationError, match=r"run-off|design"):
        CellInfo(**{**cell, "tuning": {**cell["tuning"], **changes}})


def test_a_record_of_schema_version_1_is_read() -> None:
    found = load(FIXTURES / "record-v1.json")
    assert (found.schema_version, found.id, found.label, found.cell.tuning) == (1, "c089e5e653eb", "gradvac", None)


def test_a_tuned_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    trial = request("method=mgda task=multimnist tune=2").cells[1]
    for cell in (trial, *runoff([trial]), *reruns(trial, 2, [0])):
        written = record(id=cell.id, cell=CellInfo(**cell.canonical()))
        written.save(tmp_path)
        again = load(tmp_path / RECORD)
        assert again == written
        assert again.schema_version == 7
        assert again.cell.tuning == cell.tuning
        assert again.cell.canonical() == written.cell.canonical()
        assert (again.label, again.protocol_label) == ("mgda", "digits@1")
        assert again.cell.protocol["optimizer"]["lr"] == cell.protocol.optimizer.lr
    fixed = request("method=gradvac task=multimnist tune=2 method.beta=0.1 method.shuffle=no").cells[0]
    assert record(id=fixed.id, cell=CellInfo(**fixed.canonical())).label == "gradvac(beta=0.1, shuffle=False)"


# --- the winner --------------------------------------------------------------------------------------------


def test_validation_chooses_and_test_never_does() -> None:
    one, two, three = request("method=uniform task=multimnist tune=3").cells
    found = winner([done(one, 1.0, 9.0), done(two, 3.0, 0.0), done(three, 2.0, 5.0)])
    assert found is not None
    assert found.id == two.id


def test_the_earliest_of_equals_wins_in_whatever_order_they_come() -> None:
    one, two, three = request("method=uniform task=multimnist tune=3").cells
    found = winner([done(three, 2.0, 9.0), done(two, 2.0, 8.0), done(one, 1.0, 7.0)])
    assert found is not None
    assert found.id == two.id
    assert winner([]) is None


def test_the_run_off_decides_between_the_best_two_trials_by_its_own_runs_alone() -> None:
    cells_of = request("method=uniform task=multimnist tune=4").cells
    trials = [done(cell, val, 0.0) for cell, val in zip(cells_of, [5.0, 9.0, 7.0, 1.0], strict=True)]
    assert [run.id for run in finalists(trials)] == [cells_of[1].id, cells_of[2].id]

    def won(**vals: list[float]) -> int:
        """The trial that wins after these runs of the run-off, such as trial 1's as `t1`; test scores say otherwise."""
        runs = [
            done(cell, vals[f"t{cell.tuning.trial}"][cell.tuning.runoff - 1], -100 * vals[f"t{cell.tuning.trial}"][0])
            for cell in runoff([cell for cell in cells_of if cell.tuning and f"t{cell.tuning.trial}" in vals])
            if cell.tuning and len(vals[f"t{cell.tuning.trial}"]) >= cell.tuning.runoff
        ]
        best = winner(trials[::-1], runs[::-1])
        assert best is not None
        return [cell.id for cell in cells_of].index(best.id)

    assert won(t1=[6.0, 6.0], t2=[5.0, 6.9]) == 1
    assert won(t1=[6.0, 6.0], t2=[5.0, 7.1]) == 2  # though its trial was worse by 2
    assert won(t1=[6.0, 6.0], t2=[6.0, 6.0]) == 1  # the better trial among equals
    assert won(t1=[6.0, 6.0], t2=[9.0]) == 1  # a run of the other failed
    assert won(t0=[99.0, 99.0], t1=[6.0, 6.0], t2=[7.0, 7.0]) == 2  # no finalist of this budget
    assert won() == 1


def test_a_single_trial_that_finished_needs_no_run_off() -> None:
    one, *_ = request("method=uniform task=multimnist tune=3").cells
    alone = done(one, 1.0, 1.0)
    assert finalists([alone]) == [alone]
    assert winner([alone]) is alone
    assert finalists([]) == []


def test_where_lower_is_better_the_lowest_wins() -> None:
    one, two = request("method=uniform task=multimnist tune=2").cells
    found = winner([done(one, 2.0, 1.0, metric=ERROR), done(two, 1.0, 2.0, metric=ERROR)])
    assert found is not None
    assert found.id == two.id


def test_the_epoch_that_counts_is_the_protocols_selection() -> None:
    def ended(cell: Cell, first: float, last: float) -> Run:
        points = [({"left": v, "right": v}, {"left": 0.0, "right": 0.0}) for v in (first, last)]
        return Run.of(record(curves=points, id=cell.id, cell=CellInfo(**cell.canonical())))

    for words, best in (("", 0), ("protocol.selection=last", 1)):
        one, two = request(f"method=uniform task=multimnist tune=2 {words}").cells
        found = winner([ended(one, 9.0, 1.0), ended(two, 3.0, 3.0)])
        assert found is not None
        assert found.id == (one, two)[best].id


# --- whole searches ----------------------------------------------------------------------------------------


def merit_of(run: Run) -> float:
    return float(merit(choose(run, Rule("best-val")).val, run.measures))


def test_a_search_trains_the_trials_and_reruns_the_best_on_the_users_seeds(
    command: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    words = f"run --plugin {tiny} method=gradvac,uniform task=tiny seed=5,6 jobs=2"
    first = command(f"{words} tune=4")
    assert first.code == 0, first.output
    assert "gradvac on tiny/plain, trial 3" in first.output
    assert "gradvac on tiny/plain, tuned on 4 trials, seed 6" in first.output
    assert "gradvac on tiny/plain, trial" in first.output
    assert "run-off 2" in first.output
    assert "(1/20)" in first.output
    assert "(20/20)" in first.output
    assert state(tmp_path) == {("trial", "finished"): 8, ("run-off", "finished"): 8, ("rerun", "finished"): 4}
    runs = collect(cells(tmp_path)).runs
    for method in ("gradvac", "uniform"):
        own = [r for r in runs if r.cell.method == method]
        tried, again, rerun = ([r for r in own if stage(r.cell) == name] for name in ("trial", "run-off", "rerun"))
        by_merit = sorted(tried, key=lambda r: -merit_of(r))
        assert {r.cell.tuning.trial for r in again if r.cell.tuning} == {
            r.cell.tuning.trial for r in by_merit[:2] if r.cell.tuning
        }
        assert Counter(r.cell.seed for r in again) == {RUNOFF_SEEDS + 1: 2, RUNOFF_SEEDS + 2: 2}
        best = max(by_merit[:2], key=lambda t: sum(merit_of(r) for r in again if r.cell.protocol == t.cell.protocol))
        assert {r.cell.seed for r in rerun} == {5, 6}
        for run in rerun:
            assert run.cell.parameters == best.cell.parameters
            assert run.cell.protocol == best.cell.protocol
            assert run.cell.tuning is not None
            assert best.cell.tuning is not None
            assert (run.cell.tuning.trial, run.cell.tuning.budget) == (best.cell.tuning.trial, 4)

    # A larger budget goes on where the smaller one ended.
    before = {path: path.stat().st_ino for path in files(tmp_path, RECORD)}
    trace = tmp_path / "trace"
    second = command(f"{words} tune=6", TINY_TRACE=str(trace))
    assert second.code == 0, second.output
    after = state(tmp_path)
    runoffs = after.pop(("run-off", "finished"))
    assert after == {("trial", "finished"): 12, ("rerun", "finished"): 8}
    assert {path: path.stat().st_ino for path in before} == before
    steps = [line for line in trace.read_text().splitlines() if line.startswith("batch")]
    assert len(steps) == (2 * 2 + (runoffs - 8) + 2 * 2) * 24
    assert command(f"{words} tune=6", TINY_TRACE=str(tmp_path / "none")).code == 0
    assert not (tmp_path / "none").exists()


def test_a_diverged_trial_is_a_failed_cell_and_worse_than_any_other(
    command: Callable[..., Any], tiny: Path, frail: Path, tmp_path: Path
) -> None:
    words = f"run --plugin {tiny} --plugin {frail} method=frail task=tiny tune=4 protocol.optimizer.lr=0.01 jobs=2"
    ended = command(words, FRAIL_HEALTHY="1")
    assert ended.code == 1
    assert "1 of 9 cells failed" in ended.output
    expected = {
        ("trial", "finished"): 3,
        ("trial", "diverged"): 1,
        ("run-off", "finished"): 4,
        ("rerun", "finished"): 1,
    }
    assert state(tmp_path) == expected
    (rerun,) = (r for r in collect(cells(tmp_path)).runs if r.cell.tuning and not r.cell.tuning.is_trial)
    assert rerun.cell.tuning is not None
    assert rerun.cell.tuning.trial != 1


def test_where_every_trial_diverges_nothing_is_rerun_and_the_others_are(
    command: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    ended = command(f"run --plugin {tiny} method=uniform task=tiny/diverges,tiny tune=2 --quiet")
    assert ended.code == 1
    assert "uniform on tiny/diverges is not rerun: none of its 2 trials finished" in ended.output
    assert state(tmp_path) == {
        ("trial", "diverged"): 2,
        ("trial", "finished"): 2,
        ("run-off", "finished"): 4,
        ("rerun", "finished"): 1,
    }


def test_an_error_leaves_the_choice_open_until_it_is_repaired(
    command: Callable[..., Any], tiny: Path, frail: Path, tmp_path: Path
) -> None:
    plugins = f"--plugin {tiny} --plugin {frail}"
    words = f"run {plugins} method=frail,uniform task=tiny tune=4 protocol.optimizer.lr=0.01 jobs=2"
    broken = command(words)
    assert broken.code == 1
    assert "frail on tiny/plain is not rerun: 1 of 4 trials did not finish (error: RuntimeError: too fast)" in (
        broken.output
    )
    assert state(tmp_path)["rerun", "finished"] == 1
    repaired = command(words, FRAIL_HEALTHY="1")
    assert state(tmp_path) == {
        ("trial", "finished"): 7,
        ("trial", "diverged"): 1,
        ("run-off", "finished"): 8,
        ("rerun", "finished"): 2,
    }
    assert repaired.code == 1
    assert files(tmp_path, FAILURE) == [
        load_path for load_path in files(tmp_path, FAILURE) if "frail" in str(load_path)
    ]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_search_that_is_stopped_again_and_again_ends_with_the_records_of_an_undisturbed_one(
    commands: Commands, command: Callable[..., Any], tiny: Path, tmp_path: Path, sent: signal.Signals
) -> None:
    words = f"run --plugin {tiny} method=gradvac,uniform task=tiny tune=3 seed=0,1 jobs=2 checkpoint_steps=4"
    assert command(f"{words} results=undisturbed").code == 0
    expected = curves(tmp_path / "undisturbed")
    assert len(expected) == 6 + 8 + 4
    results = tmp_path / "stopped"
    for records in (0, 4, 8, 15):  # in the first trials, among them, in the run-off, and in the reruns
        gate = tmp_path / f"gate{records}"  # closed once there are so many records: the search cannot end before
        started = commands.start(f"{words} results={results}", tmp_path, {"TINY_GATE": f"{records} {gate} {results}"})
        while len(files(results, RECORD)) < records or not files(results, CHECKPOINT):
            assert started.runs()
            time.sleep(0.002)
        started.kill_group(sent)
        gate.touch()
        assert started.wait().code == (130 if sent == signal.SIGINT else -signal.SIGKILL)
    last = commands.start(f"{words} results={results}", tmp_path).wait()
    assert last.code == 0, last.output
    assert curves(results) == expected
    assert files(results, FAILURE) == files(results, CHECKPOINT) == []


def test_show_tells_the_spaces(command: Callable[..., Any]) -> None:
    assert "0.001 .. 0.5 (log)" in command("show gradvac").output
    assert "one of none, l2, loss, loss+" in command("show mgda").output
    shown = command("show multimnist").output
    assert "optimizer.lr: 0.0003 .. 0.03 (log)" in shown
    assert "options.dropout: 0 .. 0.5" in shown
