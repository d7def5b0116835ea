"""Shared parameters that no loss of a step reaches get zeros under every method; an error leaves all as it was."""

import pytest
import torch
from torch import nn

import mtlbench

METHODS = ["uniform", "scalarization", "pcgrad", "gradvac", "mgda", "gradnorm", "Rows"]


class Rows(mtlbench.JacobianAggregator):
    def aggregate(self, jacobian):
        return jacobian.sum(0)


def method(name):
    return Rows() if name == "Rows" else mtlbench.method(name)


class Model(nn.Module):
    """Two languages with an embedding each, a trunk, a pooler that nobody uses, and a head for each language."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.shared = nn.ModuleDict(
            {
                "first": nn.Linear(6, 4),
                "second": nn.Linear(6, 4),
                "trunk": nn.Linear(4, 4),
                "pooler": nn.Linear(4, 4),
            }
        )
        self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(4))
        self.double()

    def loss(self, k, x):
        inside = self.shared["first" if k < 2 else "second"](x).tanh()
        return (self.heads[k](self.shared["trunk"](inside)) - k).pow(2).mean()

    def losses(self, x, present, shape="list"):
        found = (self.loss(k, x) for k in present)
        return list(found) if shape == "list" else found


X = torch.randn(8, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("shape", ["list", "generator"])
@pytest.mark.parametrize("name", METHODS)
def test_unreached_shared_parameters_get_zeros_and_absent_heads_nothing(name, shape):
    model = Model()
    backward = mtlbench.Backward(method(name), model.shared, objectives=4)
    for present in ([0, 1, 2, 3], [0, 1], [3, 2]):
        for p in model.parameters():
            p.grad = None
        backward(model.losses(X, present, shape), objectives=present)
        for language, of in (("first", {0, 1}), ("second", {2, 3})):
            for p in model.shared[language].parameters():
                assert p.grad is not None
                assert not p.grad.any() or of & set(present), (language, present)
        for p in model.shared["pooler"].parameters():
            assert p.grad.eq(0).all()
            assert p.grad.stride() == p.stride()
        for k, head in enumerate(model.heads):
            assert (head.weight.grad is None) == (k not in present)


@pytest.mark.parametrize("shape", ["list", "generator"])
def test_methods_that_correct_nothing_train_with_adamw_as_uniform_does_when_objectives_are_absent(shape):
    trained = {}
    for name, build in {
        "uniform": lambda: mtlbench.method("uniform"),
        "scalarization": lambda: mtlbench.method("scalarization"),
        "gradvac": lambda: mtlbench.method("gradvac", target=-1),
        "Rows": Rows,
        "gradnorm": lambda: mtlbench.method("gradnorm", lr=1e-18),
    }.items():
        model = Model()
        backward = mtlbench.Backward(build(), model.shared, objectives=4)
        optimizer = torch.optim.AdamW(model.parameters(), 0.05, weight_decay=0.1)
        for present in ([0, 1, 2, 3], [0, 1], [2], [0, 1], [3, 0], [1, 2]):
            optimizer.zero_grad()
            backward(model.losses(X, present, shape), objectives=present)
            optimizer.step()
        trained[name] = torch.cat([p.detach().flatten() for p in model.parameters()])
    for name, found in trained.items():
        torch.testing.assert_close(found, trained["uniform"], rtol=1e-9, atol=1e-12, msg=name)


def test_gradients_that_are_there_stay_where_no_loss_reaches():
    for name in METHODS:
        model = Model()
        pooler = model.shared["pooler"].weight
        pooler.grad = torch.full_like(pooler, 3.0)
        mtlbench.Backward(method(name), model.shared, objectives=4)(model.losses(X, range(4)))
        assert pooler.grad.eq(3.0).all(), name


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize("shape", ["list", "generator"])
@pytest.mark.parametrize("name", METHODS)
def test_after_an_error_every_gradient_is_as_before(name, shape, existing):
    model = Model()
    backward = mtlbench.Backward(method(name), model.shared, objectives=4)
    for broken in (torch.nan, "data", "slope"):
        for repeat in range(3):  # in the third step no graph is walked
            for p in model.parameters():
                p.grad = None
            backward(model.losses(X, range(4), shape))
            kept = [p.grad.clone() if existing else None for p in model.parameters()]
            for p, g in zip(model.parameters(), kept, strict=True):
                p.grad = None if g is None else g.clone()

            def losses():
                for k in range(4):
                    if k == 2 and broken == "data":
                        raise KeyError
                    loss = model.loss(k, X)
                    if k == 2 and broken == "slope":
                        loss = (loss - loss.detach()).sqrt()  # 0, with an infinite slope
                    yield loss * torch.nan if k == 2 and broken is torch.nan else loss

            with pytest.raises(KeyError if broken == "data" else mtlbench.Diverged):
                backward(list(losses()) if shape == "list" else losses())
            for p, g in zip(model.parameters(), kept, strict=True):
                assert (p.grad is None and g is None) or torch.equal(p.grad, g), (broken, repeat)


def test_a_loss_method_names_the_parameter_whose_gradient_is_not_finite():
    model = Model()
    backward = mtlbench.Backward(mtlbench.method("uniform"), model.shared, objectives=4)
    losses = model.losses(X, range(4))
    losses[1] = (losses[1] - losses[1].detach()).sqrt()
    with pytest.raises(mtlbench.Diverged, match=r"uniform: the gradient of the weighted losses by first\.weight"):
        backward(losses)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_finite_gradients_whose_sum_is_infinite_are_no_divergence(dtype):
    shared = nn.Linear(4, 2, bias=False, dtype=dtype)
    slope = torch.full((2, 4), 0.9 * torch.finfo(dtype).max, dtype=dtype)
    backward = mtlbench.Backward(mtlbench.method("uniform"), shared)
    with torch.no_grad():
        shared.weight.zero_()
    backward([(shared.weight * slope).sum(), 0 * shared.weight.sum()])
    assert torch.equal(shared.weight.grad, slope)


def test_infinite_gradients_of_opposite_sign_in_two_parameters_do_not_hide_each_other():
    model = Model()
    for p, sign in zip(list(model.shared.parameters())[:2], (1, -1), strict=True):
        p.register_hook(lambda g, sign=sign: torch.full_like(g, sign * torch.inf))
    with pytest.raises(mtlbench.Diverged, match="uniform: the gradient of the weighted losses"):
        mtlbench.Backward(mtlbench.method("uniform"), model.shared)(model.losses(X, range(4)))


def test_the_parameters_of_a_loss_method_get_no_gradient_from_a_step_that_fails():
    class Learnt(mtlbench.LossWeighting):
        def __init__(self):
            super().__init__()
            self.s = nn.Parameter(torch.zeros(4, dtype=torch.float64))

        def scalarize(self, losses):
            return (torch.exp(-self.s) * losses + self.s).sum()

    model = Model()
    backward = mtlbench.Backward(Learnt(), model.shared, objectives=4)
    losses = model.losses(X, range(4))
    losses[1] = (losses[1] - losses[1].detach()).sqrt()
    with pytest.raises(mtlbench.Diverged):
        backward(losses)
    assert backward.method.s.grad is None
    backward(model.losses(X, range(4)))
    assert backward.method.s.grad is not None


@pytest.mark.parametrize("name", METHODS)
def test_a_step_may_be_made_under_no_grad_once_the_losses_are_there(name):
    model, twin = Model(), Model()
    losses = model.losses(X, range(4))
    backward = mtlbench.Backward(method(name), model.shared, objectives=4)
    with torch.no_grad():
        backward(losses)
    mtlbench.Backward(method(name), twin.shared, objectives=4)(twin.losses(X, range(4)))
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)


@pytest.mark.parametrize("shape", ["list", "generator"])
@pytest.mark.parametrize("name", METHODS)
def test_a_hook_on_accumulated_gradients_runs_once_with_the_combined_gradient(name, shape):
    model, twin = Model(), Model()
    seen = {}
    for n, p in model.named_parameters():
        p.register_post_accumulate_grad_hook(lambda q, n=n: seen.setdefault(n, []).append(q.grad.clone()))
    backward = mtlbench.Backward(method(name), model.shared, objectives=4)
    other = mtlbench.Backward(method(name), twin.shared, objectives=4)
    for _ in range(3):
        seen.clear()
        for p in [*model.parameters(), *twin.parameters()]:
            p.grad = None
        backward(model.losses(X, range(4), shape))
        other(twin.losses(X, range(4), shape))
        for n, p in twin.named_parameters():
            (gradient,) = seen[n]
            assert torch.equal(gradient, p.grad), n
    model.loss(0, X).backward()  # and the hooks are still there
    assert len(seen["shared.trunk.weight"]) == 2


def test_an_optimiser_that_steps_in_hooks_trains_as_one_that_steps_afterwards():
    model, twin = Model(), Model()
    inside = {p: torch.optim.SGD([p], 0.1) for p in model.parameters()}

    def step(p):
        inside[p].step()
        p.grad = None

    for p in inside:
        p.register_post_accumulate_grad_hook(step)
    optimizer = torch.optim.SGD(twin.parameters(), 0.1)
    backward = mtlbench.Backward(mtlbench.method("mgda"), model.shared, objectives=4)
    other = mtlbench.Backward(mtlbench.method("mgda"), twin.shared, objectives=4)
    for _ in range(4):
        backward(model.losses(X, range(4)))
        optimizer.zero_grad()
        other(twin.losses(X, range(4)))
        optimizer.step()
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-14)
