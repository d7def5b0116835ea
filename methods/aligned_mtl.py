"""Aligned-MTL: gradients turned as little as needed to be orthogonal and of one length, then added up.

With the Gramian `G = V diag(s) V'`, the rows of `B J` with `B = sqrt(s_min) V diag(1 / sqrt(s)) V'` are orthogonal
and of length sqrt(s_min), the smallest singular value of the Jacobian; the update is their sum, so the weights of the
gradients are `B 1`. Heads are trained by their own loss. For orthogonal gradients the update is `min_k |g_k|` times the
sum of the unit gradients.

Directions in which the gradients do not differ are left out: eigenvalues below `K precision` of the largest count as 0,
and s_min is the smallest of the others. A gradient shorter than some 1e-7 of the longest thus counts as zero, and the
update's length jumps where an eigenvalue crosses that line. TorchJD takes the precision of the Gramian's dtype, 1.2e-7
for float32; here a Gramian arrives in float64, however precise the sums in it are. So where objectives of a float32
model can have the same gradient, set `precision=1e-7`: s_min is rounding error otherwise.

Convention: the SUM, as in the authors' code; `reduction=mean` is TorchJD's default. `scale` is the length of the
balanced rows: the square root of the smallest eigenvalue (the paper), of the median (the lower of two, as in TorchJD)
or of the mean (`rmse`). `wrt=representation` is the authors' Aligned-MTL-UB.

Source: Senushkin et al., Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Interval
from torch import Tensor

import mtlbench


@mtlbench.register_method("aligned_mtl", paper="Senushkin et al., CVPR 2023, arXiv:2305.19000")
class AlignedMTL(mtlbench.GramianWeighting):
    """The sum of balanced gradients.

    Args:
        scale: what the length of the balanced gradients is taken from.
        reduction: whether the balanced gradients are added up or averaged.
        precision: how precise eigenvalues are, relative to the largest and for each objective.
    """

    exceptions: Mapping[str, str] = {
        "single_scale": "how gradients are turned depends on their lengths",
        "plain_sum": "gradients are made orthogonal and equally long",
        "descent": "a turned gradient may conflict with an original one",
    }

    def __init__(
        self,
        scale: Literal["min", "median", "rmse"] = "min",
        reduction: Literal["sum", "mean"] = "sum",
        precision: Annotated[float, Interval(gt=0, lt=1)] = 2.3e-16,
    ) -> None:
        super().__init__()
        self.scale = scale
        self.reduction = reduction
        self.precision = precision

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """One small eigenvalue problem for each group."""
        values, vectors = np.linalg.eigh(gramian.numpy())
        objectives = values.shape[-1]
        kept = values > values[:, -1:] * objectives * self.precision
        rank = kept.sum(-1)
        balance = self._scale(values, kept, rank)
        root = np.divide(balance[:, None], values, out=np.zeros_like(values), where=kept) ** 0.5
        weights = np.einsum("gij,gj,gj->gi", vectors, root, vectors.sum(1))
        weights = np.where(rank[:, None] > 0, weights, 1.0)
        return torch.from_numpy(weights if self.reduction == "sum" else weights / objectives)

    def _scale(self, values: np.ndarray, kept: np.ndarray, rank: np.ndarray) -> np.ndarray:
        """(G,) the eigenvalue that all others become; eigenvalues ascend, those that are not kept come first."""
        if self.scale == "rmse":
            return np.where(kept, values, 0.0).sum(-1) / np.maximum(rank, 1)
        last = values.shape[-1] - 1
        place = last + 1 - rank + ((rank - 1) // 2 if self.scale == "median" else 0)
        return values[np.arange(len(values)), np.minimum(place, last)]
