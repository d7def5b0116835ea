"""One cell: loop, evaluation, checkpoint, resume; the same result whether or not it was interrupted."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mtlbench.catalogue import building
from mtlbench.cells.cell import Cell
from mtlbench.errors import Diverged, UsageError
from mtlbench.record.schema import CHECKPOINT, SPLITS, CellInfo, Cost, Evaluation, Record, Scores, Status
from mtlbench.running import precision, provenance
from mtlbench.running.checkpoint import Checkpoint, Log
from mtlbench.running.declared import TaskInfo
from mtlbench.running.streams import seed_torch, stream
from mtlbench.running.trainee import learning_rate_factor, trainees

_BLOCK_STEPS = 10
_MOST_SCORES = 6
"""Objectives; of more than these, progress tells means."""

OUT_OF_MEMORY = (torch.OutOfMemoryError, MemoryError)


@dataclass(frozen=True)
class Progress:
    """Where a cell stands, told after every block of steps."""

    step: int
    total_steps: int
    epoch: int
    scores: dict[str, float] = field(default_factory=dict)
    """After an evaluation: validation score of each objective's main metric; of many, means over all and groups."""


class Interrupted(Exception):
    """The cell was asked to stop and has saved its checkpoint."""


class TimeLimit(Exception):
    """The cell used up its time limit and has saved its checkpoint."""


