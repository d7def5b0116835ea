"""GradNorm: loss weights that are learnt so that objectives train at similar rates.

With `G_i = |grad_W (w_i L_i)|` at the last shared layer W, `Gbar` the mean of the G_i, and the relative training rate
`r_i = (L_i / L_i(0)) / mean_j (L_j / L_j(0))`, each step takes one gradient step on w (only) of::

    sum_i |G_i - Gbar r_i^alpha|                (Gbar r_i^alpha: a constant)

and then renormalises w to sum to K. The model is trained by `sum_i w_i L_i`, heads included, with the weights from
before the update, as the weights start at 1. L_i(0) is the loss of the first step in which objective i is present.

Conventions of this suite where published implementations differ: the step on w is plain gradient descent, and the
objective above is divided by Gbar, so that w does not depend on the scale of the gradients; weights stay at least
1e-3; an objective within a relative 1e-9 of its wanted norm counts as there, with slope 0. The last shared layer is
that of the last matrix in execution that every objective reaches, with what runs after it. In a step without some
objectives, w is renormalised over the present ones, to the sum that they had.

Source: Chen et al.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt
from torch import Tensor

import mtlbench
from mtlbench.engine.kinds import Heads

SMALLEST_WEIGHT = 1e-3
TIE = 1e-9  # a difference that is rounding error has no sign


@mtlbench.register_method("gradnorm", paper="Chen et al., ICML 2018, arXiv:1711.02257")
class GradNorm(mtlbench.GramianWeighting):
    """Balance gradient norms and training rates by learning the loss weights.

    Args:
        alpha: how strongly slower objectives are favoured; 0 asks for equal gradient norms.
        lr: step size of the weights.
        layer: where gradient norms are taken: at the last shared layer (`last`), over all shared parameters (`all`),
            or at a layer by its name, such as `encoder.fc`.
    """

    heads: ClassVar[Heads] = "weighted"

    weight: Tensor
    """(K,) float64: the weights that the next step uses."""
    initial_loss: Tensor
    """(K,) float64: each objective's first loss; NaN until it has been present."""

    def __init__(
        self,
        alpha: Annotated[float, Ge(0), mtlbench.Range(low=0.1, high=3.0)] = 1.5,
        lr: Annotated[float, Gt(0), mtlbench.Range(low=2.5e-3, high=0.25, scale="log")] = 0.025,
        layer: str = "last",
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.lr = lr
        self.scope = "shared" if layer == "all" else "last_layer"
        self.layer_name = None if layer in ("last", "all") else layer
        self.register_buffer("weight", torch.empty(0, dtype=torch.float64))
        self.register_buffer("initial_loss", torch.empty(0, dtype=torch.float64))

    def start(self) -> None:
        """Weights of one, no losses yet."""
        self.weight = torch.ones(self.objectives, dtype=torch.float64)
        self.initial_loss = torch.full((self.objectives,), torch.nan, dtype=torch.float64)

    def report(self) -> dict[str, float]:
        """The weights that were reached."""
        return {f"weight_{k}": w for k, w in enumerate(self.weight.tolist())}

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """The weights of this step; those of the next are learnt from its norms and losses."""
        present = self.present
        first = self.initial_loss[present]
        first = torch.where(first.isnan(), losses, first)
        if bool((first <= 0).any()) or bool((losses < 0).any()):
            raise mtlbench.UsageError(
                f"gradnorm: needs positive losses, to measure training rates; got {losses.tolist()}."
            )
        self.initial_loss[present] = first
        weight = self.weight[present]
        norms = gramian.diagonal(dim1=-2, dim2=-1).sum(0).clamp(min=0).sqrt()
        weighted = weight * norms
        mean = weighted.mean()
        rates = losses / first
        if mean > 0 and rates.mean() > 0:
            wanted = (rates / rates.mean()) ** self.alpha
            excess = weighted / mean - wanted
            slope = torch.where(excess.abs() > TIE * wanted, excess.sign(), 0.0) * norms / mean
            moved = (weight - self.lr * slope).clamp(min=SMALLEST_WEIGHT)
            total = weight.sum()
            moved *= total / moved.sum()
            if moved.min() < SMALLEST_WEIGHT:
                above = (moved - SMALLEST_WEIGHT).clamp(min=0)
                moved = SMALLEST_WEIGHT + above * ((total - len(moved) * SMALLEST_WEIGHT) / above.sum())
            self.weight[present] = moved
        return weight.expand(len(gramian), -1)
