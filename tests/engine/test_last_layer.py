"""The last shared layer is the last in execution that every objective reaches, or the one that is named."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn

import mtlbench
from mtlbench.errors import UsageError


class Model(nn.Module):
    """An encoder of two layers, registered in the wrong order, an unused pooler, and two heads."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.out = nn.Linear(5, 4)
        self.inner = nn.Linear(6, 5)
        self.norm = nn.LayerNorm(4)
        self.pooler = nn.Linear(4, 4)
        self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(2))
        self.double()

    @property
    def encoder(self):
        return [(n, p) for n, p in self.named_parameters() if not n.startswith("heads")]

    def loss(self, k, x):
        features = self.norm(self.out(self.inner(x).tanh()))
        return (3**k * self.heads[k](features) - 1).pow(2).mean()

    def losses(self, x, shape="list"):
        if shape == "generator":
            return (self.loss(k, x) for k in range(2))
        features = self.norm(self.out(self.inner(x).tanh()))
        return [(3**k * head(features) - 1).pow(2).mean() for k, head in enumerate(self.heads)]


X = torch.randn(8, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LAST = ["out.weight", "out.bias", "norm.weight", "norm.bias"]


def train(shared, shape="list", **parameters):
    model = Model()
    backward = mtlbench.Backward(mtlbench.method("gradnorm", lr=0.1, **parameters), shared(model), objectives=2)
    optimizer = torch.optim.SGD(model.parameters(), 0.002)
    for _ in range(20):
        optimizer.zero_grad()
        backward(model.losses(X, shape))
        optimizer.step()
    return backward, [p.detach() for p in model.parameters()]


def chosen_by_hand(names):
    """The weights that GradNorm learns from the norms at these parameters."""
    model, method = Model(), mtlbench.method("gradnorm", lr=0.1)
    named = dict(model.named_parameters())
    optimizer = torch.optim.SGD(model.parameters(), 0.002)
    for _ in range(20):
        losses = model.losses(X)
        at = [named[n] for n in names]
        rows = [torch.cat([g.flatten() for g in torch.autograd.grad(loss, at, retain_graph=True)]) for loss in losses]
        table = torch.stack(rows) @ torch.stack(rows).T
        weights = method.weights(table, torch.stack([loss.detach() for loss in losses]))
        optimizer.zero_grad()
        (weights @ torch.stack(losses)).backward()
        optimizer.step()
    return method.weight


@pytest.mark.parametrize("shape", ["list", "generator"])
def test_an_unused_layer_registered_last_is_not_the_last_shared_layer(shape):
    backward, _ = train(lambda model: model.encoder, shape)
    assert backward.last_layer == LAST
    torch.testing.assert_close(backward.method.weight, chosen_by_hand(LAST), rtol=1e-9, atol=0)
    assert (backward.method.weight - 1).abs().min() > 0.01


@pytest.mark.parametrize("shape", ["list", "generator"])
def test_a_head_in_shared_is_not_the_last_shared_layer(shape):
    with pytest.warns(UserWarning, match="heads") if shape == "generator" else nullcontext():
        backward, parameters = train(lambda model: model, shape)
    assert backward.last_layer == LAST
    torch.testing.assert_close(backward.method.weight, chosen_by_hand(LAST), rtol=1e-9, atol=0)
    for a, b in zip(parameters, train(lambda model: model.encoder, shape)[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_two_linear_heads_on_two_layers_by_hand_whether_or_not_the_heads_are_in_shared():
    """Squared errors, the second times 10: with the last head for the last layer weights would be [1.999, 0.001]."""
    found = []
    for everything in (False, True):
        torch.manual_seed(0)
        model = nn.ModuleDict(
            {
                "encoder": nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 4)),
                "heads": nn.ModuleList(nn.Linear(4, 1) for _ in range(2)),
            }
        )
        x = torch.randn(32, 8)
        backward = mtlbench.Backward(
            mtlbench.method("gradnorm"), model if everything else model["encoder"], objectives=2
        )
        for _ in range(20):
            features = model["encoder"](x)
            backward([10**k * (head(features) - x[:, [k]]).square().mean() for k, head in enumerate(model["heads"])])
        found.append(backward.method.weight)
        assert backward.last_layer[0].endswith("2.weight")
    torch.testing.assert_close(*found)
    assert 1.2 < found[0][0] < 1.95


@pytest.mark.parametrize("shape", ["list", "generator"])
@pytest.mark.parametrize(
    ("name", "expected"),
    [("inner", ["inner.weight", "inner.bias"]), ("inner.weight", ["inner.weight"]), ("norm", LAST[2:])],
)
def test_a_layer_may_be_named(name, expected, shape):
    backward, _ = train(lambda model: model.encoder, shape, layer=name)
    assert backward.last_layer == expected
    torch.testing.assert_close(backward.method.weight, chosen_by_hand(expected), rtol=1e-9, atol=0)


def test_an_unknown_layer_is_refused_before_anything_runs():
    with pytest.raises(UsageError, match=r"Unknown layer of the shared parameters 'iner'. Did you mean 'inner'"):
        train(lambda model: model.encoder, layer="iner")


def test_shared_parameters_that_not_every_objective_reaches_are_no_last_layer():
    model = Model()
    backward = mtlbench.Backward(mtlbench.method("gradnorm"), model.heads)
    with pytest.raises(UsageError, match="no shared parameter is reached by the losses of all objectives"):
        backward(model.losses(X))


def test_a_tied_embedding_is_no_last_layer():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(5, 5)
            self.embedding = nn.Embedding(9, 5)

        def forward(self, tokens):
            return self.layer(self.embedding(tokens)) @ self.embedding.weight.T

    torch.manual_seed(0)
    model = Tied()
    backward = mtlbench.Backward(mtlbench.method("gradnorm"), model)
    outputs = model(torch.arange(4))
    backward([outputs.logsumexp(1).mean(), outputs.square().mean()])
    assert backward.last_layer == ["layer.weight", "layer.bias"]


def test_without_names_the_last_layer_is_the_last_matrix_and_what_runs_after_it():
    model = Model()
    backward = mtlbench.Backward(mtlbench.method("gradnorm"), [p for _, p in model.encoder])
    backward(model.losses(X))
    assert backward.last_layer == ["0", "1", "4", "5"]


def test_the_choice_is_part_of_the_state_and_forgotten_when_what_is_shared_changes():
    backward, _ = train(lambda model: model.encoder)
    model = Model()
    fresh = mtlbench.Backward(mtlbench.method("gradnorm"), model.encoder, objectives=2)
    fresh.load_state_dict(backward.state_dict())
    assert fresh.last_layer == LAST
    fresh(model.losses(X)[1:], objectives=[1])
    assert fresh.last_layer == LAST
    model.out.requires_grad_(False)
    fresh(model.losses(X))
    assert fresh.last_layer == ["inner.weight", "inner.bias", "norm.weight", "norm.bias"]


def test_no_other_method_has_a_last_layer():
    model = Model()
    backward = mtlbench.Backward(mtlbench.method("gradnorm", layer="all"), model.encoder)
    backward(model.losses(X))
    assert backward.last_layer == []
    assert "last_layer" not in backward.state_dict()
