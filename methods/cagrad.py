"""CAGrad: the direction near the mean gradient along which the slowest objective improves most.

With g0 the mean gradient, the update is::

    d = argmax min_k <g_k, d>    subject to |d - g0| <= c |g0|
      = g0 + c |g0| g_w / |g_w|  with w = argmin <g_w, g0> + c |g0| |g_w| over the simplex, g_w = sum_k w_k g_k

Heads are trained by their own loss. `c=0` is the plain mean, and a large c turns the update to the min-norm point of
MGDA. The one convex problem is solved exactly (`mtlbench.engine.maxmin`: method, tolerance, proof). A group without a
proven solution keeps the best weights found, and is counted (`unsolved` in the record).

Where g_w can be 0 (a Pareto-stationary point, or a zero gradient) the second form has no meaning and the first has
many solutions; the one nearest to g0 is taken. There the authors' code gives g0 and TorchJD gives 0.

Convention: a MEAN of gradients, as in the paper. `scale=sum` multiplies by `K / (1 + c^2)`, as the authors' code does
to match a sum of losses; LibMTL divides and does not multiply. The default of c is that of the paper for NYUv2; it
takes 0.2 on Cityscapes, LibMTL 0.5. TorchJD has no default, and answers 0 already where |g_w| is below 1e-4 of the
root of the trace.

Source: Liu et al., Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

import mtlbench
from mtlbench.engine.maxmin import ball_maximisers
from mtlbench.engine.visiting import unit_rows


@mtlbench.register_method("cagrad", paper="Liu et al., NeurIPS 2021, arXiv:2110.14048")
class CAGrad(mtlbench.GramianWeighting):
    """The direction in a ball around the mean gradient that helps the slowest objective most.

    Args:
        c: the radius of the ball, in lengths of the mean gradient.
        scale: the size of the update, that of a `mean` of gradients (the paper) or about that of a `sum` (the code).
    """

    exceptions: Mapping[str, str] = {
        "single_scale": "it stays near the mean gradient, which the longest leads",
        "plain_sum": "it turns to the slowest objective without a conflict too",
        "descent": "within c < 1 of the mean gradient there may be no common descent",
    }

    unsolved: Tensor
    """() int64: how many times a group had no proven solution."""

    def __init__(
        self,
        c: Annotated[float, Ge(0), mtlbench.Range(low=0.1, high=0.9)] = 0.4,
        scale: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        self.c = c
        self.scale = scale
        self.register_buffer("unsolved", torch.zeros((), dtype=torch.int64))

    def report(self) -> dict[str, float]:
        """How many times a group had no proven solution."""
        return {"unsolved": int(self.unsolved)}

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """One problem for each group, all at once."""
        cosines, norms = unit_rows(gramian.numpy())
        objectives = norms.shape[-1]
        largest = norms.max(-1, keepdims=True)
        lengths = np.divide(norms, largest, out=np.zeros_like(norms), where=largest > 0)
        mean = np.einsum("gij,gj->gi", cosines, lengths) / objectives
        size = np.sqrt(np.maximum(np.einsum("gi,gi->g", lengths, mean) / objectives, 0.0))
        found = ball_maximisers(cosines, lengths, mean, self.c * size)
        self.unsolved.add_(found.unsolved)
        weights = 1 / objectives + np.divide(found.y, lengths, out=np.zeros_like(norms), where=norms > 0)
        if self.scale == "sum":
            weights *= objectives / (1 + self.c**2)
        return torch.from_numpy(weights)
