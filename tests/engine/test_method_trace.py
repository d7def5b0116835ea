"""What is traced of a method is what it did, and steps give the same bits whether or not somebody looks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import mtlbench
from mtlbench.engine.tracing import Trace
from mtlbench.engine.visiting import watched

K = 4
GRAMIAN_METHODS = ["pcgrad", "gradvac", "mgda"]


class Model(nn.Module):
    """A trunk of two layers and K heads, in float64."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 5))
        self.heads = nn.ModuleList(nn.Linear(5, 1) for _ in range(K))
        self.double()

    def losses(self, x: torch.Tensor, present: list[int]) -> list[torch.Tensor]:
        inside = self.trunk(x).tanh()
        return [(self.heads[k](inside) - (-1.0) ** k * x[:, [k]]).pow(2).mean() for k in present]


def batches(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(8, 6, generator=generator, dtype=torch.float64) for _ in range(count)]


def trained(
    name: str, watch: bool, presence: list[list[int]], **options: object
) -> tuple[Model, mtlbench.Backward, Trace | None, list[dict[str, torch.Tensor]]]:
    """A model after some steps, its backward pass, its trace, and of each step the rows and the update."""
    model = Model()
    backward = mtlbench.Backward(mtlbench.method(name), model.trunk, objectives=K, **options)  # type: ignore[arg-type]
    trace = backward.watch() if watch else None
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    steps = []
    for x, present in zip(batches(len(presence)), presence, strict=True):
        losses = model.losses(x, present)
        shared = list(model.trunk.parameters())
        rows = [torch.autograd.grad(loss, shared, retain_graph=True) for loss in losses]
        flat = torch.stack([torch.cat([g.flatten() for g in row]) for row in rows])
        optimizer.zero_grad()
        backward(losses, present)
        step = {"rows": flat, "update": torch.cat([p.grad.flatten() for p in shared if p.grad is not None])}
        steps.append({**step, "target": getattr(backward.method, "target", torch.zeros(0)).clone()})
        optimizer.step()
    return model, backward, trace, steps


ALL = [list(range(K))] * 5


@pytest.mark.parametrize("granularity", ["whole_model", "all_layer"])
@pytest.mark.parametrize("name", [*GRAMIAN_METHODS, "gradnorm", "uniform"])
def test_watching_changes_no_bit(name: str, granularity: str) -> None:
    presence = [[0, 1, 2, 3], [1, 3], [3, 0, 2]]
    quiet, looked_at = (trained(name, watch, presence, granularity=granularity) for watch in (False, True))
    for ours, theirs in zip(quiet[0].parameters(), looked_at[0].parameters(), strict=True):
        assert torch.equal(ours, theirs)
    for key, value in quiet[1].method.state_dict().items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, looked_at[1].method.state_dict()[key])


@pytest.mark.parametrize("name", GRAMIAN_METHODS)
def test_means_are_those_of_the_gradients_themselves(name: str) -> None:
    _, _, trace, steps = trained(name, True, ALL)
    assert trace is not None
    count, means = trace.window()
    assert count == len(ALL)
    units = [step["rows"] / step["rows"].norm(dim=1, keepdim=True) for step in steps]
    cosines = torch.stack([unit @ unit.T for unit in units])
    np.testing.assert_allclose(means["cosine"][0], cosines.mean(0), atol=1e-6)
    np.testing.assert_allclose(means["negative"][0], (cosines < 0).double().mean(0), atol=1e-6)
    ratios = torch.stack([step["update"].norm() / step["rows"].sum(0).norm() for step in steps])
    np.testing.assert_allclose(means["norm_ratio"], [ratios.mean()], rtol=1e-6)
    along = torch.stack(
        [unit @ step["update"] / step["update"].norm() for unit, step in zip(units, steps, strict=True)]
    )
    np.testing.assert_allclose(means["update_cosine"][0], along.mean(0), atol=1e-6)


