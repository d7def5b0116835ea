"""What a checkpoint holds, and whether its cell can have come to it: nothing else is gone on from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, StrictInt, StrictStr
from torch import Tensor

from mtlbench.catalogue.protocol import Protocol
from mtlbench.record.schema import SPLITS, Evaluation, Precision
from mtlbench.running.declared import TaskInfo
from mtlbench.running.provenance import Origin
from mtlbench.running.trainee import Trainee
from mtlbench.strict import Strict

FORMAT = 3

Count = Annotated[StrictInt, Field(ge=0, lt=2**63)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]


class Content(Strict, arbitrary_types_allowed=True):
    """Everything that a checkpoint holds."""

    format: Literal[3]
    cell: StrictStr
    """The identity of the cell."""
    precision: Precision
    data_digest: StrictStr
    origin: Origin
    parts: list[dict[str, Any]]
    """The state of each trainee."""
    step: Count
    evaluations: tuple[Evaluation, ...]
    loss_sums: Tensor
    loss_counts: Tensor
    block_seconds: Tensor
    """(blocks,) float64: seconds per step."""
    seconds_training: Seconds
    seconds_evaluation: Seconds
    peak_memory: Count
    resumed: Count
    started: StrictStr
    trace: dict[StrictStr, Tensor] | None = None
    """What the method did since the last snapshot of its gradients' geometry, where that is recorded."""
    sampling: dict[StrictStr, Any] | None = None
    """The state of what shares steps out (`running.sampled`), where that is not the way of the protocol."""


def evaluates(protocol: Protocol, epoch: int) -> bool:
    """Whether the model is evaluated after so many epochs."""
    return epoch % protocol.evaluate_every == 0 or epoch == protocol.epochs


def splits(protocol: Protocol, extra_splits: Sequence[str], epoch: int) -> tuple[str, ...]:
    """What is scored after so many epochs: where the last evaluation counts, extra splits wait for it."""
    extra = protocol.selection != "last" or epoch == protocol.epochs
    return (*SPLITS, *(extra_splits if extra else ()))


@dataclass(frozen=True)
class Course:
    """What a cell comes to on its way, as far as protocol and task fix it."""

    protocol: Protocol
    info: TaskInfo
    extra_splits: tuple[str, ...]
    steps_per_epoch: int

    @property
    def total_steps(self) -> int:
        """The steps of the whole cell."""
        return self.protocol.epochs * self.steps_per_epoch

    def completed(self, step: int) -> int:
        """How many epochs are complete after so many steps."""
        return step // self.steps_per_epoch if self.steps_per_epoch else 0

    def require_possible(self, content: Content) -> None:
        """Raise `ValueError`, with the reason, for content that this cell cannot have come to."""
        self._require_evaluations(content)
        self._require_measurements(content)

    def _require_evaluations(self, content: Content) -> None:
        if content.step > self.total_steps:
            raise ValueError(f"step {content.step} is beyond the end, which is step {self.total_steps}")
        first = 1 if self.protocol.trains else 0  # without epochs there is one evaluation, and no checkpoint before it
        completed = self.completed(content.step)
        due = [epoch for epoch in range(first, completed + 1) if evaluates(self.protocol, epoch)]
        if (made := [e.epoch for e in content.evaluations]) != due:
            raise ValueError(f"at step {content.step} it holds evaluations after epochs {made}, not {due}")
        for evaluation in content.evaluations:
            where = f"the evaluation after epoch {evaluation.epoch}"
            if evaluation.step != evaluation.epoch * self.steps_per_epoch:
                raise ValueError(f"{where} is of step {evaluation.step}")
            if set(evaluation.scores) != set(splits(self.protocol, self.extra_splits, evaluation.epoch)):
                raise ValueError(f"{where} has scores on {sorted(evaluation.scores)}")
            require_scores(self.info, evaluation, where)

    def _require_measurements(self, content: Content) -> None:
        last = content.evaluations[-1].step if content.evaluations else 0
        shape = (len(self.info.objectives),)
        for name, tensor in (("loss_sums", content.loss_sums), ("loss_counts", content.loss_counts)):
            if tensor.shape != shape or tensor.dtype != torch.float64:
                raise ValueError(f"{name} is {tuple(tensor.shape)} {tensor.dtype}, not {shape} torch.float64")
        counts = content.loss_counts.tolist()
        if not all(0 <= count <= content.step - last and count == int(count) for count in counts):
            raise ValueError(f"loss_counts is {counts} after {content.step - last} steps")
        blocks = content.block_seconds
        if blocks.ndim != 1 or blocks.dtype != torch.float64 or not all(0 <= t < math.inf for t in blocks.tolist()):
            raise ValueError("block_seconds are not (blocks,) seconds")
        if not min(content.step, 1) <= len(blocks) <= content.step:
            raise ValueError(f"{len(blocks)} blocks cannot hold {content.step} steps")


