"""How a step is shared out among objectives that have training data of their own: what a strategy is, and is told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from mtlbench.catalogue.registry import _check_name, samplings

S = TypeVar("S", bound=type)

Shares = NDArray[np.float64]
"""(K,) the share of a step that each objective gets: none is negative, they sum to 1, and 0 leaves one out."""


@dataclass(frozen=True, eq=False)
class Supply:
    """What a task shares out among its K objectives."""

    sizes: NDArray[np.float64]
    """(K,) training examples of each objective, all above 0."""
    amounts: NDArray[np.float64]
    """(K,) the same data in the unit of `step`, such as subwords where a step has so many of them."""
    step: float
    """What a step takes."""
    temperature: float
    """T of the protocol, whose shares are proportional to sizes^(1/T); infinite where they are equal."""


class Sampling(ABC):
    """A strategy: what share of a step each objective gets, epoch by epoch.

    Constructor keyword arguments are its parameters, as those of a method. One object serves one training: `begin`,
    then `shares` once for every epoch in turn, and in between, if it `observes`, the losses of every step. Nothing is
    drawn at random. What changes while it trains is in `state`, so that training goes on from a checkpoint as if it had
    not stopped.
    """

    name: ClassVar[str]
    observes: ClassVar[bool] = False
    """Whether `observe` wants the losses of the steps."""
    exceptions: Mapping[str, str] = {}
    """What it does not promise, and why: names as in `mtlbench.running.sampling_conformance`. The others are tried."""

    supply: Supply
    """What there is to share out."""
    epochs: int
    """Of the training."""
    steps_per_epoch: int
    groups: Mapping[str, Sequence[int]]
    """The task's groups of objectives."""
    state: dict[str, NDArray[np.float64]]
    """What changes, by name; filled in `start()` with arrays of the shapes that they keep."""

    def __init__(self) -> None:
        self.state = {}

    def begin(
        self, supply: Supply, *, epochs: int, steps_per_epoch: int, groups: Mapping[str, Sequence[int]] | None = None
    ) -> None:
        """Make it ready for a training, which it then knows."""
        self.supply = supply
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.groups = groups or {}
        self.state = {}
        self.start()

    def start(self) -> None:
        """Fill `state`, and raise `UsageError` for parameters that do not fit this training."""
        return

    @abstractmethod
    def shares(self, epoch: int) -> Shares:
        """The (K,) shares of an epoch, from 0."""

    def observe(self, losses: Mapping[int, float]) -> None:
        """The losses of a step that has been made: objective -> mean over its examples, without weights of shares."""
        return


def register_sampling(name: str, *, paper: str = "") -> Callable[[S], S]:
    """Class decorator: enter a strategy in the registry.

    Args:
        name: what people type in `sampling=`; for a built-in one, its file name.
        paper: where it was published.
    """
    _check_name("sampling", name)

    def register(cls: S) -> S:
        cls.name = name  # type: ignore[attr-defined]
        samplings.add(name, cls, paper=paper)
        return cls

    return register
