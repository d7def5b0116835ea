"""FAMO: weights that make all losses fall at a similar rate, learnt from what each step has done to the losses.

With `z = softmax(xi)`, xi = 0 at first, a step minimises `c sum_k z_k log L_k` with the constant `c = 1 / sum_k (z_k /
L_k)`: the weights of the losses are `(z_k / L_k) / sum_j (z_j / L_j)`, heads included, and sum to 1. Then the losses
of the SAME batch are computed once more with the new parameters, and with `delta_k = log L_k(before) - log L_k(after)`
one step of Adam goes down the gradient `z_k (delta_k - sum_j z_j delta_j)` of xi: what fell least gains weight.
`gamma` is the weight decay of that step. 1e-8 is added to every loss before its logarithm, and all must be positive.

The second look costs a forward pass, without gradients. The runner takes it with the dropout of the step, and leaves
the running statistics of normalisation as the step left them; the authors' code draws new dropout and updates the
statistics twice. In a loop of your own call `Backward.review` after the optimiser's step; without it the next step is
refused.

gamma is 0.001 in the paper's algorithm and in its experiments, but for Cityscapes, where it is 0.01; the authors' code
has 1e-5 and 0.01 as defaults in different places. They clip gradients to a norm of 1, which here is the protocol's to
say. In a step without some objectives z is over those that are present, and xi of the others does not move.

Source: Liu et al., and their code (Cranial-XIX/FAMO).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt
from torch import Tensor

import mtlbench

EPSILON = 1e-8
BETAS = (0.9, 0.999)


@mtlbench.register_method("famo", paper="Liu et al., NeurIPS 2023, arXiv:2306.03792")
class FAMO(mtlbench.LossWeighting):
    """`c sum_k z_k log L_k`, with z learnt from the losses after the step.

    Args:
        gamma: weight decay of xi.
        lr: step size of xi.
    """

    exceptions: Mapping[str, str] = {
        "common_scale": "1e-8 is added to the losses",
        "plain_sum": "weights follow the losses",
        "descent": "it sees no gradients, so no conflicts",
    }
    on_host: ClassVar[bool] = True
    reviews: ClassVar[bool] = True

    xi: Tensor
    """(K,) float64."""
    moments: Tensor
    """(2, K) float64: Adam's means of the gradients of xi and of their squares."""
    steps: Tensor
    """(K,) int64: Adam's steps."""
    before: Tensor
    """(K,) float64: the losses of a step whose review is awaited; NaN for the others."""

    def __init__(
        self,
        gamma: Annotated[float, Ge(0), mtlbench.Range(low=1e-4, high=1e-2, scale="log")] = 1e-3,
        lr: Annotated[float, Gt(0)] = 0.025,
    ) -> None:
        super().__init__()
        self.gamma = gamma
        self.lr = lr
        for name in ("xi", "moments", "before"):
            self.register_buffer(name, torch.empty(0, dtype=torch.float64))
        self.register_buffer("steps", torch.empty(0, dtype=torch.int64))

    def start(self) -> None:
        """Equal weights."""
        self.xi = torch.zeros(self.objectives, dtype=torch.float64)
        self.moments = torch.zeros(2, self.objectives, dtype=torch.float64)
        self.steps = torch.zeros(self.objectives, dtype=torch.int64)
        self.before = torch.full((self.objectives,), torch.nan, dtype=torch.float64)

    def scalarize(self, losses: Tensor) -> Tensor:
        """The weighted sum of the logarithms of the losses."""
        self.require_positive(losses)
        if not self.before.isnan().all():
            raise mtlbench.UsageError(
                "famo: learns from the losses after the optimiser's step: call Backward.review with them before the "
                "next step."
            )
        self.before[self.present] = losses.detach().to("cpu", torch.float64)
        z = self.xi[self.present].softmax(0).to(losses)
        shifted = losses + EPSILON
        c = 1 / (z / shifted.detach()).sum()
        return c * (z * shifted.log()).sum()

    def review(self, losses: Tensor) -> None:
        """One step of Adam on xi, by how much the logarithm of each loss fell."""
        self.require_positive(losses)
        after = losses.detach().to("cpu", torch.float64)
        fell = (self.before[self.present] + EPSILON).log() - (after + EPSILON).log()
        z = self.xi[self.present].softmax(0)
        self._step(z * (fell - (z * fell).sum()))
        self.before.fill_(torch.nan)

    def report(self) -> dict[str, float]:
        """The weights z that were reached."""
        return {f"z_{k}": z for k, z in enumerate(self.xi.softmax(0).tolist())}

    def _step(self, slope: Tensor) -> None:
        """Adam, with weight decay within the gradient."""
        rows = self.present
        slope = slope + self.gamma * self.xi[rows]
        self.steps[rows] += 1
        for moment, beta, value in zip(self.moments, BETAS, (slope, slope**2), strict=True):
            moment[rows] = beta * moment[rows] + (1 - beta) * value
        first, second = (
            moment[rows] / (1 - beta ** self.steps[rows].double())
            for moment, beta in zip(self.moments, BETAS, strict=True)
        )
        self.xi[rows] -= self.lr * first / (second.sqrt() + EPSILON)