def require_scores(info: TaskInfo, evaluation: Evaluation, where: str) -> None:
    """Raise `ValueError` for an evaluation that lacks a score that the task declares, or has those of strangers."""
    known = {o.name for o in info.objectives}
    for split, scores in evaluation.scores.items():
        if strangers := {*scores} - known:
            raise ValueError(f"{where} has {split} scores of {', '.join(sorted(strangers))}, which is no objective")
        for objective in info.objectives if split in SPLITS else ():
            for metric in objective.metrics:
                if metric.name not in scores.get(objective.name, {}):
                    raise ValueError(f"{where} has no {split} score of {objective.name} {metric.name}")
    if strangers := {*evaluation.losses} - known:
        raise ValueError(f"{where} has losses of {', '.join(sorted(strangers))}, which is no objective")


def require_fitting(parts: Sequence[Trainee], content: Content) -> None:
    """Raise `ValueError`, with the reason, for states that are not those of `parts`; their loaders check less."""
    if len(content.parts) != len(parts):
        raise ValueError(f"it holds {len(content.parts)} models, the cell has {len(parts)}")
    names = [o.name for o in parts[0].task.objectives]
    seen = {k for k, count in enumerate(content.loss_counts.tolist()) if count}
    seen |= {k for k, name in enumerate(names) if any(name in e.losses for e in content.evaluations)}
    for part, state in zip(parts, content.parts, strict=True):
        own = part.state_dict()
        if own.keys() != state.keys():
            raise ValueError(f"a model's state has {sorted(map(str, state))}, not {sorted(own)}")
        _require_alike(own["model"], state["model"], "model")
        _require_alike(own["backward"]["method"], state["backward"]["method"], "method")
        if _parameters(own["optimizer"]) != _parameters(state["optimizer"]):
            raise ValueError("the optimiser has other groups of parameters")
        _require_moments(part, state["optimizer"]["state"], content.step, bool(seen.intersection(part.objectives)))


def _parameters(optimizer: Mapping[str, Any]) -> list[list[int]]:
    return [group["params"] for group in optimizer["param_groups"]]


def _require_moments(part: Trainee, stored: Mapping[int, Mapping[str, Any]], step: int, trained: bool) -> None:
    """Raise `ValueError` for what cannot be the state of the trainee's optimiser after at most so many steps."""
    expected = {"step", "exp_avg", "exp_avg_sq"}
    if isinstance(part.optimizer, torch.optim.SGD):
        expected = {"momentum_buffer"} if part.protocol.optimizer.momentum else set()
    if trained and expected and not stored:
        raise ValueError("the optimiser has no state of what was trained")
    for index, values in stored.items():
        if index not in range(len(part.trained)) or {k for k, v in values.items() if v is not None} != expected:
            raise ValueError(f"the optimiser has {sorted(values)} of parameter {index}, not {sorted(expected)}")
        for name, value in values.items():
            if name == "step" and not 0 <= float(value) <= step:
                raise ValueError(f"the optimiser took {float(value):g} of {step} steps with parameter {index}")
            if name in expected - {"step"} and value.shape != part.trained[index].shape:
                raise ValueError(f"the optimiser's {name} of parameter {index} has the shape {tuple(value.shape)}")


def _require_alike(own: Any, stored: Any, where: str) -> None:
    """Raise `ValueError` where one state is not built like the other; what is still empty may have any shape."""
    if isinstance(own, Mapping):
        if not isinstance(stored, Mapping) or own.keys() != stored.keys():
            there = sorted(map(str, stored)) if isinstance(stored, Mapping) else type(stored).__name__
            odd = sorted({*own} ^ {*there}) if isinstance(stored, Mapping) else there
            raise ValueError(f"{where} differs in {odd}")
        for key, value in own.items():
            _require_alike(value, stored[key], f"{where} {key}")
    elif isinstance(own, Tensor):
        if not isinstance(stored, Tensor) or stored.dtype != own.dtype:
            raise ValueError(f"{where} is {getattr(stored, 'dtype', type(stored).__name__)}, not {own.dtype}")
        if own.numel() and stored.shape != own.shape:
            raise ValueError(f"{where} has the shape {tuple(stored.shape)}, not {tuple(own.shape)}")
    elif type(stored) is not type(own):
        raise ValueError(f"{where} is {type(stored).__name__}, not {type(own).__name__}")
    elif where.startswith("method") and isinstance(own, int) and stored != own:
        raise ValueError(f"{where} is {stored}, not {own}")
