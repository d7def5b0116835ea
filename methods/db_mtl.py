"""DB-MTL: losses through their logarithms, and gradients averaged over steps and made equally long.

With `g_k = grad log(L_k + 1e-8)` a step takes, per group of shared parameters::

    m_k <- b m_k + (1 - b) g_k,  0 at first;    d = max_j |m_j| sum_k m_k / |m_k|

so that every objective has the length of the longest. Heads are trained by the logarithms too: their gradients are
divided by the losses. Losses must be positive; an objective whose m is zero adds nothing.

b is `beta / t^sigma` in step t. The paper searches beta in 0.1, 0.5 and 0.9, with sigma 0 or 1/2; the defaults are
LibMTL's, 0.9 and 0. There is no correction for the zeros in the beginning, so that the first update is 1 - b times
that of b = 0. In a step without some objectives d is made of those that are present, and m and t of the others rest.

The state is a number for each entry of the Jacobian.

Source: the paper, and LibMTL, which adds 1e-8 to the lengths.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Interval
from torch import Tensor

import mtlbench
from mtlbench.engine.kinds import Heads
from mtlbench.engine.remembering import RememberingAggregator

EPSILON = 1e-8


@mtlbench.register_method("db_mtl", paper="arXiv:2308.12029")
class DBMTL(RememberingAggregator):
    """Means over steps of the gradients of logarithms, made equally long.

    Args:
        beta: how much of the mean a step keeps.
        sigma: how fast that falls with the steps.
    """

    exceptions: Mapping[str, str] = {
        "alone": "gradients are averaged over steps",
        "common_scale": "gradients are those of the logarithms",
        "plain_sum": "gradients are made equally long",
        "descent": "a sum of equally long gradients may oppose one of them",
    }
    heads: ClassVar[Heads] = "weighted"
    per_group: ClassVar[tuple[str, ...]] = ("steps",)

    steps: Tensor
    """(G, K) int64: in how many steps each objective was present."""

    def __init__(
        self,
        beta: Annotated[float, Interval(ge=0, lt=1), mtlbench.Choice(values=(0.1, 0.5, 0.9))] = 0.9,
        sigma: Annotated[float, Ge(0), mtlbench.Choice(values=(0.0, 0.5))] = 0.0,
    ) -> None:
        super().__init__()
        self.beta = beta
        self.sigma = sigma
        self.register_buffer("steps", torch.empty(0, dtype=torch.int64))

    def start(self) -> None:
        """No steps yet."""
        self.steps = torch.zeros(self.groups, self.objectives, dtype=torch.int64)

    def aggregate(self, jacobian: Tensor) -> Tensor:
        """The sum of the means, each as long as the longest."""
        self.require_positive(self.losses)
        self.steps[self.group, self.present] += 1
        keep = self.beta / self.steps[self.group, self.present].double() ** self.sigma
        take = (1 - keep) * self.head_weights()

        def change(mean: Tensor, rows: Tensor) -> None:
            mean.mul_(keep.to(mean)[:, None]).addcmul_(rows, take.to(mean)[:, None])

        means = self.remember(jacobian, change)
        lengths = torch.linalg.vector_norm(means, dim=1)
        stretch = torch.where(lengths > 0, lengths.max() / lengths, 0.0)
        return stretch @ means

    def head_weights(self) -> Tensor:
        """The derivatives of the logarithms of the losses."""
        return 1 / (self.losses + EPSILON)
