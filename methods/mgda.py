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
Mask = NDArray[np.bool_]

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
        return torch.from_numpy(self._found(gramian.numpy(), losses.numpy()))

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

    def _found(self, gramian: Array, losses: Array) -> Array:
        """(G, m): the weights that are applied."""
        norms = _lengths(gramian)
        divisor = np.ones_like(norms)
        if self.normalize in ("l2", "loss+"):
            divisor = np.where(norms > 0, norms, 1.0)
        if self.normalize in ("loss", "loss+"):
            divisor = divisor * losses
        table = gramian / divisor[:, :, None] / divisor[:, None, :]
        weights = min_norm_weights(table)
        self.unsolved.add_(int(np.count_nonzero(~is_shortest(table, weights))))
        return weights if self.applied == "original" else weights / divisor


def min_norm_weights(gramian: Array) -> Array:
    """The weights of the min-norm point of the convex hull of K vectors, in each of G groups, from their Gramians.

    With unit vectors u_k, lengths n_k and c_k = min(n) / n_k, the point is that of the minimiser z >= 0 of
    `z' (U U' + c c') z / 2 - c' z`, with weights proportional to c z: for z of a given direction the best length
    makes the value a growing function of the norm sought. Lengths enter only through c, so gradients of very
    different length do no harm.

    Args:
        gramian: (G, K, K) positive semidefinite.

    Returns:
        (G, K) non-negative weights that sum to 1 in each group; to the bit those of the group alone.
    """
    norms = _lengths(gramian)
    zero = norms == 0
    weights: Array = zero / np.maximum(zero.sum(-1, keepdims=True), 1)
    if len(chosen := np.flatnonzero(~zero.any(-1))):
        some, n = (gramian, norms) if len(chosen) == len(gramian) else (gramian[chosen], norms[chosen])
        cosines = some / n[:, :, None] / n[:, None, :]
        c = n.min(-1, keepdims=True) / n
        found = c * _nonnegative_minimisers(cosines + c[:, :, None] * c[:, None, :], c)
        weights[chosen] = found / found.sum(-1, keepdims=True)
    return weights


def is_shortest(gramian: Array, weights: Array) -> NDArray[np.bool_]:
    """Whether the vectors with these weights fulfil the optimality condition, to the tolerance that is promised above.

    Args:
        gramian: (G, K, K).
        weights: (G, K) non-negative, summing to 1.

    Returns:
        (G,).
    """
    norms = _lengths(gramian)
    zero = norms == 0
    length = np.where(zero, 1.0, norms)
    cosines = gramian / length[:, :, None] / length[:, None, :]
    shortest = length.min(-1, keepdims=True)
    unit = weights * (length / shortest)  # of the unit rows, lengths being in units of the shortest
    along = (cosines @ unit[:, :, None])[:, :, 0]
    square = (unit * along).sum(-1, keepdims=True)
    gap = square * (shortest / length) - along
    proven = (gap <= GAP * (np.sqrt(np.maximum(square, 0.0)) + SHORT)).all(-1)
    return np.where(zero.any(-1), np.where(zero, 0.0, weights).sum(-1) == 0, proven)


def _lengths(gramian: Array) -> Array:
    """(G, K): of the rows that (G, K, K) Gramians are of."""
    return np.sqrt(np.maximum(gramian.diagonal(axis1=1, axis2=2), 0.0))


def _nonnegative_minimisers(q: Array, c: Array) -> Array:
    """The (n, K) minimisers of `z' q z / 2 - c' z` over z >= 0, by Lawson and Hanson's active-set method.

    All problems go on together, and each in the operations, and so to the bits, that it would take alone.
    """
    n, k = c.shape
    answers = np.zeros((n, k))
    index = np.arange(n)  # of the problems that are not finished
    z = np.zeros((n, k))
    free = np.zeros((n, k), dtype=bool)
    refused = np.zeros((n, k), dtype=bool)  # cannot enter now: their columns depend on those of the free ones
    for _ in range(10 * k + 100):
        slope = np.where(free | refused, -np.inf, c - (q @ z[:, :, None])[:, :, 0])
        enter = slope.argmax(-1)
        going = slope[np.arange(len(index)), enter] > 1e-15
        if not going.all():
            answers[index[~going]] = z[~going]
            index, q, c, z, free, refused, enter = (a[going] for a in (index, q, c, z, free, refused, enter))
            if len(index) == 0:
                break
        each = np.arange(len(index))
        free[each, enter] = True
        target = _solve(q, c, free)
        entered = target[each, enter] > 0
        free[each, enter] = entered
        refused[each, enter] = ~entered
        _go(q, c, z, free, target, entered)
        z[entered] = target[entered]
        refused[entered] = False
    answers[index] = z
    return answers


def _go(q: Array, c: Array, z: Array, free: Mask, target: Array, entered: Mask) -> None:
    """Bring z, where one `entered`, to where a `target` is positive in all that is free: what blocks the way leaves.

    z, free and target are changed in place.
    """
    here = np.flatnonzero(entered & (free & (target <= 0)).any(-1))
    while len(here):
        at, goal, still = z[here], target[here], free[here]
        blocking = still & (goal <= 0)
        step = np.divide(at, at - goal, out=np.full_like(at, np.inf), where=blocking).min(-1, keepdims=True)
        at += step * (goal - at)
        still &= at > 1e-15 * at.max(-1, keepdims=True)
        at[~still] = 0.0
        goal = _solve(q[here], c[here], still)
        z[here], target[here], free[here] = at, goal, still
        here = here[(still & (goal <= 0)).any(-1)]


def _solve(q: Array, c: Array, free: Mask) -> Array:
    """(n, K): the minimisers with the coordinates that are not free held at zero."""
    z = np.zeros_like(c)
    counts = free.sum(-1)
    for count in sorted(set(counts.tolist()) - {0}):
        problem = np.flatnonzero(counts == count)[:, None]
        index = free[problem[:, 0]].nonzero()[1].reshape(-1, count)
        z[problem, index] = _solved(q[problem[:, :, None], index[:, :, None], index[:, None]], c[problem, index])
    return z


def _solved(block: Array, right: Array) -> Array:
    """(n, m): what solves the (n, m, m) blocks, with one refinement; least squares where one is singular."""
    try:
        part = np.linalg.solve(block, right[:, :, None])
        part += np.linalg.solve(block, right[:, :, None] - block @ part)
    except np.linalg.LinAlgError:
        if len(block) > 1:
            return np.concatenate([_solved(block[[i]], right[[i]]) for i in range(len(block))])
        return np.asarray(np.linalg.lstsq(block[0], right[0], rcond=None)[0][None], dtype=np.float64)
    return np.asarray(part[:, :, 0], dtype=np.float64)
