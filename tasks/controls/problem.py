"""What every control is to the task: data, model, losses and scores; and what its protocol may say."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

import pydantic
import torch
from torch import Tensor, nn

from mtlbench.catalogue.protocol import Protocol
from mtlbench.catalogue.task import Objective
from mtlbench.strict import Strict, refused

Seed = Annotated[int, pydantic.Field(ge=0, lt=2**32)]
Count = Annotated[int, pydantic.Field(ge=1, le=10**6)]
Options = TypeVar("Options", bound=Strict)


class Problem(ABC):
    """One control; the constructor makes its data."""

    objectives: Sequence[Objective]
    steps_per_epoch: int
    digest: str
    """SHA-256 (hex) over the data."""

    @abstractmethod
    def __init__(self, protocol: Protocol, device: torch.device) -> None: ...

    @abstractmethod
    def model(self) -> nn.Module:
        """A new model, whose shared part is called `trunk`."""

    def shared(self, model: nn.Module) -> Iterable[tuple[str, nn.Parameter]]:
        """The parameters of the trunk, `trunk.*`."""
        return ((name, p) for name, p in model.named_parameters() if name.split(".")[0] == "trunk")

    @abstractmethod
    def batches(self, generator: torch.Generator) -> Iterator[Any]:
        """The batches of one epoch."""

    @abstractmethod
    def losses(self, model: nn.Module, batch: Any, objectives: Sequence[int]) -> list[Tensor]:
        """() for each of `objectives`."""

    @abstractmethod
    def evaluate(self, model: nn.Module, split: str, objectives: Sequence[int]) -> Mapping[str, Mapping[str, float]]:
        """Objective -> metric -> score."""


def options_of(protocol: Protocol, kind: type[Options]) -> Options:
    """The protocol's `options`, validated; raises `UsageError` that names the key."""
    try:
        return kind.model_validate(protocol.options)
    except pydantic.ValidationError as error:
        raise refused(error, "protocol.options.") from error
