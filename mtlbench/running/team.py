"""The processes of one cell: what each takes of a batch and draws, and what they must agree on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from mtlbench.catalogue.task import Task
from mtlbench.engine.agreeing import digest
from mtlbench.engine.collectives import Collectives
from mtlbench.engine.kinds import Method
from mtlbench.engine.ranks import require_apart
from mtlbench.errors import UsageError
from mtlbench.running.streams import stream

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """The processes of one cell, as one of them sees it."""

    rank: int = 0
    size: int = 1
    group: Any = None
    """That of torch.distributed; None for a process alone."""

    @property
    def leads(self) -> bool:
        """Whether it is the one that evaluates, saves and tells."""
        return self.rank == 0

    def noise(self, seed: int, step: int) -> int:
        """The seed of a step's dropout masks, others on every rank."""
        return stream(seed, "noise" if self.leads else f"noise of rank {self.rank}", step)

    def share(self, task: Task, batch: Any) -> tuple[Any, dict[int, float]]:
        """What this process takes of a batch; objective -> how much of it that is, of those that it holds."""
        if self.size == 1:
            return batch, dict.fromkeys(task.present(batch), 1.0)
        part, amounts = task.divide(batch, self.rank, self.size)
        return part, {k: amount for k, amount in amounts.items() if amount > 0}

    def require_fit(self, model: nn.Module, method: Method, *, on_representation: bool = False) -> None:
        """Raise `UsageError` for a model that a share of a batch makes another, or a method that needs whole rows."""
        if self.size == 1:
            return
        refused = f"processes={self.size} is not allowed"
        if on_representation:
            raise UsageError(f"{refused} with wrt=representation: leave one of them out.")
        try:
            require_apart(method)
        except UsageError as error:
            raise UsageError(f"{refused}: {error}") from error
        for name, module in model.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and not isinstance(module, nn.SyncBatchNorm):
                raise UsageError(
                    f"{refused}: {name} normalises by the statistics of its batch, and those of a share are other "
                    "ones. Train models with batch normalisation on one process."
                )

    def first_first(self, action: Callable[[], T], device: torch.device) -> T:
        """Do something that the first process has done when the others do it."""
        if not self.leads:
            self.require_alike(0, device)
        found = action()
        if self.leads:
            self.require_alike(0, device)
        return found

    def require_alike(self, step: int, device: torch.device, data: str = "") -> None:
        """Wait for all processes; raise `UsageError` on all unless they go on from the same step with the same data."""
        if self.size == 1:
            return
        steps, seen = Collectives(self.group, device).gathered([step, digest(data)]).T.tolist()
        if len(set(steps)) > 1:
            raise UsageError(
                f"the processes of the cell go on from steps {steps}: they must all see the same results folder."
            )
        if strange := [str(rank) for rank, one in enumerate(seen) if one != seen[0]]:
            raise UsageError(
                f"the data of process {', '.join(strange)} are not those of the first one: all must see the same data "
                "root, or equal copies of it."
            )


ALONE = Team()


def require_devices(device: str, processes: int) -> None:
    """Raise `UsageError` if this host has not a GPU for each of so many processes of a cell."""
    if processes > 1 and device == "cuda" and (there := torch.cuda.device_count()) < processes:
        raise UsageError(f"{processes} processes on device=cuda need as many GPUs, and this machine has {there}.")


def device_of(device: str, place: int, together: Team) -> str:
    """The device of one of several processes on this host: each has a GPU of its own."""
    return f"cuda:{place}" if device == "cuda" and together.size > 1 else device