def test_corrections_are_those_of_a_surgery_on_the_vectors() -> None:
    """PCGrad in index order, by hand: who was projected on whom."""
    model = Model()
    backward = mtlbench.Backward(mtlbench.method("pcgrad", shuffle=False), model.trunk, objectives=K)
    trace = backward.watch()
    assert trace is not None
    x = batches(1)[0]
    losses = model.losses(x, list(range(K)))
    shared = list(model.trunk.parameters())
    rows = [torch.cat([g.flatten() for g in torch.autograd.grad(v, shared, retain_graph=True)]) for v in losses]
    expected = np.zeros((K, K))
    for i in range(K):
        mine = rows[i].clone()
        for j in range(K):
            if j != i and mine @ rows[j] < 0:
                mine -= (mine @ rows[j]) / (rows[j] @ rows[j]) * rows[j]
                expected[i, j] = 1
    backward(losses)
    corrected = trace.window()[1]["corrected"][0]
    assert np.isnan(corrected.diagonal()).all()
    np.fill_diagonal(corrected, 0)
    np.testing.assert_array_equal(corrected, expected)
    assert 0 < expected.sum() < K * (K - 1)


@pytest.mark.parametrize("name", ["pcgrad", "gradvac"])
def test_two_objectives_are_traced_as_arrays_are(name: str) -> None:
    """The shortcut for two objectives in one group notes what the arrays of two groups note."""
    tables = torch.tensor([[[1.0, -0.3], [-0.3, 2.0]], [[1.0, 0.3], [0.3, 2.0]]], dtype=torch.float64)

    def changed(gramian: torch.Tensor) -> np.ndarray:
        with watched() as changes:
            method = mtlbench.method(name)
            assert isinstance(method, mtlbench.GramianWeighting)
            method.weights(gramian)
        assert changes.table is not None
        return changes.table

    both = changed(tables)
    np.testing.assert_array_equal(both, np.concatenate([changed(table[None]) for table in tables]))
    assert both[0, 0, 1]
    assert not both[1, 0, 1]


def test_the_share_of_corrections_is_the_methods_own() -> None:
    _, backward, trace, _ = trained("gradvac", True, ALL)
    assert trace is not None
    share = np.nanmean(trace.window()[1]["corrected"])
    assert share == pytest.approx(backward.method.report()["corrected_share"], rel=1e-6)


def test_targets_are_the_mean_of_those_after_each_step() -> None:
    _, _, trace, steps = trained("gradvac", True, ALL)
    assert trace is not None
    expected = torch.stack([step["target"] for step in steps]).mean(0).numpy()
    expected[:, range(K), range(K)] = np.nan
    np.testing.assert_allclose(trace.window()[1]["target"], expected, atol=1e-7)


def test_only_those_present_and_treated_count() -> None:
    _, _, trace, steps = trained("pcgrad", True, [[3, 1]], treated=[1])
    assert trace is not None
    means = trace.window()[1]
    assert np.isfinite(means["corrected"][0]).nonzero() == (np.array([1]), np.array([3]))
    seen = np.isfinite(means["cosine"][0])
    assert {tuple(place) for place in np.argwhere(seen)} == {(1, 1), (1, 3), (3, 1), (3, 3)}
    assert np.isfinite(means["update_cosine"][0]).tolist() == [False, True, False, True]
    first, second = steps[0]["rows"]
    assert means["cosine"][0, 1, 3] == pytest.approx(float(first @ second / first.norm() / second.norm()), rel=1e-6)


def test_a_window_begins_anew_and_a_stored_one_goes_on() -> None:
    _, _, whole, _ = trained("gradvac", True, ALL)
    _, backward, trace, _ = trained("gradvac", True, ALL)
    assert whole is not None
    assert trace is not None
    other = backward.watch()
    assert other is not None
    other.load_state_dict(trace.state_dict())
    steps, means = whole.window()
    again, moved = other.window()
    assert steps == again
    for name, mean in means.items():
        np.testing.assert_array_equal(mean, moved[name])
    empty, nothing = other.window()
    assert empty == 0
    assert all(np.isnan(values).all() for values in nothing.values())
    with pytest.raises(ValueError, match="other groups"):
        Trace(["a", "b"], K).load_state_dict(trace.state_dict())


def test_methods_of_the_losses_alone_have_no_trace() -> None:
    assert mtlbench.Backward(mtlbench.method("uniform"), Model().trunk, objectives=K).watch() is None
    with pytest.raises(mtlbench.UsageError, match="objectives=K"):
        mtlbench.Backward(mtlbench.method("pcgrad"), Model().trunk).watch()
