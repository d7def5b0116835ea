"""Inputs that break published implementations, over 2,000 steps each: finite, bounded, free of scale."""

from functools import cache

import numpy as np
import pytest
import torch
from torch.nn import Parameter

import mtlbench

STEPS = 2000
K, P = 3, 12
SCALES = (1.0, 1e-6, 1e-3, 1e3, 1e6)


def duplicated(rng, common):
    return common.expand(K, P).clone()


def nearly_identical(noise):
    return lambda rng, common: common + noise * torch.randn(K, P, generator=rng, dtype=torch.float64)


def one_element(rng, common):
    return torch.nn.functional.pad(torch.randn(K, 1, generator=rng, dtype=torch.float64), (0, P - 1))


def nearly_antiparallel(rng, common):
    """Float32 gradients, of which one is the opposite of two others up to 1e-4."""
    signs = torch.tensor([[1.0], [-1.0], [1.0]], dtype=torch.float64)
    return (signs * common + 1e-4 * torch.randn(K, P, generator=rng, dtype=torch.float64)).float().double()


def a_zero_row(rng, common):
    rows = torch.randn(K, P, generator=rng, dtype=torch.float64)
    rows[1] = 0
    return rows


def zero_in_turn(rng, common):
    rows = torch.randn(K, P, generator=rng, dtype=torch.float64) + common
    return rows * (torch.rand(K, 1, generator=rng) < 0.7)


def spread(rng, common):
    return torch.randn(K, P, generator=rng, dtype=torch.float64) * torch.tensor([[1e-6], [1.0], [1e6]]).double()


def jumping(rng, common):
    return torch.randn(K, P, generator=rng, dtype=torch.float64) * 10 ** (
        12 * torch.rand(K, 1, generator=rng, dtype=torch.float64) - 6
    )


def orthogonal_after_alignment(rng, common):
    """Identical for long, so that targets are close to 1, then with nothing in common."""
    aligned = torch.rand((), generator=rng) < 0.95
    fresh = torch.randn(K, P, generator=rng, dtype=torch.float64)
    return common.expand(K, P).clone() if aligned else fresh


HAZARDS = {
    "duplicated": duplicated,
    "nearly identical, 1e-4": nearly_identical(1e-4),
    "nearly identical, 1e-3": nearly_identical(1e-3),
    "one-element group": one_element,
    "nearly antiparallel": nearly_antiparallel,
    "a zero row": a_zero_row,
    "zero in turn": zero_in_turn,
    "norms of 1e-6, 1 and 1e6": spread,
    "norms anywhere from 1e-6 to 1e6": jumping,
    "orthogonal after alignment": orthogonal_after_alignment,
}

METHODS = {
    "pcgrad": ("pcgrad", {}),
    "gradvac, beta 0.01": ("gradvac", {"beta": 0.01}),
    "gradvac, beta 0.5": ("gradvac", {"beta": 0.5}),
    "mgda": ("mgda", {}),
}


@cache
def gradients():
    """(STEPS, hazards, K, P) float64."""
    steps = []
    rng = torch.Generator().manual_seed(17)
    for _ in range(STEPS):
        common = torch.randn(1, P, generator=rng, dtype=torch.float64)
        steps.append(torch.stack([make(rng, common) for make in HAZARDS.values()]))
    return torch.stack(steps)


@cache
def gramians(scale):
    rows = gradients() * scale
    return rows @ rows.transpose(-1, -2)


def steps_of(label, scale):
    """All steps, except for MGDA under another scale: it has no state, so each scale takes a quarter of the steps."""
    if label == "mgda" and scale != 1.0:
        return range(SCALES.index(scale) - 1, STEPS, 4)
    return range(STEPS)


@cache
def trajectory(label, scale):
    """(steps, hazards, K) weights, one hazard a group, and the range that targets were in."""
    name, parameters = METHODS[label]
    method = mtlbench.method(name, **parameters).seed(1)
    tables, weights, lowest, highest = gramians(scale), [], 0.0, 0.0
    for step in steps_of(label, scale):
        weights.append(method.weights(tables[step]))
        if name == "gradvac" and scale == 1.0:
            lowest, highest = min(lowest, method.target.min().item()), max(highest, method.target.max().item())
    return torch.stack(weights), (lowest, highest)


def updates(label, scale, index):
    weights = trajectory(label, scale)[0][:, index, None]
    return (weights @ gradients()[steps_of(label, scale), index])[:, 0]


def bound(label, norms):
    """The bound on the length of the update that the documentation of the method states."""
    if label == "mgda":
        return norms.min(1).values
    return norms.sum(1) * (1 if label == "pcgrad" else 100)


