"""MoCo: the weights of a multi-gradient method, found step by step on gradients that are averaged over steps.

With y_k = 0 and lambda_k = 1/K at first, step t takes, per group of shared parameters::

    y_k <- y_k - b (y_k - g_k),    b = beta / t^beta_sigma
    lambda <- projection on the simplex of  lambda - c (Y Y' + rho 1) lambda,    c = gamma / t^gamma_sigma
    d = sum_k lambda_k y_k

where Y has the rows y_k. Heads are trained by their own losses. Convention: lambda sums to 1, so that the update is of
the size of a MEAN of gradients; `sum_to_k` multiplies it by K, as the authors' scripts do to match a summed loss.

Defaults are those of the authors' script for NYUv2: beta 0.99, gamma 0.1, no decay, rho 0. LibMTL has `beta=0.5`,
`beta_sigma=0.5`, `gamma_sigma=0.5`, and two other rules: rows are first scaled to `g / (|g| + 1e-8) L` (`rows=loss`),
and a softmax stands where the projection is (`onto=softmax`), which brings equal weights back in every step.

The step of lambda depends on the scale of the gradients: gamma times their squared length is what the weights move by.

In a step without some objectives y, lambda and t of the others rest; lambda of the present ones keeps its sum. The
state is a number for each entry of the Jacobian.

Source: the authors' code (heshandevaka/MoCo), and LibMTL.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor

import mtlbench
from mtlbench.engine.remembering import RememberingAggregator
from mtlbench.engine.simplex import on_simplex

EPSILON = 1e-8


@mtlbench.register_method("moco", paper="ICLR 2023")
class MoCo(RememberingAggregator):
    """Weighted means over steps of the gradients, with weights that follow the shortest vector.

    Args:
        beta: how much of a mean a step replaces.
        gamma: step size of lambda.
        beta_sigma: how fast beta falls with the steps.
        gamma_sigma: how fast gamma falls with the steps.
        rho: pulls lambda together.
        rows: the gradients as they are (`plain`), or each as long as its loss is large (`loss`).
        onto: how lambda comes back to the simplex.
        sum_to_k: lambda sums to K instead of 1 in the update.
    """

    exceptions: Mapping[str, str] = {
        "alone": "gradients are averaged over steps",
        "common_scale": "gamma has the unit of an inverse squared gradient",
        "single_scale": "weights follow the shortest vector, which the shortest gradient leads",
        "plain_sum": "weights follow the shortest vector",
        "descent": "weights follow the shortest vector step by step",
    }
    per_group: ClassVar[tuple[str, ...]] = ("lam", "steps")

    lam: Tensor
    """(G, K) float64, summing to 1."""
    steps: Tensor
    """(G, K) int64: in how many steps each objective was present."""

    def __init__(
        self,
        beta: Annotated[float, Interval(gt=0, le=1)] = 0.99,
        gamma: Annotated[float, Gt(0)] = 0.1,
        beta_sigma: Annotated[float, Ge(0)] = 0.0,
        gamma_sigma: Annotated[float, Ge(0)] = 0.0,
        rho: Annotated[float, Ge(0)] = 0.0,
        rows: Literal["plain", "loss"] = "plain",
        onto: Literal["projection", "softmax"] = "projection",
        sum_to_k: bool = False,
    ) -> None:
        super().__init__()
        self.beta, self.beta_sigma = beta, beta_sigma
        self.gamma, self.gamma_sigma = gamma, gamma_sigma
        self.rho = rho
        self.rows = rows
        self.onto = onto
        self.sum_to_k = sum_to_k
        self.register_buffer("lam", torch.empty(0, dtype=torch.float64))
        self.register_buffer("steps", torch.empty(0, dtype=torch.int64))

    def start(self) -> None:
        """Equal weights."""
        self.lam = torch.full((self.groups, self.objectives), 1 / self.objectives, dtype=torch.float64)
        self.steps = torch.zeros(self.groups, self.objectives, dtype=torch.int64)

    def aggregate(self, jacobian: Tensor) -> Tensor:
        """The means with the weights after this step's move."""
        place = self.group, self.present
        self.steps[place] += 1
        steps = self.steps[place].double()
        share = self.beta / steps**self.beta_sigma
        scales = self._scales(jacobian)

        def change(mean: Tensor, rows: Tensor) -> None:
            mean.mul_((1 - share).to(mean)[:, None]).addcmul_(rows, (share * scales).to(mean)[:, None])

        means = self.remember(jacobian, change)
        lam = self.lam[place]
        gramian = (means @ means.T).to("cpu", torch.float64)
        moved = lam - self.gamma / steps**self.gamma_sigma * (gramian @ lam + self.rho * lam)
        lam = moved.softmax(0) * lam.sum() if self.onto == "softmax" else on_simplex(moved, lam.sum())
        self.lam[place] = lam
        return (self.objectives * lam if self.sum_to_k else lam).to(means) @ means

    def report(self) -> dict[str, float]:
        """The weights that were reached, a mean over groups."""
        return {f"lambda_{k}": w for k, w in enumerate(self.lam.mean(0).tolist())} if self.objectives else {}

    def _scales(self, jacobian: Tensor) -> Tensor:
        """(m,) float64: what each gradient is multiplied by."""
        if self.rows == "plain":
            return torch.ones(len(jacobian), dtype=torch.float64)
        lengths = torch.linalg.vector_norm(jacobian, dim=1).to("cpu", torch.float64)
        return self.losses / (lengths + EPSILON)
