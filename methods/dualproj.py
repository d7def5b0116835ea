"""DualProj: the mean of the gradients, moved as little as possible until it conflicts with none of them.

Update `d = argmin |d - g0|^2` subject to `<g_k, d> >= 0` for every k, with g0 the mean gradient; heads are trained by
their own loss. It is `d = g0 + sum_k v_k g_k` with v >= 0, so the weights are `1/K + v_k`, found exactly (tolerance
and proof: `mtlbench.engine.nonnegative`). Where nothing conflicts the update is the plain mean; where the gradients
have 0 in the interior of their convex hull it is 0. A zero gradient conflicts with nothing.

Convention: the update is of the size of a MEAN of gradients (`reduction=sum` multiplies it by K). A group without a
proven solution keeps the best weights found, and is counted (`unsolved` in the record).

TorchJD adds 1e-4 of the trace to the diagonal of the Gramian first, which changes the update in the fourth digit.

Source: Lopez-Paz and Ranzato, Equation 11, with the mean gradient in the place of that of the current task, as TorchJD
has it; LibMTL has no such method.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

import mtlbench
from mtlbench.engine.nonnegative import nonnegative_minimisers
from mtlbench.engine.visiting import unit_rows


@mtlbench.register_method("dualproj", paper="Lopez-Paz and Ranzato, NeurIPS 2017, arXiv:1706.08840")
class DualProj(mtlbench.GramianWeighting):
    """The projection of the mean gradient onto the cone of directions that conflict with no gradient.

    Args:
        reduction: whether the mean or the sum of the gradients is projected.
    """

    exceptions: Mapping[str, str] = {
        "single_scale": "it moves the mean gradient, which the longest leads",
        "descent": "a loss that the mean would raise stays, to first order",
    }

    unsolved: Tensor
    """() int64: how many times a group had no proven solution."""

    def __init__(self, reduction: Literal["mean", "sum"] = "mean") -> None:
        super().__init__()
        self.reduction = reduction
        self.register_buffer("unsolved", torch.zeros((), dtype=torch.int64))

    def report(self) -> dict[str, float]:
        """How many times a group had no proven solution."""
        return {"unsolved": int(self.unsolved)}

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """One quadratic problem for each group."""
        cosines, norms = unit_rows(gramian.numpy())
        largest = norms.max(-1, keepdims=True)
        lengths = np.divide(norms, largest, out=np.zeros_like(norms), where=largest > 0)
        found = nonnegative_minimisers(cosines, -np.einsum("gij,gj->gi", cosines, lengths))
        self.unsolved.add_(found.unsolved)
        weights = 1.0 + np.divide(found.x, lengths, out=np.zeros_like(norms), where=norms > 0)
        return torch.from_numpy(weights if self.reduction == "sum" else weights / norms.shape[-1])
