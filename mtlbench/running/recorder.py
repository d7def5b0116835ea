"""Records the geometry of gradients: an observer that takes snapshots on fixed probes, and the file they go to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mtlbench.catalogue.task import Probes, Task
from mtlbench.cells.cell import Cell
from mtlbench.cells.recording import Recording
from mtlbench.engine.grouping import group
from mtlbench.engine.probing import probe_gramians
from mtlbench.errors import UsageError
from mtlbench.record.reading import Unreadable
from mtlbench.record.trajectory import Group, MethodTrace, Part, Trajectory, read, write
from mtlbench.running import provenance
from mtlbench.running.observing import Observer, View
from mtlbench.running.streams import stream
from mtlbench.running.trainee import Trainee
from mtlbench.storage import set_aside

GIBIBYTE = 2**30


def drawn_probes(task: Task, cell: Cell, recording: Recording) -> Probes:
    """The probes of a cell, the same for all methods.

    Raises:
        UsageError: the task has none, or not so many.
    """
    generator = torch.Generator().manual_seed(stream(cell.seed, "probes"))
    probes = task.probes(recording.batches, recording.examples, generator)
    if len(probes.batches) != recording.batches:
        raise UsageError(
            f"task {task.name} gives {len(probes.batches)} probe batches where {recording.batches} were asked for."
        )
    return probes


def layers(task: Task, model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """The shared parameters that are trained, by layer, in the order of the forward pass."""
    return group({name: p for name, p in task.shared(model) if p.requires_grad}, "all_layer")


def snapshot(
    task: Task, model: nn.Module, probes: Probes, memory: int, objectives: Sequence[int]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The model's Gramian on the probes, in evaluation mode, and the mean loss of each objective.

    Args:
        task: whose losses are taken.
        model: what they are losses of; it is left in evaluation mode.
        probes: B batches.
        memory: bytes that gradients may take.
        objectives: K of them.

    Returns:
        (G, B, K, B, K) float64 inner products by layer, and (K,) float64.
    """
    model.eval()
    groups = list(layers(task, model).values())
    batches, count = len(probes.batches), len(objectives)
    with torch.enable_grad():
        gramians, losses = probe_gramians(
            groups, lambda b: task.losses(model, probes.batches[b], objectives), batches, count, memory
        )
    return gramians.numpy().reshape(len(groups), batches, count, batches, count), losses.mean(0).numpy()


