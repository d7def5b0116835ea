"""Random loss weighting: weights drawn anew in every step, the litmus test of learnt ones.

`sum_k w_k L_k` with `w = softmax(z)`, z of K independent standard normal numbers, heads included. Convention: the
weights sum to 1 as in the paper, so that an update is on average 1/K of that of `uniform`; `sum_to_k` multiplies them
by K, as Kurin et al. do, which matters to SGD, weight decay and gradient clipping, hardly to Adam. In a step without
some objectives K is the number of those that are present.

The paper also tries other distributions and recommends the normal one, the default. `distribution` names them:

- `normal`: the softmax of independent standard normal numbers, as above;
- `uniform`: the softmax of independent numbers that are uniform on (0, 1);
- `dirichlet`: w uniform on the simplex, which is Dirichlet's distribution with all parameters 1;
- `bernoulli`: every objective is in the step or out of it, each with probability 1/2, drawn again where all are out;
  those that are in share the weight equally;
- `one_hot`: one objective, any with the same probability, has all the weight.

Where sources differ: these are the forms in the code of Kurin et al., who adapted the authors'. In early code of
LibMTL, which now has the normal one only, `dirichlet` is the softmax of such a w, so that weights differ by less, and
under `bernoulli` every objective that is in has the weight 1. Kurin et al. can also draw means and deviations of the
normal numbers once, at the start: that is not offered.

Source: Lin et al., Algorithm 2; the other distributions from the code of Kurin et al.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

import mtlbench


def _uniform(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, dtype=torch.float64).softmax(0)


def _normal(count: int, generator: torch.Generator) -> Tensor:
    return torch.randn(count, generator=generator, dtype=torch.float64).softmax(0)


def _dirichlet(count: int, generator: torch.Generator) -> Tensor:
    # Numbers with a gamma distribution of shape 1, over their sum.
    drawn = torch.empty(count, dtype=torch.float64).exponential_(generator=generator)
    return drawn / drawn.sum()


def _bernoulli(count: int, generator: torch.Generator) -> Tensor:
    chosen = torch.zeros(count, dtype=torch.int64)
    while not chosen.any():
        chosen = torch.randint(2, (count,), generator=generator)
    return chosen / chosen.sum().double()


def _one_hot(count: int, generator: torch.Generator) -> Tensor:
    weights = torch.zeros(count, dtype=torch.float64)
    weights[torch.randint(count, (), generator=generator)] = 1
    return weights


DRAWN: Mapping[str, Callable[[int, torch.Generator], Tensor]] = {
    "normal": _normal,
    "uniform": _uniform,
    "dirichlet": _dirichlet,
    "bernoulli": _bernoulli,
    "one_hot": _one_hot,
}
"""(m,) float64 weights that sum to 1, by the name of their distribution."""


@mtlbench.register_method("rlw", paper="Lin et al., TMLR 2022, arXiv:2111.10603")
class RandomLossWeighting(mtlbench.LossWeighting):
    """`sum_k w_k L_k`, with w drawn in every step.

    Args:
        sum_to_k: weights sum to K instead of 1.
        distribution: what w is drawn from: a softmax of normal or of uniform numbers, uniformly from the simplex
            (`dirichlet`), a random subset (`bernoulli`) or one objective (`one_hot`).
    """

    exceptions: Mapping[str, str] = {
        "single_scale": "the longest gradient leads the sum",
        "plain_sum": "weights are drawn at random",
        "descent": "it sees no gradients, so no conflicts",
    }

    added_later: ClassVar[tuple[str, ...]] = ("distribution",)

    def __init__(
        self,
        sum_to_k: bool = False,
        distribution: Literal["normal", "uniform", "dirichlet", "bernoulli", "one_hot"] = "normal",
    ) -> None:
        super().__init__()
        self.sum_to_k = sum_to_k
        self.distribution = distribution

    def scalarize(self, losses: Tensor) -> Tensor:
        """The losses with this step's weights."""
        weights = DRAWN[self.distribution](len(losses), self.generator)
        if self.sum_to_k:
            weights = len(losses) * weights
        return (weights.to(losses) * losses).sum()
