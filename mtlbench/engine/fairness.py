"""Weights under which every objective's progress answers to its weight: `(G w)_k = w_k^(-q)`, in many groups at once.

`q = 1` is the Nash bargaining solution, `q = 1 / alpha` alpha-fairness. With unit rows, `a_k = n_k w_k` and
`b_k = n_k^(q - 1)` it is the stationary point of the strictly convex::

    F(a) = a' (C + 1e-12 I) a / 2 - sum_k b_k a_k^(1 - q) / (1 - q)        (log a_k for q = 1)

over a > 0, C being the cosines, so the lengths of the gradients enter only through b. The 1e-12 gives F a minimiser
where the gradients have 0 in their convex hull and the equation has no solution; for q = 1 it moves a by about
`1e-12 |a|^2` of itself otherwise, and it keeps every a_k below 1e6.

Solver: Newton's method in `a_k exp(.)`, whose system `diag(a) C diag(a) + q diag(b a^(1-q))` is positive definite
whatever the rank of C, with steps that change no a_k by more than a factor of ten and lower F. It ends where each side
of each equation is within 1e-10 of the other, or within rounding error of the sums that they are of; at most 200 steps.
F is convex, so this is the minimiser. Rows that do not get there within 1e-6 leave their group unsolved.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtlbench.engine.visiting import unit_rows

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

RIDGE = 1e-12
CONVERGED = 1e-10
SOLVED = 1e-6
"""The relative difference of the two sides up to which an equation counts as solved."""
ROUNDING = 1e-13
SMALL_STEP = 0.05
"""Relative changes of a up to which the curvature changes by less than a factor of two for q up to 11, so that a step
of Newton's method lowers F: not tried, since rounding would decide."""
STEPS = 200


class FairWeights(NamedTuple):
    """The answers in G groups."""

    weights: Array
    """(G, K) positive; zero gradients, for which there is no equation, have the mean of the others, or 1."""
    length: Array
    """(G,) of the update."""
    unsolved: int
    """How many groups have an equation that is not solved."""


def fair_weights(gramian: Array, q: float) -> FairWeights:
    """The weights w > 0 with `(G w)_k = w_k^(-q)`.

    Args:
        gramian: (G, K, K).
        q: positive.
    """
    cosines, norms = unit_rows(gramian)
    nonzero = norms > 0
    unit = _geometric_mean(norms, nonzero)
    lengths = np.where(nonzero, norms / unit[:, None], 1.0)
    k = np.arange(norms.shape[-1])
    cosines[:, k, k] = 1.0 + RIDGE
    b = lengths ** (q - 1)
    a, differing = _solve(cosines, b, q)
    weights = np.where(nonzero, a / lengths, 0.0)
    count = nonzero.sum(-1)
    mean = np.divide(weights.sum(-1), count, out=np.ones(len(count)), where=count > 0)
    weights = np.where(nonzero, weights, mean[:, None])
    # Gradients in other units, G = unit^2 G', have w = unit^(-2 / (1 + q)) w'.
    size = unit ** (-2 / (1 + q))
    weights *= size[:, None]
    inside = np.where(nonzero, a, 0.0)
    cosines[:, k, k] = nonzero
    square = np.einsum("gi,gij,gj->g", inside, cosines, inside)
    unsolved = ((differing > SOLVED) & nonzero).any(-1)
    return FairWeights(weights, np.sqrt(np.maximum(square, 0.0)) * size * unit, int(np.count_nonzero(unsolved)))


def _geometric_mean(norms: Array, nonzero: Mask) -> Array:
    """(G,): of the gradients that are not zero; 1 where all are."""
    count = np.maximum(nonzero.sum(-1), 1)
    return np.exp(np.log(np.where(nonzero, norms, 1.0)).sum(-1) / count)


def _solve(c: Array, b: Array, q: float) -> tuple[Array, Array]:
    """The minimisers (G, K), and by how much the sides of the equations differ, relative to them."""
    a = b ** (1 / (1 + q))  # exact for orthogonal gradients
    differing = np.full(a.shape, np.inf)
    index = np.arange(len(a))
    for step in range(STEPS + 1):
        part, right = a[index], b[index] * a[index] ** (1 - q)
        left = part * np.einsum("gij,gj->gi", c[index], part)
        size = part * np.einsum("gij,gj->gi", np.abs(c[index]), part)
        gap = left - right
        differing[index] = np.maximum(np.abs(gap) - ROUNDING * size, 0.0) / right
        going = (np.abs(gap) > CONVERGED * right + ROUNDING * size).any(-1)
        index = index[going]
        if len(index) == 0 or step == STEPS:
            break
        a[index] = _step(c[index], b[index], q, part[going], right[going], gap[going])
    return a, differing


def _step(c: Array, b: Array, q: float, a: Array, right: Array, gap: Array) -> Array:
    """A step of Newton's method from a, shortened until it lowers F."""
    k = np.arange(a.shape[-1])
    system = a[:, :, None] * c * a[:, None, :]
    system[:, k, k] += q * right
    # Scaled to a unit diagonal: the entries of a may be of very different size.
    scale = 1 / np.sqrt(system[:, k, k])
    system *= scale[:, :, None] * scale[:, None, :]
    toward = -scale * np.linalg.solve(system, (scale * gap)[:, :, None])[:, :, 0]
    slope = np.einsum("gk,gk->g", gap, toward)  # of F, not positive
    length = np.minimum(1.0, 0.9 / np.maximum(-toward.min(-1), 0.9))
    length = np.minimum(length, 9.0 / np.maximum(toward.max(-1), 9.0))
    large = np.abs(toward).max(-1) > SMALL_STEP
    for _ in range(30):
        new = a * (1 + length[:, None] * toward)
        # The slope at the new point tells whether F went down without a difference of two large numbers.
        there = np.einsum("gk,gk->g", toward * a, np.einsum("gij,gj->gi", c, new) - b * new**-q)
        over = large & (there > -0.5 * slope)
        if not over.any():
            break
        length = np.where(over, length / 2, length)
    return a * (1 + length[:, None] * toward)
