"""Quadratic problems over non-negative vectors: closed forms, optimality on hard problems, and what has no minimum."""

import numpy as np
import pytest
from scipy.optimize import nnls

from mtlbench.engine import nonnegative
from mtlbench.engine.nonnegative import SOLVED, min_norm_weights, nonnegative_minimisers, solve_on
from mtlbench.engine.visiting import unit_rows


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


HARD = {
    "independent": lambda rng, k: rng.standard_normal((k, 3 * k)),
    "rank half of K": lambda rng, k: rng.standard_normal((k, max(1, k // 2))),
    "rank one": lambda rng, k: rng.standard_normal((k, 1)),
    "duplicates": lambda rng, k: np.repeat(rng.standard_normal((-(-k // 2), 40)), 2, axis=0)[:k],
    "nearly equal": lambda rng, k: rng.standard_normal(70) + 1e-4 * rng.standard_normal((k, 70)),
    "nearly opposite": lambda rng, k: (
        np.outer(np.where(np.arange(k) % 2, -1, 1), rng.standard_normal(70)) + 1e-4 * rng.standard_normal((k, 70))
    ),
    "signs": lambda rng, k: rng.choice([-1.0, 1.0], (k, 4)),
}


def problems(k, seed=0):
    """Projections of the rows' mean and of random vectors onto the cone of every hard problem."""
    rng = np.random.default_rng([seed, k])
    q, c = [], []
    for make in HARD.values():
        for _ in range(4):
            rows = unit(make(rng, k))
            goal = rows.T @ rng.standard_normal(k)
            q.append(rows @ rows.T)
            c.append(-rows @ goal)
    return np.stack(q), np.stack(c)


@pytest.mark.parametrize("k", [1, 2, 3, 8, 24])
def test_the_optimality_conditions_hold_on_hard_problems(k):
    q, c = problems(k)
    found = nonnegative_minimisers(q, c)
    assert (found.x >= 0).all()
    slopes = c - np.einsum("nij,nj->ni", q, found.x)
    scale = np.abs(c).max(-1, keepdims=True) + np.einsum("nij,nj->ni", np.abs(q), found.x)
    assert (slopes <= 1e-12 * scale).all()
    assert (np.abs(np.where(found.x > 0, slopes, 0)) <= 1e-12 * scale).all()
    assert (found.violation <= 1e-12).all()
    assert found.unsolved == 0
    assert not found.unbounded.any()


def test_one_variable_and_two_by_hand():
    # min x^2 - 3 x: 3/2. With c = (1, 1) and a cosine of 1/2: (1 + 1/2) x = 1 for both. With c = (1, -1): the second
    # stays at 0, since its slope -1 - 1/2 x_1 is negative, and x_1 = 1.
    assert nonnegative_minimisers(np.array([[[2.0]]]), np.array([[3.0]])).x.tolist() == [[1.5]]
    q = np.array([[1, 0.5], [0.5, 1]])
    found = nonnegative_minimisers(np.stack([q, q]), np.array([[1.0, 1.0], [1.0, -1.0]]))
    assert found.x == pytest.approx(np.array([[2 / 3, 2 / 3], [1, 0]]), abs=1e-15)


def test_an_entry_that_was_let_in_is_put_out_again():
    # The steepest slope is the first one's, and the minimiser is without it: beside the others it would be negative.
    rows = unit(np.array([[1.0, 1.0, 0.2], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    q = rows @ rows.T
    c = np.array([1.0, 0.98, 0.98])
    found = nonnegative_minimisers(q[None], c[None])
    assert c.argmax() == 0
    assert found.x[0] == pytest.approx([0, 0.98, 0.98], abs=1e-12)


def test_a_problem_without_a_minimum_is_told_from_one_with_many():
    # Opposite rows: x' Q x is 0 along (1, 1), where c = (1, 1) falls without end and c = (1, -1) does not change.
    q = np.array([[1.0, -1.0], [-1.0, 1.0]])
    found = nonnegative_minimisers(np.stack([q, q]), np.array([[1.0, 1.0], [1.0, -1.0]]))
    assert found.unbounded.tolist() == [True, False]
    assert found.violation[0] > SOLVED
    assert found.x[1, 0] - found.x[1, 1] == pytest.approx(1)
    assert found.unsolved == 1


def test_a_dependent_column_with_a_steeper_slope_takes_the_place_of_the_active_one():
    # The same row twice, x_1 + x_2 is what counts: all weight goes to the larger of c.
    q = np.ones((1, 2, 2))
    for c in ([1.0, 2.0], [2.0, 1.0]):
        with_c = nonnegative_minimisers(q, np.array([c]))
        assert with_c.x[0].tolist() == [2.0 * (v == 2) for v in c]
    # Three in a plane, the third between the others and asked for more than they give it together.
    rows = unit(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    found = nonnegative_minimisers((rows @ rows.T)[None], np.array([[1.0, 1.0, 3.0]]))
    assert found.x[0] == pytest.approx([0, 0, 3], abs=1e-12)


def test_problems_do_not_weigh_on_each_other():
    q, c = problems(6)
    together = nonnegative_minimisers(q, c).x
    for i in range(len(q)):
        assert together[i] == pytest.approx(nonnegative_minimisers(q[i : i + 1], c[i : i + 1]).x[0], rel=1e-12)


def test_where_the_limit_of_changes_is_met_the_problem_counts_as_unsolved(monkeypatch):
    q, c = problems(8)
    monkeypatch.setattr(nonnegative._ActiveSets, "advance", lambda self: False)
    found = nonnegative_minimisers(q, c)
    assert found.unsolved == int((c > 0).any(-1).sum()) > 0
    assert not found.x.any()


def test_a_singular_block_is_solved_in_least_squares():
    found = solve_on(np.ones((1, 2, 2)), np.ones((1, 2), dtype=bool), np.array([[[2.0], [2.0]]]))
    assert found[0, :, 0] == pytest.approx([1, 1])


@pytest.mark.parametrize("k", [1, 2, 3, 8, 24])
@pytest.mark.parametrize("spread", [0.0, 3.0])
def test_the_shortest_vector_of_the_hull_is_that_of_an_independent_solver(k, spread):
    rng = np.random.default_rng(k)
    for make in HARD.values():
        r = unit(make(rng, k)) * 10 ** rng.uniform(-spread, spread, (k, 1))
        cosines, norms = unit_rows((r @ r.T)[None])
        weights, unsolved = min_norm_weights(cosines, norms)
        assert unsolved == 0
        assert (weights >= 0).all()
        assert weights.sum() == pytest.approx(1, abs=1e-12)
        c = norms[0].min() / norms[0]
        z = nnls(np.vstack([unit(r).T, c]), np.append(np.zeros(r.shape[1]), 1.0), maxiter=1000 * k)[0]
        best = np.linalg.norm((c * z / (c @ z)) @ r)
        assert np.linalg.norm(weights[0] @ r) <= best * (1 + 1e-6) + 1e-7 * norms.min()


def test_zero_gradients_share_all_the_weight():
    cosines, norms = unit_rows(np.diag([4.0, 0.0, 1.0, 0.0])[None])
    assert min_norm_weights(cosines, norms)[0].tolist() == [[0, 0.5, 0, 0.5]]
