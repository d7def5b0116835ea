"""PCGrad: each gradient loses its component along the gradients that it conflicts with.

For each objective i, with `g'_i := g_i`, the others j are visited in random order, and where `<g'_i, g_j> < 0`::

    g'_i := g'_i - <g'_i, g_j> / |g_j|^2 * g_j          (g_j: the ORIGINAL gradient)

The update is the SUM of the g'_i over objectives; heads are trained by their own loss. Every g'_i is a combination
`sum_k c_ik g_k`, so only the coefficients c and the Gramian are needed. Objectives and groups draw independent
orders; j = i is never visited. Where only some objectives are treated, i ranges over these and j over all. A zero
gradient conflicts with nothing. Each |g'_i| <= |g_i|, so the update is at most `sum_i |g_i|` long.

Source: Yu et al., Algorithm 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

import mtlbench
from mtlbench.engine.visiting import Pair, Visits, unit_rows


@mtlbench.register_method("pcgrad", paper="Yu et al., NeurIPS 2020, arXiv:2001.06782")
class PCGrad(mtlbench.GramianWeighting):
    """Project each gradient onto the normal plane of those it conflicts with.

    Args:
        shuffle: visit the other objectives in random order, as published; otherwise in index order.
    """

    exceptions: Mapping[str, str] = {
        "single_scale": "the longest gradient leads the sum",
        "descent": "from three objectives on, one projection may undo another",
    }

    def __init__(self, shuffle: bool = True) -> None:
        super().__init__()
        self.shuffle = shuffle
        if not shuffle:
            self.exceptions = {**self.exceptions, "order": "others are visited in the order of their index"}

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """K-1 projection steps for all objectives and groups at once."""
        return self.weigh_treated(gramian, losses, range(gramian.shape[-1]))

    def weigh_treated(self, gramian: Tensor, losses: Tensor, rows: Sequence[int]) -> Tensor:
        """The same for the treated objectives alone, which visit all the others."""
        if Pair.is_all(gramian):
            pair = Pair(gramian)
            return pair.weights({row: -min(pair.cosines[row], 0.0) for row in rows})
        cosines, norms = unit_rows(gramian.numpy())
        visits = Visits(cosines, self.generator, self.shuffle, rows)
        for visit in visits:
            visits.add(visit, -np.minimum(visits.inner_products(visit), 0.0))
        return torch.from_numpy(visits.weights(norms))
