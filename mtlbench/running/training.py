"""One cell: loop, evaluation, checkpoint, resume; the same result whether or not it was interrupted or observed."""

from __future__ import annotations

import itertools
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from mtlbench.catalogue import building
from mtlbench.cells.cell import Cell
from mtlbench.cells.recording import Recording
from mtlbench.errors import Diverged, UsageError
from mtlbench.record.schema import CHECKPOINT, CellInfo, Cost, Evaluation, Provenance, Record, Status
from mtlbench.record.trajectory import GEOMETRY
from mtlbench.running import evaluating, precision, provenance, sampled
from mtlbench.running.checkpoint import Checkpoint, Log, Unusable
from mtlbench.running.clock import Block, Clock, Interrupted, TimeLimit, synchronize
from mtlbench.running.declared import TaskInfo
from mtlbench.running.observing import Costs, Model, Observer, ObserverFailed, Observers, Reporter, View, undisturbed
from mtlbench.running.predicting import Predictions, require_predictions
from mtlbench.running.provenance import Origin
from mtlbench.running.recorder import Recorder
from mtlbench.running.reports import Progress
from mtlbench.running.resuming import Course, evaluates, splits
from mtlbench.running.streams import process_of_a_cell, seed_torch, stream
from mtlbench.running.team import ALONE, Team, device_of
from mtlbench.running.trainee import OUT_OF_MEMORY, Trainee, learning_rate_factor, step_batches, trainees

__all__ = ["OUT_OF_MEMORY", "Interrupted", "run_cell"]


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=3)


