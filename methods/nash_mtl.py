"""Nash-MTL: the update that objectives would agree on if each bargained for its own progress.

The weights solve `G w = 1 / w` elementwise, the Nash bargaining solution over updates of one length: `<g_k, d> =
1 / w_k` for every k, so that the product of all progresses is the largest possible. Then `|d| = sqrt(K)`, however long
the gradients are, and the update is shortened to `max_norm`; heads are trained by their own loss times its weight.
Multiplying one loss by a constant changes nothing. For orthogonal gradients `w_k = 1 / |g_k|`.

The system is solved exactly (`mtlbench.engine.fairness`: method, tolerance, proof). The authors' code approximates it
by 20 convex programs with a warm start from the last step; it therefore depends on the past, and this does not. Where 0
is in the convex hull of the gradients there is no solution: there, w is the minimiser of a function that always has
one, with weights of at most 1e6 / |g_k|. A group without a proven solution keeps the best weights found, and is counted
(`unsolved` in the record). A zero gradient, which gains nothing, has the mean weight of the others, for its head.

Convention: with several groups each has its own w, and the heads take the mean. The limit `max_norm` is per group and
applies to the weights, as in TorchJD; the authors' code applies it to the shared gradient alone, so that heads keep
the weight from before. `max_norm=0` sets no limit, which is the method of the paper's equations. What the authors'
code calls `update_weights_every` is `refresh` here, 1 in both by default.

Source: Navon et al., Algorithm 1; max_norm as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

import mtlbench
from mtlbench.engine.fairness import fair_weights
from mtlbench.engine.kinds import Heads


@mtlbench.register_method("nash_mtl", paper="Navon et al., 2022, arXiv:2202.01017")
class NashMTL(mtlbench.GramianWeighting):
    """The Nash bargaining solution among the gradients.

    Args:
        max_norm: the length that the update of a group is shortened to; 0 for no limit.
    """

    heads: ClassVar[Heads] = "weighted"
    exceptions: Mapping[str, str] = {
        "common_scale": "the update has a length of its own",
        "plain_sum": "all gain the same in proportion, however long their gradients",
    }

    unsolved: Tensor
    """() int64: how many times a group had no proven solution."""

    def __init__(self, max_norm: Annotated[float, Ge(0)] = 1.0) -> None:
        super().__init__()
        self.max_norm = max_norm
        self.register_buffer("unsolved", torch.zeros((), dtype=torch.int64))

    def report(self) -> dict[str, float]:
        """How many times a group had no proven solution."""
        return {"unsolved": int(self.unsolved)}

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """The bargaining solution of each group."""
        found = fair_weights(gramian.numpy(), 1.0)
        self.unsolved.add_(found.unsolved)
        over = found.length > self.max_norm
        if not self.max_norm or not over.any():
            return torch.from_numpy(found.weights)
        shorter = np.divide(self.max_norm, found.length, out=np.ones_like(found.length), where=over)
        return torch.from_numpy(found.weights * shorter[:, None])
