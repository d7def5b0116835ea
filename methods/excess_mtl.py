"""ExcessMTL: weights that grow where a loss is far above what it can become, as its gradients tell.

With S_k the sum over steps of the squares of the gradients g_k, coordinate by coordinate, the excess risk of an
objective is estimated by `e_k = sum_i g_ki^2 / sqrt(S_ki + 1e-7)`, and compared with what it was: `r_k = e_k / e_k0`.
Every step moves the weights, 1/K at first, by::

    w_k <- w_k exp(eta r_k),  normalised to sum to 1

and takes `sum_k w_k g_k`, heads included; with several groups of parameters each has its own weights, and heads take
their mean. e_k0 is the mean of e_k over `warmup` epochs, in which weights rest; with `warmup=0` it is the first e_k.

Where sources differ: weights sum to 1 and there are three epochs to warm up, as TorchJD says of the paper (Section
3.2, Appendix C.1); LibMTL and the authors' code, which it follows, have weights of 1 that sum to K (`sum_to_k`) and no
epochs to warm up. eta is 0.01 as in LibMTL; TorchJD has 1. In the first step without a warm-up LibMTL leaves the
weights as they are, which r = 1 does here; TorchJD puts e itself in the place of r there (`first=raw`), and adds 1e-7
to e_k0. Protocols of at most `warmup` epochs are a plain sum, divided by K.

An epoch is the task's, whose length the runner tells (`steps_per_epoch`); in a loop of your own set it. Steps are
counted for each objective, and those without it leave its S, e_0 and weight as they are: the weights of the present
ones keep their sum. Until an objective has an e_k0 above zero its r is 1. The state is a number for each entry of the
Jacobian.

Source: the rule as in LibMTL and TorchJD.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

import mtlbench
from mtlbench.engine.kinds import Heads
from mtlbench.engine.remembering import RememberingAggregator

EPSILON = 1e-7


@mtlbench.register_method("excess_mtl", paper="ICML 2024")
class ExcessMTL(RememberingAggregator):
    """Weights by the estimated excess risks, relative to their first ones.

    Args:
        eta: step size of the logarithms of the weights.
        warmup: epochs whose mean excess risk others are compared with.
        first: without a warm-up, what moves the weights in the first step: nothing (`kept`) or the risks (`raw`).
        sum_to_k: weights sum to K instead of 1.
    """

    exceptions: Mapping[str, str] = {
        "common_scale": "1e-7 is added to sums of squared gradients",
        "single_scale": "the longest gradient leads the sum",
        "plain_sum": "weights follow the risks, with or without conflicts",
        "descent": "weights follow the risks, whatever conflicts",
    }
    heads: ClassVar[Heads] = "weighted"
    per_group: ClassVar[tuple[str, ...]] = ("weight", "steps", "sums")

    weight: Tensor
    """(G, K) float64, summing to 1."""
    steps: Tensor
    """(G, K) int64: in how many steps each objective was present."""
    sums: Tensor
    """(G, K) float64: of the risks that are averaged."""

    def __init__(
        self,
        eta: Annotated[float, Gt(0)] = 0.01,
        warmup: Annotated[int, Ge(0)] = 3,
        first: Literal["kept", "raw"] = "kept",
        sum_to_k: bool = False,
    ) -> None:
        super().__init__()
        self.eta = eta
        self.warmup = warmup
        self.first = first
        self.sum_to_k = sum_to_k
        self.register_buffer("weight", torch.empty(0, dtype=torch.float64))
        self.register_buffer("steps", torch.empty(0, dtype=torch.int64))
        self.register_buffer("sums", torch.empty(0, dtype=torch.float64))

    def start(self) -> None:
        """Equal weights, nothing averaged."""
        shape = self.groups, self.objectives
        self.weight = torch.full(shape, 1 / self.objectives, dtype=torch.float64)
        self.steps = torch.zeros(shape, dtype=torch.int64)
        self.sums = torch.zeros(shape, dtype=torch.float64)

    def aggregate(self, jacobian: Tensor) -> Tensor:
        """The gradients with the weights after this step's move."""
        squares = self.remember(jacobian, lambda sums, rows: sums.addcmul_(rows, rows))
        rows = jacobian.to(squares.dtype)
        risks = (rows.square() / (squares + EPSILON).sqrt()).sum(1).to("cpu", torch.float64)
        place = self.group, self.present
        weight = self.weight[place]
        self.weight[place] = (weight.log() + self.eta * self._relative(risks)).softmax(0) * weight.sum()
        return self._scaled(self.weight[place]).to(rows) @ rows

    def head_weights(self) -> Tensor:
        """The mean over groups of the weights."""
        return self._scaled(self.weight[:, self.present].mean(0))

    def report(self) -> dict[str, float]:
        """The weights that were reached, a mean over groups."""
        return {f"weight_{k}": w for k, w in enumerate(self.weight.mean(0).tolist())} if self.objectives else {}

    def _scaled(self, weight: Tensor) -> Tensor:
        return self.objectives * weight if self.sum_to_k else weight

    def _relative(self, risks: Tensor) -> Tensor:
        """(m,): the risks in units of what they were, 1 where that is not known; the averages go on."""
        place = self.group, self.present
        most = max(1, self.steps_in(self.warmup))
        before = self.steps[place]
        known = self.sums[place] > 0
        self.steps[place] = before + 1
        self.sums[place] += torch.where(before < most, risks, torch.where(known, 0.0, most * risks))
        ready = known & (before >= most)
        if self.warmup == 0 and self.first == "raw":
            return torch.where(ready, risks / self.sums[place], torch.where(known, 1.0, risks))
        return torch.where(ready, risks * most / self.sums[place], 1.0)
