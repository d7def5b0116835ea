"""Standing controls: small problems whose outcome follows from theory, by which tables can be judged.

`mtlbench controls` runs them and compares the tables with what `expectations.yaml` says must be there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import mtlbench
from mtlbench.catalogue.protocol import Protocol
from mtlbench.catalogue.task import Task
from mtlbench.errors import unknown

from .digits import Digits
from .loud import Loud
from .problem import Problem

PROBLEMS: Mapping[str, type[Problem]] = {"scale": Digits, "twin": Digits, "surgery": Loud}
"""Variant -> the problem that it is."""


@mtlbench.register_task("controls")
class Controls(Task):
    """Embedded problems of seconds a cell, each with a known answer."""

    def __init__(self, variant: str, protocol: Protocol, data_root: Path | None, device: torch.device) -> None:
        if variant not in PROBLEMS:
            raise unknown("variant of controls:", variant, PROBLEMS)
        self.problem = PROBLEMS[variant](protocol, device)
        self.objectives = self.problem.objectives
        self.steps_per_epoch = self.problem.steps_per_epoch
        self.data_digest = self.problem.digest

    def model(self) -> torch.nn.Module:
        """The problem's, with values drawn from torch's global generator."""
        return self.problem.model()

    def shared(self, model: torch.nn.Module) -> Iterable[tuple[str, torch.nn.Parameter]]:
        """The parameters of its trunk, `trunk.*`."""
        return self.problem.shared(model)

    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[Any]:
        """The batches of an epoch; all that is random in them comes from `generator`."""
        return self.problem.batches(generator)

    def losses(self, model: torch.nn.Module, batch: Any, objectives: Sequence[int]) -> list[Tensor]:
        """The losses of `objectives`, () each; the trunk runs once."""
        return self.problem.losses(model, batch, objectives)

    @property
    def has_representation(self) -> bool:
        """Of the digits; where a point is sought, there is no encoder."""
        return isinstance(self.problem, Digits)

    def losses_and_representation(
        self, model: torch.nn.Module, batch: Any, objectives: Sequence[int]
    ) -> tuple[list[Tensor], Tensor]:
        """The losses of the digits, and the features that both heads read."""
        assert isinstance(self.problem, Digits)
        return self.problem.losses_and_features(model, batch, objectives)

    def evaluate(
        self, model: torch.nn.Module, split: str, objectives: Sequence[int]
    ) -> Mapping[str, Mapping[str, float]]:
        """The problem's metrics on `split`."""
        return self.problem.evaluate(model, split, objectives)
