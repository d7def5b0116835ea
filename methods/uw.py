"""Uncertainty weighting: every loss is divided by a variance that is learnt with the model.

The model and one log variance `s_k` for each objective are trained together on::

    sum_k ( exp(-s_k) L_k + s_k ) / 2

so that the weight of loss k is `exp(-s_k) / 2`, heads included. At a standstill `s_k = log L_k`: weights are then half
the reciprocal losses.

What trains s: the run's own optimiser, by the gradient `(1 - exp(-s_k) L_k) / 2`, with its weight decay and within the
norm that gradients are clipped to, as Kendall et al. train them with the model. `method.lr` is another learning rate
for them, under the same optimiser and schedule; the code of Nash-MTL has 0.025. s of an objective that is absent from
a step has no gradient and rests. With Adam at 1e-4 a log variance moves by some 1e-4 a step: weights that are to
change by an order of magnitude need 20,000 steps, which `lr` shortens.

Where sources differ: s begins at 0 in Nash-MTL and TorchJD, at -0.5 in LibMTL and at -0.7 in Auto-lambda (`init`). The
formula is the same in all of them.

Source: Kendall et al.; TorchJD says that the result hardly depends on the initial value according to the paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor, nn

import mtlbench


@mtlbench.register_method("uw", paper="Kendall et al., CVPR 2018, arXiv:1705.07115")
class UncertaintyWeighting(mtlbench.LossWeighting):
    """`sum_k (exp(-s_k) L_k + s_k) / 2`, with s trained too.

    Args:
        init: where every log variance begins.
        lr: what the runner trains the log variances with, under the protocol's schedule; none for its learning rate.
    """

    exceptions: Mapping[str, str] = {
        "common_scale": "the log variances answer to the size of the losses",
        "single_scale": "log variances follow the losses step by step",
        "plain_sum": "weights follow the losses",
        "descent": "it sees no gradients, so no conflicts",
    }

    def __init__(self, init: float = 0.0, lr: Annotated[float, Gt(0)] | None = None) -> None:
        super().__init__()
        self.init = init
        self.own_learning_rate = lr
        self.log_variance = nn.ParameterList()

    def start(self) -> None:
        """One parameter for each objective, so that those that are absent from a step have no gradient."""
        self.log_variance = nn.ParameterList(nn.Parameter(torch.tensor(self.init)) for _ in range(self.objectives))

    def scalarize(self, losses: Tensor) -> Tensor:
        """The sum of the weighted losses and of half the log variances."""
        s = torch.stack([self.log_variance[k] for k in self.present.tolist()])
        return 0.5 * ((-s).exp() * losses + s).sum()

    def report(self) -> dict[str, float]:
        """The log variances that were reached."""
        return {f"log_variance_{k}": s.item() for k, s in enumerate(self.log_variance)}
