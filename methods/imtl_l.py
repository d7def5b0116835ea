"""IMTL-L: every loss is multiplied by a scale that is learnt, so that scaled losses become equally large.

The model and one log scale `s_k` for each objective are trained together on::

    sum_k ( exp(s_k) L_k - s_k )

so that the weight of loss k is `exp(s_k)`, heads included. At a standstill `exp(s_k) L_k = 1`: all scaled losses are
1. This is twice the objective of `uw` with s of the other sign, so that the two differ in how fast s moves in relation
to the model, by a factor of 2 under SGD, and hardly under Adam; s begins at 0.

What trains s: the run's own optimiser, by the gradient `exp(s_k) L_k - 1`, with its weight decay and within the norm
that gradients are clipped to; `method.lr` is another learning rate for it, under the same optimiser and schedule. s of
an objective that is absent from a step has no gradient and rests.

IMTL-L is the part of impartial multi-task learning that balances losses; LibMTL's IMTL is both parts at once.

Source: the formula as TorchJD and LibMTL implement it; the optimum as DB-MTL (arXiv:2308.12029, Proposition 3.1) says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor, nn

import mtlbench


@mtlbench.register_method("imtl_l", paper="Liu et al., ICLR 2021")
class IMTLL(mtlbench.LossWeighting):
    """`sum_k (exp(s_k) L_k - s_k)`, with s trained too.

    Args:
        lr: what the runner trains the log scales with, under the protocol's schedule; none for its learning rate.
    """

    exceptions: Mapping[str, str] = {
        "common_scale": "the log scales answer to the size of the losses",
        "single_scale": "log scales follow the losses step by step",
        "plain_sum": "weights follow the losses",
        "descent": "it sees no gradients, so no conflicts",
    }

    def __init__(self, lr: Annotated[float, Gt(0)] | None = None) -> None:
        super().__init__()
        self.own_learning_rate = lr
        self.log_scale = nn.ParameterList()

    def start(self) -> None:
        """One parameter for each objective, so that those that are absent from a step have no gradient."""
        self.log_scale = nn.ParameterList(nn.Parameter(torch.tensor(0.0)) for _ in range(self.objectives))

    def scalarize(self, losses: Tensor) -> Tensor:
        """The sum of the scaled losses, without that of the log scales."""
        s = torch.stack([self.log_scale[k] for k in self.present.tolist()])
        return (s.exp() * losses - s).sum()

    def report(self) -> dict[str, float]:
        """The log scales that were reached."""
        return {f"log_scale_{k}": s.item() for k, s in enumerate(self.log_scale)}
