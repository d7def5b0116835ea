"""Pseudo-inverses of Gramians in many groups at once, free of the lengths of the gradients.

The rank is told from the cosines: eigenvalues below 1e-12 of the largest count as 0. Gradients nearer to each other
than some 1e-6 (in the sine of their angle) therefore count as parallel; a Gramian in float64 tells no more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RANK = 1e-12
NOTHING = 1e-12
"""The share of a vector's squared length that is rounding error."""


def equal_cosines(cosines: Array) -> Array:
    """(G, K) the z of least length for which `sum_k z_k u_k` has an inner product of 1 with every unit row u_k.

    Where there is none, as for opposite rows, the inner products are as near to 1 as they can be in the sum of
    squares; and 0 where that is no better than nothing. Rows that are zero have 0.

    Args:
        cosines: (G, K, K) the Gramian of the unit rows.
    """
    values, vectors = _spectrum(cosines)
    ones = np.einsum("gij,gi->gj", vectors, _present(cosines))
    part = np.where(values > 0, ones, 0.0)
    found = (part**2).sum(-1) > NOTHING * np.maximum(_present(cosines).sum(-1), 1.0)
    inverse = np.divide(part, values, out=np.zeros_like(part), where=values > 0)
    return np.where(found[:, None], np.einsum("gij,gj->gi", vectors, inverse), 0.0)


def equal_projections(cosines: Array, lengths: Array) -> Array:
    """(G, K) `pinv(G) n`, the v of least length for which `sum_k v_k g_k` has the same projection, 1, on every row.

    Args:
        cosines: (G, K, K) the Gramian of the unit rows.
        lengths: (G, K) n, the lengths of the rows.
    """
    values, vectors = _spectrum(cosines)
    present = lengths > 0
    ranks = (values > 0).sum(-1)
    full = ranks == present.sum(-1)
    answer = np.zeros_like(lengths)
    np.divide(equal_cosines(cosines), lengths, out=answer, where=present & full[:, None])
    for rank in np.unique(ranks[~full]):
        index = ((ranks == rank) & ~full).nonzero()[0]
        chosen = np.argsort(-values[index], -1)[:, :rank]
        factor = np.take_along_axis(vectors[index], chosen[:, None, :], -1)
        factor *= np.sqrt(np.take_along_axis(values[index], chosen, -1))[:, None, :]
        answer[index] = _least(factor, lengths[index])
    return answer


def _least(factor: Array, lengths: Array) -> Array:
    """(n, K) `pinv(B B') n` for `B = diag(n) factor` of full column rank; long rows first, for the sake of digits."""
    order = np.argsort(-lengths, -1)
    n = np.take_along_axis(lengths, order, -1)
    q, r = np.linalg.qr(np.take_along_axis(factor, order[:, :, None], 1) * n[:, :, None])
    inner = np.linalg.solve(r, np.einsum("gij,gi->gj", q, n)[:, :, None])
    outer = np.einsum("gij,gj->gi", q, np.linalg.solve(r.transpose(0, 2, 1), inner)[:, :, 0])
    answer = np.empty_like(outer)
    np.put_along_axis(answer, order, outer, -1)
    return answer


def _present(cosines: Array) -> Array:
    """(G, K): 1 for a row that is not zero."""
    return (cosines.diagonal(axis1=1, axis2=2) > 0).astype(np.float64)


def _spectrum(cosines: Array) -> tuple[Array, Array]:
    """Eigenvalues (G, K), 0 beyond the rank, and eigenvectors (G, K, K) in columns."""
    values, vectors = np.linalg.eigh((cosines + cosines.transpose(0, 2, 1)) / 2)
    return np.where(values > RANK * values.max(-1, keepdims=True), values, 0.0), vectors
