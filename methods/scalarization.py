"""Static scalarisation: a weighted sum of the losses with fixed weights, to trace the trade-off front.

Update `d = sum_k w_k g_k`; a head is trained by its own loss times its weight. Convention: the weights are used as
given (not normalised); without any they are 1, which is `uniform`. In a grid `method.weights=simplex:K:N` stands for
all weights of K objectives that are multiples of K/N and sum to K.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

import mtlbench


@mtlbench.register_method("scalarization", paper="Xin et al., NeurIPS 2022, arXiv:2209.11379", role="static")
class Scalarization(mtlbench.LossWeighting):
    """`sum_k w_k L_k`.

    Args:
        weights: one non-negative number per objective, not all zero; none means 1 for each.
    """

    exceptions: Mapping[str, str] = {
        "single_scale": "the longest gradient leads the sum",
        "descent": "a long gradient may outweigh the others",
    }
    static = True

    def __init__(self, weights: tuple[Annotated[float, Ge(0)], ...] | None = None) -> None:
        super().__init__()
        if weights is not None and not any(weights):
            raise mtlbench.UsageError("scalarization: all weights are zero, so nothing would be trained.")
        self.given = weights
        if weights is not None:
            reason = "every objective has its own weight"
            self.exceptions = {**self.exceptions, "order": reason, "plain_sum": reason}

    def start(self) -> None:
        """Check the number of weights against K."""
        if self.given is not None and len(self.given) != self.objectives:
            raise mtlbench.UsageError(
                f"scalarization: weights has {len(self.given)} numbers for {self.objectives} objectives."
            )

    def scalarize(self, losses: Tensor) -> Tensor:
        """The weighted sum of the losses."""
        if self.given is None:
            return losses.sum()
        return (torch.tensor(self.given, dtype=torch.float64).to(losses)[self.present.to(losses.device)] * losses).sum()
