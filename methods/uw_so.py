"""Soft optimal uncertainty weighting: the softmax of the reciprocal losses, which nothing has to learn.

`sum_k w_k L_k` with the constant weights `w = softmax(1 / (T L))`, heads included. It puts the weights `1 / L_k`, at
which uncertainty weighting comes to a standstill, through a softmax with temperature T: weights sum to 1, a large T
makes them equal and a small one leaves all to the smallest loss. They depend on the scale of the losses. Losses must
be positive; in a step without some objectives the softmax is over those that are present.

T has no default in the source and must be tuned, which `tune=N` does from 0.1 to 100, a range of this suite's. The
default 1 is no recommendation.

How the formula is known: from summaries of the paper, not from its text or its code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

import mtlbench


@mtlbench.register_method("uw_so", paper="Kirchdorfer et al., 2024, arXiv:2408.07985")
class SoftOptimalUncertaintyWeighting(mtlbench.LossWeighting):
    """`sum_k softmax(1 / (T L))_k L_k`, with the weights constant.

    Args:
        temperature: T.
    """

    exceptions: Mapping[str, str] = {
        "common_scale": "T has the unit of an inverse loss",
        "single_scale": "the smallest loss has the most weight",
        "plain_sum": "weights follow the losses",
        "descent": "it sees no gradients, so no conflicts",
    }

    def __init__(
        self, temperature: Annotated[float, Gt(0), mtlbench.Range(low=0.1, high=100.0, scale="log")] = 1.0
    ) -> None:
        super().__init__()
        self.temperature = temperature

    def scalarize(self, losses: Tensor) -> Tensor:
        """The losses with the weights that follow from them."""
        self.require_positive(losses)
        weights = (losses.detach().to("cpu", torch.float64).reciprocal() / self.temperature).softmax(0)
        return (weights.to(losses) * losses).sum()
