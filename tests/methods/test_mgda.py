"""MGDA: the exact min-norm point, held to closed forms, to an independent solver and to its own certificate."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

import mtlbench
from mtlbench.errors import UsageError
from mtlbench.methods import mgda


def reference_weights(rows):
    """Min-norm weights by non-negative least squares on [U'; c'] z ~ [0; 1], on the vectors themselves."""
    norms = np.linalg.norm(rows, axis=1)
    c = norms.min() / norms
    system = np.vstack([(rows / norms[:, None]).T, c])
    goal = np.zeros(len(system))
    goal[-1] = 1.0
    z = nnls(system, goal, maxiter=1000 * len(rows))[0]
    return c * z / (c @ z)


def min_norm_point(rows, **parameters):
    """The weights and the vector of the method under test."""
    weights = mtlbench.method("mgda", **parameters).weights(torch.from_numpy(rows @ rows.T)).numpy()
    return weights, weights @ rows


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def conjugate(rng, k, p):
    """An orthogonal basis: the min-norm point has weights proportional to 1 / |g_k|^2."""
    return np.linalg.qr(rng.standard_normal((p, k)))[0].T * rng.uniform(0.5, 2, (k, 1))


CASES = {
    "independent": lambda rng, k: rng.standard_normal((k, 4 * k + 3)),
    "agreeing": lambda rng, k: rng.standard_normal((k, 100)) + 2 * rng.standard_normal(100),
    "weakly agreeing": lambda rng, k: rng.standard_normal((k, 100)) + 0.1 * rng.standard_normal(100),
    "all positive": lambda rng, k: rng.random((k, 5)),
    "rank half of K": lambda rng, k: rng.standard_normal((k, max(1, k // 2))),
    "rank half of K, agreeing": lambda rng, k: rng.standard_normal((k, max(1, k // 2))) + 3,
    "rank two": lambda rng, k: rng.standard_normal((k, 2)) + 2,
    "rank one": lambda rng, k: np.outer(rng.uniform(0.5, 3, k), rng.standard_normal(9)),
    "norms from 1e-6 to 1e6": lambda rng, k: rng.standard_normal((k, 90)) * 10 ** rng.uniform(-6, 6, (k, 1)),
    "norms from 1e-6 to 1e6, agreeing": lambda rng, k: (
        (rng.standard_normal((k, 90)) + 1) * 10 ** rng.uniform(-6, 6, (k, 1))
    ),
    "norms from 1e-6 to 1e6, rank three": lambda rng, k: (
        (rng.standard_normal((k, 3)) + 1) * 10 ** rng.uniform(-6, 6, (k, 1))
    ),
    "duplicates": lambda rng, k: np.repeat(rng.standard_normal((-(-k // 2), 70)) + 0.2, 2, axis=0)[:k],
    "nearly equal": lambda rng, k: rng.standard_normal(70) + 1e-4 * rng.standard_normal((k, 70)),
    "nearly equal, of one length": lambda rng, k: unit(rng.standard_normal(70) + 1e-4 * rng.standard_normal((k, 70))),
    "nearly equal pairs": lambda rng, k: (
        np.repeat(rng.standard_normal((-(-k // 2), 70)), 2, axis=0)[:k] + 1e-6 * rng.standard_normal((k, 70))
    ),
    "nearly antiparallel": lambda rng, k: (
        np.outer(np.where(np.arange(k) % 2, -1, 1), rng.standard_normal(70)) + 1e-4 * rng.standard_normal((k, 70))
    ),
    "orthogonal": lambda rng, k: conjugate(rng, k, 70),
    "one far shorter": lambda rng, k: (
        (rng.standard_normal((k, 30)) + 1) * np.where(np.arange(k) == 0, 1e-3, 1)[:, None]
    ),
}


@pytest.mark.parametrize("k", [2, 3, 8, 16, 32, 64])
@pytest.mark.parametrize("case", CASES)
def test_the_norm_is_within_1e_6_of_the_optimum_and_the_certificate_holds(case, k):
    rng = np.random.default_rng([k, len(case)])
    for _ in range(3):
        rows = CASES[case](rng, k)
        weights, d = min_norm_point(rows)
        norms, shortest = np.linalg.norm(rows, axis=1), np.linalg.norm(rows, axis=1).min()
        assert (weights >= 0).all()
        assert weights.sum() == pytest.approx(1, abs=1e-12)
        best, found = np.linalg.norm(reference_weights(rows) @ rows), np.linalg.norm(d)
        assert found <= best * (1 + 1e-6) + 1e-12 * shortest  # the second where the optimum is zero
        gap = d @ d - rows @ d
        assert (gap <= 1e-7 * norms * (found + 1e-6 * shortest)).all()
        assert mgda.is_shortest((rows @ rows.T)[None], weights[None]).all()


def test_orthogonal_gradients_are_weighted_by_their_inverse_squared_norms():
    rows = conjugate(np.random.default_rng(0), 12, 30)
    expected = 1 / (rows**2).sum(1)
    assert min_norm_point(rows)[0] == pytest.approx(expected / expected.sum(), rel=1e-9)


def test_published_regression_values():
    weights, d = min_norm_point(np.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]]))
    assert weights == pytest.approx([0.6, 0.4], rel=1e-12)
    assert d == pytest.approx([0, 1, 1], abs=1e-12)


@pytest.mark.parametrize("cosine", [-0.999999, -0.5, 0.0, 0.3, 0.9])
@pytest.mark.parametrize("ratio", [1e-6, 0.1, 0.5, 0.95, 1.0, 3.0, 1e6])
def test_two_gradients_follow_the_clipped_closed_form(cosine, ratio):
    rows = np.array([[1.0, 0.0], [ratio * cosine, ratio * math.sqrt(1 - cosine**2)]])
    (a, b), (_, c) = rows @ rows.T
    first = float(np.clip((c - b) / (a + c - 2 * b), 0, 1))
    weights, _ = min_norm_point(rows)
    assert weights == pytest.approx([first, 1 - first], rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("short", [0, 1])
def test_a_gradient_that_is_the_nearest_point_takes_all_the_weight(short):
    # <g_short, g_long> >= |g_short|^2: the closed form is clipped, at either end.
    rows = np.array([[5.0, 1.0], [5.0, 1.0]])
    rows[short] = [1.0, 0.0]
    weights, d = min_norm_point(rows)
    assert weights.tolist() == [1.0 - short, float(short)]
    assert d.tolist() == [1.0, 0.0]


def test_a_zero_gradient_takes_all_the_weight_and_several_share_it():
    rows = np.random.default_rng(1).standard_normal((4, 6))
    rows[2] = 0
    assert min_norm_point(rows)[0].tolist() == [0, 0, 1, 0]
    rows[0] = 0
    assert min_norm_point(rows)[0].tolist() == [0.5, 0, 0.5, 0]


def test_weights_of_another_vector_than_the_shortest_are_counted_as_unsolved(monkeypatch):
    rows = torch.from_numpy(np.random.default_rng(1).standard_normal((3, 4, 9)) * [[1e-4], [1], [1], [1e5]])
    method = mtlbench.method("mgda")
    method.weights(rows @ rows.mT)
    assert method.report() == {"unsolved": 0}
    right = mgda.min_norm_weights
    monkeypatch.setattr(mgda, "min_norm_weights", lambda table: right(table) @ (np.eye(4) * 0.999 + 0.00025))
    method.weights(rows @ rows.mT)
    assert method.report() == {"unsolved": 3}


def test_the_direction_makes_no_objective_worse():
    rng = np.random.default_rng(2)
    for _ in range(50):
        rows = rng.standard_normal((6, 20)) + 0.3
        _, d = min_norm_point(rows)
        assert (rows @ d >= (d @ d) * (1 - 1e-9)).all()


def test_duplicating_an_objective_does_not_move_the_point():
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((5, 20)) + 0.3
    _, d = min_norm_point(rows)
    _, twice = min_norm_point(np.vstack([rows, rows]))
    assert twice == pytest.approx(d, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("k", [2, 3, 7, 12])
def test_each_of_many_groups_has_to_the_bit_the_weights_that_it_has_alone(k):
    rng = np.random.default_rng(k)
    rows = [case(rng, k) for case in CASES.values() for _ in range(3)]
    rows += [np.vstack([np.zeros((1, 5)), rng.standard_normal((k - 1, 5))]), np.ones((k, 1))]  # zero, and singular
    gramian = torch.from_numpy(np.stack([rows[i] @ rows[i].T for i in rng.permutation(len(rows))]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the zero row
        together = mtlbench.method("mgda").weights(gramian)
    for weights, alone in zip(together, gramian, strict=True):
        assert weights.tolist() == mtlbench.method("mgda").weights(alone).tolist()


def test_a_singular_block_among_others_is_solved_by_least_squares_and_the_others_are_not():
    q = np.array([[[1.0, 1.0], [1.0, 1.0]], [[2.0, 0.5], [0.5, 1.0]]])
    c = np.array([[1.0, 1.0], [0.3, 0.7]])
    found = mgda._solve(q, c, np.ones((2, 2), dtype=bool))
    assert found[0].tolist() == pytest.approx([0.5, 0.5])
    assert found[1].tolist() == mgda._solve(q[1:], c[1:], np.ones((1, 2), dtype=bool))[0].tolist()


def oracle(q, c):
    """The minimiser of z' q z / 2 - c' z over z >= 0, with the operations and their order as the solver states them."""
    k, z = len(c), np.zeros(len(c))
    free, refused = np.zeros(k, dtype=bool), np.zeros(k, dtype=bool)

    def solved(free):
        index = np.flatnonzero(free)
        block, target = q[np.ix_(index, index)], np.zeros(k)
        part = np.linalg.solve(block, c[index])
        target[index] = part + np.linalg.solve(block, c[index] - block @ part)
        return target

    for _ in range(10 * k + 100):
        slope = np.where(free | refused, -np.inf, c - q @ z)
        enter = int(slope.argmax())
        if slope[enter] <= 1e-15:
            return z
        free[enter] = True
        target = solved(free)
        if target[enter] <= 0:
            free[enter], refused[enter] = False, True
            continue
        while (target[free] <= 0).any():
            blocking = free & (target <= 0)
            z += (z[blocking] / (z[blocking] - target[blocking])).min() * (target - z)
            free &= z > 1e-15 * z.max()
            z[~free] = 0.0
            target = solved(free)
        z, refused = target, np.zeros(k, dtype=bool)
    return z


@pytest.mark.parametrize("k", [2, 3, 7, 12])
def test_problems_that_are_solved_together_take_the_steps_of_a_loop_over_them_to_the_bit(k):
    rng = np.random.default_rng(k)
    rows = [unit(case(rng, k)) for case in CASES.values() for _ in range(4)]
    q = np.stack([r @ r.T for r in rows]) + np.ones((k, k))
    c = rng.uniform(0.01, 1, (len(rows), k))
    found = mgda._nonnegative_minimisers(q, c)
    assert found.tolist() == [oracle(*each).tolist() for each in zip(q, c, strict=True)]


@pytest.mark.parametrize("k", [2, 8, 64])
def test_the_active_set_changes_within_its_stated_bound(k, monkeypatch):
    solved = []
    solve = mgda._solve
    monkeypatch.setattr(mgda, "_solve", lambda q, c, free: solved.append(1) or solve(q, c, free))
    rng = np.random.default_rng(k)
    hard = [case(rng, k) for case in CASES.values()]
    hard += [np.repeat(rng.standard_normal((1, 5)), k, axis=0), np.ones((k, 1)), rng.choice([-1.0, 1.0], (k, 3))]
    hard += [np.vander(np.linspace(0.5, 1, k), 30), 1 / (1 + np.add.outer(np.arange(k), np.arange(k)))]
    for rows in hard:
        solved.clear()
        min_norm_point(rows)
        assert len(solved) <= 10 * k + 100


def test_indefinite_gramians_by_rounding_still_end_with_weights_on_the_simplex():
    rng = np.random.default_rng(5)
    for _ in range(30):
        rows = rng.standard_normal((16, 4)).astype(np.float32)
        table = torch.from_numpy(rows @ rows.T)  # float32 rounding: eigenvalues of -1e-6
        weights = mtlbench.method("mgda").weights(table.double())
        assert (weights >= 0).all()
        assert weights.sum().item() == pytest.approx(1, abs=1e-12)


# --- normalisation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalize", ["none", "l2", "loss", "loss+"])
def test_normalised_weights_are_those_of_the_divided_gradients(normalize):
    rng = np.random.default_rng(6)
    rows, losses = rng.standard_normal((5, 20)) * [[1], [10], [0.1], [3], [7]] + 0.1, rng.uniform(0.1, 5, 5)
    norms = np.linalg.norm(rows, axis=1)
    divisor = {"none": np.ones(5), "l2": norms, "loss": losses, "loss+": losses * norms}[normalize]
    method = mtlbench.method("mgda", normalize=normalize)
    weights = method.weights(torch.from_numpy(rows @ rows.T), torch.from_numpy(losses)).numpy()
    best = np.linalg.norm(reference_weights(rows / divisor[:, None]) @ (rows / divisor[:, None]))
    assert np.linalg.norm(weights @ (rows / divisor[:, None])) <= best * (1 + 1e-9)
    assert weights.sum() == pytest.approx(1, abs=1e-12)


def test_normalised_weights_of_two_orthogonal_gradients_by_hand():
    rows = torch.tensor([[3.0, 0.0], [0.0, 0.2]], dtype=torch.float64)
    assert mtlbench.method("mgda", normalize="l2").weights(rows @ rows.T).tolist() == pytest.approx([0.5, 0.5])
    losses = torch.tensor([1.0, 3.0], dtype=torch.float64)
    # u1 / 1 and u2 / 3, orthogonal: weights proportional to 1 and 9.
    weights = mtlbench.method("mgda", normalize="loss+").weights(rows @ rows.T, losses)
    assert weights.tolist() == pytest.approx([0.1, 0.9], rel=1e-12)


def test_weights_that_are_applied_to_normalised_gradients_give_the_shortest_vector_of_these():
    # Orthogonal, of lengths 3 and 1/5 at losses 1 and 3: u1 and u2 / 3 have the weights .1 and .9, so .1 / 3 of the
    # first gradient and .9 / (3 / 5) of the second. Unit gradients: .5 / 3 and .5 / .2.
    rows = torch.tensor([[3.0, 0.0], [0.0, 0.2]], dtype=torch.float64)
    losses = torch.tensor([1.0, 3.0], dtype=torch.float64)
    for normalize, expected in (("loss+", [0.1 / 3, 1.5]), ("l2", [1 / 6, 2.5]), ("none", None)):
        found = mtlbench.method("mgda", normalize=normalize, applied="normalized").weights(rows @ rows.T, losses)
        plain = mtlbench.method("mgda", normalize=normalize).weights(rows @ rows.T, losses)
        assert found.tolist() == pytest.approx(plain.tolist() if expected is None else expected, rel=1e-12)


@pytest.mark.parametrize("normalize", ["loss", "loss+"])
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_dividing_by_a_loss_that_is_not_positive_is_refused(normalize, value):
    with pytest.raises(UsageError, match=rf"mgda: normalize={normalize.replace('+', '[+]')} divides by the losses"):
        mtlbench.method("mgda", normalize=normalize).weights(torch.eye(2), torch.tensor([1.0, value]))


def test_a_zero_gradient_under_every_normalisation_takes_all_the_weight():
    rows = torch.tensor([[1.0, 2.0], [0.0, 0.0]], dtype=torch.float64)
    for normalize in ("none", "l2", "loss", "loss+"):
        assert mtlbench.method("mgda", normalize=normalize).weights(rows @ rows.T).tolist() == [0.0, 1.0]


# --- agreement with TorchJD -------------------------------------------------------------------------------------


def test_two_objectives_agree_with_torchjd():
    aggregation = pytest.importorskip("torchjd.aggregation")
    rng = np.random.default_rng(7)
    peer = aggregation.MGDA(epsilon=1e-12, max_iters=1000)
    for _ in range(50):
        rows = rng.standard_normal((2, 9)) * [[1], [rng.uniform(0.2, 5)]] + rng.uniform(0, 1)
        theirs = peer(torch.from_numpy(rows)).numpy()
        assert min_norm_point(rows)[1] == pytest.approx(theirs, rel=1e-6, abs=1e-8)


def test_never_longer_than_torchjd():
    aggregation = pytest.importorskip("torchjd.aggregation")
    rng = np.random.default_rng(8)
    for k in (3, 8, 16):
        rows = rng.standard_normal((k, 2 * k)) + 0.2
        theirs = aggregation.MGDA()(torch.from_numpy(rows)).norm().item()
        assert np.linalg.norm(min_norm_point(rows)[1]) <= theirs * (1 + 1e-12)


def test_a_group_that_one_objective_does_not_reach_is_told_once_and_not_trained():
    rows = torch.from_numpy(np.random.default_rng(9).standard_normal((3, 2, 6)))
    rows[1, 0] = 0
    gramian = rows @ rows.transpose(1, 2)
    method = mtlbench.method("mgda")
    with pytest.warns(UserWarning, match=r"objective 0 has a gradient of zero in group 1 of 3.*is not trained"):
        weights = method.weights(gramian)
    assert weights[1].tolist() == [1, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method.weights(gramian)
        mtlbench.method("mgda").weights(gramian[1])  # one group: the objective is at its optimum
        everywhere = gramian.clone()
        everywhere[:, 0], everywhere[:, :, 0] = 0, 0
        mtlbench.method("mgda").weights(everywhere)


def test_digits_that_elimination_loses_are_found_again_by_one_refinement():
    # Wilkinson's example: pivots grow to 2^29, so that plain elimination leaves a residual near 1e-8.
    q = np.eye(30) - np.tril(np.ones((30, 30)), -1)
    q[:, -1] = 1
    c = np.random.default_rng(10).random(30)
    assert np.abs(c - q @ np.linalg.solve(q, c)).max() > 1e-10
    assert np.abs(c - q @ mgda._solve(q[None], c[None], np.ones((1, 30), dtype=bool))[0]).max() < 1e-13


@pytest.mark.parametrize("treated", [[1, 2], [2, 0], [1]])
def test_treated_objectives_are_weighed_by_their_own_losses_and_gradients(treated):
    rng = np.random.default_rng(11)
    rows, losses = rng.standard_normal((3, 20)), np.array([0.5, 1.0, 0.7])
    gramian = torch.from_numpy(rows @ rows.T)
    method = mtlbench.method("mgda", normalize="loss")
    weights = method.weights(gramian, torch.from_numpy(losses), treated=treated)
    kept = sorted(treated)
    alone = mtlbench.method("mgda", normalize="loss").weights(
        torch.from_numpy(rows[kept] @ rows[kept].T), torch.from_numpy(losses[kept])
    )
    assert weights[kept].tolist() == pytest.approx(alone.tolist(), rel=1e-12)
    assert all(weights[k] == 1 for k in range(3) if k not in treated)
