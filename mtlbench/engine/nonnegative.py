"""Quadratic problems over non-negative vectors, many at once: `x' Q x / 2 - c' x` is minimised over x >= 0.

Projections onto cones, and the shortest vector of a convex hull, are such problems in the Gramian of unit rows.

Solver: the dual active-set method of Goldfarb and Idnani (1983). x always is the minimiser with the entries outside
the active set held where they are; the entry p with the steepest slope grows until its slope is zero, or until an
active entry reaches zero and leaves. Where column p depends on the active ones the growth costs nothing, so that an
entry must leave, and if none shrinks the problem has no minimum. The value falls strictly from one active set to the
next, so the method ends; rounding is guarded against by a limit of 20 K + 50 changes.

Proof of the result. Q is positive semidefinite, so x >= 0 is a minimiser if and only if the slopes `c - Q x` are at
most 0, and 0 where x > 0. `Minimisers.violation` is how far that fails, relative to `max|c| + |Q| x`: rounding leaves
some 1e-15, and 1e-9 counts as solved.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

SOLVED = 1e-9
"""The relative violation of the optimality conditions up to which a problem counts as solved."""
DEPENDENT = 1e-12
"""A column whose part orthogonal to the active ones has less than this share of its squared length depends on them."""
FLAT = 1e-14
"""The relative slope that is rounding error."""


class Minimisers(NamedTuple):
    """The answers to n problems."""

    x: Array
    """(n, K) non-negative."""
    violation: Array
    """(n,) how far the optimality conditions fail, relative; at most `SOLVED` where the problem is solved."""
    unbounded: Mask
    """(n,) whether the value falls without end, as far as numbers tell: x is where that was seen."""

    @property
    def unsolved(self) -> int:
        """How many have no proven minimiser, those that have none included."""
        return int(np.count_nonzero(self.violation > SOLVED))


def nonnegative_minimisers(q: Array, c: Array) -> Minimisers:
    """The minimisers of `x' q x / 2 - c' x` over x >= 0.

    Args:
        q: (n, K, K) symmetric and positive semidefinite, with a diagonal of some 1, or 0 in rows that are zero.
        c: (n, K); 0 where the row of q is.
    """
    state = _ActiveSets(q, c)
    for _ in range(20 * q.shape[-1] + 50):
        if not state.advance():
            break
    x = state.polished()
    violation = _violation(q, c, x)
    return Minimisers(x, violation, state.unbounded & (violation > SOLVED))


def min_norm_weights(cosines: Array, norms: Array) -> tuple[Array, int]:
    """The weights of the shortest vector of the convex hull of K vectors, in each of G groups.

    With `c_k = min(n) / n_k` it is that of the minimiser z >= 0 of `z' (U U' + c c') z / 2 - c' z`, with weights in
    proportion to `c z`: for z of a given direction the best length makes the value a growing function of the norm.

    Args:
        cosines: (G, K, K) the Gramian of the unit rows.
        norms: (G, K).

    Returns:
        (G, K) non-negative weights that sum to 1, zero gradients sharing all of them where there are any; and how many
        groups have no proven solution.
    """
    zero = norms == 0
    some = zero.any(-1)
    c = np.divide(norms.min(-1, keepdims=True), norms, out=np.zeros_like(norms), where=~zero)
    found = nonnegative_minimisers(cosines + c[:, :, None] * c[:, None, :], c)
    weights: Array = np.where(some[:, None], zero, c * found.x)
    weights /= weights.sum(-1, keepdims=True)
    return weights, found.unsolved


class _ActiveSets:
    """n problems on their way, each with its own active set."""

    def __init__(self, q: Array, c: Array) -> None:
        n, k = c.shape
        self._q, self._c = q, c
        self._x = np.zeros((n, k))
        self._active = np.zeros((n, k), dtype=bool)
        self._growing = np.full(n, -1)  # the entry that grows, or -1 where one is to be chosen
        self._open = np.arange(n)  # the problems that are not finished
        self.unbounded = np.zeros(n, dtype=bool)

    def advance(self) -> bool:
        """One change of the active set in every open problem; whether any is still open."""
        self._choose()
        index = self._open
        if len(index) == 0:
            return False
        q, active, x, p = self._q[index], self._active[index], self._x[index], self._growing[index]
        each = np.arange(len(index))
        column = q[each, :, p]
        toward = solve_on(q, active, column[:, :, None])[:, :, 0]
        slope = self._c[index, p] - np.einsum("nk,nk->n", column, x)
        rise = q[each, p, p] - np.einsum("nk,nk->n", column, toward)
        full = np.full(len(index), np.inf)
        np.divide(np.maximum(slope, 0.0), rise, out=full, where=rise > DEPENDENT * q[each, p, p])
        room = np.full(x.shape, np.inf)
        np.divide(x, toward, out=room, where=active & (toward > FLAT))
        leaving = room.argmin(-1)
        least = room[each, leaving]
        step = np.minimum(full, least)
        endless = np.isinf(step)
        step[endless] = 0.0
        x -= step[:, None] * toward
        x[each, p] += step
        entered = ~endless & (full <= least)
        left = ~endless & ~entered
        active[each[entered], p[entered]] = True
        active[each[left], leaving[left]] = False
        x[each[left], leaving[left]] = 0.0
        self._x[index] = np.maximum(x, 0.0)
        self._active[index] = active
        self._growing[index[entered]] = -1
        self.unbounded[index[endless]] = True
        self._open = index[~endless]
        return True

    def _choose(self) -> None:
        """The entry that grows next, where none does, and which problems are finished."""
        index = self._open[self._growing[self._open] < 0]
        if len(index) == 0:
            return
        slopes, scale = _slopes(self._q[index], self._c[index], self._x[index])
        slopes[self._active[index]] = -np.inf
        p = slopes.argmax(-1)
        each = np.arange(len(index))
        steep = slopes[each, p] > FLAT * scale[each, p]
        self._growing[index[steep]] = p[steep]
        self._open = self._open[self._growing[self._open] >= 0]

    def polished(self) -> Array:
        """(n, K): solved anew on the active sets, where that is no worse."""
        fresh = solve_on(self._q, self._active, self._c[:, :, None])[:, :, 0]
        residual = np.where(self._active, self._c - np.einsum("nij,nj->ni", self._q, fresh), 0.0)
        fresh = np.maximum(fresh + solve_on(self._q, self._active, residual[:, :, None])[:, :, 0], 0.0)
        better = _violation(self._q, self._c, fresh) <= _violation(self._q, self._c, self._x)
        return np.where(better[:, None], fresh, self._x)


def solve_on(q: Array, active: Mask, right: Array) -> Array:
    """(n, K, m): what solves the active rows and columns of q for m right sides; 0 outside the active set.

    Args:
        q: (n, K, K) positive semidefinite, of which the active columns are independent up to `DEPENDENT`.
        active: (n, K).
        right: (n, K, m).
    """
    both = active[:, :, None] & active[:, None, :]
    block = np.where(both, q, 0.0)
    k = np.arange(q.shape[-1])
    block[:, k, k] += ~active
    right = np.where(active[:, :, None], right, 0.0)
    try:
        solved = np.linalg.solve(block, right)
    except np.linalg.LinAlgError:
        solved = np.linalg.pinv(block, rcond=1e-15, hermitian=True) @ right
    return np.asarray(solved, dtype=np.float64)


def _slopes(q: Array, c: Array, x: Array) -> tuple[Array, Array]:
    """The (n, K) slopes `c - q x`, and the sizes of the terms that they are differences of."""
    scale = np.abs(c).max(-1, keepdims=True) + np.einsum("nij,nj->ni", np.abs(q), x)
    return c - np.einsum("nij,nj->ni", q, x), scale


def _violation(q: Array, c: Array, x: Array) -> Array:
    slopes, scale = _slopes(q, c, x)
    wrong = np.where(x > 0, np.abs(slopes), np.maximum(slopes, 0.0))
    return np.divide(wrong, scale, out=np.zeros_like(wrong), where=scale > 0).max(-1)
