"""UPGrad: each gradient is moved as little as possible until it conflicts with none, and the results are averaged.

With P the projection onto the cone of the directions d that have `<g_k, d> >= 0` for every k, the update is the mean
of the P(g_i); heads are trained by their own loss. P(g_i) is `g_i + sum_k v_k g_k` with v >= 0: K quadratic problems
for each group, solved exactly and together (tolerance and proof: `mtlbench.engine.nonnegative`). Where nothing
conflicts the update is the plain mean. No loss goes up to first order, however long the other gradients are. Where
only some objectives are treated, their gradients are projected onto the cone of all that are present. A zero gradient
conflicts with nothing.

Convention: a MEAN, as published (`reduction=sum` multiplies by the number of treated objectives). A problem without a
proven solution keeps the best weights found, and is counted (`unsolved` in the record).

TorchJD adds 1e-4 of the trace to the diagonal of the Gramian first, which changes the update in the fourth digit;
LibMTL projects with a general solver.

Source: Quinton and Rey, in the form of TorchJD.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

import mtlbench
from mtlbench.engine.nonnegative import nonnegative_minimisers
from mtlbench.engine.visiting import unit_rows


@mtlbench.register_method("upgrad", paper="Quinton and Rey, 2024, arXiv:2406.16232")
class UPGrad(mtlbench.GramianWeighting):
    """The mean of the projections of all gradients onto the cone of directions that conflict with none.

    Args:
        reduction: whether the projected gradients are averaged or added up.
    """

    exceptions: Mapping[str, str] = {
        "single_scale": "each projected gradient is as long as its gradient makes it",
    }

    unsolved: Tensor
    """() int64: how many projections had no proven solution."""

    def __init__(self, reduction: Literal["mean", "sum"] = "mean") -> None:
        super().__init__()
        self.reduction = reduction
        self.register_buffer("unsolved", torch.zeros((), dtype=torch.int64))

    def report(self) -> dict[str, float]:
        """How many projections had no proven solution."""
        return {"unsolved": int(self.unsolved)}

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """K projections for each group, all at once."""
        return self.weigh_treated(gramian, losses, range(gramian.shape[-1]))

    def weigh_treated(self, gramian: Tensor, losses: Tensor, rows: Sequence[int]) -> Tensor:
        """The same for the treated objectives alone, onto the cone of all."""
        groups, objectives, _ = gramian.shape
        chosen = list(rows)
        cosines, norms = unit_rows(gramian.numpy())
        shape = (groups, len(chosen), objectives)
        problems = np.broadcast_to(cosines[:, None], (*shape, objectives)).reshape(-1, objectives, objectives)
        found = nonnegative_minimisers(problems, -cosines[:, chosen].reshape(-1, objectives))
        self.unsolved.add_(found.unsolved)
        added = np.einsum("gi,gij->gj", norms[:, chosen], found.x.reshape(shape))
        weights = np.divide(added, norms, out=np.zeros_like(norms), where=norms > 0)
        weights[:, chosen] += 1.0
        if self.reduction == "mean" and chosen:
            weights /= len(chosen)
        others = [row for row in range(objectives) if row not in chosen]
        weights[:, others] += 1.0
        return torch.from_numpy(weights)
