"""Methods of the losses: closed forms by hand, plain implementations over many steps, and TorchJD's scalarisations."""

import math

import pytest
import torch
from oracles import through_a_file

import mtlbench
from mtlbench.cells.request import parse
from mtlbench.errors import UsageError


def losses(*values):
    return torch.tensor(values, dtype=torch.float64)


def told(name, steps_per_epoch=1, **parameters):
    method = mtlbench.method(name, **parameters)
    method.steps_per_epoch = steps_per_epoch
    return method


def random_losses(count, objectives, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 10 ** (2 * torch.rand(count, objectives, generator=generator, dtype=torch.float64) - 1)


def gradient(function, values):
    leaf = values.clone().requires_grad_()
    return torch.autograd.grad(function(leaf), leaf)[0]


# --- uw, imtl_l


def test_uw_begins_at_half_the_sum_and_rests_at_the_logarithm_of_the_loss():
    # d/dL of (e^-s L + s)/2 is e^-s / 2, which is 1/2 at s = 0; d/ds is (1 - e^-s L)/2, zero where s = log L.
    method = mtlbench.method("uw")
    values = losses(4.0, 0.25)
    assert method.weights(values).tolist() == [0.5, 0.5]
    slope = torch.autograd.grad(method.scalarize(values), list(method.log_variance))
    assert [s.item() for s in slope] == [-1.5, 0.375]
    for s, loss in zip(method.log_variance, values, strict=True):
        s.data.fill_(math.log(loss))
    assert method.weights(values).tolist() == pytest.approx([1 / 8, 2.0], rel=1e-6)
    slope = torch.autograd.grad(method.scalarize(values), list(method.log_variance))
    assert [s.item() for s in slope] == pytest.approx([0, 0], abs=1e-6)


def test_imtl_l_begins_at_the_sum_and_rests_where_scaled_losses_are_one():
    # d/dL of e^s L - s is e^s, 1 at s = 0; d/ds is e^s L - 1, zero where e^s = 1/L.
    method = mtlbench.method("imtl_l")
    values = losses(4.0, 0.25, 1.0)
    assert method.weights(values).tolist() == [1, 1, 1]
    slope = torch.autograd.grad(method.scalarize(values), list(method.log_scale))
    assert [s.item() for s in slope] == [3, -0.75, 0]
    for s, loss in zip(method.log_scale, values, strict=True):
        s.data.fill_(-math.log(loss))
    assert (method.weights(values) * values).tolist() == pytest.approx([1, 1, 1], rel=1e-6)


def test_imtl_l_is_twice_uw_with_the_sign_of_s_turned():
    values = losses(0.3, 7.0, 2.0)
    uw, imtl = mtlbench.method("uw"), mtlbench.method("imtl_l")
    for method in (uw, imtl):
        method.begin(3, 1)
    for a, b, s in zip(uw.log_variance, imtl.log_scale, (0.5, -2.0, 1.0), strict=True):
        a.data.fill_(s)
        b.data.fill_(-s)
    assert 2 * uw.scalarize(values).item() == pytest.approx(imtl.scalarize(values).item(), rel=1e-6)


@pytest.mark.parametrize(("name", "init", "peer"), [("uw", -0.5, "UW"), ("uw", 0.7, "UW"), ("imtl_l", 0.0, "IMTLL")])
def test_learnt_scales_train_like_torchjds_under_the_same_optimiser(name, init, peer):
    theirs = getattr(pytest.importorskip("torchjd.scalarization"), peer)(3)
    ours = mtlbench.method(name, **({"init": init} if name == "uw" else {}))
    ours.begin(3, 1)
    (parameter,) = theirs.parameters()
    parameter.data.fill_(init)
    one, other = (torch.optim.Adam(method.parameters(), 0.05) for method in (ours, theirs))
    for values in random_losses(40, 3).float():
        torch.testing.assert_close(ours.weights(values), gradient(theirs, values), rtol=1e-6, atol=0)
        for optimiser, method in ((one, ours.scalarize), (other, theirs)):
            optimiser.zero_grad()
            method(values).backward()
            optimiser.step()
    torch.testing.assert_close(torch.stack(list(ours.parameters())), parameter, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["uw", "imtl_l"])
def test_the_scale_of_an_absent_objective_rests_whatever_moments_and_weight_decay_its_optimiser_has(name):
    method = mtlbench.method(name)
    method.begin(3, 1)
    optimiser = torch.optim.Adam(method.parameters(), 0.1, weight_decay=0.1)
    scales = list(method.parameters())
    for step, present in enumerate([[0, 1, 2], [0, 1, 2], [2, 0], [0]]):
        before = [s.item() for s in scales]
        method.begin(3, 1, present)
        optimiser.zero_grad()
        method.scalarize(random_losses(1, len(present), seed=step)[0]).backward()
        optimiser.step()
        moved = {k for k, (s, old) in enumerate(zip(scales, before, strict=True)) if s.item() != old}
        assert moved == {*present}


@pytest.mark.parametrize("name", ["uw", "imtl_l"])
def test_learnt_scales_load_into_a_fresh_object(name):
    method = mtlbench.method(name)
    method.begin(3, 1)
    for k, s in enumerate(method.parameters()):
        s.data.fill_(0.1 * k)
    fresh = mtlbench.method(name)
    fresh.load_state_dict(through_a_file(method.state_dict()))
    assert [s.item() for s in fresh.parameters()] == [s.item() for s in method.parameters()]
    assert torch.equal(fresh.weights(losses(1, 2, 3)), method.weights(losses(1, 2, 3)))


# --- gls


def test_gls_weighs_each_loss_by_the_mean_over_k_times_the_loss():
    # (2 * 8)^(1/2) = 4, so the weights are 4 / (2 * 2) and 4 / (2 * 8); (1 * 3 * 9)^(1/3) = 3: 3/3, 3/9, 3/27.
    assert mtlbench.method("gls").weights(losses(2, 8)).tolist() == pytest.approx([1, 0.25])
    assert mtlbench.method("gls").weights(losses(1, 3, 9)).tolist() == pytest.approx([1, 1 / 3, 1 / 9])


def test_gls_is_torchjds_geometric_mean_and_its_direction_has_no_scale():
    peer = pytest.importorskip("torchjd.scalarization").GeometricMean()
    for values in random_losses(200, 4):
        ours = mtlbench.method("gls").weights(values)
        torch.testing.assert_close(ours, gradient(peer, values), rtol=1e-9, atol=0)
        scaled = mtlbench.method("gls").weights(values * losses(1, 100, 1, 1)) * losses(1, 100, 1, 1)
        torch.testing.assert_close(scaled, ours * 100 ** (1 / 4), rtol=1e-9, atol=0)


# --- rlw


def test_rlw_weighs_by_a_softmax_of_normal_numbers_drawn_in_every_step():
    method, twin = mtlbench.method("rlw").seed(5), torch.Generator().manual_seed(5)
    seen = []
    for _ in range(1500):
        z = torch.randn(3, generator=twin, dtype=torch.float64)
        weights = method.weights(losses(1, 1, 1))
        torch.testing.assert_close(weights, z.exp() / z.exp().sum(), rtol=1e-12, atol=0)
        seen.append(weights)
    mean = torch.stack(seen).mean(0)  # each 1/3 by symmetry; the standard error of 1,500 is some .006
    assert mean.tolist() == pytest.approx([1 / 3] * 3, abs=0.025)
    assert torch.stack(seen).std(0).min() > 0.1


def test_rlw_sums_to_one_or_to_the_number_of_losses():
    values = losses(3, 1, 4, 1)
    one, k = (mtlbench.method("rlw", sum_to_k=flag).seed(1) for flag in (False, True))
    torch.testing.assert_close(4 * one.weights(values), k.weights(values), rtol=1e-12, atol=0)
    assert one.weights(values[:2], present=[1, 3]).sum().item() == pytest.approx(1)


def rlw_weights(distribution, k, steps=4000):
    """(steps, k) what it draws."""
    method = mtlbench.method("rlw", distribution=distribution).seed(3)
    return torch.stack([method.weights(torch.ones(k, dtype=torch.float64)) for _ in range(steps)])


def test_rlw_of_uniform_numbers_weighs_by_their_softmax():
    twin = torch.Generator().manual_seed(3)
    for weights in rlw_weights("uniform", 3, 20):
        z = torch.rand(3, generator=twin, dtype=torch.float64)
        torch.testing.assert_close(weights, z.exp() / z.exp().sum(), rtol=1e-12, atol=0)


def test_rlw_of_dirichlets_distribution_is_uniform_on_the_simplex():
    # A weight is above t in the share (1 - t)^(K-1) of the simplex, which is a smaller copy of it.
    drawn = rlw_weights("dirichlet", 3)
    torch.testing.assert_close(drawn.sum(1), torch.ones(4000).double(), rtol=1e-12, atol=0)
    for t in (0.1, 1 / 3, 0.5, 0.8):
        # The standard error of a share of 4,000 draws is at most .008.
        assert (drawn > t).double().mean(0).tolist() == pytest.approx([(1 - t) ** 2] * 3, abs=0.03)


def test_rlw_of_bernoulli_numbers_shares_the_weight_among_a_random_subset_that_is_not_empty():
    # Of the seven subsets of three each has the same probability: (1, 0, 0), (1/2, 1/2, 0), ..., (1/3, 1/3, 1/3).
    drawn = rlw_weights("bernoulli", 3)
    there, counts = (drawn > 0).unique(dim=0, return_counts=True)
    assert len(there) == 7
    assert (counts / 4000).tolist() == pytest.approx([1 / 7] * 7, abs=0.025)  # standard error .0055
    torch.testing.assert_close(drawn, (drawn > 0) / (drawn > 0).sum(1, keepdim=True).double())


def test_rlw_of_one_objective_a_step_gives_it_all_the_weight_and_each_its_turn():
    drawn = rlw_weights("one_hot", 4)
    assert sorted(set(map(tuple, drawn.tolist()))) == sorted(map(tuple, torch.eye(4).tolist()))
    assert drawn.mean(0).tolist() == pytest.approx([1 / 4] * 4, abs=0.03)  # standard error .007


def test_rlw_cells_without_a_distribution_have_the_parameters_that_they_had():
    (cell,) = parse(["method=rlw", "task=toy", "against=none"]).cells
    assert cell.parameters == {"sum_to_k": False}
    (cell,) = parse(["method=rlw", "method.distribution=one_hot", "task=toy", "against=none"]).cells
    assert cell.parameters == {"sum_to_k": False, "distribution": "one_hot"}


# --- uw_so


def test_uw_so_is_a_softmax_of_reciprocal_losses():
    # 1/2 and 2 differ by 3/2, so that the weights are 1/(1 + e^1.5) and the rest.
    weights = mtlbench.method("uw_so").weights(losses(2, 0.5))
    assert weights.tolist() == pytest.approx([0.182426, 0.817574], abs=1e-6)
    assert weights[0].item() == pytest.approx(1 / (1 + math.exp(1.5)))
    # Reciprocals 1, 1/2, 1/4 over a temperature of 1/4 are 4, 2, 1.
    e = [math.exp(v) for v in (4, 2, 1)]
    three = mtlbench.method("uw_so", temperature=0.25).weights(losses(1, 2, 4))
    assert three.tolist() == pytest.approx([v / sum(e) for v in e])


def test_uw_so_leaves_all_to_the_smallest_loss_without_overflow_and_is_equal_at_a_high_temperature():
    assert mtlbench.method("uw_so", temperature=1e-6).weights(losses(1e-3, 1)).tolist() == [1, 0]
    assert mtlbench.method("uw_so", temperature=1e6).weights(losses(0.1, 9)).tolist() == pytest.approx(
        [0.5, 0.5], abs=1e-5
    )


# --- dwa


def test_dwa_by_hand():
    # Means 4, 4, then 2, 1 and 1, 1. Third epoch: r = 1/2, 1/4, at T = 1 weights 2 e^r / sum; fourth: r = 1/2, 1.
    method = told("dwa", temperature=1.0)
    assert method.weights(losses(4, 4)).tolist() == [1, 1]
    assert method.weights(losses(2, 1)).tolist() == [1, 1]
    third = 2 / (1 + math.exp(-0.25))
    assert method.weights(losses(1, 1)).tolist() == pytest.approx([third, 2 - third])
    fourth = 2 / (1 + math.exp(0.5))
    assert method.weights(losses(1, 1)).tolist() == pytest.approx([fourth, 2 - fourth])


@pytest.mark.parametrize("steps", [1, 3, 7])
def test_dwa_is_torchjds_with_its_step_at_the_end_of_every_epoch(steps):
    peer = pytest.importorskip("torchjd.scalarization").DWA(2.0)
    by_epoch, by_window = told("dwa", steps), mtlbench.method("dwa", window=steps)
    for step, values in enumerate(random_losses(6 * steps, 4)):
        expected = gradient(peer, values)
        torch.testing.assert_close(by_epoch.weights(values), expected, rtol=1e-9, atol=0)
        torch.testing.assert_close(by_window.weights(values), expected, rtol=1e-9, atol=0)
        if (step + 1) % steps == 0:
            peer.step()
    assert by_epoch.weights(losses(1, 1, 1, 1)).sum().item() == pytest.approx(4)


def test_dwa_keeps_the_means_of_an_objective_that_an_epoch_does_not_hold():
    method = told("dwa", 2, temperature=1.0)
    method.begin(3, 1)
    for present, values in [
        ([0, 1, 2], (4, 4, 4)),
        ([0], (2,)),  # means 3, 4, 4
        ([0, 1], (1, 2)),
        ([0], (2,)),  # means 1.5, 2; objective 2 keeps 4 and has no second one: r = 1
    ]:
        method.weights(losses(*values), present=present)
    e = [math.exp(r) for r in (0.5, 0.5, 1.0)]
    assert method.weights(losses(1, 1), present=[2, 0]).tolist() == pytest.approx(
        [3 * e[2] / sum(e), 3 * e[0] / sum(e)]
    )


def test_dwa_keeps_both_means_of_an_objective_that_several_epochs_do_not_hold():
    method = told("dwa", temperature=1.0)
    for present, values in [(None, (4, 4)), (None, (2, 1)), ([0], (2,)), ([0], (2,))]:
        method.weights(losses(*values), present=present)
    e = [math.exp(r) for r in (1.0, 0.25)]  # objective 1 still has the means 4 and 1
    assert method.weights(losses(1, 1)).tolist() == pytest.approx([2 * v / sum(e) for v in e])


# --- stch


def plain_stch(history, warmup, steps, mu):
    """The gradient at the last of the losses, after all of them, as the authors' code has it: no absent objectives."""
    begin, end = warmup * steps, (warmup + 1) * steps
    values = history[-1]
    if len(history) <= end:
        return 1 / values
    nadir = torch.stack(history[begin:end]).mean(0)
    return gradient(lambda v: len(v) * mu * torch.log(((v / nadir).log() / mu).exp().sum()), values)


def test_stch_by_hand():
    # Warm-up of one step, then one whose losses (2, 8) are the reference. At (1, 2) the ratios are 1/2 and 1/4:
    # at mu = 1 the scalar is 2 log(L1/2 + L2/8), whose derivatives are 2 (1/2) / (3/4) = 4/3 and 2 (1/8) / (3/4) = 1/3.
    method = told("stch", warmup=1)
    assert method.weights(losses(5, 5)).tolist() == pytest.approx([0.2, 0.2])
    assert method.weights(losses(2, 8)).tolist() == pytest.approx([0.5, 0.125])
    assert method.weights(losses(1, 2)).tolist() == pytest.approx([4 / 3, 1 / 3])
    assert method.scalarize(losses(1, 2)).item() == pytest.approx(2 * math.log(3 / 4))


@pytest.mark.parametrize(("warmup", "steps", "mu"), [(0, 1, 1.0), (1, 3, 0.5), (4, 2, 2.0)])
def test_stch_follows_a_plain_implementation_through_warm_up_and_after(warmup, steps, mu):
    method, history = told("stch", steps, warmup=warmup, mu=mu), []
    for values in random_losses((warmup + 3) * steps, 3):
        history.append(values)
        torch.testing.assert_close(method.weights(values), plain_stch(history, warmup, steps, mu), rtol=1e-9, atol=0)


def test_stch_with_a_small_mu_follows_the_objective_that_has_gained_least():
    method = told("stch", warmup=0, mu=1e-3)
    method.weights(losses(1, 1, 1))
    assert method.weights(losses(0.5, 0.8, 0.3)).tolist() == pytest.approx([0, 3 / 0.8, 0])


def test_plain_stch_is_torchjds():
    peer = pytest.importorskip("torchjd.scalarization").STCH(mu=0.1)
    method = mtlbench.method("stch", form="plain", mu=0.1)  # no epochs, so nobody has to say how long one is
    for values in random_losses(200, 3):
        torch.testing.assert_close(method.weights(values), gradient(peer, values), rtol=1e-9, atol=1e-30)
        assert method.scalarize(values).item() == pytest.approx(peer(values).item())


def test_stch_compares_an_objective_that_its_epoch_lacked_with_its_first_loss_afterwards():
    method = told("stch", warmup=0)
    method.begin(2, 1)
    method.weights(losses(2), present=[0])
    # Objective 1 comes with 3, its own reference: ratios 1/2 and 1, derivatives 2 (1/2) / (3/2) and 2 (1/3) / (3/2).
    assert method.weights(losses(1, 3)).tolist() == pytest.approx([2 / 3, 4 / 9])
    # Alone it has the weight of its logarithm.
    assert method.weights(losses(6), present=[1]).tolist() == pytest.approx([1 / 6])


# --- go4align


def test_go4align_with_one_group_is_the_sum_times_a_factor():
    method = mtlbench.method("go4align", clusters=1)
    weights = method.weights(losses(2, 0.5))
    assert method.p.tolist() == pytest.approx([0.499963, 0.500037], abs=1e-6)
    assert weights.tolist() == pytest.approx([1.562570, 1.562570], abs=1e-6)


def test_go4align_with_a_group_for_each_has_the_weights_of_the_rule():
    # p = 1/2 each but for eta, so v = p * 2.5 / L: (.624953, 2.500187).
    assert mtlbench.method("go4align").weights(losses(2, 0.5)).tolist() == pytest.approx([0.624953, 2.500187], abs=1e-6)


def test_go4align_gives_the_objectives_of_a_group_the_mean_of_their_weights():
    # Without eta, v = (1/3) 16 / L for losses 8, 7, 1: 2/3, 16/21, 16/3. The first two are close and share 5/7.
    weights = mtlbench.method("go4align", eta=0).weights(losses(8, 1, 7))
    assert weights.tolist() == pytest.approx([5 / 7, 16 / 3, 5 / 7])


def partitions(items, groups):
    if groups == 1 or len(items) == 1:
        yield [items]
        return
    for size in range(1, len(items)):
        for rest in partitions(items[size:], groups - 1):
            yield [items[:size], *rest]


@pytest.mark.parametrize("groups", [1, 2, 3, 6, 9])
def test_go4align_finds_the_best_groups_and_its_p_follows_a_plain_implementation(groups):
    method, p = mtlbench.method("go4align", clusters=groups, eta=0.05), losses(*[1 / 6] * 6)
    for values in random_losses(25, 6):
        p = p * torch.exp(-0.05 * values)
        p = p / p.sum()
        v = p * values.sum() / values
        ordered = sorted(v.tolist())
        best = min(
            (sum(sum((x - sum(g) / len(g)) ** 2 for x in g) for g in way), way)
            for way in partitions(ordered, min(groups, 6))
        )[1]
        mean_of = {x: sum(g) / len(g) for g in best for x in g}
        expected = losses(*[mean_of[x] for x in v.tolist()])
        torch.testing.assert_close(method.weights(values), expected, rtol=1e-9, atol=0)
        torch.testing.assert_close(method.p, p, rtol=1e-9, atol=0)


def test_go4align_leaves_the_p_of_absent_objectives_and_their_sum():
    method = mtlbench.method("go4align", eta=0.5)
    method.begin(3, 1)
    method.weights(losses(2, 1), present=[2, 0])
    assert method.p[1].item() == pytest.approx(1 / 3)
    ratio = math.exp(-0.5)  # losses 2 and 1 differ by 1
    assert method.p[[2, 0]].tolist() == pytest.approx([2 / 3 * ratio / (1 + ratio), 2 / 3 / (1 + ratio)])


# --- all of them


@pytest.mark.parametrize("name", ["gls", "uw_so", "dwa", "stch", "famo", "go4align"])
@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_methods_that_need_positive_losses_say_whose_is_not(name, bad):
    method = told(name)
    method.begin(3, 1)
    with pytest.raises(UsageError, match=f"{name}: needs positive losses, and that of objective 2 is {bad:g}"):
        method.weights(losses(1, bad), present=[0, 2])


@pytest.mark.parametrize("name", ["dwa", "stch"])
def test_methods_that_count_epochs_ask_how_long_one_is(name):
    with pytest.raises(UsageError, match=f"{name} counts epochs: .*steps_per_epoch"):
        mtlbench.method(name).weights(losses(1, 2))


@pytest.mark.parametrize("name", ["dwa", "stch", "famo", "go4align", "rlw"])
def test_a_step_that_diverges_leaves_the_state_as_it_was(name):
    # The loss is finite and its gradient is not: d sqrt(x) / dx at 0.
    x = torch.nn.Parameter(torch.zeros(2))
    method = told(name)
    method.begin(2, 1)
    backward = mtlbench.Backward(method, [x], objectives=2)
    before = through_a_file(method.state_dict())
    with pytest.raises(mtlbench.Diverged, match="gradient of the weighted losses"):
        backward([1 + x[0].sqrt(), 2 + x[1]])
    after = method.state_dict()
    for key, value in before.items():
        if key != "_extra_state":
            assert torch.equal(value.nan_to_num(-1), after[key].nan_to_num(-1)), key
    assert torch.equal(before["_extra_state"]["generator"], after["_extra_state"]["generator"])
    assert x.grad is None


@pytest.mark.parametrize("name", ["dwa", "stch", "famo", "go4align"])
def test_state_of_loss_methods_stays_in_float64_whatever_the_model_is_cast_to(name):
    method, twin = told(name), told(name)
    for each in (method, twin):
        each.begin(3, 1)
    method.half()
    for values in random_losses(8, 3):
        assert torch.equal(method.weights(values), twin.weights(values))
        for each in (method, twin):
            each.review(0.9 * values)
    assert {b.dtype for b in method.buffers()} <= {torch.float64, torch.int64}
