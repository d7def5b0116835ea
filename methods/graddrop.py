"""GradDrop: per coordinate, chance keeps either the positive or the negative parts of the gradients.

For every coordinate, with `P = (1 + sum_k g_k / sum_k |g_k|) / 2` and u uniform on [0, 1), the update is the sum of
the positive `g_k` where P > u, and of the negative ones elsewhere. Where all signs agree nothing is dropped. On
average over u a coordinate is `P sum(positive parts) + (1 - P) sum(negative parts)`. With `leak` each gradient enters
the update with this share of itself in any case, and with the rest by the rule. Heads are trained by their own losses.

Where sources differ: the paper drops in a layer of activations, by signs summed over the batch, and LibMTL does so;
here, as in TorchJD and in CAGrad's code, the coordinates are those of the shared parameters, and with
`wrt=representation` those of the representation, each example with signs of its own. Convention: the SUM over
objectives, as in TorchJD; CAGrad's code takes the mean, which differs by 1/K. Where all gradients are zero the update
is.

The numbers u come from the method's own generator, on the CPU, so that they do not depend on the device.

Source: Algorithm 1, lines 10 to 15, as TorchJD restates it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Interval
from torch import Tensor

import mtlbench
from mtlbench.engine.columnwise import ColumnwiseAggregator


@mtlbench.register_method("graddrop", paper="NeurIPS 2020, arXiv:2010.06808")
class GradDrop(ColumnwiseAggregator):
    """One sign per coordinate, drawn by how pure the signs are.

    Args:
        leak: the share of each gradient that is always kept.
    """

    exceptions: Mapping[str, str] = {
        "float32": "other numbers are drawn in another precision",
        "single_scale": "the longest gradient leads the sum",
        "plain_sum": "a conflict is one of signs, in any coordinate",
        "descent": "what is dropped is a matter of chance",
    }

    def __init__(self, leak: Annotated[float, Interval(ge=0, le=1)] = 0.0) -> None:
        super().__init__()
        self.leak = leak

    def aggregate(self, jacobian: Tensor) -> Tensor:
        """The sum of the parts that are kept."""
        rows = jacobian.to(torch.promote_types(jacobian.dtype, torch.float32))
        positive = rows.clamp(min=0).sum(0)
        negative = rows.clamp(max=0).sum(0)
        size = positive - negative
        drawn = self.drawn(len(size), rows.dtype).to(rows.device)
        kept = torch.where(positive > drawn * size, positive, negative)  # P is positive / size
        return kept if self.leak == 0 else self.leak * (positive + negative) + (1 - self.leak) * kept
