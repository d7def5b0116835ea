"""Random loss weighting: weights drawn anew in every step, the litmus test of learnt ones.

`sum_k w_k L_k` with `w = softmax(z)`, z of K independent standard normal numbers, heads included. Convention: the
weights sum to 1 as in the paper, so that an update is on average 1/K of that of `uniform`; `sum_to_k` multiplies them
by K, as Kurin et al. do, which matters to SGD, weight decay and gradient clipping, hardly to Adam. In a step without
some objectives K is the number of those that are present.

The paper also draws from other distributions and recommends this one.

Source: Lin et al., Algorithm 2.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

import mtlbench


@mtlbench.register_method("rlw", paper="Lin et al., TMLR 2022, arXiv:2111.10603")
class RandomLossWeighting(mtlbench.LossWeighting):
    """`sum_k softmax(z)_k L_k`, with z drawn in every step.

    Args:
        sum_to_k: weights sum to K instead of 1.
    """

    exceptions: Mapping[str, str] = {
        "single_scale": "the longest gradient leads the sum",
        "plain_sum": "weights are drawn at random",
        "descent": "it sees no gradients, so no conflicts",
    }

    def __init__(self, sum_to_k: bool = False) -> None:
        super().__init__()
        self.sum_to_k = sum_to_k

    def scalarize(self, losses: Tensor) -> Tensor:
        """The losses with this step's weights."""
        weights = torch.randn(len(losses), generator=self.generator, dtype=torch.float64).softmax(0)
        if self.sum_to_k:
            weights = len(losses) * weights
        return (weights.to(losses) * losses).sum()
