"""A model with its optimiser and its backward pass: one for all objectives, or one for each."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mtlbench.catalogue import building, registry
from mtlbench.catalogue.protocol import Optimizer, Schedule
from mtlbench.catalogue.task import Task
from mtlbench.cells.cell import Cell
from mtlbench.engine.backward import Backward
from mtlbench.engine.kinds import GramianWeighting, LossWeighting, Method
from mtlbench.errors import Diverged, UsageError, unknown
from mtlbench.running.representing import require_representation
from mtlbench.running.streams import stream
from mtlbench.running.team import ALONE, Team

OUT_OF_MEMORY = (torch.OutOfMemoryError, MemoryError)
"""What is raised where the memory is used up."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def trainees(cell: Cell, task: Task, model: nn.Module, method: Method, together: Team = ALONE) -> list[Trainee]:
    """The models that are trained, alone or together with other processes: one for all objectives, or one for each."""
    together.require_fit(model, method, on_representation=cell.axes.get("wrt") == "representation")
    if task.steps_per_epoch < 1 and cell.protocol.trains:
        raise UsageError(f"task {cell.task} has no training batches: steps_per_epoch={task.steps_per_epoch}.")
    count = len(task.objectives)
    if cell.protocol.single_task_budget == "same_step":
        task.batches_of(0, 0, torch.Generator())  # a task without them says so; a generator's body does not run
    if not method.separate_models:
        return [Trainee(cell, task, model, method, range(count), together)]
    return [
        Trainee(cell, task, copy.deepcopy(model), building.method(registry.holder("baseline")), [k], together)
        for k in range(count)
    ]


def step_batches(task: Task, parts: Sequence[Trainee], epoch: int, seed: int) -> Iterator[tuple[Any, ...]]:
    """For every step of an epoch the batch of each model: the same one, or each its own under `same_step`.

    For a method that takes gradients from several batches it is a tuple of them: the first is that of every other
    method, each further one comes from an order of the data of its own.

    Args:
        task: whose batches they are.
        parts: the models.
        epoch: from 0.
        seed: of the generator that orders the data; models that have their own batches draw them as if they were alone.
    """

    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    if (several := parts[0].batches) > 1:
        seeds = [seed, *(stream(seed, "further data", b) for b in range(1, several))]
        orders = [task.batches(epoch, torch.Generator().manual_seed(one)) for one in seeds]
        return ((batches,) for batches in zip(*orders, strict=False))
    if not has_own_batches(parts):
        return ((batch,) * len(parts) for batch in task.batches(epoch, generator()))
    own = [task.batches_of(k, epoch, generator()) for part in parts for k in part.objectives]
    return zip(*own, strict=False)  # the runner tells of an epoch with another number of steps


def has_own_batches(parts: Sequence[Trainee]) -> bool:
    """Whether each model is trained on batches of its own; a single one has whole steps under either rule."""
    return len(parts) > 1 and parts[0].protocol.single_task_budget == "same_step"


def treated_objectives(cell: Cell, task: Task) -> list[int] | None:
    """The objectives that `treated` names, from 0; None for all.

    Raises:
        UsageError: a name that is neither an objective's nor a group's.
    """
    if (treated := cell.axes["treated"]) is None:
        return None
    known = {objective.name: [k] for k, objective in enumerate(task.objectives)} | dict(task.groups)
    for name in treated:
        if name not in known:
            named = ", ".join(sorted(task.groups)) or "none here"
            hint = f"treated= takes all, a group of objectives ({named}), an objective, or a list: [NAME,NAME]."
            raise unknown(f"objective of {cell.task}/{cell.variant} to treat:", name, known, hint)
    return sorted({k for name in treated for k in known[name]})


