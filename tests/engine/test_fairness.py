"""Fair weights: the equation holds, whatever the lengths, and what is said where it has no solution."""

import numpy as np
import pytest

from mtlbench.engine import fairness
from mtlbench.engine.fairness import fair_weights


def agreeing(rng, k, p):
    """Rows whose convex hull does not hold 0: all have a positive first entry."""
    rows = rng.standard_normal((k, p))
    rows[:, 0] = np.abs(rows[:, 0]) + 0.1
    return rows


CASES = {
    "independent": lambda rng, k: rng.standard_normal((k, 3 * k)),
    "more than dimensions": lambda rng, k: agreeing(rng, k, max(1, k // 2)),
    "one direction": lambda rng, k: np.outer(rng.uniform(0.1, 3, k), rng.standard_normal(5)),
    "nearly equal": lambda rng, k: rng.standard_normal(60) + 1e-4 * rng.standard_normal((k, 60)),
    "conflicting": lambda rng, k: rng.standard_normal((k, 2 * k)) - 0.5 * rng.standard_normal(2 * k),
}


@pytest.mark.parametrize("q", [0.25, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("k", [1, 2, 3, 8, 24])
@pytest.mark.parametrize("case", CASES)
def test_the_equation_holds(case, k, q):
    rng = np.random.default_rng([k, len(case)])
    rows = np.stack([CASES[case](rng, k) for _ in range(5)])
    gramian = rows @ rows.transpose(0, 2, 1)
    found = fair_weights(gramian, q)
    w = found.weights
    assert found.unsolved == 0
    assert (w > 0).all()
    assert np.einsum("gij,gj->gi", gramian, w) * w**q == pytest.approx(1, rel=1e-8)
    assert found.length == pytest.approx(np.linalg.norm(np.einsum("gk,gkp->gp", w, rows), axis=-1), rel=1e-9)


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e12])
@pytest.mark.parametrize("q", [0.5, 1.0])
def test_gradients_s_times_as_long_have_weights_that_are_a_power_of_s(q, scale):
    # (s^2 G)(s^-p w) = s^(2 - p) w^-q is (s^-p w)^-q = s^(p q) w^-q for p = 2 / (1 + q).
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((4, 3, 9))
    gramian = rows @ rows.transpose(0, 2, 1)
    plain, scaled = fair_weights(gramian, q), fair_weights(scale**2 * gramian, q)
    assert scaled.weights == pytest.approx(plain.weights * scale ** (-2 / (1 + q)), rel=1e-9)
    assert scaled.length == pytest.approx(plain.length * scale ** (1 - 2 / (1 + q)), rel=1e-9)


@pytest.mark.parametrize("q", [0.5, 1.0])
def test_lengths_from_1e_6_to_1e6_are_no_harder(q):
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((20, 6, 30)) * 10 ** rng.uniform(-6, 6, (20, 6, 1))
    gramian = rows @ rows.transpose(0, 2, 1)
    found = fair_weights(gramian, q)
    sides = found.weights * np.einsum("gij,gj->gi", gramian, found.weights), found.weights ** (1 - q)
    terms = np.einsum("gi,gij,gj->gi", found.weights, np.abs(gramian), found.weights)
    assert found.unsolved == 0
    assert (np.abs(sides[0] - sides[1]) <= 1e-9 * sides[1] + 1e-12 * terms).all()


def test_without_a_solution_the_weights_are_bounded_and_so_is_the_update():
    # Opposite rows: w_1 (w_1 - w_2) = 1 and w_2 (w_2 - w_1) = 1 contradict each other.
    rows = np.array([[[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]])
    found = fair_weights(rows @ rows.transpose(0, 2, 1), 1.0)
    assert (found.weights <= 1e6).all()
    assert found.length[0] <= np.sqrt(3) * (1 + 1e-9)
    assert found.weights[0] @ rows[0] == pytest.approx([0, 1], abs=1e-6)


def test_zero_gradients_have_the_mean_weight_of_the_others_or_one():
    found = fair_weights(np.stack([np.diag([4.0, 0.0, 1.0]), np.zeros((3, 3))]), 1.0)
    assert found.weights == pytest.approx(np.array([[0.5, 0.75, 1.0], [1, 1, 1]]), rel=1e-9)
    assert found.length == pytest.approx([np.sqrt(2), 0], rel=1e-9)


def test_what_has_not_converged_counts_as_unsolved(monkeypatch):
    rows = np.random.default_rng(2).standard_normal((7, 4, 9)) + 1
    monkeypatch.setattr(fairness, "STEPS", 1)
    assert fair_weights(rows @ rows.transpose(0, 2, 1), 1.0).unsolved == 7
