"""What all Gramian methods share: groups, order, scale, degenerate gradients, absent and treated objectives."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import mtlbench

NAMES = (
    "aligned_mtl",
    "cagrad",
    "config",
    "dualproj",
    "fairgrad",
    "imgrad",
    "imtl_g",
    "nash_mtl",
    "pcd",
    "upgrad",
)
EVERY = pytest.mark.parametrize("name", NAMES)
STATELESS = pytest.mark.parametrize("name", [name for name in NAMES if name != "pcd"])


def rows_of(k=4, p=20, groups=5, seed=0, common=0.2):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((groups, k, p)) * rng.uniform(0.3, 3, (groups, k, 1)) + common


def weights_of(name, rows, **parameters):
    rows = torch.from_numpy(np.asarray(rows, dtype=np.float64))
    return mtlbench.method(name, **parameters).weights(rows @ rows.mT).numpy()


def updates(name, rows, **parameters):
    return np.einsum("...k,...kp->...p", weights_of(name, rows, **parameters), rows)


@EVERY
def test_no_group_weighs_on_another(name):
    rows = rows_of()
    rows[2, 1] = 0
    together = updates(name, rows)
    for group, alone in enumerate(rows):
        assert together[group] == pytest.approx(updates(name, alone), rel=1e-9, abs=1e-12)


@EVERY
def test_the_order_of_the_objectives_does_not_matter(name):
    rows, order = rows_of(5), [3, 0, 4, 1, 2]
    moved = {"primary": order.index(0)} if name == "pcd" else {}
    assert updates(name, rows[:, order], **moved) == pytest.approx(updates(name, rows), rel=1e-9, abs=1e-12)


LENGTH = {"fairgrad": -1 / 3, "nash_mtl": 0.0}
"""The power of s that the update is multiplied by for gradients s times as long, where it is not 1."""


@EVERY
@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e12])
def test_gradients_of_any_scale_are_weighed_alike(name, scale):
    rows = rows_of()
    parameters = {"eps": 0.0} if name == "pcd" else {}
    plain, scaled = updates(name, rows, **parameters), updates(name, rows * scale, **parameters)
    power = LENGTH.get(name, 1.0)
    assert scaled / scale**power == pytest.approx(plain, rel=1e-9, abs=1e-12)
    assert ("common_scale" in mtlbench.method(name).exceptions) == (power != 1.0 or name == "pcd")


SINGLE = {
    "cagrad": lambda n: 1.4,
    "imgrad": lambda n: 1.8 / 1.64,
    "fairgrad": lambda n: n ** (-4 / 3),
    "nash_mtl": lambda n: 1 / n,
}


@EVERY
def test_one_objective_goes_along_its_gradient(name):
    rows = np.array([[0.0, 3.0, 4.0]])
    assert weights_of(name, rows) == pytest.approx([SINGLE.get(name, lambda n: 1.0)(5.0)], rel=1e-7)


@EVERY
def test_the_same_gradient_many_times_is_one_direction(name):
    rows = np.repeat([[0.0, 3.0, 4.0]], 5, axis=0)
    d = updates(name, rows)
    assert d / np.linalg.norm(d) == pytest.approx([0, 0.6, 0.8], rel=1e-9)


HAZARDS = {
    "zero rows": lambda rng: rng.standard_normal((6, 9)) * [[1], [0], [1], [0], [1], [1]],
    "all zero": lambda rng: np.zeros((6, 9)),
    "one that is not zero": lambda rng: np.eye(6)[:, [2] * 9] * rng.standard_normal(9),
    "rank one": lambda rng: np.outer(rng.standard_normal(6), rng.standard_normal(9)),
    "one dimension": lambda rng: rng.standard_normal((6, 1)),
    "opposite pairs": lambda rng: np.kron([[1], [-1]], rng.standard_normal((3, 9))),
    "opposite up to 1e-9": lambda rng: (
        np.outer([1, -1, 1, -1, 1, -1], rng.standard_normal(9)) + 1e-9 * rng.standard_normal((6, 9))
    ),
    "equal up to 1e-9": lambda rng: rng.standard_normal(9) + 1e-9 * rng.standard_normal((6, 9)),
    "float32": lambda rng: (rng.standard_normal(9) + 1e-5 * rng.standard_normal((6, 9))).astype(np.float32),
    "lengths from 1e-12 to 1e12": lambda rng: rng.standard_normal((6, 30)) * 10.0 ** np.arange(-12, 13, 4.8)[:, None],
    "lengths from 1e-12 to 1e12, in two dimensions": lambda rng: (
        rng.standard_normal((6, 2)) * 10.0 ** np.arange(-12, 13, 4.8)[:, None]
    ),
    "a thousand to one": lambda rng: rng.standard_normal((6, 9)) * [[1000], [1], [1], [1], [1], [1]],
}


def bound(name, rows):
    """What no update is longer than, where something is promised."""
    norms = np.linalg.norm(rows, axis=1)
    mean = np.linalg.norm(rows.mean(0))
    return {
        "cagrad": 1.4 * mean,
        "imgrad": 1.8 / 1.64 * mean,
        "nash_mtl": 1.0,
        "dualproj": mean,
        "upgrad": norms.mean(),
        "pcd": norms[0],
        "config": norms.sum(),
        "aligned_mtl": math.sqrt(len(rows)) * np.linalg.norm(rows),
    }.get(name, np.inf)


@EVERY
@pytest.mark.parametrize("hazard", HAZARDS)
def test_updates_on_degenerate_gradients_are_finite_and_as_short_as_promised(name, hazard):
    rng = np.random.default_rng(len(hazard))
    for _ in range(10):
        rows = np.asarray(HAZARDS[hazard](rng), dtype=np.float64)
        w = weights_of(name, rows)
        assert np.isfinite(w).all()
        # A Gramian in float64 tells the length of a sum of gradients to 1e-8 of theirs.
        rounding = 2e-8 * (np.abs(w) * np.linalg.norm(rows, axis=1)).sum()
        assert np.linalg.norm(w @ rows) <= bound(name, rows) * (1 + 1e-9) + rounding


@pytest.mark.parametrize("name", ["upgrad", "dualproj"])
@pytest.mark.parametrize("hazard", HAZARDS)
def test_no_loss_goes_up_under_methods_that_promise_it(name, hazard):
    rng = np.random.default_rng(len(hazard))
    for _ in range(10):
        rows = np.asarray(HAZARDS[hazard](rng), dtype=np.float64)
        w = weights_of(name, rows)
        norms = np.linalg.norm(rows, axis=1)
        assert (rows @ (w @ rows) >= -1e-9 * norms * (np.abs(w) * norms).sum()).all()


@EVERY
def test_gramians_that_rounding_to_float32_makes_indefinite_do_no_harm(name):
    """Eight gradients in four dimensions, whose Gramian has eigenvalues of -1e-7."""
    rng = np.random.default_rng(6)
    for _ in range(20):
        rows = rng.standard_normal((8, 4)).astype(np.float32)
        weights = mtlbench.method(name).weights(torch.from_numpy(rows @ rows.T).double()).numpy()
        assert np.isfinite(weights).all()
        norms, d = np.linalg.norm(rows, axis=1), weights @ rows
        assert np.linalg.norm(d) <= 2 * norms.sum()
        if name in ("upgrad", "dualproj"):
            assert (rows @ d >= -1e-3 * norms * norms.mean()).all()


@pytest.mark.parametrize("name", ["upgrad", "dualproj"])
def test_gradients_that_agree_are_averaged(name):
    rows = np.abs(rows_of())
    assert weights_of(name, rows) == pytest.approx(0.25, abs=1e-12)


@pytest.mark.parametrize("name", ["cagrad", "config", "dualproj", "imgrad", "imtl_g", "pcd", "upgrad"])
def test_a_zero_gradient_takes_nothing_from_the_others(name):
    """Whatever is the mean, the others are served as in its absence: none of them loses."""
    rows = np.abs(rows_of(4, groups=1)[0])
    rows[2] = 0
    d = updates(name, rows)
    assert (rows[[0, 1, 3]] @ d > 0).all()


def test_problems_without_a_proven_solution_are_counted():
    rows = torch.from_numpy(rows_of(8, 30, 40, 3))
    for name in ("cagrad", "dualproj", "fairgrad", "imgrad", "nash_mtl", "pcd", "upgrad"):
        method = mtlbench.method(name)
        method.weights(rows @ rows.mT)
        assert method.report()["unsolved"] == 0
        method.unsolved.add_(3)
        again = mtlbench.method(name)
        again.load_state_dict(method.state_dict())
        assert again.report()["unsolved"] == 3


@STATELESS
def test_absent_objectives_leave_the_method_of_those_that_are_there(name):
    rows = torch.from_numpy(rows_of(5))
    method = mtlbench.method(name)
    method.weights(rows @ rows.mT)
    some = rows[:, [4, 1, 2]]
    found = method.weights(some @ some.mT, present=[4, 1, 2])
    torch.testing.assert_close(found, mtlbench.method(name).weights(some @ some.mT))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("pcd", "upgrad")])
def test_treated_objectives_are_weighed_among_themselves_and_the_others_enter_as_they_are(name):
    rows = torch.from_numpy(rows_of(5))
    found = mtlbench.method(name).weights(rows @ rows.mT, treated=[1, 4, 2])
    some = rows[:, [1, 2, 4]]
    torch.testing.assert_close(found[:, [1, 2, 4]], mtlbench.method(name).weights(some @ some.mT))
    assert (found[:, [0, 3]] == 1).all()


def test_upgrad_projects_treated_gradients_onto_the_cone_of_all():
    # g_1 conflicts with g_2 only, which is not treated: P(g_1) = g_1 + g_2 / 2 = (1/2, 1/2), g_3 stays.
    rows = np.array([[1.0, 0.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    method = mtlbench.method("upgrad")
    weights = method.weights(torch.from_numpy(rows @ rows.T), treated=[0, 2])
    assert weights.tolist() == pytest.approx([0.5, 1 + 0.25, 0.5])
    assert method.weights(torch.from_numpy(rows @ rows.T), treated=[]).tolist() == [1, 1, 1]


def test_pcd_constrains_a_treated_primary_gradient_by_treated_ones():
    rows = np.array([[1.0, 0.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    gramian = torch.from_numpy(rows @ rows.T)
    found = mtlbench.method("pcd").weights(gramian, treated=[0, 2])
    pair = mtlbench.method("pcd").weights(gramian[[0, 2]][:, [0, 2]])
    assert found.tolist() == pytest.approx([pair[0].item(), 1, pair[1].item()])
    assert mtlbench.method("pcd").weights(gramian, treated=[1, 2]).tolist() == [1, 1, 1]


@EVERY
@pytest.mark.parametrize("granularity", ["whole_model", "all_layer", "all_matrix"])
def test_the_gradients_of_a_model_are_weighed_group_by_group(name, granularity):
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x, goals = torch.randn(9, 3, dtype=torch.float64), torch.randn(3, 9, 2, dtype=torch.float64)
    losses = [(encoder(x) - goal).square().mean() for goal in goals]
    rows = [torch.autograd.grad(loss, list(encoder.parameters()), retain_graph=True) for loss in losses]
    backward = mtlbench.Backward(mtlbench.method(name), encoder, granularity)
    backward(losses)
    parameters = list(encoder.parameters())
    split = {"whole_model": [[0, 1, 2, 3]], "all_layer": [[0, 1], [2, 3]], "all_matrix": [[0], [1], [2], [3]]}
    groups = split[granularity]
    assert len(backward.group_names) == len(groups)
    for group in groups:
        jacobian = np.stack([torch.cat([row[i].flatten() for i in group]).numpy() for row in rows])
        expected = updates(name, jacobian)
        found = torch.cat([parameters[i].grad.flatten() for i in group]).numpy()
        assert found == pytest.approx(expected, rel=1e-7, abs=1e-10)
