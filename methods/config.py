"""ConFIG: the direction at the same angle to all gradients, as long as they reach along it.

With U the unit gradients, the direction is `x = pinv(U) 1`, so that `<x, u_k> = 1` for every k, and the update is
`d = (sum_k <g_k, x>) x / |x|^2`; heads are trained by their own loss. Where gradients are independent no loss goes up
to first order, and all have the same cosine with d, however long they are. For two gradients d is
`(|g_1| + |g_2|) / 2 (u_1 + u_2)`.

Where no direction is at one angle to all (opposite gradients, more of them than dimensions), x is the least-squares
one, and 0 if nothing is better than that. The rank is told from the Gramian (`mtlbench.engine.spectral`), where TorchJD
and the authors' code tell it from the gradients. A zero gradient has no angle and weight 0.

Convention: the length is that of a SUM of gradients, as published. Equal cosines; the authors' and TorchJD's option of
others is not offered. LibMTL has no such method.

Source: Liu et al., Equation 2, as in TorchJD.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

import mtlbench
from mtlbench.engine.spectral import equal_cosines
from mtlbench.engine.visiting import unit_rows


@mtlbench.register_method("config", paper="Liu et al., ICLR 2025, arXiv:2408.11104")
class ConFIG(mtlbench.GramianWeighting):
    """Equal angles to all gradients."""

    exceptions: Mapping[str, str] = {
        "plain_sum": "it has the same angle to all gradients, however long",
    }

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """One small pseudo-inverse for each group."""
        cosines, norms = unit_rows(gramian.numpy())
        x = equal_cosines(cosines)
        along = np.einsum("gij,gj->gi", cosines, x)
        square = np.einsum("gi,gi->g", x, along)
        length = np.einsum("gi,gi->g", norms, along)
        factor = np.divide(length, square, out=np.zeros_like(length), where=square > 0)
        return torch.from_numpy(np.divide(factor[:, None] * x, norms, out=np.zeros_like(norms), where=norms > 0))
