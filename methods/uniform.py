"""Uniform weighting: the plain sum of the losses, the baseline that every method is compared with.

Update `d = sum_k g_k`, heads included. Convention: SUM over objectives (a mean differs by the constant 1/K, which
matters to SGD, weight decay and gradient clipping, hardly to Adam). Also known as equal weighting, linear
scalarisation, or unitary scalarisation (Kurin et al., 2022).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

import mtlbench


@mtlbench.register_method("uniform", paper="Kurin et al., NeurIPS 2022, arXiv:2201.04122", role="baseline")
class Uniform(mtlbench.LossWeighting):
    """`sum_k L_k`."""

    exceptions: Mapping[str, str] = {
        "single_scale": "the longest gradient leads the sum",
        "descent": "a long gradient may outweigh the others",
    }
    static = True

    def scalarize(self, losses: Tensor) -> Tensor:
        """The sum of the losses."""
        return losses.sum()
