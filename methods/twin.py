"""Twin: no method but a control: the plain sum, rounded otherwise; how far it ends from `uniform` is chance alone.

Update `d = (1 + 2^-22) sum_k g_k`, heads included. In float32 the factor changes the last bits of the loss and of every
gradient, and nothing that anybody would call training: 2.4e-7 of a step. Whatever difference to `uniform` a run shows
in the end has grown from rounding, as it would on another kind of processor. So no table may tell it apart from
`uniform`, and the spread of its differences on common seeds is the floor below which no difference of one seed means
anything.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

import mtlbench

FACTOR = 1 + 2.0**-22
"""Two units in the last place above 1 in float32, where it is exact."""


@mtlbench.register_method("twin")
class Twin(mtlbench.LossWeighting):
    """`(1 + 2^-22) sum_k L_k`."""

    exceptions: Mapping[str, str] = {
        "single_scale": "the longest gradient leads the sum",
        "descent": "a long gradient may outweigh the others",
    }
    static = True

    def scalarize(self, losses: Tensor) -> Tensor:
        """The sum of the losses, times `FACTOR`."""
        return FACTOR * losses.sum()
