"""Losses and gradients that jump over twelve orders of magnitude, vanish, repeat or oppose: finite, in float32 too."""

import pytest
import torch

import mtlbench

LOSS_METHODS = ["uw", "imtl_l", "gls", "rlw", "uw_so", "dwa", "stch", "famo", "go4align"]
ROW_METHODS = ["graddrop", "db_mtl", "excess_mtl", "moco"]
K, P, STEPS = 3, 8, 150


def told(name):
    method = mtlbench.method(name, warmup=1) if name in ("stch", "excess_mtl") else mtlbench.method(name)
    method.steps_per_epoch = 5
    return method


def jumping(generator, *shape):
    return 10 ** (12 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LOSS_METHODS)
def test_weights_of_jumping_losses_are_finite_and_not_negative(name, dtype):
    method, generator = told(name), torch.Generator().manual_seed(0)
    for step in range(STEPS):
        present = [0, 1, 2] if step % 3 else [2, 0]
        values = jumping(generator, len(present)).to(dtype)
        if step % 7 == 0:
            values[:] = values[0]
        method.begin(K, 1)
        weights = method.weights(values, present=present)
        assert weights.dtype == dtype
        assert torch.isfinite(weights).all()
        assert (weights >= 0).all()
        if method.reviews:
            method.review(jumping(generator, len(present)).to(dtype))


def hazards(generator):
    common = torch.randn(P, generator=generator, dtype=torch.float64)
    rows = torch.randn(K, P, generator=generator, dtype=torch.float64)
    zero = rows.clone()
    zero[1] = 0
    return [
        rows * jumping(generator, K, 1),
        common.expand(K, P) + 1e-4 * rows,
        torch.tensor([[1.0], [-1.0], [1.0]]) * common,
        zero,
        torch.zeros(K, P, dtype=torch.float64),
        common.expand(K, P).clone(),
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ROW_METHODS)
def test_updates_of_hard_rows_are_finite_and_bounded_by_what_was_seen(name, dtype):
    method, generator = told(name), torch.Generator().manual_seed(0)
    largest = 0.0
    for step in range(STEPS):
        rows = hazards(generator)[step % 6].to(dtype)
        method.begin(K, 1)
        losses = method.losses = jumping(generator, K).clamp(min=1e-3)
        update = method.aggregate(rows)
        assert update.dtype == dtype
        assert torch.isfinite(update).all()
        scaled = rows.double() / losses[:, None] if name == "db_mtl" else rows.double()
        largest = max(largest, scaled.norm(dim=1).max().item())
        assert update.norm().item() <= K * largest * 1.01


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("name", ["graddrop", "db_mtl"])
def test_the_update_scales_with_all_gradients(name, scale):
    one, other, generator = told(name), told(name), torch.Generator().manual_seed(1)
    for _ in range(10):
        rows = torch.randn(K, P, generator=generator, dtype=torch.float64)
        for method in (one, other):
            method.begin(K, 1)
            method.losses = torch.ones(K, dtype=torch.float64)
        torch.testing.assert_close(other.aggregate(scale * rows), scale * one.aggregate(rows), rtol=1e-9, atol=0)


def test_weights_of_excess_mtl_do_not_depend_on_the_scale_of_the_gradients():
    # Up to the 1e-7 that is added to sums of squares.
    one, other, generator = told("excess_mtl"), told("excess_mtl"), torch.Generator().manual_seed(1)
    for _ in range(20):
        rows = torch.randn(K, P, generator=generator, dtype=torch.float64)
        for method, scale in ((one, 1e3), (other, 1e6)):
            method.begin(K, 1)
            method.aggregate(scale * rows)
    torch.testing.assert_close(one.weight, other.weight, rtol=1e-6, atol=0)
    assert one.weight.std() > 1e-4
