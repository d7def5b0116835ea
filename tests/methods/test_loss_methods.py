"""Methods of the losses alone: what the gradient is, heads included, and how many graphs live at once."""

import pytest
import torch
from torch import nn

import mtlbench
from mtlbench.errors import UsageError

GIVEN = (0.1, 0.7, 3.0)


def build(seed=0):
    torch.manual_seed(seed)
    trunk, heads = nn.Linear(5, 4).double(), nn.ModuleList(nn.Linear(4, 1).double() for _ in range(3))
    return trunk, heads, torch.randn(6, 5, dtype=torch.float64)


def objective_losses(trunk, heads, x, chosen=(0, 1, 2)):
    features = trunk(x).tanh()
    return [(heads[k](features) - k).pow(2).mean() for k in chosen]


def gradients_of(loss, trunk, heads):
    parameters = [*trunk.parameters(), *heads.parameters()]
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


def assert_gradients(trunk, heads, expected):
    for p, g in zip([*trunk.parameters(), *heads.parameters()], expected, strict=True):
        torch.testing.assert_close(torch.zeros_like(p) if p.grad is None else p.grad, g, rtol=1e-12, atol=1e-14)


def separate(trunk, heads, x, chosen=(0, 1, 2)):
    for k in chosen:
        yield (heads[k](trunk(x).tanh()) - k).pow(2).mean()


@pytest.mark.parametrize("shape", ["list", "generator"])
@pytest.mark.parametrize(
    ("name", "parameters", "weights"),
    [("uniform", {}, (1, 1, 1)), ("scalarization", {}, (1, 1, 1)), ("scalarization", {"weights": GIVEN}, GIVEN)],
)
def test_the_gradient_is_that_of_the_weighted_sum_of_losses_heads_included(name, parameters, weights, shape):
    trunk, heads, x = build()
    expected = gradients_of(
        sum(w * loss for w, loss in zip(weights, objective_losses(trunk, heads, x), strict=True)), trunk, heads
    )
    backward = mtlbench.Backward(mtlbench.method(name, **parameters), trunk, objectives=3)
    losses = objective_losses(trunk, heads, x) if shape == "list" else separate(trunk, heads, x)
    values = backward(losses)
    assert_gradients(trunk, heads, expected)
    assert values.tolist() == [loss.item() for loss in objective_losses(trunk, heads, x)]
    assert backward.weights.flatten().tolist() == pytest.approx(list(weights), rel=1e-12)
    backward(objective_losses(trunk, heads, x))  # gradients add up, as after loss.backward()
    assert_gradients(trunk, heads, [2 * g for g in expected])


@pytest.mark.parametrize("shape", ["list", "generator"])
@pytest.mark.parametrize("chosen", [[0, 2], [2, 0], [1]])
def test_a_step_with_some_objectives_uses_their_own_weights(chosen, shape):
    trunk, heads, x = build()
    expected = gradients_of(
        sum(GIVEN[k] * loss for k, loss in zip(chosen, objective_losses(trunk, heads, x, chosen), strict=True)),
        trunk,
        heads,
    )
    backward = mtlbench.Backward(mtlbench.method("scalarization", weights=GIVEN), trunk, objectives=3)
    losses = objective_losses if shape == "list" else separate
    backward(losses(trunk, heads, x, chosen), objectives=chosen)
    assert_gradients(trunk, heads, expected)


def test_the_bare_mathematics():
    losses = torch.tensor([2.0, 3.0, 0.5], dtype=torch.float64)
    assert mtlbench.method("uniform").weights(losses).tolist() == [1, 1, 1]
    assert mtlbench.method("single_task").weights(losses).tolist() == [1, 1, 1]
    method = mtlbench.method("scalarization", weights=GIVEN)
    assert method.weights(losses).tolist() == list(GIVEN)
    assert method.weights(losses[:2], present=[2, 0]).tolist() == [3.0, 0.1]