def run_cell(
    cell: Cell,
    folder: Path,
    *,
    device: str = "cpu",
    data_root: Path | None = None,
    time_limit: float | None = None,
    checkpoint_steps: int | None = None,
    predictions: Path | None = None,
    geometry: Recording | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_warning: Callable[[str], None] = _warn,
    should_stop: Callable[[], bool] = lambda: False,
    observers: Sequence[Observer] = (),
    together: Team = ALONE,
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
        predictions: where the predictions of the epoch that counts go; None for none.
        geometry: what to record of the gradients' geometry, in a file beside the checkpoint; None for nothing.
        on_progress: called at the start, after every block of steps and after every evaluation.
        on_warning: told why a checkpoint is not used, or what has changed since it was written.
        should_stop: asked after every step; True saves a checkpoint and raises `Interrupted`.
        observers: look on; the result is the same without them.
        together: with which processes; this one is the first of them.

    Returns:
        The record; a cell that diverged, ran out of memory or out of time has that status and the reason.

    Raises:
        UsageError: data that is missing, a method or granularity that does not fit the task.
        OSError: a checkpoint or a recording that could not be written.
        Interrupted: see `should_stop`.
        ObserverFailed: an observer raised an error.
    """
    with process_of_a_cell(cell.protocol.threads):
        run = _Run(cell, folder, torch.device(device_of(device, 0, together)), data_root, on_warning, together)
        if predictions is not None:
            require_predictions(run.task)
            run.predictions = Predictions(predictions)
            if run.log.evaluations and not predictions.exists():
                on_warning(
                    f"{run.checkpoint.path} was written without predictions: of epochs up to "
                    f"{run.log.evaluations[-1].epoch} there are none, and none will be written if one of those counts."
                )
        run.recorder = run.recording(geometry, folder / GEOMETRY, on_warning)
        looking = (*observers, *filter(None, [run.recorder]), Reporter(run.info, on_progress))
        status: Status = "finished"
        reason = ""
        try:
            on_progress(Progress(run.log.step, run.course.total_steps, run.course.completed(run.log.step)))
            clock = Clock(run.device, run.log.seconds_training, time_limit, should_stop)
            run.train(clock, checkpoint_steps, looking)
            if run.recorder:
                run.recorder.finish()
        except Diverged as error:
            status, reason = "diverged", str(error)
        except TimeLimit:
            status = "timeout"
            reason = f"the time limit of {time_limit:g} s is used up; a higher one goes on from here"
        except OUT_OF_MEMORY as error:
            status, reason = "oom", _first_line(error)
        except ObserverFailed as error:
            if not isinstance(error.__cause__, OUT_OF_MEMORY):
                raise
            status, reason = "oom", _first_line(error)
        return run.record(status, reason)


def follow_cell(cell: Cell, folder: Path, together: Team, *, device: str, data_root: Path | None) -> None:
    """Train a cell along with its first process, which evaluates, saves and tells.

    Args:
        cell: what to train.
        folder: where the first process keeps checkpoints.
        together: the processes; this one is not the first.
        device: a torch device.
        data_root: the folder of the real data sets.

    Raises:
        Diverged: as on the first process. UsageError: a checkpoint from which only some of them can go on.
    """
    with process_of_a_cell(cell.protocol.threads):
        run = _Run(cell, folder, torch.device(device), data_root, _warn, together)
        run.follow()


def _first_line(error: BaseException) -> str:
    return str(error).split("\n")[0] or "out of memory"


class _Run:
    """The state of one cell in training."""

    def __init__(
        self,
        cell: Cell,
        folder: Path,
        device: torch.device,
        data_root: Path | None,
        warn: Callable[[str], None],
        together: Team,
    ) -> None:
        provenance.source_commit()  # as it is now: it is remembered, and the files may change while the cell trains
        self.cell = cell
        self.device = device
        self.together = together
        protocol = cell.protocol
        self.precision = precision.precision(protocol.autocast, device)
        self.task = building.task_class(cell.task)(cell.variant, protocol, data_root, device)
        self.parts = self._built()
        self.info = TaskInfo.of(self.task)
        self.course = Course(protocol, self.info, tuple(self.task.extra_splits), self.task.steps_per_epoch)
        packages = (*self.task.packages, *self.method.packages)
        self.origin = Origin.of(type(self.method), device, packages, together.size)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self.checkpoint = Checkpoint(folder / CHECKPOINT, cell.id, self.precision, self.task.data_digest)
        self.log = together.first_first(lambda: self._resumed(warn), device)
        together.require_alike(self.log.step, device, self.task.data_digest)
        self.costs = Costs(self.log, device)
        self.predictions: Predictions | None = None
        self.recorder: Recorder | None = None

    def _built(self) -> list[Trainee]:
        """The models as they are before the first step."""
        seed_torch(stream(self.cell.seed, "init"), self.device)
        model = self.task.model().to(self.device)
        method = building.method(self.cell.method, **self.cell.parameters)
        self.method = method.seed(stream(self.cell.seed, "method"))
        self.sampler = sampled.sampler(self.cell, self.task)
        return trainees(self.cell, self.task, model, method, self.together)

    def _resumed(self, warn: Callable[[str], None]) -> Log:
        """The log from which the cell goes on, its parts being there too; an empty one where it begins."""
        try:
            content = self.checkpoint.resume(self.parts, self.course, self.device, self.sampler)
        except Unusable as error:
            warn(str(error))
            self.parts = self._built()  # loading may have come half-way
            content = None
        if content is None:
            return Log.empty(len(self.task.objectives), self.device)
        if changes := self.origin.changes(content.origin):
            warn(f"{self.checkpoint.path} goes on elsewhere than it was begun: {'; '.join(changes)}.")
        self.origin = self.origin.after(content.origin)
        return Log.of(content, self.device)

    def recording(self, wanted: Recording | None, path: Path, warn: Callable[[str], None]) -> Recorder | None:
        """What records the gradients' geometry, from where the log stands; None where it is not recorded."""
        if wanted is None or self.method.separate_models or not self.cell.protocol.trains:
            if wanted is not None:
                why = "every objective has a model of its own" if self.cell.protocol.trains else "nothing is trained"
                warn(f"The geometry of gradients is not recorded, as {why}.")
            if path.exists():  # what is missing in it could not be told from the file
                warn(f"{path} is of a run that recorded it, which this one does not: it is removed.")
                path.unlink()
            return None
        log, total = self.log, self.course.total_steps
        with undisturbed([self.parts[0].model], self.device):
            recorder = Recorder(
                path, wanted, self.cell, self.task, self.parts[0], total, lambda: self.log.seconds_training
            )
        if log.step and (told := recorder.resume(log.step, log.trace)):
            warn(told)
        return recorder

    def train(self, clock: Clock, checkpoint_steps: int | None, observers: Sequence[Observer]) -> None:
        """Train to the end of the protocol, from wherever the log stands."""
        log, protocol = self.log, self.cell.protocol
        watching = Observers((self.costs, *observers), [part.model for part in self.parts], self.device)
        for part in self.parts:
            part.model.train()
        if not (protocol.trains or log.evaluations):
            self._evaluate(0, watching)
        if protocol.trains and not log.step:
            watching.at_start(self._view(0))
        for epoch in range(self.course.completed(log.step), protocol.epochs):
            self._train_epoch(epoch, clock, checkpoint_steps, watching)
            if not evaluates(protocol, epoch + 1):
                continue
            self._evaluate(epoch + 1, watching)
            if epoch + 1 < protocol.epochs:
                clock.ask_again()
                clock.raise_if_over()

    def follow(self) -> None:
        """Train to the end of the protocol as another process leads."""
        for part in self.parts:
            part.model.train()
        for epoch in range(self.course.completed(self.log.step), self.cell.protocol.epochs):
            for batches in self._batches(epoch):
                self._step(batches)

    def _batches(self, epoch: int) -> Iterator[tuple[Any, ...]]:
        """Those of an epoch that are still to do, for each step that of each model."""
        if self.sampler:
            self.sampler.enter(epoch)
        steps = step_batches(self.task, self.parts, epoch, stream(self.cell.seed, "data", epoch))
        return itertools.islice(steps, self.log.step - epoch * self.task.steps_per_epoch, None)

    def _evaluate(self, epoch: int, watching: Observers) -> None:
        """Score the models after so many epochs, show it, and save."""
        self.log.evaluations.append(self._evaluation(epoch))
        if self.predictions:
            self._predict(self.predictions)
        watching.after_evaluation(self._view(epoch, evaluation=self.log.evaluations[-1]))
        self._save()

    def record(self, status: Status, reason: str) -> Record:
        """The record of what has been done so far."""
        log = self.log
        self.costs.note_memory()
        blocks = sorted(log.block_seconds)
        told = {**self.method.report(), **(self.sampler.report() if self.sampler else {})}
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
            cost=Cost(
                steps=log.step,
                seconds_per_step=blocks[len(blocks) // 2] if blocks else 0.0,
                seconds_training=log.seconds_training,
                seconds_evaluation=log.seconds_evaluation,
                peak_memory_bytes=log.peak_memory,
                memory="device" if self.device.type == "cuda" else "process",
                seconds_recording=self.recorder.seconds if self.recorder else None,
            ),
            provenance=Provenance(
                **self.origin.model_dump(),
                started=log.started,
                finished=provenance.now(),
                resumed=log.resumed,
                data_digest=self.task.data_digest,
                threads=self.cell.protocol.threads,
                precision=self.precision,
            ),
            last_layer=tuple(self.parts[0].backward.last_layer),
            diagnostics={k: v for k, v in told.items() if math.isfinite(v)},
        )

    def _train_epoch(self, epoch: int, clock: Clock, checkpoint_steps: int | None, watching: Observers) -> None:
        """The steps of an epoch that are still to do; raises `Interrupted` or `TimeLimit` if the clock says so."""
        log, per_epoch = self.log, self.task.steps_per_epoch
        steps = self._batches(epoch)
        clock.start()
        for batches in steps:
            losses = self._step(batches)
            clock.step()
            is_last = log.step == (epoch + 1) * per_epoch
            to_save = clock.is_over or (checkpoint_steps is not None and log.step % checkpoint_steps == 0)
            if not (clock.block_is_full or is_last or to_save or watching.look_after(log.step)):
                continue
            watching.after_step(self._view(epoch, batches, losses, clock.end()))
            if not (is_last and evaluates(self.cell.protocol, epoch + 1)):  # which is saved with its evaluation
                if to_save:
                    self._save()
                clock.raise_if_over()
            clock.start()
        if log.step != (epoch + 1) * per_epoch:
            raise UsageError(
                f"task {self.cell.task} yielded {log.step - epoch * per_epoch} batches in epoch {epoch} "
                f"but states steps_per_epoch={per_epoch}."
            )

    def _step(self, batches: Sequence[Any]) -> dict[int, Tensor]:
        """One step of every model, each on its batch; the detached losses by objective."""
        log, protocol = self.log, self.cell.protocol
        rate = protocol.optimizer.lr * learning_rate_factor(
            protocol.schedule, log.step, self.task.steps_per_epoch, self.course.total_steps
        )
        noise = self.together.noise(self.cell.seed, log.step)
        found: dict[int, Tensor] = {}
        for part, batch in zip(self.parts, batches, strict=True):
            seed_torch(noise, self.device)
            with precision.forward_context(self.precision, self.device):
                losses = part.step(batch, rate)
            if part.reviews:
                self._review(part, batch, noise)
            for k, loss in losses.items():
                log.loss_sums[k] += loss
                log.loss_counts[k] += 1
            found.update(losses)
        if self.sampler:
            self.sampler.observe(found)
        log.step += 1
        return found

    def _review(self, part: Trainee, batch: Any, noise: int) -> None:
        """Show the part's method what the step has done: the same batch and noise again, no trace in the model."""
        with undisturbed([part.model], self.device):
            seed_torch(noise, self.device)
            with precision.forward_context(self.precision, self.device):
                part.review(batch)

    def _evaluation(self, epoch: int) -> Evaluation:
        """Score the models; losses are means since the previous evaluation. Raises `Diverged`."""
        begun = time.perf_counter()
        wanted = splits(self.cell.protocol, self.course.extra_splits, epoch)
        answers = evaluating.answers(self.task, self.parts, wanted, self.precision, self.device)
        made = evaluating.evaluation(self.info, self.log, answers, epoch, self.cell.task)
        self.log.loss_sums.zero_()
        self.log.loss_counts.zero_()
        synchronize(self.device)
        self.log.seconds_evaluation += time.perf_counter() - begun
        return made

    def _predict(self, predictions: Predictions) -> None:
        for part in self.parts:
            part.model.eval()
        with torch.inference_mode(), precision.forward_context(self.precision, self.device):
            predictions.write(self.task, self.record("finished", ""), self.parts)
        for part in self.parts:
            part.model.train()

    def _view(
        self,
        epoch: int,
        batches: Sequence[Any] = (),
        losses: Mapping[int, Tensor] = MappingProxyType({}),
        block: Block | None = None,
        evaluation: Evaluation | None = None,
    ) -> View:
        return View(
            cell=self.cell,
            task=self.task,
            models=tuple(
                Model(part.model, tuple(part.objectives), batch)
                for part, batch in itertools.zip_longest(self.parts, batches)
            ),
            step=self.log.step,
            total_steps=self.course.total_steps,
            epoch=epoch,
            losses=losses,
            block=block,
            evaluation=evaluation,
        )

    def _save(self) -> None:
        self.log.trace = self.recorder.window() if self.recorder else None
        self.log.sampling = self.sampler.state_dict() if self.sampler else None
        self.checkpoint.save(self.parts, self.log, self.origin)
