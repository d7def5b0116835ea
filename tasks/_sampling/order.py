"""Order matters: high-resource objectives alone first, then the mixture of all.

Training on high-resource objectives and then on the mixture at static rates was found to beat static rates from the
beginning where low-resource data are few. When to switch and the rates of the mixture are not known here from the
paper: the switch must be given, and the rates are those of a temperature, in both phases (this suite's choice). The
optimiser goes on as it is, with its moments and its learning rate.

Objectives that have no share in the first phase are absent from its steps, and the state that methods hold of them
rests. Where all shares are in every step, losses are weighted by K p_i in both phases, so that the sum of the losses
is K times the loss of a joint batch throughout, whatever the number of objectives in it.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray

import mtlbench

from .temperature import shares


@mtlbench.register_sampling("order", paper="NeurIPS 2023, arXiv:2312.06134")
class Order(mtlbench.Sampling):
    """Two phases.

    Args:
        switch: the part of the training that the first phase takes, rounded to whole epochs.
        group: the task's group of objectives that it begins with.
        temperature: T of the shares within each phase; none for that of the protocol.
    """

    def __init__(
        self,
        switch: Annotated[float, Interval(gt=0, lt=1)],
        group: str = "hrl",
        temperature: Annotated[float, Interval(gt=0)] | None = None,
    ) -> None:
        super().__init__()
        self.switch = switch
        self.group = group
        self.temperature = temperature

    @property
    def first_epochs(self) -> int:
        """How many epochs the first phase has."""
        return round(self.switch * self.epochs)

    def start(self) -> None:
        """Refuse a phase without an epoch, and a group that there is none of."""
        if not 0 < self.first_epochs < self.epochs:
            raise mtlbench.UsageError(
                f"sampling.switch={self.switch:g} is not allowed: of {self.epochs} epochs the first phase would have "
                f"{self.first_epochs}. Both phases need one: give another switch, or more epochs of fewer steps."
            )
        if self.group not in self.groups:
            known = f"Its groups are: {', '.join(sorted(self.groups))}." if self.groups else "It has no groups here."
            raise mtlbench.UsageError(
                f"sampling.group={self.group} is no group of this task's objectives, with which sampling=order could "
                f"begin. {known}"
            )

    def shares(self, epoch: int) -> NDArray[np.float64]:
        """Those of the group alone, or of all."""
        found = np.zeros(len(self.supply.sizes))
        chosen = sorted(self.groups[self.group]) if epoch < self.first_epochs else np.arange(len(found))
        found[chosen] = shares(self.supply.sizes[chosen], self.temperature or self.supply.temperature)
        return found
