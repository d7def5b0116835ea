"""Pseudo-inverses from the Gramian: those of NumPy where these can tell, and free of the lengths."""

import numpy as np
import pytest

from mtlbench.engine.spectral import equal_cosines, equal_projections
from mtlbench.engine.visiting import unit_rows


def stack(rng, k, rank):
    return rng.standard_normal((6, k, rank)) * rng.uniform(0.2, 4, (6, k, 1))


@pytest.mark.parametrize(("k", "rank"), [(1, 3), (2, 5), (3, 9), (8, 20), (3, 2), (5, 3), (8, 7), (8, 1)])
def test_both_agree_with_the_pseudo_inverse(k, rank):
    rows = stack(np.random.default_rng([k, rank]), k, rank)
    gramian = rows @ rows.transpose(0, 2, 1)
    cosines, norms = unit_rows(gramian)
    for g in range(len(rows)):
        expected = np.linalg.pinv(gramian[g], rcond=1e-12, hermitian=True) @ norms[g]
        assert equal_projections(cosines, norms)[g] == pytest.approx(expected, rel=1e-8, abs=1e-10)
        units = rows[g] / norms[g][:, None]
        expected = np.linalg.pinv(units @ units.T, rcond=1e-12, hermitian=True) @ np.ones(k)
        assert equal_cosines(cosines)[g] == pytest.approx(expected, rel=1e-8, abs=1e-10)


def test_projections_of_independent_rows_do_not_suffer_from_their_lengths():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((10, 5, 30)) * 10 ** rng.uniform(-12, 12, (10, 5, 1))
    cosines, norms = unit_rows(rows @ rows.transpose(0, 2, 1))
    v = equal_projections(cosines, norms)
    inner = np.einsum("gij,gj->gi", cosines, v * norms)
    assert inner == pytest.approx(1, rel=1e-12)


def test_rows_that_depend_on_each_other_keep_equal_projections_whatever_their_lengths():
    # Three rows in a plane, to which one direction has equal projections: pairs of one direction and two lengths.
    rng = np.random.default_rng(1)
    units = rng.standard_normal((2, 7))
    for ratio in (1e-5, 1.0, 1e5):
        rows = np.stack([units[0], ratio * units[0], units[1]])
        cosines, norms = unit_rows((rows @ rows.T)[None])
        v = equal_projections(cosines, norms)[0]
        assert (rows / norms[0][:, None]) @ (v @ rows) == pytest.approx(1, rel=1e-9)


def test_zero_rows_have_nothing_and_opposite_ones_cancel():
    rows = np.array([[[3.0, 0.0], [0.0, 0.0], [0.0, 4.0]], [[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]])
    cosines, norms = unit_rows(rows @ rows.transpose(0, 2, 1))
    assert equal_cosines(cosines) == pytest.approx(np.array([[1, 0, 1], [0, 0, 0]]), abs=1e-15)
    assert equal_projections(cosines, norms) == pytest.approx(np.array([[1 / 3, 0, 1 / 4], [0, 0, 0]]), abs=1e-12)
    assert not equal_cosines(np.zeros((2, 3, 3))).any()
    pairs = np.random.default_rng(2).standard_normal((20, 3, 9))
    pairs = np.concatenate([pairs, -pairs], 1)
    cosines, _ = unit_rows(pairs @ pairs.transpose(0, 2, 1))
    assert not equal_cosines(cosines).any()
