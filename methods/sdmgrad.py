"""SDMGrad: a short update that keeps to the mean gradient, with inner products between independent batches.

With J_b the gradients on batch b of a step, w_k = 1/K at first and u_k = 1/K, a step takes, per group of shared
parameters, `steps` times::

    v <- momentum v + A (w + lambda u),    A = J_1 J_2' / (s^2 + 1e-8)
    w <- projection on the simplex of  w - lr v

where v starts at zero in every step of training, and s is the mean of the square roots of the diagonal of `J_1 J_2'`,
negative entries taken as zero. The update is `J_3' (w + lambda u) / (1 + lambda)`.

A run has the steps of every other method, each with three batches drawn on their own, and costs three times as much:
K backward passes for each batch. Convention: the weights sum to 1, so that the update is of the size of a MEAN of
gradients. Heads are trained by their own losses, in the mean over the batches. The authors' code takes one batch three
times, which is against the theory; here they are three.

Defaults are TorchJD's, with lambda and `steps` from the authors' experiments; LibMTL has lr 5. In a step without some
objectives their w rest, and those of the present ones keep their sum, with u equal over them.

Source: NeurIPS 2023, by way of TorchJD's code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Interval
from torch import Tensor

import mtlbench
from mtlbench.engine.simplex import on_simplex

EPSILON = 1e-8


@mtlbench.register_method("sdmgrad", paper="NeurIPS 2023, arXiv:2305.18409")
class SDMGrad(mtlbench.GramianWeighting):
    """The shortest vector near the mean gradient, by stochastic steps on three batches.

    Args:
        strength: lambda, how strongly the update is pulled towards the mean gradient.
        lr: step size of w.
        momentum: of the steps of w.
        steps: of w in each step of training.
    """

    exceptions: Mapping[str, str] = {
        "common_scale": "1e-8 is added to a squared length",
        "single_scale": "the shortest and the mean gradient lead",
        "plain_sum": "weights follow the shortest vector",
        "descent": "weights are drawn to the mean gradient, and found step by step",
    }
    per_group: ClassVar[tuple[str, ...]] = ("w",)
    batch_shares = (0.0, 0.0, 1.0)

    w: Tensor
    """(G, K) float64, summing to 1."""

    def __init__(
        self,
        strength: Annotated[float, Ge(0)] = 0.3,
        lr: Annotated[float, Gt(0)] = 10.0,
        momentum: Annotated[float, Interval(ge=0, lt=1)] = 0.5,
        steps: Annotated[int, Interval(ge=1, le=1000)] = 20,
    ) -> None:
        super().__init__()
        self.strength = strength
        self.lr = lr
        self.momentum = momentum
        self.steps = steps
        self.register_buffer("w", torch.empty(0, dtype=torch.float64))

    def start(self) -> None:
        """Equal weights."""
        self.w = torch.full((self.groups, self.objectives), 1 / self.objectives, dtype=torch.float64)

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """The pulled weights after this step's moves."""
        w = self.w[:, self.present]
        total = w.sum(-1)
        pull = self.strength * (total / w.shape[-1])[:, None]
        scale = gramian.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt().mean(-1)
        table = gramian / (scale.square() + EPSILON)[:, None, None]
        velocity = torch.zeros_like(w)
        for _ in range(self.steps):
            velocity = self.momentum * velocity + (table @ (w + pull)[..., None]).squeeze(-1)
            w = on_simplex(w - self.lr * velocity, total)
        self.w[:, self.present] = w
        return (w + pull) / (1 + self.strength)

    def report(self) -> dict[str, float]:
        """The weights that were reached before the pull, a mean over groups."""
        return {f"w_{k}": w for k, w in enumerate(self.w.mean(0).tolist())} if self.objectives else {}
