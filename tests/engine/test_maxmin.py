"""The largest least progress within a ball: no duality gap, and what is said where gradients cancel."""

import numpy as np
import pytest

from mtlbench.engine import maxmin
from mtlbench.engine.maxmin import ball_maximisers
from mtlbench.engine.visiting import unit_rows


def solve(rows, center, radius):
    """The direction for (K, P) rows, the weights of the rows, and the violation."""
    cosines, norms = unit_rows((rows @ rows.T)[None])
    units = np.divide(rows, norms[0][:, None], out=np.zeros_like(rows), where=norms[0][:, None] > 0)
    found = ball_maximisers(cosines, norms, (units @ center)[None], np.array([radius]))
    return center + found.y[0] @ units, found.y[0], found.violation[0]


CASES = {
    "independent": lambda rng, k: rng.standard_normal((k, 3 * k)),
    "more than dimensions": lambda rng, k: rng.standard_normal((k, max(2, k // 2))),
    "agreeing, more than dimensions": lambda rng, k: rng.standard_normal((k, max(2, k // 2))) + 2,
    "duplicates": lambda rng, k: np.repeat(rng.standard_normal((-(-k // 2), 40)), 2, axis=0)[:k],
    "one direction, many lengths": lambda rng, k: np.outer(rng.uniform(0.1, 3, k), rng.standard_normal(7)),
    "nearly equal": lambda rng, k: rng.standard_normal(70) + 1e-4 * rng.standard_normal((k, 70)),
    "lengths from 1e-6 to 1e6": lambda rng, k: rng.standard_normal((k, 40)) * 10 ** rng.uniform(-6, 6, (k, 1)),
    "orthogonal, of one length": lambda rng, k: np.linalg.qr(rng.standard_normal((2 * k, k)))[0].T,
}


@pytest.mark.parametrize("k", [1, 2, 3, 8, 24])
@pytest.mark.parametrize("case", CASES)
def test_no_other_direction_in_the_ball_has_a_larger_least_progress(case, k):
    """By duality: for every w on the simplex, min_k <g_k, d> <= <g_w, g0> + radius |g_w|, with equality at ours."""
    rng = np.random.default_rng([k, len(case)])
    for share in (0.01, 0.4, 2.0):
        rows = CASES[case](rng, k)
        center = rows.mean(0)
        radius = share * np.linalg.norm(center)
        d, y, violation = solve(rows, center, radius)
        norms = np.linalg.norm(rows, axis=1)
        assert np.linalg.norm(d - center) <= radius * (1 + 1e-9)
        assert violation <= 1e-9
        least = (rows @ d).min()
        weights = y / norms
        if weights.sum() > 0 and np.linalg.norm(d - center) > radius * (1 - 1e-6):
            g_w = weights @ rows / weights.sum()
            bound = g_w @ center + radius * np.linalg.norm(g_w)
            assert bound - least <= 1e-12 * norms.max() * (np.linalg.norm(center) + radius)
        else:  # 0 is in the hull: nobody can do better than nothing
            assert abs(least) <= 1e-9 * norms.min() * (np.linalg.norm(center) + radius)


def test_two_constraints_at_once_by_hand():
    # g1 = (1, 0), g2 = (0, 2) around g0 = (1/2, 1): with both at t, d = (t, t / 2), and |d - g0| = r means
    # 5/4 t^2 - 2 t + 5/4 = r^2; y_1 = t - 1/2 and y_2 = t / 2 - 1 are positive for t > 2, that is r > 3/2.
    r = 2.0
    t = (2 + np.sqrt(4 - 5 * (1.25 - r**2))) / 2.5
    d, y, _ = solve(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([0.5, 1.0]), r)
    assert d == pytest.approx([t, t / 2], rel=1e-12)
    assert y == pytest.approx([t - 0.5, t / 2 - 1], rel=1e-12)
    # Below, only the slower objective counts.
    d, y, _ = solve(np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([0.5, 1.0]), 1.25)
    assert d == pytest.approx([1.75, 1.0], rel=1e-12)
    assert y == pytest.approx([1.25, 0.0], abs=1e-12)


def test_opposite_gradients_stop_where_neither_loses():
    # g1 = -g2: min(<g1, d>, <g2, d>) is at most 0. Of all d with 0 the nearest to (1, 1) is (0, 1), at distance 1.
    rows = np.array([[1.0, 0.0], [-2.0, 0.0], [0.0, 3.0]])
    d, y, violation = solve(rows, np.array([1.0, 1.0]), 1.5)
    assert d == pytest.approx([0, 1], abs=1e-12)
    assert y == pytest.approx([0, 1, 0], abs=1e-12)
    assert violation <= 1e-12
    # Where the ball ends before, so does d.
    d, _, _ = solve(rows, np.array([1.0, 1.0]), 0.5)
    assert d == pytest.approx([0.5, 1], abs=1e-12)


def test_a_gradient_takes_the_place_of_another_that_it_depends_on():
    # In one dimension, 1 and 2 around -1: where d < 0 the longer gradient loses most, and where d > 0 the shorter gains
    # least, so that at d = 0 one takes the place of the other. The ball of radius 3 ends at 2.
    d, y, _ = solve(np.array([[1.0], [2.0]]), np.array([-1.0]), 3.0)
    assert d == pytest.approx([2], rel=1e-12)
    assert y == pytest.approx([3, 0], abs=1e-12)


def test_a_zero_gradient_gains_nothing_and_the_others_lose_nothing():
    rows = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    d, y, _ = solve(rows, np.array([-1.0, 2.0]), 5.0)
    assert d == pytest.approx([0, 2], abs=1e-12)
    assert y[1] == 0
    d, y, _ = solve(rows, np.array([1.0, 2.0]), 5.0)
    assert d.tolist() == [1, 2]
    d, y, violation = solve(np.zeros((3, 2)), np.zeros(2), 0.0)
    assert d.tolist() == [0, 0]
    assert violation == 0


def test_groups_do_not_weigh_on_each_other():
    rng = np.random.default_rng(3)
    rows = np.stack([rng.standard_normal((5, 20)) + 0.3, rng.standard_normal((5, 20)), np.zeros((5, 20))])
    rows[1, 2] = 0
    cosines, norms = unit_rows(rows @ rows.transpose(0, 2, 1))
    mean = np.einsum("gij,gj->gi", cosines, norms) / 5
    radius = np.array([0.5, 0.3, 0.0])
    together = ball_maximisers(cosines, norms, mean, radius).y
    for g in range(3):
        pick = slice(g, g + 1)
        alone = ball_maximisers(cosines[pick], norms[pick], mean[pick], radius[pick]).y
        assert together[pick] == pytest.approx(alone, rel=1e-12)


def test_a_path_that_is_cut_off_counts_as_unsolved(monkeypatch):
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((6, 20))
    monkeypatch.setattr(maxmin._Paths, "advance", lambda self: False)
    assert solve(rows, rows.mean(0), 1.0)[2] > maxmin.SOLVED
