"""Two losses of two numbers x = (x1, x2), and where neither can fall without the other rising.

`pcgrad` (Yu et al., NeurIPS 2020, appendix D), with scales 20 and 25::

    L1 = 20 log max(|x1/2 + tanh x2|, 5e-6)        L2 = 25 log max(|x1/2 - tanh x2 + 2|, 5e-6)

`nash`, of CAGrad's and of Nash-MTL's code, where the first loss is scaled by 0.1 (CAGrad's paper prints the other sign
of the tanh in the second valley)::

    valleys  v1 = log max(|(-x1 - 7)/2 - tanh(-x2)|, 5e-6) + 6    v2 = log max(|(-x1 + 3)/2 + tanh(-x2) + 2|, 5e-6) + 6
    bowls    b1 = ((-x1 + 7)^2 + (-x2 - 8)^2 / 10) / 10 - 20      b2 = ((-x1 - 7)^2 + (-x2 - 8)^2 / 10) / 10 - 20
    L_k = max(tanh(x2/2), 0) v_k + max(tanh(-x2/2), 0) b_k
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LEAST = 5e-6
"""What the logarithms are of at least, so that the bottoms of valleys are flat."""
POINTS = 1001
"""Of a Pareto set that is a curve."""


class Landscape(ABC):
    """Two losses over the plane, each times its scale."""

    window: ClassVar[tuple[tuple[float, float], tuple[float, float]]]
    """What figures show: the bounds of x1 and of x2."""

    def __init__(self, scales: Sequence[float]) -> None:
        self.scales = tuple(scales)

    @abstractmethod
    def unscaled(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
        """Both losses at some places, before their scales."""

    @abstractmethod
    def pareto_set(self) -> NDArray[np.float64]:
        """(P, 2): the corners of the line where neither loss can fall without the other rising."""

    def losses(self, places: Tensor) -> list[Tensor]:
        """Both losses at places (..., 2)."""
        found = self.unscaled(places[..., 0], places[..., 1])
        return [scale * loss for scale, loss in zip(self.scales, found, strict=True)]

    def at(self, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., 2): both losses at places (..., 2)."""
        return torch.stack(self.losses(torch.from_numpy(places)), -1).numpy()

    def distance(self, place: NDArray[np.float64]) -> float:
        """From a place (2,) to the nearest of the Pareto set."""
        corners = self.pareto_set()
        begin, along = corners[:-1], np.diff(corners, axis=0)
        share = ((place - begin) * along).sum(1) / (along * along).sum(1)
        nearest = begin + share.clip(0, 1)[:, None] * along
        return float(np.sqrt(((place - nearest) ** 2).sum(1)).min())


class Valleys(Landscape):
    """Two valleys without slope along them, which meet from x2 = 6.45 on: there both losses are at their minimum."""

    window = (-10.0, 10.0), (-10.0, 10.0)

    def unscaled(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of the distance to the valleys."""
        bend = x2.tanh()
        return _log(0.5 * x1 + bend), _log(0.5 * x1 - bend + 2)

    def pareto_set(self) -> NDArray[np.float64]:
        """A ray upwards at x1 = -2, up to 2e-5 wide: both `|x1/2 + t|` and `|x1/2 - t + 2|` are at most 5e-6 there.

        Their difference is 2 t - 2 with t = tanh x2, so that t is at least 1 - 5e-6. Both losses are minimal.
        """
        return np.array([(-2.0, math.atanh(1 - LEAST)), (-2.0, 1e6)])


class Bowl(Landscape):
    """Two valleys above, and below x2 = 0 two bowls side by side."""

    window = (-11.0, 11.0), (-11.0, 11.0)

    def unscaled(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
        """Valleys and bowls, faded into each other at x2 = 0."""
        above, below = (x2 / 2).tanh().clamp(min=0), (-x2 / 2).tanh().clamp(min=0)
        valleys = _log((-x1 - 7) / 2 - (-x2).tanh()) + 6, _log((-x1 + 3) / 2 + (-x2).tanh() + 2) + 6
        across = (-x2 - 8).square() / 10
        bowls = ((-x1 + 7).square() + across) / 10 - 20, ((-x1 - 7).square() + across) / 10 - 20
        return above * valleys[0] + below * bowls[0], above * valleys[1] + below * bowls[1]

    def pareto_set(self) -> NDArray[np.float64]:
        """A curve from (7, -8.4) to (-7, -8.4), the same for any scales.

        A weighted sum of the losses with shares s and 1 - s is, below x2 = 0, `tanh(-x2/2) (a + (x2 + 8)^2 / 100 - 20)`
        with `a = (s (x1 - 7)^2 + (1 - s) (x1 + 7)^2) / 10`: minimal at x1 = 14 s - 7, where a is 19.6 s (1 - s), and at
        the one x2 where its derivative is zero. Above x2 = 0 every point is worse in both losses than one of these.
        """
        share = np.linspace(1, 0, POINTS)
        offset = 19.6 * share * (1 - share) - 20
        low, high = np.full(POINTS, -11.0), np.full(POINTS, -7.0)  # the derivative is negative, and positive
        for _ in range(60):
            x2 = (low + high) / 2
            fade = np.tanh(-x2 / 2)
            slope = -0.5 * (1 - fade**2) * (offset + (x2 + 8) ** 2 / 100) + fade * (x2 + 8) / 50
            low, high = np.where(slope < 0, x2, low), np.where(slope < 0, high, x2)
        return np.stack([14 * share - 7, (low + high) / 2], 1)


LANDSCAPES: dict[str, type[Landscape]] = {"nash": Bowl, "pcgrad": Valleys}
"""Variant -> the landscape that it is."""


def _log(signed: Tensor) -> Tensor:
    return signed.abs().clamp(min=LEAST).log()
