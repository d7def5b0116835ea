"""GradNorm: the first update by hand, its definition by autograd, its state, and what trains the model."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import mtlbench
from mtlbench.cells.cell import Cell
from mtlbench.cells.request import parse
from mtlbench.errors import UsageError


def diagonal(*norms):
    """A Gramian of orthogonal gradients with these norms."""
    return torch.diag(torch.tensor(norms, dtype=torch.float64) ** 2)


def losses(*values):
    return torch.tensor(values, dtype=torch.float64)


def next_weights_by_autograd(weight, norms, loss, first, alpha, lr):
    """One step on sum_i |G_i - Gbar r_i^alpha| / Gbar with Gbar and r constant, then renormalised to sum K."""
    leaf = weight.clone().requires_grad_()
    weighted = leaf * norms
    mean = weighted.mean().detach()
    rates = loss / first
    wanted = mean * (rates / rates.mean()) ** alpha
    ((weighted - wanted).abs().sum() / mean).backward()
    moved = (weight - lr * leaf.grad).clamp(min=1e-3)
    return moved * len(weight) / moved.sum()


def test_the_first_update_by_hand():
    # Norms 1 and 3, mean 2. All rates are 1 at first, so objective 0 is below and 1 above the wanted 2:
    # slopes -1/2 and +3/2, weights 1 + .1/2 and 1 - .3/2, divided by their mean .95.
    method = mtlbench.method("gradnorm", alpha=1.5, lr=0.1)
    assert method.weights(diagonal(1, 3), losses(5, 7)).tolist() == [1.0, 1.0]
    assert method.weight.tolist() == pytest.approx([1.05 / 0.95, 0.85 / 0.95], rel=1e-12)
    assert method.initial_loss.tolist() == [5.0, 7.0]


def test_the_second_update_by_hand_favours_the_objective_that_trains_slower():
    # Equal norms; losses fall to 1/2 and 1/4: rates .5 and .25, relative 4/3 and 2/3.
    method = mtlbench.method("gradnorm", alpha=1.0, lr=0.03)
    method.weights(diagonal(2, 2), losses(1, 1))
    assert method.weight.tolist() == [1.0, 1.0]  # nothing to correct: the slope is zero
    method.weights(diagonal(2, 2), losses(0.5, 0.25))
    assert method.weight.tolist() == pytest.approx([1.03, 0.97], rel=1e-12)


@pytest.mark.parametrize("k", [2, 3, 7])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.5])
def test_every_update_is_a_gradient_step_on_the_published_objective(k, alpha):
    rng = torch.Generator().manual_seed(k)
    method = mtlbench.method("gradnorm", alpha=alpha, lr=0.01)
    expected, first = torch.ones(k, dtype=torch.float64), None
    for _ in range(60):
        rows = torch.randn(k, 30, generator=rng, dtype=torch.float64) * torch.linspace(0.5, 2, k)[:, None]
        loss = 0.1 + torch.rand(k, generator=rng, dtype=torch.float64)
        first = loss if first is None else first
        used = method.weights(rows @ rows.T, loss)
        torch.testing.assert_close(used, expected, rtol=1e-10, atol=0)
        expected = next_weights_by_autograd(expected, rows.norm(dim=1), loss, first, alpha, 0.01)


def test_with_alpha_zero_weighted_norms_become_equal():
    method = mtlbench.method("gradnorm", alpha=0.0, lr=1e-3)
    for _ in range(3000):
        weights = method.weights(diagonal(1, 2, 4), losses(1, 1, 1))
    assert (weights * losses(1, 2, 4)).numpy() == pytest.approx(np.full(3, 12 / 7), rel=2e-2)


def test_norms_of_all_groups_count_together_and_every_group_gets_the_same_weights():
    one, grouped = (mtlbench.method("gradnorm", layer="all", lr=0.1) for _ in range(2))
    for _ in range(3):
        weights = grouped.weights(torch.stack([diagonal(3, 4), diagonal(4, 3), diagonal(0, 12)]), losses(1, 2))
        expected = one.weights(diagonal(5, 13), losses(1, 2))
        torch.testing.assert_close(weights, expected.expand(3, 2), rtol=1e-12, atol=0)


def test_weights_sum_to_k_and_stay_above_their_floor_whatever_the_norms():
    rng = torch.Generator().manual_seed(3)
    method = mtlbench.method("gradnorm", lr=0.5)
    for step in range(500):
        scale = 10 ** (12 * torch.rand(4, generator=rng, dtype=torch.float64) - 6)
        method.weights(torch.diag(scale**2), 0.01 + torch.rand(4, generator=rng, dtype=torch.float64))
        assert method.weight.sum().item() == pytest.approx(4, rel=1e-12)
        assert method.weight.min().item() >= 1e-3 * (1 - 1e-12), step


def test_absent_objectives_keep_weight_and_first_loss_and_the_present_ones_keep_their_sum():
    method = mtlbench.method("gradnorm", lr=0.1)
    method.begin(4, 1)
    method.weights(diagonal(1, 3), losses(5, 7), present=[1, 3])
    assert method.weight[[0, 2]].tolist() == [1.0, 1.0]
    assert method.weight[[1, 3]].tolist() == pytest.approx([1.05 / 0.95, 0.85 / 0.95], rel=1e-12)
    assert method.initial_loss[[1, 3]].tolist() == [5.0, 7.0]
    assert method.initial_loss[[0, 2]].isnan().all()
    before = method.weight.clone()
    method.weights(diagonal(2, 1, 1), losses(2, 6, 6), present=[0, 1, 2])
    assert method.weight[3] == before[3]
    assert method.weight[:3].sum().item() == pytest.approx(before[:3].sum().item(), rel=1e-12)
    assert method.initial_loss.tolist() == [2.0, 5.0, 6.0, 7.0]


def test_objectives_in_another_order_meet_their_own_weights():
    one, other = mtlbench.method("gradnorm", lr=0.1), mtlbench.method("gradnorm", lr=0.1)
    for step in range(6):
        a, b = 1.0 + step, 3.0
        one.weights(diagonal(a, b), losses(b, a))
        if step % 2:
            other.weights(diagonal(b, a), losses(a, b), present=[1, 0])
        else:
            other.weights(diagonal(a, b), losses(b, a))
    torch.testing.assert_close(one.weight, other.weight, rtol=1e-12, atol=0)


def test_the_model_is_trained_by_the_weighted_losses_heads_included():
    torch.manual_seed(0)
    trunk, heads = (
        nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double(),
        [nn.Linear(2, 1).double() for _ in range(2)],
    )
    x = torch.randn(8, 3, dtype=torch.float64)
    method = mtlbench.method("gradnorm", lr=0.1)
    backward = mtlbench.Backward(method, trunk)
    parameters = [*trunk.parameters(), *(p for head in heads for p in head.parameters())]
    expected_weight, first = torch.ones(2, dtype=torch.float64), None
    for _ in range(4):
        found = [(3**k * head(trunk(x)) - 1).pow(2).mean() for k, head in enumerate(heads)]
        rows = [torch.autograd.grad(loss, trunk[-1].parameters(), retain_graph=True) for loss in found]
        norms = torch.stack([torch.cat([g.flatten() for g in row]).norm() for row in rows])
        values = torch.stack([loss.detach() for loss in found])
        first = values if first is None else first
        goal = torch.autograd.grad((expected_weight * torch.stack(found)).sum(), parameters, retain_graph=True)
        for p in parameters:
            p.grad = None
        backward(found)
        for p, g in zip(parameters, goal, strict=True):
            torch.testing.assert_close(p.grad, g, rtol=1e-9, atol=1e-12)
        expected_weight = next_weights_by_autograd(expected_weight, norms, values, first, 1.5, 0.1)


@pytest.mark.parametrize("bad", [(0.0, 1.0), (-1.0, 1.0)])
def test_losses_that_give_no_training_rate_are_refused(bad):
    with pytest.raises(UsageError, match="gradnorm: needs positive losses"):
        mtlbench.method("gradnorm").weights(torch.eye(2), losses(*bad))


def test_a_loss_that_reaches_zero_later_is_no_error():
    method = mtlbench.method("gradnorm")
    method.weights(diagonal(1, 2), losses(1, 1))
    method.weights(diagonal(1, 0), losses(1, 0))
    method.weights(diagonal(0, 0), losses(0, 0))
    assert method.weight.isfinite().all()
    assert method.weight.sum().item() == pytest.approx(2)


def test_objectives_that_are_equal_up_to_rounding_keep_equal_weights():
    # The sign of the difference would be that of the rounding error, and so depend on the scale.
    rng = torch.Generator().manual_seed(5)
    method = mtlbench.method("gradnorm", lr=0.1)
    for _ in range(200):
        norm, loss = torch.rand(2, generator=rng, dtype=torch.float64).add(0.1).tolist()
        method.weights(diagonal(norm, norm, norm * (1 + 1e-15)), losses(loss, loss, loss))
    torch.testing.assert_close(method.weight, torch.ones(3, dtype=torch.float64), rtol=1e-9, atol=0)


# --- a step in log w ---------------------------------------------------------------------------------------


def weighted_norms(norms, steps, **parameters):
    """(steps, K): the weighted norms of every step, for gradients that stay as they are."""
    method = mtlbench.method("gradnorm", **parameters)
    gramian, ones = diagonal(*norms), torch.ones(len(norms), dtype=torch.float64)
    return torch.stack([method.weights(gramian, ones) for _ in range(steps)]) * losses(*norms)


def apart(weighted):
    """(steps,): the largest over the smallest weighted norm; 1 is ideal with equal rates."""
    return weighted.amax(1) / weighted.amin(1)


RATIOS = [1, 3, 10, 20, 50, 100, 300, 1000]
SPREADS = {
    **{f"{r} to 1": (r, 1) for r in RATIOS},
    "one of eight is large": (1000, *[1] * 7),
    "one of eight is small": (*[1000] * 7, 1),
    "eight in a row": tuple(10 ** (3 * i / 7) for i in range(8)),
}


@pytest.mark.parametrize("lr", [0.025, 0.1])
@pytest.mark.parametrize("spread", SPREADS)
def test_a_step_in_log_w_balances_norms_of_up_to_1000_to_1_in_the_steps_that_are_promised(spread, lr):
    norms = SPREADS[spread]
    promised = math.ceil(math.log(max(norms) / min(norms)) / lr) + 1
    late = apart(weighted_norms(norms, promised + 200, step="log", lr=lr))[promised:]
    assert late.max() <= math.exp(2 * lr) * 1.005


def test_the_published_step_does_not_balance_norms_that_differ_by_more_than_some_20_to_1():
    medians = {r: apart(weighted_norms((r, 1), 2000))[1000:].median().item() for r in RATIOS}
    assert max(medians[r] for r in (1, 3, 10)) < 2
    assert medians[20] > 2
    assert all(medians[r] > 10 for r in (50, 100, 300))
    assert medians[1000] > 1000


def test_a_step_in_log_w_is_a_gradient_step_on_the_published_objective_in_log_w():
    rng = torch.Generator().manual_seed(1)
    method = mtlbench.method("gradnorm", step="log", lr=0.05)
    expected, first = torch.ones(4, dtype=torch.float64), None
    for _ in range(60):
        rows = torch.randn(4, 30, generator=rng, dtype=torch.float64) * torch.tensor([[30.0], [3.0], [1.0], [0.1]])
        loss = 0.1 + torch.rand(4, generator=rng, dtype=torch.float64)
        first = loss if first is None else first
        used = method.weights(rows @ rows.T, loss)
        torch.testing.assert_close(used, expected, rtol=1e-9, atol=0)
        leaf = expected.log().requires_grad_()
        weighted = leaf.exp() * rows.norm(dim=1)
        mean, rates = weighted.mean().detach(), loss / first
        ((weighted - mean * (rates / rates.mean()) ** 1.5).abs().sum() / mean).backward()
        moved = (expected.log() - 0.05 * leaf.grad).exp()
        expected = 4 * moved / moved.sum()


def test_in_log_w_weights_sum_to_k_and_stay_above_their_floor_whatever_the_norms_and_the_step():
    rng = torch.Generator().manual_seed(3)
    for lr in (0.025, 0.5, 1e6):
        method = mtlbench.method("gradnorm", step="log", lr=lr)
        for _ in range(200):
            scale = 10 ** (12 * torch.rand(4, generator=rng, dtype=torch.float64) - 6)
            method.weights(torch.diag(scale**2), 0.01 + torch.rand(4, generator=rng, dtype=torch.float64))
            assert method.weight.sum().item() == pytest.approx(4, rel=1e-9)
            assert method.weight.min().item() >= 1e-6 * (1 - 1e-9)


def test_in_log_w_an_objective_whose_gradient_vanishes_leaves_the_others_a_weight():
    method = mtlbench.method("gradnorm", step="log", lr=0.5)
    for _ in range(200):
        method.weights(diagonal(1, 0), losses(1, 1))
    assert method.weight.tolist() == pytest.approx([1e-6, 2 - 1e-6], rel=1e-9)


def test_weights_do_not_depend_on_the_scale_of_the_gradients_with_a_step_in_log_w():
    one, other = weighted_norms((40, 2, 1), 50, step="log"), weighted_norms((40e4, 2e4, 1e4), 50, step="log")
    torch.testing.assert_close(other, 1e4 * one, rtol=1e-9, atol=0)


def test_a_step_in_log_w_goes_on_from_its_saved_state():
    whole, before, after = (mtlbench.method("gradnorm", step="log", lr=0.1) for _ in range(3))
    inputs = [(diagonal(1 + n, 30.0), losses(5.0 - n / 10, 2.0)) for n in range(12)]
    expected = [whole.weights(*each) for each in inputs]
    for each in inputs[:5]:
        before.weights(*each)
    after.load_state_dict(before.state_dict())
    for each, goal in zip(inputs[5:], expected[5:], strict=True):
        assert torch.equal(after.weights(*each), goal)


def test_absent_objectives_keep_their_weight_with_a_step_in_log_w():
    method = mtlbench.method("gradnorm", step="log", lr=0.1)
    method.begin(3, 1)
    method.weights(diagonal(1, 9), losses(5, 7), present=[0, 2])
    assert method.weight[1] == 1.0
    assert method.weight.sum().item() == pytest.approx(3, rel=1e-12)
    assert method.weight[2] < 1.0 < method.weight[0]


def test_the_later_parameter_leaves_identities_of_earlier_cells_as_they_were():
    default, stated, log = (
        parse(["method=gradnorm", "task=multimnist/digits", *more]).cells[0]
        for more in ([], ["method.step=published"], ["method.step=log"])
    )
    assert default.parameters == {"alpha": 1.5, "lr": 0.025, "layer": "last"}
    assert stated.id == default.id == "50bfedabf16c"
    assert log.id != default.id
    assert log.label == "gradnorm(step=log)"
    assert Cell.from_data(log.to_data()).id == log.id


# --- the forms of LibMTL ------------------------------------------------------------------------------------


def test_a_step_on_what_weights_are_the_softmax_of_by_hand():
    # As in the first update: slopes of the weights -1/2 and 3/2. With w = 2 softmax(p), both 1, those of p are
    # w_i (slope_i - mean of w slope) = -1/2 - 1/2 and 3/2 - 1/2, so p moves by .1 and -.1.
    method = mtlbench.method("gradnorm", step="softmax", lr=0.1)
    assert method.weights(diagonal(1, 3), losses(5, 7)).tolist() == [1.0, 1.0]
    expected = [2 / (1 + math.exp(-0.2)), 2 / (1 + math.exp(0.2))]
    assert method.weight.tolist() == pytest.approx(expected, rel=1e-12)


def test_a_step_on_p_is_a_gradient_step_on_the_published_objective_with_weights_k_softmax_p():
    rng = torch.Generator().manual_seed(2)
    method = mtlbench.method("gradnorm", step="softmax", lr=0.05)
    p, first = torch.ones(4, dtype=torch.float64), None
    for _ in range(60):
        rows = torch.randn(4, 30, generator=rng, dtype=torch.float64) * torch.tensor([[30.0], [3.0], [1.0], [0.1]])
        loss = 0.1 + torch.rand(4, generator=rng, dtype=torch.float64)
        first = loss if first is None else first
        leaf = p.clone().requires_grad_()
        weight = 4 * leaf.softmax(0)
        torch.testing.assert_close(method.weights(rows @ rows.T, loss), weight.detach(), rtol=1e-9, atol=0)
        weighted = weight * rows.norm(dim=1)
        mean, rates = weighted.mean().detach(), loss / first
        ((weighted - mean * (rates / rates.mean()) ** 1.5).abs().sum() / mean).backward()
        p = p - 0.05 * leaf.grad


def test_on_p_present_weights_keep_their_sum_and_the_weight_of_an_absent_objective_rests():
    method = mtlbench.method("gradnorm", step="softmax", lr=0.1)
    method.begin(3, 1)
    method.weight = losses(0.5, 1.5, 1.0)
    method.weights(diagonal(1, 3), losses(5, 7), present=[0, 2])
    # Weighted norms .5 and 3, mean 7/4: slopes -1 and 3 over 7/4. Their mean, weighted by w, is (-2/7 + 12/7) / (3/2).
    p = np.log([0.5, 1.0]) - 0.1 * np.array([0.5, 1.0]) * (np.array([-4 / 7, 12 / 7]) - 20 / 21)
    expected = 1.5 * np.exp(p) / np.exp(p).sum()
    assert method.weight[[0, 2]].tolist() == pytest.approx(expected.tolist(), rel=1e-12)
    assert method.weight[1] == 1.5


def test_after_a_first_epoch_of_the_plain_sum_rates_are_relative_to_its_mean_losses():
    # Means of 4, 2 and of 2, 6; then losses at 1/2 and 1/4 of them, as in the second update by hand.
    method = mtlbench.method("gradnorm", alpha=1.0, lr=0.03, warmup=1)
    method.steps_per_epoch = 2
    for loss in (losses(4, 2), losses(2, 6)):
        assert method.weights(diagonal(1, 9), loss).tolist() == [1, 1]
    assert method.initial_loss.tolist() == [3, 4]
    assert method.weights(diagonal(2, 2), losses(1.5, 1)).tolist() == [1, 1]
    assert method.weight.tolist() == pytest.approx([1.03, 0.97], rel=1e-12)
    assert method.initial_loss.tolist() == [3, 4]


def test_a_warm_up_averages_what_was_present_and_goes_on_from_its_saved_state():
    whole, before, after = (mtlbench.method("gradnorm", warmup=1, lr=0.1) for _ in range(3))
    steps = [((5.0,), [0]), ((2.0, 8.0), [0, 1]), ((4.0,), [1]), ((3.0, 3.0, 9.0), [0, 1, 2])]
    for method in (whole, before, after):
        method.steps_per_epoch = 3

    def go_on(method, some):
        method.begin(3, 1)
        for values, present in some:
            method.weights(diagonal(*range(1, len(present) + 1)), losses(*values), present=present)

    go_on(whole, steps)
    assert whole.initial_loss.tolist() == [3.5, 6.0, 9.0]  # the last was first seen after the epoch
    assert whole.weight.tolist() != [1, 1, 1]
    go_on(before, steps[:2])
    after.load_state_dict(before.state_dict())
    go_on(after, steps[2:])
    assert after.initial_loss.tolist() == whole.initial_loss.tolist()
    assert after.weight.tolist() == whole.weight.tolist()


def test_a_warm_up_in_a_loop_of_ones_own_asks_how_long_an_epoch_is():
    with pytest.raises(UsageError, match="gradnorm counts epochs"):
        mtlbench.method("gradnorm", warmup=1).weights(diagonal(1, 2), losses(1, 1))


def test_cells_without_what_joined_later_have_the_parameters_that_they_had():
    (cell,) = parse(["method=gradnorm", "task=toy", "against=none"]).cells
    assert cell.parameters == {"alpha": 1.5, "lr": 0.025, "layer": "last"}
    (cell,) = parse(["method=gradnorm", "method.warmup=1", "task=toy", "against=none"]).cells
    assert cell.parameters["warmup"] == 1
