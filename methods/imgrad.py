"""IMGrad: CAGrad whose search for balance is as strong as the gradients are imbalanced.

With g0 the mean gradient, g_m the min-norm point of the gradients (MGDA) and `q = cos(g0, g_m)`::

    w = argmin (1.5 - q) <g_w, g0> + q alpha |g0| |g_w| over the simplex, g_w = sum_k w_k g_k
    d = (g0 + alpha |g0| g_w / |g_w|) / (1 + alpha^2)

and heads are trained by their own loss. q is near 1 where the mean gradient already serves all, and near 0 where it
serves the long gradients alone; q = 0.5 gives the two terms the ratio `alpha / 2` and q = 1 the ratio `2 alpha`, where
CAGrad has alpha. Both convex problems are solved exactly (`mtlbench.engine.nonnegative` and `.maxmin`: methods,
tolerances, proofs); a group without a proven solution keeps the best weights found, and is counted (`unsolved`).

Convention: a MEAN of gradients. `scale=sum` multiplies by K, as the authors' code does to match a sum of losses; alpha
is theirs for NYUv2. q counts as at least 1e-6, so that w is determined where the min-norm point is 0; where g_w itself
could be 0 (a Pareto-stationary point, a zero gradient) no more than is determined is added to g0.

Source: the authors' code, `nyuv2/utils.py` of github.com/zzpustc/IMGrad. Neither LibMTL nor TorchJD has it.
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
from mtlbench.engine.nonnegative import min_norm_weights
from mtlbench.engine.visiting import unit_rows

SMALLEST_COSINE = 1e-6


@mtlbench.register_method("imgrad", paper="IMGrad, IJCAI 2025, arXiv:2503.08006")
class IMGrad(mtlbench.GramianWeighting):
    """CAGrad with a trade-off set by the cosine of the mean gradient and the min-norm point.

    Args:
        alpha: the distance from the mean gradient, in its lengths.
        scale: the size of the update, that of a `mean` of gradients or that of their `sum` (the authors' code).
    """

    exceptions: Mapping[str, str] = {
        "single_scale": "it stays near the mean gradient, which the longest leads",
        "plain_sum": "it turns to the slowest objective without a conflict too",
        "descent": "near the mean gradient there may be no common descent",
    }

    unsolved: Tensor
    """() int64: how many problems had no proven solution."""

    def __init__(
        self,
        alpha: Annotated[float, Ge(0), mtlbench.Range(low=0.1, high=0.9)] = 0.8,
        scale: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.scale = scale
        self.register_buffer("unsolved", torch.zeros((), dtype=torch.int64))

    def report(self) -> dict[str, float]:
        """How many problems had no proven solution."""
        return {"unsolved": int(self.unsolved)}

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """Two problems for each group, over all groups at once."""
        cosines, norms = unit_rows(gramian.numpy())
        objectives = norms.shape[-1]
        largest = norms.max(-1, keepdims=True)
        lengths = np.divide(norms, largest, out=np.zeros_like(norms), where=largest > 0)
        mean = np.einsum("gij,gj->gi", cosines, lengths) / objectives
        size = np.sqrt(np.maximum(np.einsum("gi,gi->g", lengths, mean) / objectives, 0.0))
        shortest, unsolved = min_norm_weights(cosines, lengths)
        shortest *= lengths
        least = np.sqrt(np.maximum(np.einsum("gi,gij,gj->g", shortest, cosines, shortest), 0.0))
        both = size * least
        cosine = np.divide(np.einsum("gi,gi->g", shortest, mean), both, out=np.zeros_like(both), where=both > 0)
        q = np.clip(cosine, SMALLEST_COSINE, 1.0)
        found = ball_maximisers(cosines, lengths, mean, self.alpha * size * q / (1.5 - q))
        self.unsolved.add_(found.unsolved + unsolved)
        added = found.y * ((1.5 - q) / q)[:, None]
        weights = 1 / objectives + np.divide(added, lengths, out=np.zeros_like(norms), where=norms > 0)
        return torch.from_numpy(weights * ((objectives if self.scale == "sum" else 1.0) / (1 + self.alpha**2)))
