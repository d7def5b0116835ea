"""Recording the geometry of gradients: what is in the file, that training ends alike, that a cut-off cell goes on."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Finished
from torch import nn

from mtlbench.catalogue import building
from mtlbench.cells.recording import Recording
from mtlbench.cells.request import parse
from mtlbench.errors import UsageError
from mtlbench.record.schema import Record
from mtlbench.record.trajectory import GEOMETRY, MethodTrace, Relation, Trajectory, read
from mtlbench.running import provenance
from mtlbench.running.clock import Interrupted
from mtlbench.running.job import Job
from mtlbench.running.launch import run_grid
from mtlbench.running.observing import Observer, View
from mtlbench.running.recorder import drawn_probes
from mtlbench.running.reports import Progress

FEW = Recording(every=5, batches=4)
TIMES = ("seconds", "training_seconds")


class Last(Observer):
    """Keeps the model of the last step."""

    def __init__(self) -> None:
        self.model: nn.Module = nn.Module()
        self.task: Any = None

    def after_step(self, view: View) -> None:
        self.model, self.task = copy.deepcopy(view.models[0].module), view.task

    def after_evaluation(self, view: View) -> None:
        pass


def measured(record: Record) -> Any:
    return record.status, record.evaluations, record.diagnostics


def assert_same(ours: Trajectory, theirs: Trajectory) -> None:
    """Equal to the bit, but for times."""
    for field in fields(Trajectory):
        if field.name not in ("relations", "method", *TIMES):
            np.testing.assert_array_equal(getattr(ours, field.name), getattr(theirs, field.name), field.name)
    assert (ours.method is None) == (theirs.method is None)
    for field in fields(MethodTrace) if ours.method else ():
        np.testing.assert_array_equal(getattr(ours.method, field.name), getattr(theirs.method, field.name), field.name)


@pytest.mark.parametrize("method", ["uniform", "gradvac", "pcgrad", "gradnorm", "uncertainty", "single_task"])
def test_weights_and_records_are_the_same_to_the_bit_with_and_without(
    train: Callable[..., Record], tmp_path: Path, method: str
) -> None:
    quiet, recorded = Last(), Last()
    words = f"method={method} task=tiny against=none"
    without = train(words, tmp_path / "without", observers=(quiet,))
    told: list[str] = []
    given = train(words, tmp_path / "with", observers=(recorded,), geometry=FEW, on_warning=told.append)
    assert measured(given) == measured(without)
    for ours, theirs in zip(quiet.model.parameters(), recorded.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert (tmp_path / "with" / GEOMETRY).exists() == (method != "single_task")
    assert bool(told) == (method == "single_task")
    assert without.cost.seconds_recording is None
    if method != "single_task":
        assert given.cost.seconds_recording == read(tmp_path / "with" / GEOMETRY).seconds > 0


def test_what_is_recorded_are_the_gradients_of_the_model_of_that_step(
    train: Callable[..., Record], tmp_path: Path
) -> None:
    last = Last()
    train("method=gradvac task=tiny granularity=all_layer against=none", observers=(last,), geometry=FEW)
    found = read(tmp_path / "cell" / GEOMETRY)
    assert found.steps.tolist() == [0, 5, 10, 15, 20, 24]
    assert [(g.name, g.part, g.parameters) for g in found.groups] == [
        ("encoder", "encoder", 56),
        ("decoder", "decoder", 72),
    ]
    assert found.objectives == ("a", "b")
    (cell,) = parse(["method=gradvac", "task=tiny", "granularity=all_layer", "against=none"]).cells
    assert (found.cell, found.total_steps, found.aligned) == (cell.id, 24, False)
    model = last.model.eval().double()  # without dropout
    rows: dict[str, list[torch.Tensor]] = {"encoder": [], "decoder": []}
    losses = []
    for x, y in drawn_probes(last.task, cell, FEW).batches:
        for k, loss in enumerate(last.task.losses(model, (x.double(), y.double()), [0, 1])):
            losses.append(loss.item())
            for name, own in rows.items():
                parameters = list(getattr(model, name).parameters())
                gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
                own.append(torch.cat([g.flatten() for g in gradients]))
            assert k < 2
    for g, own in enumerate(rows.values()):
        expected = torch.stack(own) @ torch.stack(own).T
        scale = float(expected.diagonal().max())
        np.testing.assert_allclose(found.gramians[-1, g].reshape(8, 8), expected, rtol=1e-4, atol=1e-5 * scale)
    np.testing.assert_allclose(found.losses[-1], np.reshape(losses, (4, 2)).mean(0), rtol=1e-5)
    assert found.method is not None
    assert found.method.groups == ("encoder", "decoder")
    assert found.method.steps.tolist() == [0, 5, 5, 5, 5, 4]
    assert np.isnan(found.method.cosine[0]).all()
    assert np.isfinite(found.method.cosine[1:]).all()
    assert found.seconds > 0
    assert found.training_seconds > 0


def test_probes_are_the_same_for_all_methods_and_the_untrained_model_is_too(
    train: Callable[..., Record], tmp_path: Path
) -> None:
    found = []
    for method in ("uniform", "pcgrad"):
        train(f"method={method} task=tiny against=none", tmp_path / method, geometry=FEW)
        found.append(read(tmp_path / method / GEOMETRY))
    np.testing.assert_array_equal(found[0].gramians[0], found[1].gramians[0])
    assert (found[0].gramians[-1] != found[1].gramians[-1]).any()
    assert found[0].method is None


@pytest.mark.parametrize("method", ["gradvac", "uniform"])
@pytest.mark.parametrize("stop", [1, 7, 10, 16, 23])
def test_a_cell_that_is_cut_off_has_the_file_of_one_that_is_not(
    train: Callable[..., Record], tmp_path: Path, method: str, stop: int
) -> None:
    words = f"method={method} task=tiny against=none"
    record = train(words, tmp_path / "whole", geometry=FEW)
    asked = iter(range(stop - 1))
    with pytest.raises(Interrupted):
        train(words, tmp_path / "cut", geometry=FEW, should_stop=lambda: next(asked, None) is None)
    again = train(words, tmp_path / "cut", geometry=FEW)
    assert measured(again) == measured(record)
    assert_same(read(tmp_path / "cut" / GEOMETRY), read(tmp_path / "whole" / GEOMETRY))
    assert again.cost.seconds_recording == read(tmp_path / "cut" / GEOMETRY).seconds


def test_a_snapshot_after_the_checkpoint_is_taken_again(train: Callable[..., Record], tmp_path: Path) -> None:
    """Killed when the file was newer than the checkpoint."""
    words = "method=pcgrad task=tiny against=none"
    train(words, tmp_path / "whole", geometry=FEW)

    def die(progress: Progress) -> None:
        if progress.step == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(words, tmp_path / "cut", geometry=FEW, on_progress=die, checkpoint_steps=9)
    assert read(tmp_path / "cut" / GEOMETRY).steps.tolist() == [0, 5, 10, 15, 20]
    train(words, tmp_path / "cut", geometry=FEW)
    assert_same(read(tmp_path / "cut" / GEOMETRY), read(tmp_path / "whole" / GEOMETRY))


@pytest.mark.parametrize("before", [None, Recording(every=5, batches=3)])
def test_snapshots_that_are_missing_are_told(
    train: Callable[..., Record], tmp_path: Path, before: Recording | None
) -> None:
    words = "method=pcgrad task=tiny against=none"
    asked = iter(range(11))
    with pytest.raises(Interrupted):
        train(words, geometry=before, should_stop=lambda: next(asked, None) is None)
    told: list[str] = []
    train(words, geometry=FEW, on_warning=told.append)
    (message,) = told
    assert "steps 0, 5, 10." in message
    assert ("geometry.npz.corrupt1" in message) == (before is not None)
    found = read(tmp_path / "cell" / GEOMETRY)
    assert found.steps.tolist() == [15, 20, 24]
    assert found.batches == 4


def test_a_cell_that_goes_on_without_recording_leaves_no_file_that_looks_whole(
    train: Callable[..., Record], tmp_path: Path
) -> None:
    words = "method=pcgrad task=tiny against=none"
    asked = iter(range(11))
    with pytest.raises(Interrupted):
        train(words, geometry=FEW, should_stop=lambda: next(asked, None) is None)
    told: list[str] = []
    train(words, on_warning=told.append)
    assert "removed" in told[0]
    assert not (tmp_path / "cell" / GEOMETRY).exists()


def test_little_memory_takes_passes_and_gives_the_same(train: Callable[..., Record], tmp_path: Path) -> None:
    words = "method=uniform task=tiny against=none"
    train(words, tmp_path / "much", geometry=FEW)
    train(words, tmp_path / "little", geometry=Recording(every=5, batches=4, memory=8 * 4 * 30 / 2**30))
    much, little = (read(tmp_path / name / GEOMETRY) for name in ("much", "little"))
    np.testing.assert_allclose(little.gramians, much.gramians, rtol=1e-6, atol=1e-9)


def test_peak_memory_does_not_count_what_recording_took() -> None:
    provenance.forget_peak_memory(torch.device("cpu"))
    before = provenance.peak_memory(torch.device("cpu"))
    torch.ones(2**27)
    if provenance.peak_memory(torch.device("cpu")) < before + 2**28 or not Path("/proc/self/clear_refs").exists():
        pytest.skip("the system does not tell")
    provenance.forget_peak_memory(torch.device("cpu"))
    assert provenance.peak_memory(torch.device("cpu")) < before + 2**28


def test_relations_of_a_task_are_in_the_file(
    train: Callable[..., Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "method=uniform task=tiny against=none"
    cls = building.task_class("tiny")
    monkeypatch.setattr(cls, "relations", lambda _: [Relation("resource", "amount", "examples", np.full(2, 64.0))])
    train(words, geometry=FEW)
    (relation,) = read(tmp_path / "cell" / GEOMETRY).relations
    assert (relation.name, relation.values.tolist()) == ("resource", [64.0, 64.0])
    monkeypatch.setattr(cls, "relations", lambda _: [Relation("resource", "amount", "examples", np.full(1, 64.0))])
    with pytest.raises(UsageError, match=r"task tiny: .*'resource' is about 1 objectives of 2"):
        train(words, geometry=FEW)


# --- when


@pytest.mark.parametrize(("total", "per_epoch"), [(1, 1), (24, 8), (360, 90), (3000, 750), (10**6, 1000)])
@pytest.mark.parametrize("every", ["auto", "epoch", 7])
def test_the_untrained_and_the_trained_model_are_always_recorded(total: int, per_epoch: int, every: Any) -> None:
    steps = Recording(every=every).steps(total, per_epoch)
    assert steps[0] == 0
    assert steps[-1] == total
    assert list(steps) == sorted({*steps})
    if every == "epoch":
        assert steps == (*range(0, total, per_epoch), total)


@pytest.mark.parametrize("total", [360, 399, 400, 1000, 3000, 10**5])
def test_auto_adds_one_gradient_in_25_and_one_snapshot(total: int) -> None:
    steps = Recording(batches=10).steps(total, 90)
    assert (len(steps) - 1) * 10 <= max(total / 25, 10)
    assert len(steps) <= 9
    apart = np.diff(steps)
    assert apart.max() - apart.min() <= 1


# --- words


def recording(words: str) -> Recording | None:
    return parse(["method=pcgrad", "task=tiny", "against=none", *words.split()]).geometry


def test_words_say_what_is_recorded_and_are_in_no_identity(tiny: Path) -> None:
    assert recording("") is None
    assert recording("geometry.every=auto") == Recording()
    words = "geometry.every=50 geometry.batches=4 geometry.examples=20 geometry.memory=0.5"
    assert recording(words) == Recording(50, 4, 20, 0.5)
    base = ["method=pcgrad", "task=tiny", "against=none"]
    (one,), (other,) = parse(base).cells, parse([*base, *words.split()]).cells
    assert one == other


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("geometry.batches=4", "means nothing without geometry.every"),
        ("geometry.every=0", "geometry.every=0 is not allowed"),
        ("geometry.every=sometimes", "geometry.every=sometimes is not allowed"),
        ("geometry.every=auto geometry.batches=1", "geometry.batches=1 is not allowed"),
        ("geometry.every=auto geometry.examples=0", "geometry.examples=0 is not allowed"),
        ("geometry.every=auto geometry.memory=0", "geometry.memory=0 is not allowed"),
        ("geometry.every=auto,epoch", "geometry.every takes one value"),
        ("geometry.evry=auto", "Did you mean 'geometry.every'"),
    ],
)
def test_words_that_mean_nothing_are_refused(tiny: Path, words: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        recording(words)


def test_a_job_carries_them(tiny: Path) -> None:
    request = parse(["method=pcgrad", "task=tiny", "against=none", "geometry.every=epoch", "geometry.batches=3"])
    job = Job.of(request.cells[0], request)
    assert job.geometry == Job.from_json(job.to_json()).geometry == Recording("epoch", 3)
    trials = parse(["method=pcgrad", "task=tiny", "against=none", "tune=2", "geometry.every=epoch"])
    assert {Job.of(cell, trials).geometry for cell in trials.cells} == {None}


def test_a_run_records_and_a_finished_cell_without_recording_is_told(
    command: Callable[..., Finished], tiny: Path, tmp_path: Path
) -> None:
    words = f"run --plugin {tiny} method=pcgrad,single_task task=tiny against=none"
    assert command(words).code == 0
    asked = f"{words} geometry.every=auto geometry.batches=4"
    again = command(asked)
    assert again.output.count("without geometry.npz") == 1
    other = command(f"{asked} results=other")
    assert other.code == 0
    assert "every objective has a model of its own" in other.output
    (path,) = (tmp_path / "other").rglob(GEOMETRY)
    assert read(path).steps.tolist() == [0, 24]


def test_a_task_without_such_probes_is_refused_before_anything_is_trained(tiny: Path, tmp_path: Path) -> None:
    words = f"method=pcgrad against=none geometry.every=auto results={tmp_path / 'runs'}"
    with pytest.raises(UsageError, match=r"tiny has 8 batches in an epoch, fewer than geometry\.batches=10"):
        run_grid(f"{words} task=tiny")
    with pytest.raises(UsageError, match=r"training batches without [ab]"):
        run_grid(f"{words} task=tiny/sampled geometry.batches=4")
    assert not (tmp_path / "runs").exists()


def test_a_model_that_is_not_trained_is_not_recorded(train: Callable[..., Record], tmp_path: Path) -> None:
    told: list[str] = []
    words = "method=uniform task=tiny against=none protocol.epochs=0"
    train(words, geometry=FEW, on_warning=told.append)
    assert told == ["The geometry of gradients is not recorded, as nothing is trained."]
    assert not (tmp_path / "cell" / GEOMETRY).exists()
