"""MoDo and SDMGrad: values by hand, TorchJD's answers, and the batches that they are given."""

import io
import re

import numpy as np
import pytest
import torch
from rich.console import Console
from scipy.optimize import minimize

import mtlbench
from mtlbench.cells.request import parse
from mtlbench.cli.describe import describe_method
from mtlbench.engine.simplex import on_simplex


def products(steps, k=4, seed=0):
    """Products of gradients of two batches: not symmetric."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((k, 12))
    for _ in range(steps):
        one, two = (common + rng.standard_normal((k, 12)) for _ in range(2))
        yield torch.from_numpy(one @ two.T)


def test_modo_by_hand():
    """J_1 = (2, 0), (0, 1) and J_2 = (1, 1), (0, 2), so J_1 J_2' = ((2, 0), (1, 2)). At lambda = (1/2, 1/2) the product
    is (1, 3/2), with rho lambda (1.05, 1.55); a tenth of it off gives (.395, .345), whose nearest point that sums to 1
    is .13 more in each: (.525, .475). A product with the transposed matrix would give (.475, .525).
    """
    product = torch.tensor([[2.0, 0.0], [1.0, 2.0]]).double()
    method = mtlbench.method("modo")
    assert method.weights(product).tolist() == pytest.approx([0.525, 0.475])
    # The product is (1.05, 1.475), with rho lambda (1.1025, 1.5225): (.41475, .32275), and .13125 more.
    assert method.weights(product).tolist() == pytest.approx([0.546, 0.454])
    # Of (1, 0) and (-1, 1) in both batches: the product is (0, 1/2), with rho lambda (.05, .55), and again .025 apart.
    same = torch.tensor([[1.0, -1.0], [-1.0, 2.0]]).double()
    assert mtlbench.method("modo").weights(same).tolist() == pytest.approx([0.525, 0.475])


def test_sdmgrad_by_hand():
    """One step of w: the diagonal (4, 0) has the mean root 1, so A stays. u = (1/2, 1/2) and w = u give
    A (1.3 u) = .65 (4 - 1, 2) = (1.95, 1.3); a tenth off is (.305, .37), and .1625 more is (.4675, .5325).
    The weights are (w + .15) / 1.3.
    """
    product = torch.tensor([[4.0, -1.0], [2.0, 0.0]]).double()
    method = mtlbench.method("sdmgrad", lr=0.1, steps=1)
    expected = [(0.4675 + 0.15) / 1.3, (0.5325 + 0.15) / 1.3]
    assert method.weights(product).tolist() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(("name", "theirs"), [("modo", "MoDoWeighting"), ("sdmgrad", "SDMGradWeighting")])
def test_a_run_agrees_with_torchjd(name, theirs):
    peer = getattr(pytest.importorskip("torchjd.aggregation"), theirs)()
    ours = mtlbench.method(name)
    for product in products(30):
        torch.testing.assert_close(ours.weights(product), peer(product), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["modo", "sdmgrad"])
def test_absent_objectives_rest_and_groups_are_apart(name):
    method, alone = mtlbench.method(name), mtlbench.method(name)
    tables = torch.stack([*products(2)])
    alone.weights(tables[1])
    method.weights(tables)
    state = getattr(method, method.per_group[0])
    torch.testing.assert_close(state[1:], getattr(alone, alone.per_group[0]))
    before = state.clone()
    weights = method.weights(tables[:, [0, 2]][:, :, [0, 2]], present=[0, 2])
    assert torch.equal(state[:, [1, 3]], before[:, [1, 3]])
    assert not torch.equal(state, before)
    torch.testing.assert_close(weights.sum(1), before[:, [0, 2]].sum(1))


def test_the_nearest_point_of_a_simplex_is_nearest():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((20, 5)) * 2
    totals = rng.uniform(0.1, 2, 20)
    found = on_simplex(torch.from_numpy(points), torch.from_numpy(totals)).numpy()
    assert found.min() >= 0
    assert found.sum(1) == pytest.approx(totals)
    for point, total, mine in zip(points, totals, found, strict=True):
        sums = {"type": "eq", "fun": lambda x, t=total: x.sum() - t}
        best = minimize(lambda x, p=point: ((x - p) ** 2).sum(), np.full(5, total / 5), bounds=[(0, None)] * 5,
                        constraints=sums).x  # fmt: skip
        assert np.linalg.norm(mine - point) <= np.linalg.norm(best - point) + 1e-6


def test_the_number_of_batches_follows_the_parameter():
    (cell,) = parse(["method=modo", "method.batches=3", "task=toy", "against=none"]).cells
    assert mtlbench.method("modo", **cell.parameters).batch_shares == (0.0, 0.0, 1.0)
    assert mtlbench.method("modo").batch_shares == (0.5, 0.5)
    assert mtlbench.method("sdmgrad").batch_shares == (0.0, 0.0, 1.0)
    assert mtlbench.method("cr_mogm", base="modo").batch_shares == (0.5, 0.5)


@pytest.mark.parametrize(("name", "cost"), [("modo", "K on each of 2 batches"), ("sdmgrad", "K on each of 3 batches"),
                                            ("gradvac", "K"), ("gradnorm", "1, and K down to that layer"),
                                            ("famo", "1, and a forward pass"), ("uniform", "1")])  # fmt: skip
def test_what_a_step_costs_is_told(name, cost):
    console = Console(record=True, width=200, file=io.StringIO())
    describe_method(console, name)
    assert re.search(rf"^ *backward passes a step +{cost} *$", console.export_text(), re.MULTILINE)
