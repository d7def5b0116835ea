"""Gradients from several independent batches in a step: products between them, updates and heads by plain autograd."""

import pytest
import torch
from oracles import through_a_file
from torch import nn

import mtlbench
from mtlbench.errors import Diverged, UsageError

K = 3


class Model(nn.Module):
    """Float64; objective 0 does not reach the second layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.shared = nn.ModuleDict({"first": nn.Linear(5, 4), "second": nn.Linear(4, 4)})
        self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(K))
        self.double()

    def losses(self, seed, present=range(K)):
        x = torch.randn(8, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        features = self.shared["first"](x).tanh()
        other = self.shared["second"](features).tanh()
        return [((self.heads[k](other if k else features) - k) * (1 + k)).square().mean() for k in present]


class Three(mtlbench.GramianWeighting):
    """Weights that tell rows and groups apart; keeps what it was given."""

    batch_shares = (0.25, 0.75, 0.0)

    def weigh(self, gramian, losses):
        self.given = gramian, losses
        rows = torch.arange(1, gramian.shape[1] + 1, dtype=torch.float64)
        return rows + 10 * torch.arange(len(gramian), dtype=torch.float64)[:, None]


class ThreeWeighted(Three):
    heads = "weighted"


def rows_of(loss, parameters):
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
    return torch.cat([g.flatten() for g in found])


def passed(model, seeds, form, present=range(K)):
    """What is given to `Backward`: everything at once, a batch at a time, or a loss at a time."""
    if form == "lists":
        return [model.losses(seed, present) for seed in seeds]
    if form == "lazy":
        return (model.losses(seed, present) for seed in seeds)
    return ((model.losses(seed, present)[row] for row in range(len(present))) for seed in seeds)


@pytest.mark.parametrize("form", ["lists", "lazy", "loss by loss"])
@pytest.mark.parametrize("build", [Three, ThreeWeighted])
def test_a_step_is_what_plain_autograd_makes_of_each_batch(build, form):
    model, method, seeds = Model(), build(), (1, 2, 3)
    backward = mtlbench.Backward(method, model.shared, "all_layer", K)
    values = backward(passed(model, seeds, form))
    losses = [model.losses(seed) for seed in seeds]
    torch.testing.assert_close(values, torch.stack([torch.stack(ls) for ls in losses]).mean(0).detach())
    weights = torch.tensor([[1.0, 2.0, 3.0], [11.0, 12.0, 13.0]]).double()
    for group, layer in enumerate(model.shared.values()):
        one, two, three = (torch.stack([rows_of(loss, [*layer.parameters()]) for loss in ls]) for ls in losses)
        torch.testing.assert_close(method.given[0][group], one @ two.T)
        update = torch.cat([p.grad.flatten() for p in layer.parameters()])
        torch.testing.assert_close(update, weights[group] @ (0.25 * one + 0.75 * two + 0.0 * three))
    for k, head in enumerate(model.heads):
        own = torch.stack([rows_of(ls[k], [*head.parameters()]) for ls in losses])
        shares = torch.tensor([0.25, 0.75, 0.0] if build is ThreeWeighted else [1 / 3] * 3).double()
        factor = weights.mean(0)[k] if build is ThreeWeighted else 1.0
        torch.testing.assert_close(torch.cat([p.grad.flatten() for p in head.parameters()]), factor * shares @ own)
    assert torch.equal(backward.gramian, method.given[0])
    assert backward.watch() is None


def test_a_step_may_hold_some_objectives():
    model, method = Model(), Three()
    backward = mtlbench.Backward(method, model.shared, objectives=K)
    backward(passed(model, (1, 2, 3), "lists", [2, 0]), [2, 0])
    parameters = [*model.shared.parameters()]
    one, two = (torch.stack([rows_of(loss, parameters) for loss in model.losses(s, [2, 0])]) for s in (1, 2))
    torch.testing.assert_close(method.given[0][0], one @ two.T)
    assert model.heads[1].weight.grad is None


def test_objectives_that_are_not_treated_enter_with_their_share_of_each_batch():
    model, method = Model(), Three()
    mtlbench.Backward(method, model.shared, objectives=K, treated=[1])(passed(model, (1, 2, 3), "lists"))
    assert method.given[0].shape == (1, 1, 1)
    parameters = [*model.shared.parameters()]
    one, two = (sum(rows_of(loss, parameters) for loss in model.losses(seed)) for seed in (1, 2))
    torch.testing.assert_close(torch.cat([p.grad.flatten() for p in parameters]), 0.25 * one + 0.75 * two)


@pytest.mark.parametrize(
    ("losses", "why"),
    [
        (lambda m: m.losses(1), "pass 3 lists of losses, not losses"),
        (lambda m: passed(m, (1, 2), "lazy"), "pass 3 lists of losses, not 2"),
        (lambda m: passed(m, (1, 2, 3, 4), "lazy"), "pass 3 lists of losses, not more"),
        (lambda m: [m.losses(1), m.losses(2), m.losses(3)[:2]], "got 2 losses for 3 objectives"),
    ],
)
def test_what_is_not_a_list_for_each_batch_is_refused_and_all_is_as_it_was(losses, why):
    model = Model()
    backward = mtlbench.Backward(Three(), model.shared, objectives=K)
    with pytest.raises(UsageError, match=why):
        backward(losses(model))
    assert all(p.grad is None for p in model.parameters())


def test_what_it_does_not_go_with_is_refused():
    with pytest.raises(UsageError, match="3 batches in a step, for which weights are not kept: leave refresh out"):
        mtlbench.Backward(Three(), Model().shared, objectives=K, refresh=2)
    with pytest.raises(UsageError, match="objectives=K"):
        mtlbench.Backward(Three(), Model().shared)(passed(Model(), (1, 2, 3), "lazy"))


def test_a_gradient_of_the_last_batch_that_is_not_finite_is_told():
    model = Model()
    backward = mtlbench.Backward(Three(), model.shared, objectives=K)
    with pytest.raises(Diverged, match="of objective 1 is nan"):
        backward([model.losses(1), model.losses(2), [x * (torch.nan if k == 1 else 1) for k, x in
                                                     enumerate(model.losses(3))]])  # fmt: skip
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("name", ["modo", "sdmgrad"])
def test_training_goes_on_to_the_bit_from_a_saved_state(name):
    def train(model, backward, steps):
        optimizer = torch.optim.SGD(model.parameters(), 0.05)
        for step in steps:
            optimizer.zero_grad()
            backward(passed(model, range(3 * step, 3 * step + len(backward.method.batch_shares)), "lazy"))
            optimizer.step()

    model = Model()
    backward = mtlbench.Backward(mtlbench.method(name), model.shared, "all_layer", K)
    train(model, backward, range(3))
    saved = through_a_file({"model": model.state_dict(), "backward": backward.state_dict()})
    train(model, backward, range(3, 6))
    other = Model()
    other.load_state_dict(saved["model"])
    fresh = mtlbench.Backward(mtlbench.method(name), other.shared, "all_layer", K)
    fresh.load_state_dict(saved["backward"])
    train(other, fresh, range(3, 6))
    assert all(map(torch.equal, model.parameters(), other.parameters()))