def test_uniform_is_the_sum_of_torchjd_and_k_times_its_mean():
    aggregation = pytest.importorskip("torchjd.aggregation")
    rows = torch.randn(4, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    update = mtlbench.method("uniform").weights(torch.ones(4, dtype=torch.float64)) @ rows
    torch.testing.assert_close(update, aggregation.Sum()(rows))
    torch.testing.assert_close(update, 4 * aggregation.Mean()(rows))


def test_every_weight_of_a_gramian_method_one_gives_the_uniform_gradient():
    trunk, heads, x = build()
    for p in trunk.parameters():
        nn.init.constant_(p, 0.1)
    sums = mtlbench.Backward(mtlbench.method("uniform"), trunk)
    sums(objective_losses(trunk, heads, x))
    expected = [p.grad.clone() for p in (*trunk.parameters(), *heads.parameters())]
    for p in (*trunk.parameters(), *heads.parameters()):
        p.grad = None
    # A target of -1 is below every similarity, so nothing is ever corrected.
    mtlbench.Backward(mtlbench.method("gradvac", target=-1), trunk)(objective_losses(trunk, heads, x))
    assert_gradients(trunk, heads, expected)


def test_a_wrong_number_of_weights_and_all_zero_are_refused():
    trunk, heads, x = build()
    with pytest.raises(UsageError, match="scalarization: weights has 2 numbers for 3 objectives"):
        mtlbench.Backward(mtlbench.method("scalarization", weights=(1, 2)), trunk)(objective_losses(trunk, heads, x))
    with pytest.raises(UsageError, match="all weights are zero"):
        mtlbench.method("scalarization", weights=(0, 0))
    with pytest.raises(UsageError, match="is not allowed"):
        mtlbench.method("scalarization", weights=(-1, 1))


def test_one_model_per_objective_is_left_to_the_runner():
    with pytest.raises(UsageError, match=r"single_task trains a model per objective.*mtlbench run"):
        mtlbench.Backward(mtlbench.method("single_task"), nn.Linear(2, 2))


def test_a_loss_that_is_not_finite_is_refused_naming_method_and_objective():
    for name in ("uniform", "scalarization", "single_task"):
        with pytest.raises(mtlbench.Diverged, match=f"{name}: the loss of objective 1 is nan"):
            mtlbench.method(name).weights(torch.tensor([1.0, torch.nan]))
    trunk, heads, x = build()
    losses = objective_losses(trunk, heads, x)
    losses[2] = losses[2] * torch.inf
    with pytest.raises(mtlbench.Diverged, match="uniform: the loss of objective 2 is inf"):
        mtlbench.Backward(mtlbench.method("uniform"), trunk)(losses)


def test_the_bare_mathematics_refuses_wrong_shapes():
    method = mtlbench.method("uniform")
    with pytest.raises(UsageError, match=r"uniform: losses are \(K,\)"):
        method.weights(torch.ones(2, 2))
    with pytest.raises(UsageError, match="one for each present objective"):
        method.weights(torch.ones(2), present=[0])
    method.weights(torch.ones(2))
    with pytest.raises(UsageError, match="began with 2 objectives"):
        method.weights(torch.ones(3))


class Uncertainty(mtlbench.LossWeighting):
    """sum_k exp(-s_k) L_k + s_k, with s learnt: a loss method with parameters of its own."""

    def __init__(self):
        super().__init__()
        self.s = nn.Parameter(torch.empty(0, dtype=torch.float64))

    def start(self):
        self.s = nn.Parameter(torch.full((self.objectives,), 0.5, dtype=torch.float64))

    def scalarize(self, losses):
        return (torch.exp(-self.s[self.present]) * losses + self.s[self.present]).sum()


@pytest.mark.parametrize("shape", ["list", "generator"])
def test_a_scalarisation_that_depends_on_the_losses_trains_its_own_parameters_too(shape):
    trunk, heads, x = build()
    method = Uncertainty()
    losses = objective_losses(trunk, heads, x)
    s = torch.full((3,), 0.5, dtype=torch.float64, requires_grad=True)
    total = (torch.exp(-s) * torch.stack(losses) + s).sum()
    (slope,) = torch.autograd.grad(total, s, retain_graph=True)
    expected = gradients_of(total, trunk, heads)
    backward = mtlbench.Backward(method, trunk, objectives=3)
    backward(objective_losses(trunk, heads, x) if shape == "list" else separate(trunk, heads, x))
    assert_gradients(trunk, heads, expected)
    torch.testing.assert_close(method.s.grad, slope)
