"""Weights that are kept for n steps: what plain autograd makes of frozen weights, for fewer passes."""

import pytest
import torch
from oracles import through_a_file
from torch import nn

import mtlbench
from mtlbench.errors import Diverged, UsageError

K = 3
METHODS = ["gradvac", "pcgrad", "mgda", "gradnorm"]
GRANULARITIES = ["whole_model", "all_layer"]


class Model(nn.Module):
    """Float64, with a layer that objective 0 does not reach."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.shared = nn.ModuleDict({"first": nn.Linear(5, 6), "second": nn.Linear(6, 4)})
        self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(K))
        self.double()

    def loss(self, k, x):
        features = self.shared["first"](x).tanh()
        if k:
            features = features + self.shared["second"](features).tanh() @ torch.ones(4, 6).double()
        return ((self.heads[k](features[:, :4]) - k) * (1 + k)).pow(2).mean()

    def losses(self, step, present=range(K), shape="list"):
        x = torch.randn(8, 5, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        found = (self.loss(k, x) for k in present)
        return list(found) if shape == "list" else found

    def gradients(self):
        return [None if p.grad is None else p.grad.clone() for p in self.parameters()]


class Count(mtlbench.GramianWeighting):
    """Weights that no other step has, one of them zero; counts how often it is asked."""

    def __init__(self):
        super().__init__()
        self.asked = 0

    def weigh(self, gramian, losses):
        self.asked += 1
        rows = torch.arange(gramian.shape[1], dtype=torch.float64)
        groups = torch.arange(len(gramian), dtype=torch.float64)
        return rows * self.asked + 0.1 * groups[:, None] * rows


class CountWeighted(Count):
    heads = "weighted"


def by_hand(model, backward, step, present=range(K)):
    """The gradients that frozen weights give: one `autograd.grad` for each objective and parameter."""
    weights, heads = backward.weights, backward.method.heads == "weighted"
    named = {f"shared.{n}": p for n, p in model.shared.named_parameters()}
    names = backward.group_names
    group_of = {id(p): next(g for g, n in enumerate(names) if n == "whole_model" or key[7:].startswith(n))
                for key, p in named.items()}  # fmt: skip
    found = []
    losses = model.losses(step, present)
    for p in model.parameters():
        rows = torch.autograd.grad(torch.stack(losses).sum(), p, retain_graph=True, allow_unused=True)
        if rows[0] is None:
            found.append(torch.zeros_like(p) if id(p) in group_of else None)
            continue
        total = torch.zeros_like(p)
        for row, loss in enumerate(losses):
            (g,) = torch.autograd.grad(loss, p, retain_graph=True, allow_unused=True)
            if g is None:
                continue
            if id(p) in group_of:
                w = weights[group_of[id(p)] if len(weights) > 1 else 0, row]
            else:
                w = weights[:, row].mean() if heads else 1.0
            total += w * g
        found.append(total)
    return found


def assert_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", ["list", "generator"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("build", [Count, CountWeighted])
def test_a_kept_step_is_what_plain_autograd_makes_of_frozen_weights(build, granularity, shape):
    model = Model()
    backward = mtlbench.Backward(build(), model.shared, granularity, K, refresh=3)
    asked = []
    for step in range(7):
        model.zero_grad()
        backward(model.losses(step, shape=shape))
        asked.append(backward.method.asked)
        assert (backward.gramian is None) == (step % 3 != 0)
        assert_close(model.gradients(), by_hand(model, backward, step))
    assert asked == [1, 1, 1, 2, 2, 2, 3]


@pytest.mark.parametrize("shape", ["list", "generator"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("name", METHODS)
def test_refresh_of_one_is_every_step_to_the_bit(name, granularity, shape):
    one, other = Model(), Model()
    plain = mtlbench.Backward(mtlbench.method(name), one.shared, granularity, K)
    each = mtlbench.Backward(mtlbench.method(name), other.shared, granularity, K, refresh=1)
    for step in range(4):
        for model, backward in ((one, plain), (other, each)):
            model.zero_grad()
            backward(model.losses(step, shape=shape))
        assert all(map(torch.equal, one.gradients(), other.gradients()))
    assert plain.state_dict().keys() == each.state_dict().keys()


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_on_frozen_weights_between(name, granularity):
    model = Model()
    backward = mtlbench.Backward(mtlbench.method(name), model.shared, granularity, refresh=2)
    for step in range(4):
        model.zero_grad()
        backward(model.losses(step))
        assert_close(model.gradients(), by_hand(model, backward, step))


def test_the_method_learns_nothing_in_kept_steps():
    model = Model()
    backward = mtlbench.Backward(mtlbench.method("gradvac"), model.shared, refresh=3)
    backward(model.losses(0))
    before = through_a_file(backward.method.state_dict())
    backward(model.losses(1))
    after = backward.method.state_dict()
    assert torch.equal(before["target"], after["target"])
    assert torch.equal(before["_extra_state"]["generator"], after["_extra_state"]["generator"])


def test_an_objective_without_a_weight_makes_the_step_compute():
    model = Model()
    backward = mtlbench.Backward(Count(), model.shared, objectives=K, refresh=4)
    asked = []
    for step, present in enumerate([[0, 1], [1], [0, 1], [1, 2], [2], [0, 1, 2], [2, 0], [1], [1, 2], [0]]):
        model.zero_grad()
        backward(model.losses(step, present), objectives=present)
        asked.append(backward.method.asked)
        assert_close(model.gradients(), by_hand(model, backward, step, present))
    assert asked == [1, 1, 1, 2, 2, 3, 3, 3, 3, 4]


def test_objectives_that_are_not_treated_keep_their_weight_of_one():
    model = Model()
    backward = mtlbench.Backward(Count(), model.shared, objectives=K, treated=[1, 2], refresh=2)
    for step in range(2):
        model.zero_grad()
        backward(model.losses(step))
        assert backward.weights[0].tolist() == [1, 0, 1]
        assert_close(model.gradients(), by_hand(model, backward, step))


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("after", range(1, 5))
def test_a_run_goes_on_to_the_bit_from_a_state_in_between(granularity, after):
    def train(model, backward, steps):
        optimizer = torch.optim.SGD(model.parameters(), 0.05)
        for step in steps:
            optimizer.zero_grad()
            backward(model.losses(step))
            optimizer.step()

    model = Model()
    backward = mtlbench.Backward(mtlbench.method("gradvac"), model.shared, granularity, refresh=3)
    train(model, backward, range(after))
    saved = through_a_file({"model": model.state_dict(), "backward": backward.state_dict()})
    train(model, backward, range(after, 8))
    other = Model()
    other.load_state_dict(saved["model"])
    fresh = mtlbench.Backward(mtlbench.method("gradvac"), other.shared, granularity, refresh=3)
    fresh.load_state_dict(saved["backward"])
    train(other, fresh, range(after, 8))
    assert all(map(torch.equal, model.parameters(), other.parameters()))
    assert torch.equal(fresh.state_dict()["kept"]["weights"], backward.state_dict()["kept"]["weights"])


def test_weights_are_not_kept_for_other_parameters():
    model = Model()
    backward = mtlbench.Backward(Count(), model.shared, refresh=100)
    backward(model.losses(0))
    model.shared["first"].requires_grad_(False)
    backward(model.losses(1))
    assert backward.method.asked == 2
    backward(model.losses(2))
    assert backward.method.asked == 2


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("shape", ["list", "generator"])
def test_after_a_kept_step_that_diverges_all_is_as_it_was(shape, granularity):
    model = Model()
    backward = mtlbench.Backward(Count(), model.shared, granularity, K, refresh=2)
    backward(model.losses(0))
    before = model.gradients()
    with torch.no_grad():
        sound = model.heads[2].bias.clone()
        model.heads[2].bias.fill_(torch.inf)
    with pytest.raises(Diverged, match="loss of objective 2"):
        backward(model.losses(1, shape=shape))
    assert all(map(torch.equal, model.gradients(), before))
    with torch.no_grad():
        model.heads[2].bias.copy_(sound)
    model.zero_grad()
    backward(model.losses(1, shape=shape))
    assert backward.method.asked == 1
    assert_close(model.gradients(), by_hand(model, backward, 1))


def test_gradients_add_to_what_was_there_and_hooks_run_once():
    model = Model()
    backward = mtlbench.Backward(Count(), model.shared, refresh=2)
    backward(model.losses(0))
    before, seen = model.gradients(), []
    model.shared["first"].weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
    model.heads[0].weight.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
    backward(model.losses(1))
    expected = [old + new for old, new in zip(before, by_hand(model, backward, 1), strict=True)]
    assert_close(model.gradients(), expected)
    assert len(seen) == 2


def test_what_a_watched_method_did_is_of_the_steps_that_computed():
    model = Model()
    backward = mtlbench.Backward(mtlbench.method("pcgrad"), model.shared, objectives=K, refresh=3)
    trace = backward.watch()
    for step in range(7):
        backward(model.losses(step))
    assert trace.window()[0] == 3


def test_a_kept_step_passes_through_the_trunk_once():
    class Once(torch.autograd.Function):
        passes = 0

        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            Once.passes += 1
            return gradient

    torch.manual_seed(0)
    trunk, heads = nn.Linear(3, 4), nn.ModuleList(nn.Linear(4, 1) for _ in range(K))
    backward = mtlbench.Backward(Count(), trunk, refresh=2)
    passes = []
    for _ in range(4):
        features = Once.apply(trunk(torch.randn(5, 3)))
        Once.passes = 0
        backward([head(features).pow(2).mean() for head in heads])
        passes.append(Once.passes)
    assert passes == [K, 1, K, 1]


def test_methods_of_the_losses_alone_and_aggregators_have_no_use_for_it():
    for name in ("uniform", "graddrop"):
        model = Model()
        backward = mtlbench.Backward(mtlbench.method(name), model.shared, refresh=5)
        assert "kept" not in backward.state_dict()


@pytest.mark.parametrize("every", [0, -1, 1.5, True])
def test_a_number_of_steps_that_is_none_is_refused(every):
    with pytest.raises(UsageError, match="at least 1"):
        mtlbench.Backward(Count(), Model().shared, refresh=every)
