"""The direction near a given one along which the slowest objective improves most, in many groups at once.

Of all d with `|d - g0| <= radius`, the one with the largest `min_k <g_k, d>`: what CAGrad asks for. It is
`d = g0 + sum_k y_k g_k` with y >= 0, and `w = y / sum(y)` minimises `<g_w, g0> + radius |g_w|` over the simplex.

Solver: d(t), the point nearest to g0 with `<g_k, d> >= t` for every k, moves in straight lines away from g0 as t grows,
since y(t) is linear in t as long as the same constraints hold with equality. So t is followed from the slowest
objective's progress along g0 to where d(t) meets the ball, one change of the active set after another, and the result
is exact up to rounding. Constraints whose gradients depend on the active ones take the place of one of these. If none
can make place, no d has a larger t: 0 is in the convex hull of the gradients, all d of the ball with
`min_k <g_k, d> = 0` are maximisers, and d(0) is the one nearest to g0. A zero gradient stops t at 0 in the same way.

Proof of the result: `Maximisers.violation` is the largest relative violation of the optimality conditions of d(t)
(`<g_k, d> >= t` for all k, with equality where y_k > 0) and of `|d - g0| = radius`; 1e-8 counts as solved. At most
10 K + 50 changes are followed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtlbench.engine.nonnegative import DEPENDENT, FLAT, Mask, solve_on

Array = NDArray[np.float64]

SOLVED = 1e-8
"""The relative violation of the optimality conditions up to which a group counts as solved."""


class Maximisers(NamedTuple):
    """The answers in G groups."""

    y: Array
    """(G, K) non-negative: the weights of the unit rows in `d - g0`."""
    violation: Array
    """(G,) how far the optimality conditions fail, relative."""

    @property
    def unsolved(self) -> int:
        """How many groups have no proven solution."""
        return int(np.count_nonzero(self.violation > SOLVED))


def ball_maximisers(cosines: Array, lengths: Array, mean: Array, radius: Array) -> Maximisers:
    """The direction in a ball around a vector whose least inner product with the rows is largest.

    Args:
        cosines: (G, K, K) the Gramian of the unit rows.
        lengths: (G, K) the lengths of the rows.
        mean: (G, K) the inner products of the unit rows with the centre of the ball.
        radius: (G,) of the ball, in the unit of `mean`.
    """
    paths = _Paths(cosines, lengths, mean, radius)
    for _ in range(10 * cosines.shape[-1] + 50):
        if not paths.advance():
            break
    return paths.end()


class _Paths:
    """d(t) in G groups, followed from where no constraint holds with equality."""

    def __init__(self, cosines: Array, lengths: Array, mean: Array, radius: Array) -> None:
        nonzero = lengths > 0
        shortest = np.where(nonzero, lengths, np.inf).min(-1, keepdims=True)
        # In units of the shortest gradient, <u_k, d> >= t e_k with unit rows u_k; zero rows only end the path.
        self._e = np.divide(
            np.where(np.isinf(shortest), 0.0, shortest), lengths, out=np.zeros_like(mean), where=nonzero
        )
        self._q, self._h, self._radius, self._nonzero = cosines, mean, radius, nonzero
        self._last = np.where(nonzero.all(-1), np.inf, 0.0)
        start = np.divide(mean, self._e, out=np.full_like(mean, np.inf), where=nonzero)
        first = start.argmin(-1)
        each = np.arange(len(mean))
        slowest = start[each, first]
        moving = (radius > 0) & (slowest < self._last)
        self._t = np.where(nonzero.any(-1), np.minimum(slowest, self._last), 0.0)
        self._active = np.zeros(mean.shape, dtype=bool)
        self._active[each[moving], first[moving]] = True
        self._open = each[moving]
        self._ended = np.zeros(len(mean), dtype=bool)  # before the ball was met

    def advance(self) -> bool:
        """The next change of the active set in every open group; whether any is still open."""
        index = self._open
        if len(index) == 0:
            return False
        q, e, h, active, now = self._q[index], self._e[index], self._h[index], self._active[index], self._t[index]
        each = np.arange(len(index))
        solved = solve_on(q, active, np.concatenate([e[:, :, None], h[:, :, None], q], -1))
        rate, offset = solved[:, :, 0], solved[:, :, 1]  # y(t) = t rate - offset
        meet = now + _until(np.maximum(now[:, None] * rate - offset, 0.0), q, e, rate, self._radius[index])
        enter, entering = self._entering(index, rate, offset)
        leave, leaving = _leaving(active, rate, offset, now)
        upto = np.minimum(meet, self._last[index])
        entering_now = (enter <= leave) & (enter < upto)
        leaving_now = ~entering_now & (leave < upto)
        self._t[index] = np.where(entering_now, enter, np.where(leaving_now, leave, np.maximum(upto, now)))
        active[each[leaving_now], leaving[leaving_now]] = False
        # A gradient that depends on the active ones takes the place of one of them, or ends the path.
        toward = solved[each, :, 2 + entering]
        left_over = q[each, entering, entering] - np.einsum("nk,nk->n", q[each, entering], toward)
        swap = entering_now & (left_over <= DEPENDENT)
        y = np.maximum(self._t[index, None] * rate - offset, 0.0)
        room = np.divide(y, toward, out=np.full(y.shape, np.inf), where=active & (toward > FLAT))
        out = room.argmin(-1)
        ended = swap & np.isinf(room[each, out])
        active[each[swap & ~ended], out[swap & ~ended]] = False
        active[each[entering_now & ~ended], entering[entering_now & ~ended]] = True
        self._active[index] = active
        self._ended[index] = ended | (~entering_now & ~leaving_now & (meet > upto))
        self._open = index[(entering_now | leaving_now) & ~ended]
        return True

    def _entering(self, index: NDArray[np.intp], rate: Array, offset: Array) -> tuple[Array, NDArray[np.intp]]:
        """When the next constraint begins to hold with equality, infinity where none does, and which."""
        q, e, h = self._q[index], self._e[index], self._h[index]
        grow = e - np.einsum("nij,nj->ni", q, rate)
        size = e + np.einsum("nij,nj->ni", np.abs(q), np.abs(rate))
        gap = h - np.einsum("nij,nj->ni", q, offset)
        may = self._nonzero[index] & ~self._active[index] & (grow > FLAT * size)
        when = np.divide(gap, grow, out=np.full(e.shape, np.inf), where=may)
        return _first(when, self._t[index])

    def end(self) -> Maximisers:
        """The answers, and how far they fail."""
        right = self._t[:, None] * self._e - self._h
        right[~self._active.any(-1)] = 0.0
        y = solve_on(self._q, self._active, right[:, :, None])[:, :, 0]
        residual = np.where(self._active, right - np.einsum("nij,nj->ni", self._q, y), 0.0)
        y = np.maximum(y + solve_on(self._q, self._active, residual[:, :, None])[:, :, 0], 0.0)
        return Maximisers(y, self._violation(y))

    def _violation(self, y: Array) -> Array:
        moved = np.einsum("nij,nj->ni", self._q, y)
        slack = np.where(self._nonzero, self._h + moved - self._t[:, None] * self._e, 0.0)
        wrong = np.where(self._active, np.abs(slack), np.maximum(-slack, 0.0)).max(-1)
        length = np.sqrt(np.maximum(np.einsum("ni,ni->n", y, moved), 0.0))
        short = np.abs(length - self._radius)
        short = np.where(self._ended | (self._radius == 0) | ~self._active.any(-1), 0.0, short)
        size = np.abs(self._h).max(-1) + np.einsum("nij,nj->ni", np.abs(self._q), y).max(-1)
        violation = np.divide(wrong + short, size, out=np.zeros_like(size), where=size > 0)
        violation[self._open] = np.inf
        return violation


def _until(y: Array, q: Array, e: Array, rate: Array, radius: Array) -> Array:
    """(n,): how much t can grow until `y + growth * rate` is as long as the radius."""
    a = np.einsum("nk,nk->n", e, rate)
    b = np.einsum("nk,nk->n", e, y)
    c = np.maximum(radius**2 - np.einsum("ni,nij,nj->n", y, q, y), 0.0)
    below = b + np.sqrt(b * b + np.maximum(a, 0.0) * c)
    return np.divide(c, below, out=np.where(c > 0, np.inf, 0.0), where=below > 0)


def _leaving(active: Mask, rate: Array, offset: Array, now: Array) -> tuple[Array, NDArray[np.intp]]:
    """When the next weight becomes zero, infinity where none does, and which."""
    falls = active & (rate < -FLAT * np.abs(rate).max(-1, keepdims=True))
    return _first(np.divide(offset, rate, out=np.full(rate.shape, np.inf), where=falls), now)


def _first(when: Array, now: Array) -> tuple[Array, NDArray[np.intp]]:
    """The earliest time of each row, not before `now`, and its index."""
    index = when.argmin(-1)
    return np.maximum(when[np.arange(len(when)), index], now), index
