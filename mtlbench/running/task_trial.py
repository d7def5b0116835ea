"""A task under trial: its models, batches and losses from fixed seeds, and what it was seen to change around it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from mtlbench.catalogue.task import Task
from mtlbench.running.untouched import as_it_was

T = TypeVar("T")

SEEN = 64
"""Batches, at most, over which it is looked for who reaches which parameter."""
CLOSE = 1e-3
"""Relative difference up to which a loss or a score counts as the same: sums in another order."""


class Wrong(Exception):
    """What does not hold."""


class Tried:
    """A task under trial, and what it was seen to change around it."""

    task: Task

    def __init__(self, make: Callable[[], Task], trains: bool) -> None:
        self.make = make
        self.trains = trains
        self.touched: list[str] = []

    def watched(self, what: str, action: Callable[[], T]) -> T:
        """The result of `action`; what it changes of the process is noted, but for what the first time alone does.

        A library may do so when it is imported.
        """
        with as_it_was() as changed:
            result = action()
        if changed:
            with as_it_was() as again:
                result = action()
            self.touched += [f"{what} changes {part.name}" for part in again]
        return result

    def model(self) -> nn.Module:
        """A model from a fixed seed, without what is random in training only."""
        torch.manual_seed(0)
        return self.task.model().eval()

    def batches(self, epoch: int = 0) -> Iterator[Any]:
        """The batches of an epoch, from a fixed seed."""
        return self.task.batches(epoch, torch.Generator().manual_seed(epoch))

    def losses(self, model: nn.Module, batch: Any, objectives: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """Each of `objectives` with its loss, one at a time, so that a graph can be freed before the next is built."""
        asked = f"the {len(objectives)} that objectives={list(objectives)} asks for"
        found = iter(self.task.losses(model, batch, objectives))
        for k in objectives:
            loss = next(found, None)
            if loss is None:
                raise Wrong(f"losses gives fewer than {asked}")
            if not isinstance(loss, Tensor) or loss.ndim:
                what = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
                raise Wrong(f"the loss of {self.name(k)} is {what}, and should be a tensor of one number")
            yield k, loss
            del loss
        if next(found, None) is not None:
            raise Wrong(f"losses gives more than {asked}")

    def name(self, k: int) -> str:
        """Of an objective."""
        return self.task.objectives[k].name


def some(tried: Tried) -> Iterator[Any]:
    """Batches until every objective was among them, at most so many as SEEN."""
    missing = set(range(len(tried.task.objectives)))
    for _, batch in zip(range(SEEN), tried.batches(), strict=False):
        yield batch
        missing -= set(tried.task.present(batch))
        if not missing:
            return


def require_close(
    one: float, other: float, what: str, first: str = "when it is asked for alone", second: str = "among all objectives"
) -> None:
    """Raise `Wrong` unless two numbers are the same but for rounding; the words say when each was seen."""
    if not math.isclose(one, other, rel_tol=CLOSE, abs_tol=1e-6):
        raise Wrong(f"{what} is {other:g} {second} and {one:g} {first}")


def digest(value: Any) -> str:
    """A hash of a batch: of the tensors, arrays and numbers in it, however they are nested."""
    hashed = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, Tensor):
            hashed.update(f"{part.dtype}{tuple(part.shape)}".encode())
            part = part.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy()
        if isinstance(part, np.ndarray):
            hashed.update(f"{part.dtype}{part.shape}".encode())
            hashed.update(part.tobytes())
        elif isinstance(part, Mapping):
            for key, inner in part.items():
                hashed.update(repr(key).encode())
                add(inner)
        elif isinstance(part, list | tuple):
            hashed.update(f"{len(part)}".encode())
            for inner in part:
                add(inner)
        elif is_dataclass(part):
            add([getattr(part, field.name) for field in fields(part)])
        else:
            hashed.update(repr(part).encode())

    add(value)
    return hashed.hexdigest()
