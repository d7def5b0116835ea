"""The cost of recording the geometry of gradients: its snapshots against the training that they look at."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from mtlbench.bench import workloads
from mtlbench.bench.result import Bench, Environment, Progress, Row, Spread, medians
from mtlbench.bench.sampling import Sampler
from mtlbench.bench.stepping import step
from mtlbench.bench.workloads import OfTask
from mtlbench.catalogue.registry import methods as registered
from mtlbench.catalogue.variants import resolve
from mtlbench.cells.recording import Recording
from mtlbench.engine.kinds import GramianWeighting
from mtlbench.errors import UsageError
from mtlbench.running.recorder import GIBIBYTE, snapshot
from mtlbench.running.streams import stream

SNAPSHOT = "snapshot"


def geometry(
    task: str,
    variant: str | None = None,
    protocol: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    data_root: str | None = None,
    objectives: Sequence[int] | None = None,
    methods: Sequence[str] = ("uniform", "gradvac"),
    every: str = "auto",
    batches: int = Recording.batches,
    examples: int = Recording.examples,
    device: str = "cpu",
    repeats: int = 5,
    progress: Progress | None = None,
) -> Bench:
    """Time snapshots and steps of training, and say what share of training a whole cell's recording takes.

    Rows have, with times in seconds:

    - labels `workload`, `K`, `P` (shared parameters), `method`, `steps` of the cell, and its `snapshots`;
    - ratios `recording/training`, the snapshots of a cell by its steps, evaluation apart; and `watched/step`, of a
      method whose corrections are summed up, by its step when nobody listens;
    - seconds `step` and `snapshot`.

    Args:
        task: what is trained, on its first batch.
        variant: of the task; by default its first.
        protocol: of the task; by default the variant's.
        overrides: dotted keys of the protocol to new values.
        data_root: the folder of the real data sets; None for MTLBENCH_DATA.
        objectives: the numbers K of objectives, the first ones of a batch; by default all of them.
        methods: registry names.
        every: as `geometry.every` of a run.
        batches: of probes.
        examples: of each objective in a probe batch.
        device: a torch device.
        repeats: samples of each subject.
        progress: told of every sample.

    Raises:
        UsageError: an unknown name, more objectives than a batch holds, probes that a task does not have.
    """
    arguments = {k: v for k, v in locals().items() if k not in ("progress", "data_root")}
    for name in methods:
        registered.load(name)
    recording = Recording(_cadence(every), batches, examples)
    asked = dict(overrides or {})
    of_task = partial(workloads.of_task, task, variant, protocol, asked, data_root, device)
    chosen = workloads.build_all([of_task(k) for k in objectives] if objectives else [of_task()])
    where = torch.device(device)
    synchronize = partial(torch.cuda.synchronize, where) if where.type == "cuda" else lambda: None
    sampler = Sampler(synchronize, sample_seconds=0.0, warm=False)
    epochs = resolve(task, variant, protocol, asked)[1].epochs
    rows: list[Row] = []
    done = 0
    with tempfile.TemporaryDirectory() as folder:
        for workload in chosen:
            assert isinstance(workload, OfTask)
            subjects: dict[str, Callable[[], object]] = {SNAPSHOT: _Snapshot(workload, recording, Path(folder))}
            for name in methods:
                subjects[name] = step(workload, name, "whole_model")
                if issubclass(registered.load(name), GramianWeighting):
                    subjects[f"{name} watched"] = step(workload, name, "whole_model", watched=True)
            total = len(chosen) * len(subjects) * repeats

            def tell(subject: str, workload: OfTask = workload, total: int = total) -> None:
                nonlocal done
                done += 1
                if progress is not None:
                    progress(done, total, f"{workload.label} K={workload.objectives} {subject}")

            samples = sampler.interleave(subjects, repeats, tell)
            steps = epochs * workload.task.steps_per_epoch
            taken = len(recording.steps(steps, workload.task.steps_per_epoch))
            rows += [_row(workload, name, steps, taken, samples) for name in methods]
    return Bench(
        kind="geometry",
        settings=arguments,
        environment=Environment.here(where, None),
        disturbed=sampler.disturbed_share,
        rows=rows,
    )


class _Snapshot:
    """One snapshot, as a recorder takes it, and its share of the file."""

    def __init__(self, workload: OfTask, recording: Recording, folder: Path) -> None:
        self._task = workload.task
        self._model = workload.model()
        self._objectives = list(range(workload.objectives))
        generator = torch.Generator().manual_seed(stream(0, "probes"))
        self._probes = workload.task.probes(recording.batches, recording.examples, generator)
        self._memory = int(recording.memory * GIBIBYTE)
        self._file = folder / "snapshot.npz"

    def __call__(self) -> None:
        gramians, losses = snapshot(self._task, self._model, self._probes, self._memory, self._objectives)
        np.savez_compressed(self._file, gramians=gramians.astype(np.float32), losses=losses)


def _row(workload: OfTask, method: str, steps: int, snapshots: int, samples: Mapping[str, Sequence[float]]) -> Row:
    own = {"step": list(samples[method]), "snapshot": list(samples[SNAPSHOT])}
    if (watched := samples.get(f"{method} watched")) is not None:
        own["watched"] = list(watched)
    whole = {
        "training": [seconds * steps for seconds in own["step"]],
        "recording": [seconds * snapshots for seconds in own["snapshot"]],
    }
    return Row(
        labels={
            "workload": workload.label,
            "K": workload.objectives,
            "P": workload.parameters,
            "method": method,
            "steps": steps,
            "snapshots": snapshots,
        },
        ratios={
            "recording/training": Spread.of(whole, "recording", "training"),
            "watched/step": Spread.of(own, "watched", "step"),
        },
        seconds=medians(own, ["step", "snapshot"]),
        samples=own,
    )


def _cadence(every: str) -> int | Literal["auto", "epoch"]:
    if every == "auto":
        return "auto"
    if every == "epoch":
        return "epoch"
    if not every.isdigit() or not int(every):
        raise UsageError(f"every={every} is not allowed: it is auto, epoch, or a number of steps.")
    return int(every)
