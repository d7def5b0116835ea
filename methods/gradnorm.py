"""GradNorm: loss weights that are learnt so that objectives train at similar rates.

With `G_i = |grad_W (w_i L_i)|` at the last shared layer W, `Gbar` the mean of the G_i, and the relative training rate
`r_i = (L_i / L_i(0)) / mean_j (L_j / L_j(0))`, each step takes one gradient step on w (only) of::

    sum_i |G_i - Gbar r_i^alpha|                (Gbar r_i^alpha: a constant)

and then renormalises w to sum to K. The model is trained by `sum_i w_i L_i`, heads included, with the weights from
before the update, as the weights start at 1. L_i(0) is the loss of the first step in which objective i is present.

Conventions of this suite where published implementations differ: alpha is that of LibMTL, where the code of Aligned-MTL
has 2, and lr is this suite's; the step on w is plain gradient descent, and the objective above is divided by Gbar, so
that w does not depend on the scale of the gradients; weights stay at least 1e-3, or 1e-6 with a step in log w or p; an
objective within a relative 1e-9 of its wanted norm counts as there, with slope 0. The last shared layer is that of the
last matrix in execution that every objective reaches, with what runs after it. In a step without some objectives, w is
renormalised over the present ones, to the sum that they had.

LibMTL differs in three ways, each a parameter here: norms are over all shared parameters (`layer=all`); the weights are
`w = K softmax(p)` with p = 1 at first, and the gradient step is one in p (`step=softmax`); a first epoch is a plain
sum, and L_i(0) is the mean of its losses (`warmup=1`). Its p is trained by the optimiser of the model, which is not
offered, since a method on the Gramian has no parameters that the run trains: the step on p is plain gradient descent
too. An epoch is the task's, whose length the runner tells (`steps_per_epoch`); in a loop of your own set it. A step is
a call. While it warms up weights are 1 and rest; L_i(0) of an objective that these epochs never held is its first loss
afterwards. Protocols of at most `warmup` epochs are a plain sum.

Cost: of losses that share a graph, K passes down to W and one over the weighted sum; of losses with a graph each, K.

What the published step can balance. It moves w_i by `lr g_i / Gbar` with g_i the norm of the unweighted gradient, a
length that does not shrink with w_i. For two objectives with norms r to 1, balance is at `w = 2 / (1 + r)` for the
larger one and the step there is `lr (1 + r) / 2`: longer than the weight itself from `r = 2 / sqrt(lr) - 1` on, which
is 12 at the default lr. Beyond, w is thrown between its floor and large values: with constant norms the weighted ones
are apart by a factor of 1.5 (median) for r = 10, of some 3 for 20, of 20 for 50 and of 3,000 for 1,000.
`step="log"` takes the gradient step in log w, which is `lr w_i g_i / Gbar`, relative to w_i. With equal rates the
largest weighted norm then comes down by a factor of at least exp(lr) in a step, and the smallest does not: norms r to
1 are balanced after at most `ln(r) / lr` steps, and stay within a factor of some exp(2 lr) of each other.

Source: Chen et al., by way of published implementations, which agree on the objective above.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

import mtlbench
from mtlbench.engine.kinds import Heads

SMALLEST_WEIGHT = {"published": 1e-3, "log": 1e-6, "softmax": 1e-6}
TIE = 1e-9  # a difference that is rounding error has no sign


@mtlbench.register_method("gradnorm", paper="Chen et al., ICML 2018, arXiv:1711.02257")
class GradNorm(mtlbench.GramianWeighting):
    """Balance gradient norms and training rates by learning the loss weights.

    Args:
        alpha: how strongly slower objectives are favoured; 0 asks for equal gradient norms.
        lr: step size of the weights.
        layer: where gradient norms are taken: at the last shared layer (`last`), over all shared parameters (`all`),
            or at a layer by its name, such as `encoder.fc`.
        step: gradient descent on the weights (`published`), on their logarithms (`log`), which also balances
            norms that differ by more than some 20 to 1, or on what the weights are the softmax of (`softmax`).
        warmup: epochs of a plain sum, whose mean losses are L(0); with 0 the loss of an objective's first step is.
    """

    exceptions: Mapping[str, str] = {
        "single_scale": "weights follow the lengths of gradients step by step",
        "plain_sum": "weights are learnt, with or without conflicts",
        "descent": "it sees lengths of gradients, and no conflicts",
    }
    heads: ClassVar[Heads] = "weighted"
    added_later: ClassVar[tuple[str, ...]] = ("step", "warmup")

    weight: Tensor
    """(K,) float64: the weights that the next step uses."""
    initial_loss: Tensor
    """(K,) float64: L(0), so far while it warms up; NaN until the objective has been present."""
    warmed: Tensor
    """() int64: steps so far, up to the last that warms up; with `warmup` only, as what follows."""
    counts: Tensor
    """(K,) int64: how many losses `initial_loss` is the mean of."""

    def __init__(
        self,
        alpha: Annotated[float, Ge(0), mtlbench.Range(low=0.1, high=3.0)] = 1.5,
        lr: Annotated[float, Gt(0), mtlbench.Range(low=2.5e-3, high=0.25, scale="log")] = 0.025,
        layer: str = "last",
        step: Literal["published", "log", "softmax"] = "published",
        warmup: Annotated[int, Ge(0)] = 0,
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.lr = lr
        self.step = step
        self.warmup = warmup
        self.scope = "shared" if layer == "all" else "last_layer"
        self.layer_name = None if layer in ("last", "all") else layer
        if layer == "all":
            self.exceptions = {**self.exceptions, "groups": "lengths are those over all groups"}
        self.register_buffer("weight", torch.empty(0, dtype=torch.float64))
        self.register_buffer("initial_loss", torch.empty(0, dtype=torch.float64))
        if warmup:
            self.register_buffer("warmed", torch.zeros((), dtype=torch.int64))
            self.register_buffer("counts", torch.empty(0, dtype=torch.int64))

    def start(self) -> None:
        """Weights of one, no losses yet."""
        if self.warmup:
            self.warmed = torch.zeros((), dtype=torch.int64)
            self.counts = torch.zeros(self.objectives, dtype=torch.int64)
        self.weight = torch.ones(self.objectives, dtype=torch.float64)
        self.initial_loss = torch.full((self.objectives,), torch.nan, dtype=torch.float64)

    def report(self) -> dict[str, float]:
        """The weights that were reached."""
        return {f"weight_{k}": w for k, w in enumerate(self.weight.tolist())}

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """The weights of this step; those of the next are learnt from its norms and losses."""
        present = self.present
        warming = self._warming()
        first = self.initial_loss[present]
        first = torch.where(first.isnan(), losses, first)
        if bool((first <= 0).any()) or bool((losses < 0).any()):
            raise mtlbench.UsageError(
                f"gradnorm: needs positive losses, to measure training rates; got {losses.tolist()}."
            )
        if warming:
            self.counts[present] += 1
            first = first + (losses - first) / self.counts[present]
        self.initial_loss[present] = first
        weight = self.weight[present]
        if warming:
            return weight.expand(len(gramian), -1)
        norms = gramian.diagonal(dim1=-2, dim2=-1).sum(0).clamp(min=0).sqrt()
        weighted = weight * norms
        mean = weighted.mean()
        rates = losses / first
        if mean > 0 and rates.mean() > 0:
            wanted = (rates / rates.mean()) ** self.alpha
            excess = weighted / mean - wanted
            slope = torch.where(excess.abs() > TIE * wanted, excess.sign(), 0.0) * norms / mean
            self.weight[present] = self._moved(weight, slope)
        return weight.expand(len(gramian), -1)

    def _warming(self) -> bool:
        """Whether this step is one of those that warm up."""
        if self.warmup == 0 or int(self.warmed) >= self.steps_in(self.warmup):
            return False
        self.warmed += 1
        return True

    def _moved(self, weight: Tensor, slope: Tensor) -> Tensor:
        """(m,): the weights after a step, with the sum that they had."""
        smallest, total = SMALLEST_WEIGHT[self.step], weight.sum()
        if self.step == "softmax":
            # p is log w up to a constant, which its gradient w (slope - the weighted mean of slopes) leaves alone.
            moved = (weight.log() - self.lr * weight * (slope - weight @ slope / total)).softmax(0)
        elif self.step == "log":
            moved = (weight.log() - self.lr * weight * slope).softmax(0)
        else:
            moved = (weight - self.lr * slope).clamp(min=smallest)
        moved *= total / moved.sum()
        if moved.min() < smallest:
            above = (moved - smallest).clamp(min=0)
            moved = smallest + above * ((total - len(moved) * smallest) / above.sum())
        return moved
