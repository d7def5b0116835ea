"""Observers of training: they look on while a cell trains, and the cell ends as if they had not."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from mtlbench.catalogue.task import Task
from mtlbench.cells.cell import Cell
from mtlbench.record.schema import Evaluation
from mtlbench.running import provenance
from mtlbench.running.clock import Block
from mtlbench.running.declared import TaskInfo
from mtlbench.running.reports import Progress

if TYPE_CHECKING:
    from mtlbench.running.checkpoint import Log

MOST_SCORES = 6
"""Objectives; of more than these, progress tells means."""


@dataclass(frozen=True)
class Model:
    """A model in training, with the objectives that it is trained on."""

    module: nn.Module
    objectives: tuple[int, ...]
    batch: Any = None
    """Of the step, the same for all models unless the protocol gives each its own; a tuple where the method takes
    several; None after an evaluation."""


@dataclass(frozen=True)
class View:
    """Where a cell stands, as observers see it: to look at and to compute with, not to change."""

    cell: Cell
    task: Task
    models: tuple[Model, ...]
    """One for all objectives, or one for each."""
    step: int
    """Completed steps."""
    total_steps: int
    epoch: int
    """That of the step, from 0; after an evaluation, the number of completed ones."""
    losses: Mapping[int, torch.Tensor] = field(default_factory=dict)
    """Objective -> its loss on the batch of its model before the step, detached; of those that the batch holds."""
    block: Block | None = None
    """The steps that were timed together and end with this one; None after an evaluation."""
    evaluation: Evaluation | None = None
    """The one that was just made; None after a step."""

    @property
    def batch(self) -> Any:
        """Of the step, for all models; None after an evaluation, and where each model has its own."""
        first = self.models[0].batch
        return first if all(model.batch is first for model in self.models) else None


class Observer(ABC):
    """Looks at a cell while it trains.

    What it draws, runs forward and backward, or switches between training and evaluation leaves no trace in the cell,
    and its time is in no time of training. It never changes a parameter. An error of an observer ends the cell.

    A cell that goes on from a checkpoint shows again the steps since that checkpoint.
    """

    every: int | None = None
    """Steps between two looks, counted from the cell's beginning; the timed block of steps ends at each of them.
    None to look wherever a block ends: every ten steps, at the end of an epoch, at a checkpoint, or at a stop."""

    def ends_block(self, step: int) -> bool:
        """Whether the timed block ends with this step so that it can look; by default where `every` says so."""
        return self.every is not None and step % self.every == 0

    def looks(self, step: int) -> bool:
        """Whether it looks after this step, with which a block ends; by default where `every` says so."""
        return self.every is None or self.ends_block(step)

    def at_start(self, view: View) -> None:  # noqa: B027 (most have no use for it)
        """See the untrained models; a cell that goes on from a checkpoint does not show them."""

    @abstractmethod
    def after_step(self, view: View) -> None:
        """See a step; see `every`. A checkpoint of this step is written afterwards."""

    @abstractmethod
    def after_evaluation(self, view: View) -> None:
        """See an evaluation; the checkpoint of it is written afterwards."""


class ObserverFailed(RuntimeError):
    """An observer raised an error, or changed what it may only look at; the message names it."""


class Observers:
    """The observers of one cell, and the guard between them and its training."""

    def __init__(self, observers: Iterable[Observer], models: Sequence[nn.Module], device: torch.device) -> None:
        self._observers = tuple(observers)
        self._models = models
        self._device = device

    def look_after(self, step: int) -> bool:
        """Whether one of them asks to look after this step, wherever blocks end."""
        return any(observer.ends_block(step) for observer in self._observers)

    def at_start(self, view: View) -> None:
        """Show the untrained models to all."""
        for observer in self._observers:
            self._show(observer, observer.at_start, view, "before the first step")

    def after_step(self, view: View) -> None:
        """Show a step, with which a block ends, to all whose turn it is."""
        for observer in self._observers:
            if observer.looks(view.step):
                self._show(observer, observer.after_step, view, f"after step {view.step}")

    def after_evaluation(self, view: View) -> None:
        """Show an evaluation to all."""
        for observer in self._observers:
            self._show(observer, observer.after_evaluation, view, f"in the evaluation after epoch {view.epoch}")

    def _show(self, observer: Observer, look: Callable[[View], None], view: View, when: str) -> None:
        who = f"the observer {type(observer).__name__} {when}"
        parameters = [p for model in self._models for p in model.parameters()]
        versions = [p._version for p in parameters]
        with undisturbed(self._models, self._device):
            try:
                look(view)
            except Exception as error:
                raise ObserverFailed(f"{who}: {type(error).__name__}: {error}") from error
        if versions != [p._version for p in parameters]:
            raise ObserverFailed(f"{who} changed a parameter of the model, which it may only look at")


@contextmanager
def undisturbed(models: Sequence[nn.Module], device: torch.device) -> Iterator[None]:
    """While open, generators, buffers, gradients and modes may change; afterwards they are what they were."""
    modules = [module for model in models for module in model.modules()]
    modes = [module.training for module in modules]
    buffers = [(buffer, buffer.clone()) for model in models for buffer in model.buffers()]
    gradients = [(p, p.grad) for model in models for p in model.parameters()]
    for parameter, _ in gradients:
        parameter.grad = None  # a backward pass would add to what the step left there
    pythons, numpys = random.getstate(), np.random.get_state()
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(pythons)
        np.random.set_state(numpys)
        for parameter, gradient in gradients:
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


class Costs(Observer):
    """Notes in a cell's log what training cost."""

    def __init__(self, log: Log, device: torch.device) -> None:
        self._log = log
        self._device = device

    def at_start(self, view: View) -> None:
        """Note the memory."""
        self.note_memory()

    def after_step(self, view: View) -> None:
        """Note the block's time, and the memory."""
        assert view.block is not None
        self._log.block_seconds.append(view.block.seconds / view.block.steps)
        self._log.seconds_training += view.block.seconds
        self.note_memory()

    def after_evaluation(self, view: View) -> None:
        """Note the memory."""
        self.note_memory()

    def note_memory(self) -> None:
        """Note the most memory that was used so far."""
        self._log.peak_memory = max(self._log.peak_memory, provenance.peak_memory(self._device))


class Reporter(Observer):
    """Tells somebody where the cell stands."""

    def __init__(self, info: TaskInfo, tell: Callable[[Progress], None]) -> None:
        self._info = info
        self._tell = tell

    def after_step(self, view: View) -> None:
        """Tell how far it is."""
        self._tell(Progress(view.step, view.total_steps, view.epoch))

    def after_evaluation(self, view: View) -> None:
        """Tell how far it is and how good."""
        assert view.evaluation is not None
        scores = told_scores(self._info, view.evaluation.scores["val"])
        self._tell(Progress(view.step, view.total_steps, view.epoch, scores))


def told_scores(info: TaskInfo, scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """What progress tells of validation scores: objective -> main metric, or of many objectives the means."""
    main = {o.name: scores[o.name][o.metrics[0].name] for o in info.objectives}
    if len(main) <= MOST_SCORES:
        return main
    groups = {"mean": tuple(main), **{f"mean {name}": members for name, members in info.groups.items()}}
    kinds = {o.name: (o.metrics[0].name, o.metrics[0].unit) for o in info.objectives}
    return {
        name: sum(main[member] for member in members) / len(members)
        for name, members in groups.items()
        if len({kinds[member] for member in members}) == 1
    }
