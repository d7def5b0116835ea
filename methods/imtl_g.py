"""IMTL-G: the weighted mean of the gradients that has the same projection on each of them.

`d = sum_k w_k g_k` with `sum_k w_k = 1` and `<d, u_k>` equal for all k, u_k the unit gradients: w is v / sum(v) with
`v = pinv(G) n`, n the lengths of the gradients. Heads are trained by their own loss. For two gradients d is
`|g_1| |g_2| / (|g_1| + |g_2|) (u_1 + u_2)`.

What the published formula does not promise: of three objectives on, weights may be negative, and so may sum(v): then
the equal projections are negative, and the update raises every loss. Near sum(v) = 0 the weights grow without bound.
Both are as published; how many times a group went backwards is in the record (`reversed`). With sum(v) = 0 to 12
digits, or no v at all (opposite gradients of one length), the update is 0. Gradients that depend on each other: the
pseudo-inverse (rank: `mtlbench.engine.spectral`), as in TorchJD, whereas LibMTL inverts. A zero gradient has weight 0.

Convention: gradients of the shared parameters, weights that sum to 1; the update is of the size of a MEAN. The code of
Nash-MTL takes the gradients of the representation for this method: `wrt=representation`.

Source: Liu et al., in the form of TorchJD, which covers gradients that depend on others.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

import mtlbench
from mtlbench.engine.spectral import equal_projections
from mtlbench.engine.visiting import unit_rows

NOTHING = 1e-12


@mtlbench.register_method("imtl_g", paper="Liu et al., ICLR 2021, openreview.net/forum?id=IMPnRXEWpvr")
class IMTLG(mtlbench.GramianWeighting):
    """Equal projections on all gradients."""

    exceptions: Mapping[str, str] = {
        "bounded": "weights grow without bound where their sum before normalising is near 0",
        "single_scale": "it may go backwards, where weights are negative",
        "plain_sum": "it has the same projection on all gradients",
        "descent": "it may go backwards, where weights are negative",
    }

    reversed: Tensor
    """() int64: how many times the update of a group raised all losses."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("reversed", torch.zeros((), dtype=torch.int64))

    def report(self) -> dict[str, float]:
        """How many times the update of a group raised all losses."""
        return {"reversed": int(self.reversed)}

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """One small pseudo-inverse for each group."""
        cosines, norms = unit_rows(gramian.numpy())
        largest = norms.max(-1, keepdims=True)
        v = equal_projections(cosines, np.divide(norms, largest, out=np.zeros_like(norms), where=largest > 0))
        total = v.sum(-1, keepdims=True)
        determined = np.abs(total) > NOTHING * np.abs(v).sum(-1, keepdims=True)
        self.reversed.add_(int(np.count_nonzero(determined & (total < 0))))
        return torch.from_numpy(np.divide(v, total, out=np.zeros_like(v), where=determined))
