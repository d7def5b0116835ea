"""The clock of a cell in training: blocks of steps, the time limit, the wish to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

BLOCK_STEPS = 10


class Interrupted(Exception):
    """The cell was asked to stop and has saved its checkpoint."""


class TimeLimit(Exception):
    """The cell used up its time limit and has saved its checkpoint."""


class Block(NamedTuple):
    """Steps that were timed together, of which a device that works on its own is asked for once."""

    steps: int
    seconds: float
    """Of loading batches, forward, backward, method and optimiser; nothing else."""


class Clock:
    """Measures training alone: it stands still while the cell is evaluated, saved or observed.

    Args:
        device: where the work is done; a block ends when the device has done it.
        spent: seconds that training has taken before, in earlier resumptions.
        limit: seconds that training may take in all; None for any number.
        should_stop: asked after every step and every evaluation.
    """

    def __init__(
        self, device: torch.device, spent: float, limit: float | None, should_stop: Callable[[], bool]
    ) -> None:
        self._device = device
        self._spent = spent
        self._limit = math.inf if limit is None else limit
        self._should_stop = should_stop
        self._stop: type[Interrupted] | type[TimeLimit] | None = None
        self.start()

    def start(self) -> None:
        """Begin a block now."""
        self._steps = 0
        self._since = time.perf_counter()

    def step(self) -> None:
        """A step is done."""
        self._steps += 1
        self._ask(self._spent + time.perf_counter() - self._since)

    @property
    def block_is_full(self) -> bool:
        """Whether the block has all its steps."""
        return self._steps >= BLOCK_STEPS

    @property
    def is_over(self) -> bool:
        """Whether training must end after this step, for now or for good."""
        return self._stop is not None

    def end(self) -> Block:
        """End the block; `start` begins the next one."""
        synchronize(self._device)
        seconds = time.perf_counter() - self._since
        self._spent += seconds
        return Block(self._steps, seconds)

    def raise_if_over(self) -> None:
        """Raise `Interrupted` or `TimeLimit` if training must end; to be called when the checkpoint is saved."""
        if self._stop is not None:
            raise self._stop

    def ask_again(self) -> None:
        """After an evaluation: whether training must end there."""
        self._ask(self._spent)

    def _ask(self, spent: float) -> None:
        stop = self._should_stop()
        self._stop = Interrupted if stop else TimeLimit if spent > self._limit else None


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