@pytest.mark.parametrize("hazard", HAZARDS)
@pytest.mark.parametrize("label", METHODS)
def test_updates_stay_finite_and_within_the_stated_bound(label, hazard):
    index = list(HAZARDS).index(hazard)
    update = updates(label, 1.0, index)
    norms = gradients()[:, index].norm(dim=2)
    assert update.isfinite().all()
    # Rounding of the weighted sum: weights of the short rows may be large, times rows of float64 precision.
    rounding = 1e-12 * (trajectory(label, 1.0)[0][:, index].abs() * norms).sum(1)
    assert (update.norm(dim=1) <= bound(label, norms) * (1 + 1e-9) + rounding).all()


@pytest.mark.parametrize("label", [label for label in METHODS if label.startswith("gradvac")])
def test_targets_stay_between_minus_one_and_one(label):
    lowest, highest = trajectory(label, 1.0)[1]
    assert -1 <= lowest <= highest <= 1
    assert highest > 0.999  # the hazards were met


@pytest.mark.parametrize("hazard", HAZARDS)
@pytest.mark.parametrize("scale", SCALES[1:])
@pytest.mark.parametrize("label", METHODS)
def test_whole_trajectories_are_free_of_the_scale_of_the_gradients(label, scale, hazard):
    index = list(HAZARDS).index(hazard)
    steps = steps_of(label, scale)
    plain, scaled = updates(label, 1.0, index)[steps], updates(label, scale, index)
    norms = gradients()[steps, index].norm(dim=2)
    # MGDA weighs duplicates as it likes: the update is what is determined, to the precision of its shortest row.
    size = torch.maximum(plain.norm(dim=1), 1e-6 * norms.min(1).values) if label == "mgda" else plain.norm(dim=1)
    if hazard == "one-element group":  # where everything may cancel
        size = torch.maximum(size, norms.max(1).values)
    assert ((plain - scaled).norm(dim=1) <= 1e-6 * size).all()