class Trainee:
    """One model for all objectives, or for one of them."""

    def __init__(
        self,
        cell: Cell,
        task: Task,
        model: nn.Module,
        method: Method,
        objectives: Sequence[int],
        together: Team = ALONE,
    ) -> None:
        self.task = task
        self.together = together
        self.model = model
        self.objectives = objectives
        self.protocol = cell.protocol
        self.batches = len(method.batch_shares) if isinstance(method, GramianWeighting) else 1
        """How many batches a step takes."""
        method.steps_per_epoch = task.steps_per_epoch
        dtype = DTYPES[cell.axes["jacobian_dtype"]] if cell.axes["jacobian_dtype"] else None
        treated = treated_objectives(cell, task)
        self._on_representation = cell.axes.get("wrt") == "representation"
        if self._on_representation:
            require_representation(task, cell.variant)
        self.backward = Backward(
            method,
            task.shared(model),
            cell.axes["granularity"] or "whole_model",
            len(objectives),
            jacobian_dtype=dtype,
            treated=None if treated is None else [row for row, k in enumerate(objectives) if k in treated],
            refresh=cell.axes.get("refresh") or 1,
            wrt="representation" if self._on_representation else "parameters",
            process_group=together.group,
            heads=None if together.group is None else model,
        )
        method.to(next(model.parameters()).device)
        self.trained = [*model.parameters(), *method.parameters()]
        self.optimizer = optimizer_for(cell.protocol.optimizer, _in_groups(model, method, cell.protocol.optimizer.lr))

    @property
    def reviews(self) -> bool:
        """Whether `review` follows a step."""
        return isinstance(self.backward.method, LossWeighting) and self.backward.method.reviews

    def review(self, batch: Any) -> None:
        """Show the method the losses of the same batch after the step."""
        if present := [k for k in self.task.present(batch) if k in self.objectives]:
            share, amounts = self.together.share(self.task, batch)
            held = [k for k in present if k in amounts]
            with torch.no_grad(), self._telling_objectives():
                self.backward.review(self.task.losses(self.model, share, held) if held else [])

    def step(self, batch: Any, learning_rate: float) -> dict[int, Tensor]:
        """One optimiser step on a batch, or on a tuple of several; the detached losses by objective.

        Of several batches, the step holds the objectives that all of them hold.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group["factor"]
        self.optimizer.zero_grad(set_to_none=True)
        several = batch if self.batches > 1 else (batch,)
        held = [set(self.task.present(one)) for one in several]
        present = [k for k in self.task.present(several[0]) if k in self.objectives and all(k in one for one in held)]
        if not present:
            return {}
        rows = [self.objectives.index(k) for k in present]
        with self._telling_objectives():
            losses = (
                self._backward(several, present, rows) if self.together.size == 1 else self._share(several, present)
            )
        if self.protocol.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.trained, self.protocol.clip_norm)
        self.optimizer.step()
        return dict(zip(present, losses.unbind(), strict=True))

    def _backward(self, several: Sequence[Any], present: Sequence[int], rows: Sequence[int]) -> Tensor:
        """The backward passes of a step; the (m,) losses."""
        if self._on_representation:
            losses, representation = self.task.losses_and_representation(self.model, several[0], present)
            return self.backward(losses, rows, representation)
        given = (self.task.losses(self.model, one, present) for one in several)
        return self.backward(given if self.batches > 1 else next(given), rows)

    def _share(self, several: Sequence[Any], present: Sequence[int]) -> Tensor:
        """The backward passes of a step that other processes take too, each with its share of every batch."""
        found = [self.together.share(self.task, one) for one in several]
        held = [k for k in present if all(k in amounts for _, amounts in found)]
        given = (self.task.losses(self.model, share, held) for share, _ in found)
        losses: Any = [] if not held else given if self.batches > 1 else next(given)
        rows = [self.objectives.index(k) for k in held]
        return self.backward(losses, rows, examples=[found[0][1][k] for k in held])

    @contextmanager
    def _telling_objectives(self) -> Iterator[None]:
        """While open, `Diverged` says which objective is which."""
        try:
            yield
        except Diverged as error:
            names = ", ".join(f"{row} is {self.task.objectives[k].name}" for row, k in enumerate(self.objectives))
            raise Diverged(f"{error} (objective {names})") from error

    def state_dict(self) -> dict[str, Any]:
        """Model, optimiser and method."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "backward": self.backward.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`; what the protocol says of the optimiser stays as it is."""
        self.model.load_state_dict(state["model"])
        fixed = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, values in zip(self.optimizer.param_groups, fixed, strict=True):
            group.update(values)
        self.backward.load_state_dict(state["backward"])


def learning_rate_factor(schedule: Schedule, step: int, steps_per_epoch: int, total_steps: int) -> float:
    """What the learning rate is multiplied by in `step` (from 0); see `Schedule`."""
    warm = schedule.warmup_steps
    if step < warm:
        return (step + 1) / warm
    if schedule.name == "step":
        return float(schedule.factor ** (step // steps_per_epoch // schedule.every_epochs))
    if schedule.name == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total_steps - warm)))
    if schedule.name == "linear":
        return 1 - (step - warm) / max(1, total_steps - warm)
    if schedule.name == "inverse_sqrt":
        return math.sqrt(max(1, warm) / (step + 1))
    return 1.0


def _in_groups(model: nn.Module, method: Method, learning_rate: float) -> list[dict[str, Any]]:
    """The parameters that are trained, each group with its learning rate as a `factor` of the protocol's."""
    own = method.own_learning_rate
    if own is None:
        return [{"params": [*model.parameters(), *method.parameters()], "factor": 1.0}]
    return [
        {"params": [*model.parameters()], "factor": 1.0},
        {"params": [*method.parameters()], "factor": own / learning_rate},
    ]


def optimizer_for(given: Optimizer, parameters: Sequence[Any]) -> torch.optim.Optimizer:
    """The protocol's optimiser; raises `UsageError` for a value that it does not allow."""
    kind = torch.optim.Adam if given.name == "adam" else torch.optim.AdamW
    try:
        if given.name == "sgd":
            return torch.optim.SGD(parameters, given.lr, momentum=given.momentum, weight_decay=given.weight_decay)
        return kind(parameters, given.lr, betas=given.betas, eps=given.eps, weight_decay=given.weight_decay)
    except ValueError as error:
        raise UsageError(f"protocol.optimizer is not allowed: {error}.") from error
