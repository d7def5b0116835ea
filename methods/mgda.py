"""MGDA: the shortest vector in the convex hull of the gradients, a direction that makes no objective worse.

Weights `alpha = argmin |sum_k alpha_k g_k|^2` over the simplex, found exactly by an active-set method (below).
Convention: the weights sum to 1, so the update is of the size of a MEAN of gradients; as in the authors' code the
heads are trained by alpha-weighted losses too, and under `normalize` alpha is found on normalised gradients but
applied to the unnormalised ones: `l2` is g/|g|, `loss` is g/L, `loss+` is g/(L |g|). LibMTL and the code of Kurin et
al. apply it to the normalised ones, as `applied=normalized` does: the update is the shortest vector of these, and a
head has its loss times alpha over the same number. An objective whose gradient is zero is at its optimum: it takes all
the weight and the update is zero. With several groups, each has its own alpha, and the heads take the mean over
groups; a group that one objective does not reach is therefore never trained, which is told once.
`wrt=representation` is the authors' MGDA-UB.

The result d satisfies `|d|^2 - <d, g_k> <= 1e-7 |g_k| (|d| + 1e-6 min_j |g_j|)` for every k: a relative duality gap
of 1e-7 at the optimality condition `<d, g_k> >= |d|^2`. At most 10 K + 100 objectives enter the active
set, each followed by at most K removals. A group without this proof keeps the weights found, and is counted (`unsolved`
in the record).

Source: Sener and Koltun; the min-norm problem is Desideri's (2012), the solver Lawson and Hanson's for non-negative
least squares.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import mtlbench
from mtlbench.engine.kinds import Heads

Array = NDArray[np.float64]

GAP, SHORT = 1e-7, 1e-6
"""Up to which relative gap a vector is the shortest; what is added to its length, in units of the shortest gradient."""


@mtlbench.register_method("mgda", paper="Sener and Koltun, NeurIPS 2018, arXiv:1810.04650")
class MGDA(mtlbench.GramianWeighting):
    """The min-norm point of the gradients.

    Args:
        normalize: what each gradient is divided by before the min-norm point is sought.
        applied: which gradients the weights are applied to, under `normalize`.
    """

    exceptions: Mapping[str, str] = {
        "single_scale": "the shortest gradient leads",
        "plain_sum": "the shortest gradient has the most weight",
    }
    heads: ClassVar[Heads] = "weighted"
    added_later: ClassVar[tuple[str, ...]] = ("applied",)

    unsolved: Tensor
    """() int64: how many times a group had no proven solution."""

    def __init__(
        self,
        normalize: Annotated[
            Literal["none", "l2", "loss", "loss+"], mtlbench.Choice(values=("none", "l2", "loss", "loss+"))
        ] = "none",
        applied: Literal["original", "normalized"] = "original",
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.applied = applied
        if normalize != "none":
            self.exceptions = self._exceptions_of_normalising()
        self._told = False
        self.register_buffer("unsolved", torch.zeros((), dtype=torch.int64))

    def _exceptions_of_normalising(self) -> dict[str, str]:
        if self.applied == "original":
            return {**self.exceptions, "descent": "weights are sought for other lengths than they are applied to"}
        declared = {**self.exceptions, "common_scale": "normalised gradients have a length of their own"}
        if self.normalize in ("l2", "loss"):
            del declared["single_scale"]  # what a loss is multiplied by is divided out
        return declared

    def report(self) -> dict[str, float]:
        """How many times a group had no proven solution."""
        return {"unsolved": int(self.unsolved)}

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """The min-norm weights of each group."""
        if self.normalize in ("loss", "loss+") and bool((losses <= 0).any()):
            raise mtlbench.UsageError(
                f"mgda: normalize={self.normalize} divides by the losses, which must be positive; "
                f"got {losses.tolist()}."
            )
        self._tell_untrained(gramian.numpy())
        return torch.from_numpy(np.stack([self._weigh_group(g, losses.numpy()) for g in gramian.numpy()]))

    def _tell_untrained(self, gramian: Array) -> None:
        """Warn, once, of a group in which one objective has no gradient while it has one in others."""
        if self._told or len(gramian) < 2:
            return
        zero = gramian.diagonal(axis1=1, axis2=2) == 0
        groups, rows = (zero & ~zero.all(0) & ~zero.all(1, keepdims=True)).nonzero()
        if len(groups):
            self._told = True
            warnings.warn(
                f"mgda: objective {int(self.present[rows[0]])} has a gradient of zero in group {groups[0]} of "
                f"{len(gramian)} (from 0, see Backward.group_names), and others have one there. The shortest vector "
                "between them is zero, so that such a group is not trained. With granularity=whole_model it is.",
                stacklevel=2,
            )

    def _weigh_group(self, gramian: Array, losses: Array) -> Array:
        norms = np.sqrt(np.maximum(gramian.diagonal(), 0.0))
        divisor = np.ones_like(norms)
        if self.normalize in ("l2", "loss+"):
            divisor = np.where(norms > 0, norms, 1.0)
        if self.normalize in ("loss", "loss+"):
            divisor = divisor * losses
        table = gramian / divisor[:, None] / divisor
        weights = min_norm_weights(table)
        self.unsolved.add_(not is_shortest(table, weights))
        return weights if self.applied == "original" else weights / divisor


def min_norm_weights(gramian: Array) -> Array:
    """The weights of the min-norm point of the convex hull of K vectors, from their Gramian.

    With unit vectors u_k, lengths n_k and c_k = min(n) / n_k, the point is that of the minimiser z >= 0 of
    `z' (U U' + c c') z / 2 - c' z`, with weights proportional to c z: for z of a given direction the best length
    makes the value a growing function of the norm sought. Lengths enter only through c, so gradients of very
    different length do no harm.

    Args:
        gramian: (K, K) positive semidefinite.

    Returns:
        (K,) non-negative weights that sum to 1.
    """
    norms = np.sqrt(np.maximum(gramian.diagonal(), 0.0))
    zero = norms == 0
    if zero.any():
        return zero / zero.sum()
    cosines = gramian / norms[:, None] / norms
    c = norms.min() / norms
    z = _nonnegative_minimiser(cosines + np.outer(c, c), c)
    weights = z * c
    return weights / weights.sum()


def is_shortest(gramian: Array, weights: Array) -> bool:
    """Whether the vector with these weights fulfils the optimality condition, to the tolerance that is promised above.

    Args:
        gramian: (K, K).
        weights: (K,) non-negative, summing to 1.
    """
    norms = np.sqrt(np.maximum(gramian.diagonal(), 0.0))
    shortest = norms.min()
    if shortest == 0:
        return bool(weights[norms > 0].sum() == 0)
    cosines = gramian / norms[:, None] / norms
    unit = weights * (norms / shortest)  # of the unit rows, lengths being in units of the shortest
    along = cosines @ unit
    square = unit @ along
    gap = square * (shortest / norms) - along
    return bool((gap <= GAP * (math.sqrt(max(square, 0.0)) + SHORT)).all())


def _nonnegative_minimiser(q: Array, c: Array) -> Array:
    """The minimiser of `z' q z / 2 - c' z` over z >= 0, by Lawson and Hanson's active-set method."""
    k = len(c)
    z = np.zeros(k)
    free = np.zeros(k, dtype=bool)
    refused = np.zeros(k, dtype=bool)  # cannot enter now: their columns depend on those of the free ones
    for _ in range(10 * k + 100):
        slope = np.where(free | refused, -np.inf, c - q @ z)
        enter = int(slope.argmax())
        if slope[enter] <= 1e-15:
            break
        free[enter] = True
        target = _solve(q, c, free)
        if target[enter] <= 0:
            free[enter] = False
            refused[enter] = True
            continue
        while (target[free] <= 0).any():
            blocking = free & (target <= 0)
            step = (z[blocking] / (z[blocking] - target[blocking])).min()
            z += step * (target - z)
            free &= z > 1e-15 * z.max()
            z[~free] = 0.0
            target = _solve(q, c, free)
        z = target
        refused[:] = False
    return z


def _solve(q: Array, c: Array, free: NDArray[np.bool_]) -> Array:
    """The minimiser with the coordinates that are not free held at zero."""
    index = free.nonzero()[0]
    block = q[np.ix_(index, index)]
    try:
        part = np.linalg.solve(block, c[index])
        part += np.linalg.solve(block, c[index] - block @ part)
    except np.linalg.LinAlgError:
        part = np.linalg.lstsq(block, c[index], rcond=None)[0]
    z = np.zeros_like(c)
    z[index] = part
    return z
