"""The nearest point of a simplex."""

from __future__ import annotations

import torch
from torch import Tensor


def on_simplex(point: Tensor, total: Tensor) -> Tensor:
    """The nearest points with non-negative coordinates that sum to `total`.

    Each is `max(point - t, 0)` for the one t at which that sums to `total`: among the t that fit the largest 1, 2, ...
    coordinates, the largest.

    Args:
        point: (..., m).
        total: (...), not negative.
    """
    ordered = point.sort(dim=-1, descending=True).values
    counts = torch.arange(1, point.shape[-1] + 1, dtype=point.dtype)
    shift = ((ordered.cumsum(-1) - total[..., None]) / counts).amax(-1, keepdim=True)
    return (point - shift).clamp(min=0)