def gradnorm_weights(hazard, scale, steps):
    """(steps, K) weights; the losses go up and down at random."""
    losses = 0.5 + torch.rand(STEPS, K, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    if hazard == "duplicated":
        losses[:] = losses[:, :1].clone()
    method, tables = mtlbench.method("gradnorm"), gramians(scale)[:, list(HAZARDS).index(hazard)]
    return torch.stack([method.weights(tables[step], losses[step]) for step in range(steps)])


@pytest.mark.parametrize("hazard", HAZARDS)
def test_gradnorm_stays_finite_bounded_and_free_of_scale(hazard):
    weights = gradnorm_weights(hazard, 1.0, STEPS)
    assert weights.isfinite().all()
    assert ((weights.sum(1) - K).abs() <= 1e-9).all()
    assert (weights >= 1e-3 * (1 - 1e-9)).all()
    if hazard == "duplicated":
        torch.testing.assert_close(weights, torch.ones_like(weights), rtol=1e-9, atol=0)
    # A power of two rounds nothing. Any other scale rounds the gradients, which the dynamics of GradNorm (steps of
    # fixed length to and fro) amplify in the long run, as they would any other noise.
    assert torch.equal(gradnorm_weights(hazard, 2.0**-20, 300), weights[:300])
    for scale in SCALES[1:]:
        torch.testing.assert_close(gradnorm_weights(hazard, scale, 100), weights[:100], rtol=1e-6, atol=0)


def test_a_target_of_one_element_groups_reaches_neither_infinity_nor_beyond_one():
    rng = torch.Generator().manual_seed(2)
    method = mtlbench.method("gradvac", beta=0.5)
    for _ in range(STEPS):
        rows = torch.randn(50, 4, 1, generator=rng, dtype=torch.float64)
        update = (method.weights(rows @ rows.transpose(1, 2))[:, None] @ rows)[:, 0, 0]
        assert (update.abs() <= 100 * rows.abs().sum(1)[:, 0]).all()
    assert method.target.abs().max() <= 1


# --- through the engine, in the precision of the model ----------------------------------------------------------


STEPS_OF = {"pcgrad": 500, "gradvac": STEPS, "mgda": 300, "gradnorm": 300}  # all steps where there is a target


def through_backward(name, rows, dtype, scale=1.0, groups="whole_model", **parameters):
    """The updates (steps, P) of a method for given gradients of `dtype` parameters; each loss is a product."""
    p = rows.shape[2]
    shared = (
        [Parameter(torch.zeros(1, dtype=dtype)) for _ in range(p)]
        if groups == "all_matrix"
        else [Parameter(torch.zeros(p, dtype=dtype))]
    )
    backward = mtlbench.Backward(mtlbench.method(name, **parameters), shared, groups)
    found = []
    for step in rows:
        for parameter in shared:
            parameter.grad = None
        whole = torch.cat(shared) if len(shared) > 1 else shared[0]
        backward([1.0 + whole @ (row * scale) for row in step])
        found.append(torch.cat([parameter.grad.double() for parameter in shared]))
    return torch.stack(found), backward


@pytest.mark.parametrize("name", ["pcgrad", "gradvac", "mgda", "gradnorm"])
def test_nearly_antiparallel_float32_gradients_through_the_engine(name):
    index = list(HAZARDS).index("nearly antiparallel")
    rows = gradients()[: STEPS_OF[name], index].float()
    parameters = {"beta": 0.5} if name == "gradvac" else {}
    found, backward = through_backward(name, rows, torch.float32, **parameters)
    norms = rows.double().norm(dim=2)
    limit = {"pcgrad": norms.sum(1), "gradvac": 100 * norms.sum(1), "mgda": norms.min(1).values}
    assert found.isfinite().all()
    assert (found.norm(dim=1) <= limit.get(name, K * norms.max(1).values) * (1 + 1e-5)).all()
    if name == "gradvac":
        assert backward.method.target.abs().max() <= 1
    # A power of two changes no digit of a float32, so neither may the method.
    scaled, _ = through_backward(name, rows[:200], torch.float32, scale=2.0**-20, **parameters)
    torch.testing.assert_close(scaled * 2.0**20, found[:200], rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["pcgrad", "gradvac"])
def test_one_element_float32_groups_through_the_engine(name):
    rows = torch.randn(STEPS // 2, 2, 3, generator=torch.Generator().manual_seed(4))
    parameters = {"beta": 0.5} if name == "gradvac" else {}
    found, backward = through_backward(name, rows, torch.float32, groups="all_matrix", **parameters)
    assert len(backward.group_names) == 3
    assert found.isfinite().all()
    assert (found.abs() <= (1 if name == "pcgrad" else 100) * rows.abs().sum(1) * (1 + 1e-5)).all()


@pytest.mark.parametrize("name", ["pcgrad", "gradvac", "mgda", "gradnorm"])
def test_float16_gradients_whose_squares_overflow_float16(name):
    rng = torch.Generator().manual_seed(6)
    rows = torch.randn(STEPS_OF[name], 3, 16, generator=rng).mul(200).add(30).half()
    assert rows.float().square().sum(2).min() > 65504
    parameters = {"beta": 0.5} if name == "gradvac" else {}
    found, backward = through_backward(name, rows, torch.float16, **parameters)
    reference = mtlbench.method(name, **parameters)
    tables = rows.double() @ rows.double().transpose(1, 2)
    weights = torch.stack([reference.weights(table) for table in tables])
    exact = (weights[:, None] @ rows.double())[:, 0]
    assert found.isfinite().all()
    assert ((found - exact).norm(dim=1) <= 1e-3 * exact.norm(dim=1)).all()  # the rounding of the update to float16
    torch.testing.assert_close(backward.weights[0], weights[-1], rtol=1e-6, atol=1e-9)
    if name == "gradvac":
        torch.testing.assert_close(backward.method.target, reference.target, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["pcgrad", "gradvac", "mgda", "gradnorm"])
def test_gradient_norms_from_1e_6_to_1e6_through_the_engine(name):
    rows = gradients()[:200, list(HAZARDS).index("norms of 1e-6, 1 and 1e6")].float()
    found, backward = through_backward(name, rows, torch.float32)
    exact, reference = through_backward(name, rows.double(), torch.float64)
    torch.testing.assert_close(backward.weights, reference.weights, rtol=1e-6, atol=1e-12)
    size = exact.norm(dim=1)
    if name == "pcgrad":  # a short gradient loses nearly all of a long one's direction, never the reverse
        assert (size <= rows.double().norm(dim=2).sum(1) * (1 + 1e-6)).all()
    assert ((found - exact).norm(dim=1) <= 1e-5 * size).all()


def test_the_hazards_are_what_they_say():
    rows = dict(zip(HAZARDS, gradients().unbind(1), strict=True))
    cosine = torch.nn.functional.cosine_similarity
    near = cosine(rows["nearly identical, 1e-4"][:, 0], rows["nearly identical, 1e-4"][:, 1], dim=1)
    assert near.min() > 1 - 1e-6
    assert cosine(rows["nearly antiparallel"][:, 0], rows["nearly antiparallel"][:, 1], dim=1).max() < -1 + 1e-6
    assert np.unique(rows["one-element group"].ne(0).sum(2)).tolist() == [1]
    assert (rows["a zero row"].norm(dim=2)[:, 1] == 0).all()
    norms = rows["norms of 1e-6, 1 and 1e6"].norm(dim=2)
    assert (norms[:, 2] / norms[:, 0]).median() > 1e11
