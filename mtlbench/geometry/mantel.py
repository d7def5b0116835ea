"""The Mantel test and the partial one: whether two matrices over the same objectives go together.

All matrices are (K, K), symmetric, of K objectives; similarities, so that larger is closer. The diagonal is never read.
An objective of which something is unknown (NaN) is left out of both matrices, and the answer names it.

**p-values** are by permutation of the objectives and two-sided: `(b + 1) / (m + 1)`, with b of the m permutations at
least as far from zero as what was found, so that p is never zero. For four objectives there are 24 orders and for five
120, so that p has a floor that no effect gets below, however many permutations are drawn.

**Sources.** The test and its permutation: Mantel (1967). The partial one: Smouse, Long and Sokal (1986). Of the ways to
permute in it, this is the second that Legendre (2000) compares: the residuals of one matrix under the null model are
permuted. A partial test holds the control fixed as far as the relation is linear, and no further; and where both
matrices have a structure of their own over the objectives that the control lacks, its p-values are too small (Guillot
and Rousset, 2013). So a small p is a reason to look for another control, not a proof.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

Array = NDArray[np.float64]

PERMUTATIONS = 9999
LEAST = 4
"""Objectives; three pairs of three objectives tell nothing."""
TIE = 1e-9
"""Correlations nearer than this count as equal: sums in another order differ in the last digits."""


@dataclass(frozen=True)
class Association:
    """The correlation of two matrices over pairs of objectives."""

    r: float
    """NaN where a matrix is constant, the control leaves nothing of it, or fewer than four objectives are left."""
    p: float
    """Two-sided, by permutation; NaN with r."""
    objectives: int
    """How many were compared."""
    left_out: tuple[int, ...] = ()
    """Objectives of which a similarity is unknown."""


def mantel(
    x: ArrayLike,
    y: ArrayLike,
    permutations: int = PERMUTATIONS,
    *,
    generator: np.random.Generator,
    ranks: bool = False,
) -> Association:
    """The correlation of two matrices over all pairs of objectives, and its p-value.

    Args:
        x: (K, K).
        y: (K, K).
        permutations: how many orders of the objectives are drawn.
        generator: draws them.
        ranks: take Spearman's correlation instead of Pearson's.
    """
    (first, second), left_out = without_unknown([pairwise(x), pairwise(y)])
    if len(first) < LEAST:
        return Association(math.nan, math.nan, len(first), left_out)
    if ranks:
        first, second = _ranked(first), _ranked(second)
    target = _standard(above(second))
    r, drawn = _correlations(first, target, None, permutations, generator)
    return Association(r, _two_sided(r, drawn), len(first), left_out)


def partial_mantel(
    x: ArrayLike,
    y: ArrayLike,
    given: ArrayLike,
    permutations: int = PERMUTATIONS,
    *,
    generator: np.random.Generator,
    ranks: bool = False,
) -> Association:
    """The correlation of what `given` leaves of two matrices, by linear regression over pairs, and its p-value.

    The residuals of x are permuted by objectives and regressed on `given` again, as the fitted part stays.

    Args:
        x: (K, K).
        y: (K, K).
        given: (K, K) or several, (m, K, K): what is held fixed.
        permutations: how many orders of the objectives are drawn.
        generator: draws them.
        ranks: take ranks of all matrices first.
    """
    controls = np.asarray(given, dtype=np.float64)
    controls = controls[None] if controls.ndim == 2 else controls
    whole, left_out = without_unknown([pairwise(x), pairwise(y), *map(pairwise, controls)])
    if len(whole[0]) < LEAST:
        return Association(math.nan, math.nan, len(whole[0]), left_out)
    first, second, *held = [_ranked(one) for one in whole] if ranks else whole
    basis = _basis([above(one) for one in held])
    target = _standard(_residual(above(second), basis), above(second))
    residual = _square(_residual(above(first), basis), len(first))
    r, drawn = _correlations(residual, target, basis, permutations, generator, above(first))
    return Association(r, _two_sided(r, drawn), len(first), left_out)


# --- matrices


def pairwise(values: ArrayLike) -> Array:
    """(K, K) float64; raises `ValueError` for another shape."""
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"a matrix of pairs is (K, K), not {matrix.shape}")
    return matrix


def without_unknown(whole: Sequence[Array]) -> tuple[list[Array], tuple[int, ...]]:
    """The matrices without the objectives of unknown pairs, the fewest that will do (greedily), and which these are."""
    if len({matrix.shape for matrix in whole}) > 1:
        raise ValueError("the matrices are about other numbers of objectives")
    holes: NDArray[np.bool_] = np.array(np.isnan(np.stack(whole)).any(0))
    holes |= holes.T
    np.fill_diagonal(holes, False)
    left_out: list[int] = []
    while holes.any():
        worst = int(holes.sum(0).argmax())
        left_out.append(worst)
        holes[worst] = holes[:, worst] = False
    kept = [k for k in range(len(whole[0])) if k not in left_out]
    return [matrix[np.ix_(kept, kept)] for matrix in whole], tuple(sorted(left_out))


def above(matrix: Array) -> Array:
    """(K (K - 1) / 2,) above the diagonal."""
    return np.asarray(matrix[np.triu_indices(len(matrix), 1)])


def _square(flat: Array, objectives: int) -> Array:
    matrix = np.zeros((objectives, objectives))
    matrix[np.triu_indices(objectives, 1)] = flat
    return matrix + matrix.T


def _ranked(matrix: Array) -> Array:
    return _square(rankdata(above(matrix)), len(matrix))


# --- correlations


def _basis(columns: Sequence[Array]) -> Array:
    """(n, m) orthonormal columns that span a constant and the given ones, as far as these differ."""
    whole = np.column_stack([np.ones(len(columns[0])), *(_standard(column) for column in columns)])
    whole = whole[:, ~np.isnan(whole).any(0)]
    left, sizes, _ = np.linalg.svd(whole, full_matrices=False)
    return np.asarray(left[:, sizes > 1e-8 * sizes[0]])


def _residual(flat: Array, basis: Array) -> Array:
    return np.asarray(flat - (flat @ basis) @ basis.T)


def _standard(flat: Array, whole: Array | None = None) -> Array:
    """Mean 0 and length 1 along the last axis; NaN where nothing is left of the whole that it is the rest of."""
    centred = flat - flat.mean(-1, keepdims=True)
    size = np.sqrt((centred**2).sum(-1, keepdims=True))
    before = flat if whole is None else whole
    floor = 1e-10 * np.sqrt((before**2).sum(-1, keepdims=True))
    return np.asarray(centred / np.where(size > floor, size, np.nan))


def _correlations(
    matrix: Array,
    target: Array,
    basis: Array | None,
    permutations: int,
    generator: np.random.Generator,
    whole: Array | None = None,
) -> tuple[float, Array]:
    """That of a matrix with a standardised target, and those (permutations,) of its permutations."""
    orders = np.argsort(generator.random((permutations, len(matrix))), axis=1)
    orders = np.concatenate([np.arange(len(matrix))[None], orders])
    rows, columns = np.triu_indices(len(matrix), 1)
    flat = matrix[orders[:, rows], orders[:, columns]]
    if basis is not None:
        flat = _residual(flat, basis)
    with np.errstate(invalid="ignore"):
        r = _standard(flat, whole) @ target
    return float(r[0]), np.asarray(r[1:])


def _two_sided(r: float, drawn: Array) -> float:
    if np.isnan(r):
        return float("nan")
    # a permutation that has no residuals left has no correlation, and counts against a finding
    far = (np.abs(drawn) >= abs(r) - TIE) | np.isnan(drawn)
    return (int(far.sum()) + 1) / (len(drawn) + 1)
