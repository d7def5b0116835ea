"""The strategy that shares a cell's steps out: asked once an epoch, shown losses, kept in checkpoints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlbench.catalogue import building
from mtlbench.catalogue.sampling import Sampling, Shares
from mtlbench.catalogue.task import Task
from mtlbench.cells.cell import Cell
from mtlbench.errors import UsageError

_SLACK = 1e-9
"""How far a sum of shares may be from 1."""


def sampler(cell: Cell, task: Task) -> Sampler | None:
    """What shares the steps of a cell out; None for the way of the protocol.

    Raises:
        UsageError: the task shares its steps out in one way only, or the strategy does not fit this training.
    """
    chosen = cell.axes.get("sampling")
    if chosen is None:
        return None
    strategy = building.sampling(chosen.name, **chosen.parameters)
    strategy.begin(
        task.supply(), epochs=cell.protocol.epochs, steps_per_epoch=task.steps_per_epoch, groups=dict(task.groups)
    )
    return Sampler(strategy, task)


class Sampler:
    """A strategy at work.

    Args:
        strategy: which has begun.
        task: whose steps it shares out.
    """

    def __init__(self, strategy: Sampling, task: Task) -> None:
        self.strategy = strategy
        self.task = task
        self.epoch = -1
        """The epoch that `shares` are of."""
        self.shares: Shares = np.zeros(len(task.objectives))
        self._factors: Shares = np.ones(len(task.objectives))

    def enter(self, epoch: int) -> None:
        """Share the steps of an epoch out; one that a checkpoint was written in keeps the shares that it began with.

        Raises:
            UsageError: the strategy gives no shares, or the task does not take them.
        """
        if epoch != self.epoch:
            self.shares = _checked(self.strategy, self.strategy.shares(epoch), self.shares.shape)
            self.epoch = epoch
        self._factors = self.task.share_out(self.shares)

    def observe(self, losses: Mapping[int, Tensor]) -> None:
        """Show the strategy the losses of a step, if it wants them."""
        if self.strategy.observes and losses:
            found = torch.stack([loss.double() for loss in losses.values()]).tolist()
            self.strategy.observe({k: x / self._factors[k] for k, x in zip(losses, found, strict=True)})

    def report(self) -> dict[str, float]:
        """The shares of the last epoch, by objective."""
        if self.epoch < 0:
            return {}
        names = [objective.name for objective in self.task.objectives]
        return {f"share of {name}": float(share) for name, share in zip(names, self.shares, strict=True)}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds, of tensors and numbers."""
        state = {name: torch.from_numpy(values.copy()) for name, values in self.strategy.state.items()}
        return {"epoch": self.epoch, "shares": torch.from_numpy(self.shares.copy()), "state": state}

    def load_state_dict(self, stored: Mapping[str, Any] | None, step: int) -> None:
        """Go on from `state_dict()`, as it was after so many steps.

        Raises:
            ValueError: with the reason, for what this cell cannot have come to.
        """
        if stored is None or stored.keys() != {"epoch", "shares", "state"}:
            raise ValueError("it has no state of sampling")
        if stored["epoch"] != (epoch := (step - 1) // self.task.steps_per_epoch):
            raise ValueError(f"its shares are of epoch {stored['epoch']}, not {epoch}")
        own = {name: values.shape for name, values in self.strategy.state.items()}
        shares = _array(stored["shares"], self.shares.shape, "shares")
        if (wrong := _wrong(shares)) is not None:
            raise ValueError(f"its shares {wrong}")
        if stored["state"].keys() != own.keys():
            raise ValueError(f"the state of sampling has {sorted(stored['state'])}, not {sorted(own)}")
        self.strategy.state = {name: _array(stored["state"][name], shape, name) for name, shape in own.items()}
        self.epoch, self.shares = epoch, shares


def require_sharing(cell: Cell, task: Task) -> None:
    """Ask for the shares of all epochs, as far as they are known before training; the task is left as it was.

    Raises:
        UsageError: as `sampler` and `Sampler.enter`.
    """
    if (found := sampler(cell, task)) is not None:
        try:
            for epoch in range(cell.protocol.epochs if not found.strategy.observes else 1):
                found.enter(epoch)
        finally:
            task.share_out(None)


def _checked(strategy: Sampling, shares: Any, shape: Sequence[int]) -> Shares:
    found = np.asarray(shares, dtype=np.float64)
    wrong = f"have the shape {found.shape}, not {shape}" if found.shape != shape else _wrong(found)
    if wrong:
        raise UsageError(f"The shares that sampling={strategy.name} gives {wrong}.")
    return found


def _wrong(shares: Shares) -> str | None:
    """What is wrong with shares, if anything is."""
    if not (shares >= 0).all() or not math.isfinite(shares.sum()):
        return f"are no shares: {shares.tolist()}"
    return None if abs(shares.sum() - 1) <= _SLACK else f"sum to {shares.sum():.12g}, not 1"


def _array(stored: Any, shape: Sequence[int], name: str) -> Shares:
    if not isinstance(stored, Tensor) or stored.dtype != torch.float64 or stored.shape != shape:
        raise ValueError(f"of sampling it has no {tuple(shape)} numbers called {name}")
    return np.array(stored.cpu().numpy())
