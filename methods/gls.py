"""Geometric loss strategy: the geometric mean of the losses, which ignores their scales.

`(prod_k L_k)^(1/K)`, heads included, so that the weight of loss k is `M / (K L_k)` with M the mean. Multiplying one
loss by c multiplies the whole update by `c^(1/K)` and leaves its direction. Losses must be positive. In a step without
some objectives the mean is over those that are present.

Source: the definition as LibMTL and TorchJD implement it.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

import mtlbench


@mtlbench.register_method("gls", paper="Chennupati et al., CVPR Workshops 2019")
class GeometricLossStrategy(mtlbench.LossWeighting):
    """`(prod_k L_k)^(1/K)`."""

    exceptions: Mapping[str, str] = {
        "plain_sum": "weights follow the losses",
        "descent": "it sees no gradients, so no conflicts",
    }

    def scalarize(self, losses: Tensor) -> Tensor:
        """The geometric mean of the losses."""
        self.require_positive(losses)
        return losses.log().mean().exp()
