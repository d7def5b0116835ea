"""What is called shared and is not, and what is shared and not called so, is told by name."""

import warnings

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import mtlbench
from mtlbench.errors import UsageError


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))
        self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(2))
        self.double()

    def losses(self, x):
        features = self.encoder(x)
        return [(head(features) - k).pow(2).mean() for k, head in enumerate(self.heads)]

    def stacked(self, x):
        """Every head is in the graph of every loss, with gradients of zero."""
        features = self.encoder(x)
        outputs = torch.cat([head(features) for head in self.heads], dim=1)
        return [(outputs[:, k] - k).pow(2).mean() for k in range(2)]


X = torch.randn(8, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def told(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(w.message) for w in caught]


def clear(model):
    for p in model.parameters():
        p.grad = None


@pytest.mark.parametrize("name", ["pcgrad", "gradvac", "mgda"])
def test_heads_in_shared_are_told_once_by_name_with_what_to_pass(name):
    model = Model()
    backward = mtlbench.Backward(mtlbench.method(name), model)
    (message,) = told(lambda: backward(model.losses(X)))
    for part in ("heads.0.weight (objective 0)", "heads.1.bias (objective 1)", "shared=model.encoder"):
        assert part in message
    assert "encoder.0" not in message
    assert told(lambda: [backward(model.losses(X)) for _ in range(3)]) == []


def test_parameters_without_names_are_told_by_those_that_their_model_gives_them():
    model = Model()
    backward = mtlbench.Backward(mtlbench.method("pcgrad"), model.parameters())
    (message,) = told(lambda: backward(model.losses(X)))
    assert "heads.0.weight of shape (1, 4) (objective 0)" in message


def test_heads_in_shared_are_told_after_all_objectives_have_been_there():
    model = Model()
    backward = mtlbench.Backward(mtlbench.method("pcgrad"), model, objectives=2)
    assert told(lambda: backward(model.losses(X)[:1], objectives=[0])) == []
    assert len(told(lambda: backward(model.losses(X)[1:], objectives=[1]))) == 1


def test_heads_whose_outputs_are_stacked_are_told_in_the_second_step():
    model = Model()
    backward = mtlbench.Backward(mtlbench.method("pcgrad"), model)
    assert told(lambda: backward(model.stacked(X))) == []
    (message,) = told(lambda: backward(model.stacked(X)))
    assert "heads.0.weight (objective 0)" in message
    assert "encoder.0" not in message
    assert told(lambda: backward(model.stacked(X))) == []


def test_a_head_that_starts_at_zero_makes_no_trunk_suspicious():
    model = Model()
    nn.init.zeros_(model.heads[1].weight)
    backward = mtlbench.Backward(mtlbench.method("pcgrad"), model.encoder)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def train():
        for _ in range(4):
            optimizer.zero_grad()
            backward(model.losses(X))
            optimizer.step()

    assert told(train) == []


def test_shared_parameters_none_of_which_two_objectives_reach_are_refused():
    model = Model()
    backward = mtlbench.Backward(mtlbench.method("pcgrad"), model.heads)
    with pytest.raises(UsageError, match=r"no parameter of shared is reached by the losses of two.*0\.weight"):
        backward([head(model.encoder(X).detach()).mean() for head in model.heads])


def test_one_objective_needs_no_other():
    model = Model()
    assert told(lambda: mtlbench.Backward(mtlbench.method("pcgrad"), model)(model.losses(X)[:1])) == []


# --- parameters outside shared ----------------------------------------------------------------------------------


def test_a_trunk_outside_shared_is_told_by_its_name():
    model = Model()
    backward = mtlbench.Backward(mtlbench.method("pcgrad"), model.encoder[2])
    with pytest.raises(UsageError, match=r"encoder\.0\.\w+ of shape .* is reached by the losses of objectives 0 and 1"):
        backward(model.losses(X))
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("name", ["pcgrad", "gradvac", "mgda"])
def test_heads_whose_outputs_are_stacked_are_no_shared_parameters(name):
    model, twin = Model(), Model()
    mtlbench.Backward(mtlbench.method(name), model.encoder)(model.stacked(X))
    mtlbench.Backward(mtlbench.method(name), twin.encoder)(twin.losses(X))
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["pcgrad", "mgda", "uniform", "gradnorm"])
def test_an_input_that_requires_a_gradient_is_no_parameter(name):
    model, twin = Model(), Model()
    backward = mtlbench.Backward(mtlbench.method(name), model.encoder)
    for _ in range(2):
        clear(model)
        backward(model.losses(X.clone().requires_grad_()))
    backward = mtlbench.Backward(mtlbench.method(name), twin.encoder)
    for _ in range(2):
        clear(twin)
        backward(twin.losses(X))
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-12, atol=1e-14)


def test_inputs_that_require_a_gradient_are_not_kept_alive():
    import gc
    import weakref

    model = Model()
    backward = mtlbench.Backward(mtlbench.method("mgda"), model.encoder)
    x = X.clone().requires_grad_()
    seen = weakref.ref(x)
    backward(model.losses(x))
    del x
    gc.collect()
    assert seen() is None


def in_closure(model, k, features):
    return checkpoint(lambda z: model.heads[k](z), features, use_reentrant=True)


def as_module(model, k, features):
    return checkpoint(model.heads[k], features, use_reentrant=True)


GLOBAL = []


def by_global_name(model, k, features):
    GLOBAL[:] = model.heads
    return checkpoint(lambda z: GLOBAL[k](z), features, use_reentrant=True)


@pytest.mark.parametrize("run", [in_closure, as_module, by_global_name])
@pytest.mark.parametrize("shape", ["list", "generator"])
def test_heads_in_a_reentrant_checkpoint_get_the_weighted_gradient(run, shape):
    model, twin = Model(), Model()

    def checkpointed():
        features = model.encoder(X)
        for k in range(2):
            if shape == "generator":
                features = model.encoder(X)
            yield (run(model, k, features) - k).pow(2).mean()

    backward = mtlbench.Backward(mtlbench.method("mgda", normalize="l2"), model.encoder, objectives=2)
    backward(list(checkpointed()) if shape == "list" else checkpointed())
    mtlbench.Backward(mtlbench.method("mgda", normalize="l2"), twin.encoder)(twin.losses(X))
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-10, atol=1e-12)


class Hides:
    """Calls a head of which nothing can be found from outside."""

    __slots__ = ("run",)

    def __init__(self, run):
        self.run = run

    def __call__(self, z):
        return self.run(z)


def test_a_reentrant_checkpoint_that_hides_what_it_uses_is_refused_where_heads_are_weighted():
    model = Model()
    features = model.encoder(X)
    losses = [checkpoint(Hides(model.heads[0]), features, use_reentrant=True).sum(), model.heads[1](features).sum()]
    with pytest.raises(UsageError, match="use_reentrant=False"):
        mtlbench.Backward(mtlbench.method("mgda"), model.encoder)(losses)