class Recorder(Observer):
    """Takes snapshots of the Gramian of probe gradients while a cell trains, and keeps them in a file.

    The file is replaced at every snapshot, so that a cell which goes on from a checkpoint finds those that were taken
    before it. What the method did since the last snapshot is in the checkpoint itself (`window`).

    Args:
        path: of the file.
        recording: when, and on how many examples.
        cell: what is trained.
        task: whose probes and relations are recorded.
        part: the one model that is trained on all objectives.
        total_steps: of the cell.
        training_seconds: how long training has taken so far.

    Raises:
        UsageError: the task has no such probes, or relations that do not fit its objectives.
    """

    def __init__(
        self,
        path: Path,
        recording: Recording,
        cell: Cell,
        task: Task,
        part: Trainee,
        total_steps: int,
        training_seconds: Callable[[], float],
    ) -> None:
        self.path = path
        self.steps = frozenset(recording.steps(total_steps, task.steps_per_epoch))
        self._memory = int(recording.memory * GIBIBYTE)
        self._task, self._part = task, part
        self._training_seconds = training_seconds
        self._probes = drawn_probes(task, cell, recording)
        groups = layers(task, part.model)
        self._trace = part.backward.watch()
        self._taken: list[tuple[int, NDArray[Any], NDArray[Any]]] = []
        self._windows: list[tuple[int, Mapping[str, NDArray[Any]]]] = []
        self._seconds = 0.0
        self._fixed: dict[str, Any] = {
            "cell": cell.id,
            "objectives": tuple(objective.name for objective in task.objectives),
            "groups": tuple(Group(name, _part(name), sum(p.numel() for p in own)) for name, own in groups.items()),
            "total_steps": total_steps,
            "aligned": self._probes.aligned,
            "examples": self._probes.examples,
            "split": self._probes.split,
            "relations": tuple(task.relations()),
        }
        try:
            self._trajectory()
        except ValueError as error:
            raise UsageError(f"task {task.name}: {error}.") from error

    def ends_block(self, step: int) -> bool:
        """At a snapshot."""
        return step in self.steps

    def looks(self, step: int) -> bool:
        """At a snapshot."""
        return step in self.steps

    def at_start(self, view: View) -> None:
        """Take the snapshot of the untrained model."""
        self._take(0)

    def after_step(self, view: View) -> None:
        """Take a snapshot."""
        self._take(view.step)

    def after_evaluation(self, view: View) -> None:
        """Nothing: an evaluation changes no gradient."""

    def resume(self, step: int, window: Mapping[str, Tensor] | None) -> str | None:
        """Go on from a checkpoint.

        Args:
            step: of the checkpoint; snapshots that were taken after it are taken again.
            window: what the method did since the snapshot before it, as the checkpoint has it.

        Returns:
            What people should be told: that snapshots are missing, and why.
        """
        told = ""
        try:
            self._take_up(read(self.path), step)
        except Unreadable as error:
            if self.path.exists():
                told = f"{error}; kept as {set_aside(self.path).name}. "
        if self._trace is not None and window is not None:
            self._trace.load_state_dict(window)
        missing = {s for s in self.steps if s <= step} - {s for s, _, _ in self._taken}
        if not missing:
            return told or None
        return (
            f"{told}The checkpoint of step {step} was written without snapshots of the gradients' geometry: "
            f"{self.path.name} will have none of step{'s' if len(missing) > 1 else ''} "
            f"{', '.join(map(str, sorted(missing)[:5]))}{', ...' if len(missing) > 5 else ''}. Remove the checkpoint "
            "to train the cell from its beginning."
        )

    def window(self) -> dict[str, Tensor] | None:
        """What the method did since the last snapshot, for a checkpoint."""
        return None if self._trace is None else self._trace.state_dict()

    @property
    def seconds(self) -> float:
        """Spent recording, resumptions included."""
        return self._seconds

    def finish(self) -> None:
        """Write the file for good, with the time that training has taken; raises `OSError`."""
        write(self.path, self._trajectory())

    def _take(self, step: int) -> None:
        begun, before = time.perf_counter(), self._seconds
        objectives = range(len(self._fixed["objectives"]))
        gramians, losses = snapshot(self._task, self._part.model, self._probes, self._memory, objectives)
        self._taken.append((step, gramians.astype(np.float32), losses))
        if self._trace is not None:
            self._windows.append(self._trace.window())
        write(self.path, self._trajectory())
        self._seconds = before + time.perf_counter() - begun
        provenance.forget_peak_memory(next(self._part.model.parameters()).device)

    def _take_up(self, before: Trajectory, step: int) -> None:
        """The snapshots of a file up to a step, if they are of the same probes."""
        own = self._trajectory()
        same = all(
            getattr(before, name) == getattr(own, name)
            for name in ("cell", "objectives", "groups", "total_steps", "aligned", "examples")
        )
        if not same or before.batches != own.batches or (before.method is None) != (self._trace is None):
            raise Unreadable(f"{self.path} is of other probes or of another cell")
        self._seconds = before.seconds
        for t, taken in enumerate(before.steps.tolist()):
            if taken <= step:
                self._taken.append((taken, before.gramians[t], before.losses[t]))
                if before.method is not None:
                    self._windows.append((int(before.method.steps[t]), _entry(before.method, t)))

    def _trajectory(self) -> Trajectory:
        """What has been recorded so far."""
        batches, objectives = len(self._probes.batches), len(self._fixed["objectives"])
        shape = (len(self._fixed["groups"]), batches, objectives, batches, objectives)
        return Trajectory(
            **self._fixed,
            steps=np.array([step for step, _, _ in self._taken], np.int64),
            gramians=_stacked((gramian for _, gramian, _ in self._taken), shape, np.float32),
            losses=_stacked((losses for _, _, losses in self._taken), (objectives,), np.float64),
            method=self._method(),
            seconds=self._seconds,
            training_seconds=self._training_seconds(),
        )

    def _method(self) -> MethodTrace | None:
        if self._trace is None:
            return None
        means = {
            name: _stacked((means[name] for _, means in self._windows), shape, np.float32)
            for name, shape in self._trace.shapes.items()
        }
        steps = np.array([steps for steps, _ in self._windows], np.int64)
        return MethodTrace(self._trace.groups, steps, **means)


def _entry(method: MethodTrace, t: int) -> dict[str, NDArray[Any]]:
    names = (field.name for field in fields(method) if field.name not in ("groups", "steps"))
    return {name: getattr(method, name)[t] for name in names}


def _stacked(arrays: Iterable[NDArray[Any]], shape: Sequence[int], dtype: type) -> NDArray[Any]:
    """(T, *shape), also where there are none."""
    found = list(arrays)
    return np.stack(found).astype(dtype, copy=False) if found else np.zeros((0, *shape), dtype)


def _part(layer: str) -> Part:
    path = layer.split(".")
    return "encoder" if "encoder" in path else "decoder" if "decoder" in path else ""
