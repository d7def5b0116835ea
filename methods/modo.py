"""MoDo: weights that follow the shortest vector step by step, with inner products between independent batches.

With J_b the gradients on batch b of a step, and lambda_k = 1/K at first, a step takes, per group of shared parameters::

    lambda <- projection on the simplex of  lambda - gamma (J_1 J_2' + rho 1) lambda
    d = (J_1 + J_2)' lambda / 2         with two batches
    d = J_3' lambda                     with three

On one batch `J J'` would count the noise of a gradient with itself; between independent batches it does not, in the
mean. A run has the steps of every other method, each with two or three batches drawn on their own, and costs as many
times as much: K backward passes for each batch. Convention: lambda sums to 1, so that the update is of the size of a
MEAN of gradients. Heads are trained by their own losses, in the mean over the batches.

Gamma and rho are TorchJD's defaults; LibMTL has three batches and gamma 1e-3. The step of lambda depends on the scale
of the gradients: gamma times their squared length is what the weights move by. In a step without some objectives
theirs rest, and those of the present ones keep their sum.

Source: NeurIPS 2023 and JMLR 2024, by way of TorchJD's and LibMTL's code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor

import mtlbench
from mtlbench.engine.simplex import on_simplex

SHARES: dict[int, tuple[float, ...]] = {2: (0.5, 0.5), 3: (0.0, 0.0, 1.0)}


@mtlbench.register_method("modo", paper="NeurIPS 2023, JMLR 2024")
class MoDo(mtlbench.GramianWeighting):
    """Projected steps towards the shortest vector, on several batches.

    Args:
        gamma: step size of lambda.
        rho: pulls lambda together.
        batches: how many independent ones a step takes gradients from.
    """

    exceptions: Mapping[str, str] = {
        "common_scale": "gamma has the unit of an inverse squared gradient",
        "single_scale": "weights follow the shortest vector, which the shortest gradient leads",
        "plain_sum": "weights follow the shortest vector",
        "descent": "weights follow the shortest vector step by step",
    }
    per_group: ClassVar[tuple[str, ...]] = ("lam",)
    batch_shares = SHARES[2]

    lam: Tensor
    """(G, K) float64, summing to 1."""

    def __init__(
        self,
        gamma: Annotated[float, Gt(0)] = 0.1,
        rho: Annotated[float, Ge(0)] = 0.1,
        batches: Annotated[int, Interval(ge=2, le=3)] = 2,
    ) -> None:
        super().__init__()
        self.gamma = gamma
        self.rho = rho
        self.batch_shares = SHARES[batches]
        self.register_buffer("lam", torch.empty(0, dtype=torch.float64))

    def start(self) -> None:
        """Equal weights."""
        self.lam = torch.full((self.groups, self.objectives), 1 / self.objectives, dtype=torch.float64)

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """Lambda after this step's move."""
        before = self.lam[:, self.present]
        slope = (gramian @ before[..., None]).squeeze(-1) + self.rho * before
        lam = on_simplex(before - self.gamma * slope, before.sum(-1))
        self.lam[:, self.present] = lam
        return lam

    def report(self) -> dict[str, float]:
        """The weights that were reached, a mean over groups."""
        return {f"lambda_{k}": w for k, w in enumerate(self.lam.mean(0).tolist())} if self.objectives else {}