def run_cell(
    cell: Cell,
    folder: Path,
    *,
    device: str = "cpu",
    data_root: Path | None = None,
    time_limit: float | None = None,
    checkpoint_steps: int | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Record:
    """Train and evaluate one cell in this process, going on from the checkpoint in `folder` if there is one.

    The record is returned, not written: that is the caller's last act.

    Args:
        cell: what to train.
        folder: where checkpoints are kept.
        device: a torch device.
        data_root: the folder of the real data sets.
        time_limit: seconds that training may take, over all resumptions.
        checkpoint_steps: steps between checkpoints, besides the one at every evaluation.
        on_progress: called after every block of steps.
        should_stop: asked after every step; True saves a checkpoint and raises `Interrupted`.

    Returns:
        The record; a cell that diverged, ran out of memory or out of time has that status and the reason.

    Raises:
        UsageError: data that is missing, a method or granularity that does not fit the task.
        OSError: a checkpoint that could not be written.
        Interrupted: see `should_stop`.
    """
    with _settings(cell.protocol.threads):
        run = _Run(cell, folder, torch.device(device), data_root)
        status: Status = "finished"
        reason = ""
        try:
            run.train(time_limit, checkpoint_steps, on_progress, should_stop)
        except Diverged as error:
            status, reason = "diverged", str(error)
        except TimeLimit:
            status, reason = (
                "timeout",
                f"the time limit of {time_limit:g} s is used up; a higher one goes on from here",
            )
        except OUT_OF_MEMORY as error:
            status, reason = "oom", str(error).split("\n")[0] or "out of memory"
        return run.record(status, reason)


class _Run:
    """The state of one cell in training."""

    def __init__(self, cell: Cell, folder: Path, device: torch.device, data_root: Path | None) -> None:
        provenance.source_commit()  # as it is now: it is remembered, and the files may change while the cell trains
        self.cell = cell
        self.device = device
        protocol = cell.protocol
        self.precision = precision.precision(protocol.autocast, device)
        self.checkpoint = Checkpoint(folder / CHECKPOINT, cell.id, self.precision)
        self.task = building.task_class(cell.task)(cell.variant, protocol, data_root, device)
        seed_torch(stream(cell.seed, "init"), device)
        model = self.task.model().to(device)
        self.info = TaskInfo.of(self.task)
        method = building.method(cell.method, **cell.parameters).seed(stream(cell.seed, "method"))
        self.method = method
        self.parts = trainees(cell, self.task, model, method)
        self.total_steps = protocol.epochs * self.task.steps_per_epoch
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        resumed = self.checkpoint.resume(self.parts, method, device)
        self.log = resumed or Log.empty(len(self.task.objectives), device)

    def train(
        self,
        time_limit: float | None,
        checkpoint_steps: int | None,
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
    ) -> None:
        """Train to the end of the protocol, from wherever the log stands."""
        log, protocol, task = self.log, self.cell.protocol, self.task
        per_epoch = task.steps_per_epoch
        limit = math.inf if time_limit is None else time_limit
        on_progress(Progress(log.step, self.total_steps, log.step // per_epoch))
        for part in self.parts:
            part.model.train()
        for epoch in range(log.step // per_epoch, protocol.epochs):
            generator = torch.Generator().manual_seed(stream(self.cell.seed, "data", epoch))
            batches = itertools.islice(task.batches(epoch, generator), log.step - epoch * per_epoch, None)
            block, clock = 0, time.perf_counter()
            for batch in batches:
                self._step(batch)
                block += 1
                end_of_epoch = log.step == (epoch + 1) * per_epoch
                due = checkpoint_steps is not None and log.step % checkpoint_steps == 0
                stop = should_stop()
                out_of_time = log.seconds_training + time.perf_counter() - clock > limit
                if block < _BLOCK_STEPS and not (end_of_epoch or due or stop or out_of_time):
                    continue
                _synchronize(self.device)
                elapsed = time.perf_counter() - clock
                log.block_seconds.append(elapsed / block)
                log.seconds_training += elapsed
                block = 0
                to_evaluate = end_of_epoch and self._evaluates(epoch + 1)
                if (due or stop or out_of_time) and not to_evaluate:
                    self._save()
                on_progress(Progress(log.step, self.total_steps, epoch))
                if not to_evaluate:
                    _stop_if(stop, out_of_time)
                clock = time.perf_counter()
            if log.step != (epoch + 1) * per_epoch:
                raise UsageError(
                    f"task {self.cell.task} yielded {log.step - epoch * per_epoch} batches in epoch {epoch} "
                    f"but states steps_per_epoch={per_epoch}."
                )
            if self._evaluates(epoch + 1):
                self._evaluate(epoch + 1)
                self._save()
                told = _told(self.info, log.evaluations[-1].scores["val"])
                on_progress(Progress(log.step, self.total_steps, epoch + 1, told))
                if epoch + 1 < protocol.epochs:
                    _stop_if(should_stop(), log.seconds_training > limit)

    def record(self, status: Status, reason: str) -> Record:
        """The record of what has been done so far."""
        log, task = self.log, self.task
        self._note_memory()
        blocks = sorted(log.block_seconds)
        cost = Cost(
            steps=log.step,
            seconds_per_step=blocks[len(blocks) // 2] if blocks else 0.0,
            seconds_training=log.seconds_training,
            seconds_evaluation=log.seconds_evaluation,
            peak_memory_bytes=log.peak_memory,
            memory="device" if self.device.type == "cuda" else "process",
        )
        return Record(
            id=self.cell.id,
            status=status,
            reason=reason,
            cell=CellInfo(**self.cell.canonical()),
            separate_models=self.method.separate_models,
            objectives=self.info.objectives,
            groups=self.info.groups,
            facts=self.info.facts,
            evaluations=tuple(log.evaluations),
            cost=cost,
            provenance=provenance.collect(
                type(self.method),
                task.data_digest,
                self.device,
                log.started,
                log.resumed,
                self.cell.protocol.threads,
                self.precision,
                task.packages,
            ),
            diagnostics={k: v for k, v in self.method.report().items() if math.isfinite(v)},
        )

    def _step(self, batch: Any) -> None:
        log, protocol = self.log, self.cell.protocol
        rate = protocol.optimizer.lr * learning_rate_factor(
            protocol.schedule, log.step, self.task.steps_per_epoch, self.total_steps
        )
        noise = stream(self.cell.seed, "noise", log.step)
        for part in self.parts:
            seed_torch(noise, self.device)
            with precision.forward_context(self.precision, self.device):
                losses = part.step(batch, rate)
            for k, loss in losses.items():
                log.loss_sums[k] += loss
                log.loss_counts[k] += 1
        log.step += 1

    def _evaluates(self, epoch: int) -> bool:
        """Whether the model is evaluated after so many epochs."""
        return epoch % self.cell.protocol.evaluate_every == 0 or epoch == self.cell.protocol.epochs

    def _splits(self, epoch: int) -> tuple[str, ...]:
        """What is scored after so many epochs: where the last evaluation counts, extra splits wait for it."""
        protocol = self.cell.protocol
        extra = protocol.selection != "last" or epoch == protocol.epochs
        return (*SPLITS, *(self.task.extra_splits if extra else ()))

    def _evaluate(self, epoch: int) -> None:
        log, names = self.log, [o.name for o in self.task.objectives]
        clock = time.perf_counter()
        scores: Scores = {split: {} for split in self._splits(epoch)}
        with torch.inference_mode():
            for part in self.parts:
                part.model.eval()
                for split in scores:
                    with precision.forward_context(self.precision, self.device):
                        found = self.task.evaluate(part.model, split, list(part.objectives))
                    scores[split].update({name: dict(metrics) for name, metrics in found.items()})
                part.model.train()
        for split, by_objective in scores.items():
            for name, metrics in by_objective.items():
                for metric, value in metrics.items():
                    if not math.isfinite(value):
                        raise Diverged(f"{metric} of {name} on {split} is {value} after epoch {epoch}.")
        means = (log.loss_sums.cpu() / log.loss_counts).tolist()
        losses = {n: mean for n, mean in zip(names, means, strict=True) if math.isfinite(mean)}
        log.loss_sums.zero_()
        log.loss_counts.zero_()
        log.evaluations.append(Evaluation(epoch=epoch, step=log.step, losses=losses, scores=scores))
        _synchronize(self.device)
        log.seconds_evaluation += time.perf_counter() - clock

    def _note_memory(self) -> None:
        used = provenance.peak_memory(self.device)
        self.log.peak_memory = max(self.log.peak_memory, used)

    def _save(self) -> None:
        self._note_memory()
        self.checkpoint.save(self.parts, self.method, self.log)


def _told(info: TaskInfo, scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """What progress tells of validation scores."""
    main = {o.name: scores[o.name][o.metrics[0].name] for o in info.objectives}
    if len(main) <= _MOST_SCORES:
        return main
    groups = {"mean": tuple(main), **{f"mean {name}": members for name, members in info.groups.items()}}
    kinds = {o.name: (o.metrics[0].name, o.metrics[0].unit) for o in info.objectives}
    return {
        name: sum(main[member] for member in members) / len(members)
        for name, members in groups.items()
        if len({kinds[member] for member in members}) == 1
    }


def _stop_if(stop: bool, out_of_time: bool) -> None:
    if stop:
        raise Interrupted
    if out_of_time:
        raise TimeLimit


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _settings:
    """Threads as the protocol says while a cell runs in this process; what was set before comes back after."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def __enter__(self) -> None:
        self._before = torch.get_num_threads()
        self._random = torch.get_rng_state()
        torch.set_num_threads(self._threads)

    def __exit__(self, *_: object) -> None:
        torch.set_num_threads(self._before)
        torch.set_rng_state(self._random)
