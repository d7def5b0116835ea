"""Dynamic weight average: losses that fall slowly from epoch to epoch get more weight.

With `L_k(t)` the mean loss of objective k over epoch t, the weights of epoch t are::

    w_k = K softmax(r / T)_k,    r_k = L_k(t-1) / L_k(t-2)

heads included. They sum to K, and are 1 in the first two epochs. A mean is over the training losses of all steps of an
epoch, each as it was in its step, while the model moves. An objective without two means has r = 1; in an epoch that
never holds it, its means stay. Losses must be positive.

An epoch is the task's, whose length the runner tells (`steps_per_epoch`); with `window=N` means are over N steps
instead, as in the code of Nash-MTL, where N is 25. In a loop of your own set either; a step is a call.

Source: Liu et al. (MTAN), as in their code and in TorchJD.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt
from torch import Tensor

import mtlbench


@mtlbench.register_method("dwa", paper="Liu et al., CVPR 2019")
class DynamicWeightAverage(mtlbench.LossWeighting):
    """Weights by the ratio of the losses of the last two epochs.

    Args:
        temperature: T; a large one makes weights equal.
        window: how many steps a mean is over; none for an epoch.
    """

    exceptions: Mapping[str, str] = {
        "single_scale": "the longest gradient leads the sum",
        "plain_sum": "weights follow the losses",
        "descent": "it sees no gradients, so no conflicts",
    }
    on_host: ClassVar[bool] = True

    means: Tensor
    """(2, K) float64: the mean losses of the last epoch but one, and of the last; NaN until there are any."""
    sums: Tensor
    """(K,) float64: of the losses in this epoch so far."""
    counts: Tensor
    """(K,) int64: how many losses these are."""
    steps: Tensor
    """() int64: steps of this epoch so far."""

    def __init__(self, temperature: Annotated[float, Gt(0)] = 2.0, window: Annotated[int, Ge(1)] | None = None) -> None:
        super().__init__()
        self.temperature = temperature
        self.window = window
        self.register_buffer("means", torch.empty(0, dtype=torch.float64))
        self.register_buffer("sums", torch.empty(0, dtype=torch.float64))
        self.register_buffer("counts", torch.empty(0, dtype=torch.int64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def start(self) -> None:
        """No means yet."""
        self.means = torch.full((2, self.objectives), torch.nan, dtype=torch.float64)
        self.sums = torch.zeros(self.objectives, dtype=torch.float64)
        self.counts = torch.zeros(self.objectives, dtype=torch.int64)
        self.steps = torch.zeros((), dtype=torch.int64)

    def scalarize(self, losses: Tensor) -> Tensor:
        """The losses with the weights of this epoch, to whose means they are added."""
        self.require_positive(losses)
        weights = self._weights()[self.present]
        self._take(losses.detach().to("cpu", torch.float64))
        return (weights.to(losses) * losses).sum()

    def report(self) -> dict[str, float]:
        """The weights that were reached."""
        return {f"weight_{k}": w for k, w in enumerate(self._weights().tolist())} if self.objectives else {}

    def _weights(self) -> Tensor:
        """(K,) float64."""
        rates = (self.means[1] / self.means[0]).nan_to_num(nan=1.0)
        return self.objectives * (rates / self.temperature).softmax(0)

    def _take(self, losses: Tensor) -> None:
        """Add a step's losses; at the end of the epoch, its means become the last ones."""
        self.sums[self.present] += losses
        self.counts[self.present] += 1
        self.steps += 1
        if self.steps < (self.window or self.steps_in(1)):
            return
        there = self.counts > 0
        self.means[0, there] = self.means[1, there]
        self.means[1, there] = self.sums[there] / self.counts[there]
        self.sums.zero_()
        self.counts.zero_()
        self.steps.zero_()
