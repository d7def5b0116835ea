"""Smooth Tchebycheff scalarisation: a smooth maximum of the losses, each relative to where it was after warming up.

With `n_k` the mean loss of objective k over one epoch, which follows `warmup` epochs, a step minimises::

    K mu log sum_k exp( log(L_k / n_k) / mu )

heads included: the weights of the logarithms of the losses are K times a softmax, which the objective that has gained
least dominates; at mu = 1 this is K log sum_k L_k / n_k. Before, and in the epoch whose losses are averaged, it
minimises `sum_k log L_k`. Protocols of at most `warmup + 1` epochs are that sum throughout. Losses must be positive.

This is how the authors train networks, with `mu = 1` and `warmup = 4`; LibMTL does the same. `form=plain` is the
definition itself, with preferences 1/K and the ideal point 0, as in TorchJD: `mu log sum_k exp(L_k / (K mu))`, which
has no warm-up.

An epoch is the task's, whose length the runner tells (`steps_per_epoch`); in a loop of your own set it. A step is a
call. K is the number of objectives that the step holds. The `n_k` of an objective that this epoch never held is its
first loss afterwards.

Source: the definition as TorchJD states it; the form for networks from the authors' code (Xi-L/STCH), as in LibMTL.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor

import mtlbench

TINY = 1e-20
"""Added to what logarithms are taken of, as in the authors' code."""


@mtlbench.register_method("stch", paper="ICML 2024, arXiv:2402.19078")
class SmoothTchebycheff(mtlbench.LossWeighting):
    """A smooth maximum of the losses.

    Args:
        mu: how smooth; a small one is close to the maximum.
        warmup: epochs before the one that the losses are compared with.
        form: of the logarithms of relative losses (`log`), or of the losses (`plain`).
    """

    exceptions: Mapping[str, str] = {
        "common_scale": "gradients are those of the logarithms",
        "plain_sum": "weights follow the losses",
        "descent": "it sees no gradients, so no conflicts",
    }
    on_host: ClassVar[bool] = True

    sums: Tensor
    """(K,) float64: of the losses in the epoch that is averaged."""
    counts: Tensor
    """(K,) int64: how many losses these are."""
    steps: Tensor
    """() int64: steps so far."""

    def __init__(
        self,
        mu: Annotated[float, Gt(0)] = 1.0,
        warmup: Annotated[int, Ge(0)] = 4,
        form: Literal["log", "plain"] = "log",
    ) -> None:
        super().__init__()
        self.mu = mu
        self.warmup = warmup
        self.form = form
        if form == "plain":
            self.exceptions = {**self.exceptions, "single_scale": "the largest loss has the most weight"}
        self.register_buffer("sums", torch.empty(0, dtype=torch.float64))
        self.register_buffer("counts", torch.empty(0, dtype=torch.int64))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def start(self) -> None:
        """Nothing averaged yet."""
        self.sums = torch.zeros(self.objectives, dtype=torch.float64)
        self.counts = torch.zeros(self.objectives, dtype=torch.int64)
        self.steps = torch.zeros((), dtype=torch.int64)

    def scalarize(self, losses: Tensor) -> Tensor:
        """The smooth maximum, or before it the sum of the logarithms."""
        if self.form == "plain":
            return self.mu * (losses / (len(losses) * self.mu)).logsumexp(0)
        self.require_positive(losses)
        begin, end = self.steps_in(self.warmup), self.steps_in(self.warmup + 1)
        step = int(self.steps)
        self.steps += 1
        present = self.present
        fresh = present[self.counts[present] == 0] if step >= end else present[: len(present) * (step >= begin)]
        self._take(fresh, losses)
        if step < end:
            return (losses + TINY).log().sum()
        nadir = (self.sums[present] / self.counts[present]).to(losses)
        return len(losses) * self.mu * ((losses / nadir + TINY).log() / self.mu).logsumexp(0)

    def report(self) -> dict[str, float]:
        """The mean losses that others are compared with, as far as they are known."""
        return {f"nadir_{k}": n for k, n in enumerate((self.sums / self.counts).tolist())}

    def _take(self, chosen: Tensor, losses: Tensor) -> None:
        """Add the losses of the `chosen` objectives to those that are averaged."""
        values = torch.zeros(self.objectives, dtype=torch.float64)
        values[self.present] = losses.detach().to("cpu", torch.float64)
        self.sums[chosen] += values[chosen]
        self.counts[chosen] += 1
