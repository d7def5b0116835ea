"""FairGrad: alpha-fair progress of all objectives, as in the allocation of a resource.

The weights solve `G w = w^(-1 / alpha)` elementwise: the update maximises `sum_k <g_k, d>^(1 - alpha) / (1 - alpha)`
among those of its length. `alpha=1` has the direction of Nash-MTL, a small alpha that of the mean gradient, and a large
one favours the objectives that progress least. Heads are trained by their own loss.

The system is solved exactly (`mtlbench.engine.fairness`: method, tolerance, proof), where the authors and TorchJD take
a general least-squares solver; where 0 is in the convex hull of the gradients it has no solution, and w is the
minimiser of a function that always has one. A group without a proven solution keeps the best weights found, and is
counted (`unsolved` in the record). A zero gradient gains nothing.

Convention: alpha is that of the authors' scripts for NYUv2 and Cityscapes; the default of their class is 1. The size of
the update is that of the equation, which for gradients s times as long is `s^((1 - alpha) / (1 + alpha))` times as
long. The authors' code multiplies by K and shortens it to a length of 1: `scale=K` with `max_norm=1`, per group. Heads
as in the authors' code; LibMTL trains them by weighted losses.

Source: Ban and Ji, Equation 4 (as restated by TorchJD), and the authors' code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

import mtlbench
from mtlbench.engine.fairness import fair_weights


@mtlbench.register_method("fairgrad", paper="Ban and Ji, ICML 2024, arXiv:2402.15638")
class FairGrad(mtlbench.GramianWeighting):
    """The alpha-fair update.

    Args:
        alpha: how much the slowest objectives count.
        scale: what the solution is multiplied by: 1, or the number of objectives as in the authors' code.
        max_norm: the length that the update of a group is shortened to; 0 for no limit.
    """

    exceptions: Mapping[str, str] = {
        "common_scale": "the length is a power of that of the gradients",
        "single_scale": "with alpha other than 1, gains count by their size",
        "plain_sum": "it seeks fair gains, not the largest sum",
    }

    unsolved: Tensor
    """() int64: how many times a group had no proven solution."""

    def __init__(
        self,
        alpha: Annotated[float, Ge(0.1), mtlbench.Range(low=0.5, high=8.0, scale="log")] = 2.0,
        scale: Literal["1", "K"] = "1",
        max_norm: Annotated[float, Ge(0)] = 0.0,
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.scale = scale
        self.max_norm = max_norm
        self.register_buffer("unsolved", torch.zeros((), dtype=torch.int64))

    def report(self) -> dict[str, float]:
        """How many times a group had no proven solution."""
        return {"unsolved": int(self.unsolved)}

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """The fair weights of each group."""
        found = fair_weights(gramian.numpy(), 1 / self.alpha)
        self.unsolved.add_(found.unsolved)
        times = float(gramian.shape[-1]) if self.scale == "K" else 1.0
        length = found.length * times
        factor = np.full_like(length, times)
        over = length > self.max_norm
        if self.max_norm and over.any():
            factor = np.where(over, times * self.max_norm / np.where(over, length, 1.0), times)
        return torch.from_numpy(found.weights * factor[:, None])
