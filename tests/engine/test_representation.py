"""Gradients with respect to the representation: what plain autograd makes of them, by one pass through the encoder."""

import pytest
import torch
from oracles import through_a_file
from torch import nn

import mtlbench
from mtlbench.errors import Diverged, UsageError

K = 3
GRAMIAN_METHODS = ["mgda", "imtl_g", "aligned_mtl", "pcgrad", "gradvac", "nash_mtl", "upgrad", "cagrad"]


class Model(nn.Module):
    """Float64, an encoder whose passes are counted, a head for each objective."""

    def __init__(self, objectives=K, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4), nn.Dropout(dropout))
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1)) for _ in range(objectives)
        )
        self.passes = 0
        self.double()

    def features(self, step, batch=8):
        x = torch.randn(batch, 5, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        torch.manual_seed(step)
        hidden = self.encoder[0](x)
        hidden.register_hook(self._passed)
        return self.encoder[1:](hidden)

    def _passed(self, gradient):
        self.passes += 1

    def losses(self, features, present=None):
        present = range(len(self.heads)) if present is None else present
        return [((self.heads[k](features) - k) * (1 + k)).square().mean() for k in present]

    def gradients(self, part):
        return [None if p.grad is None else p.grad.clone() for p in part.parameters()]


def rows_at(features, losses):
    """(m, batch x features): the gradient of each loss with respect to every entry."""
    return torch.stack([torch.autograd.grad(loss, features, retain_graph=True)[0].flatten() for loss in losses])


def combined(losses, parameters, weights):
    total = sum(w * loss for w, loss in zip(weights.tolist(), losses, strict=True))
    return torch.autograd.grad(total, list(parameters), retain_graph=True, allow_unused=True)


def assert_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


class Rising(mtlbench.GramianWeighting):
    """Weights 1, 2, 3, ... of the objectives; keeps what it was given."""

    def weigh(self, gramian, losses):
        self.given = gramian
        return (1.0 + self.present.double())[None].expand(gramian.shape[:2])


class RisingWeighted(Rising):
    heads = "weighted"


class Fixed(mtlbench.GramianWeighting):
    """One weight for all."""

    def weigh(self, gramian, losses):
        return torch.ones(gramian.shape[:2], dtype=torch.float64)


def representation(method, model, **options):
    return mtlbench.Backward(method, model.encoder, wrt="representation", **options)


def step_of(backward, model, step, present=None, batch=8):
    model.zero_grad()
    features = model.features(step, batch)
    return backward(model.losses(features, present), present, representation=features)


def test_the_gramian_is_over_all_entries_and_not_over_their_sum_over_the_batch():
    model = Model()
    backward = representation(Rising(), model)
    step_of(backward, model, 0)
    features = model.features(0)
    rows = rows_at(features, model.losses(features))
    torch.testing.assert_close(backward.gramian[0], rows @ rows.T, rtol=1e-12, atol=0)
    summed = rows.view(K, 8, 4).sum(1)
    assert not torch.allclose(backward.gramian[0], summed @ summed.T, rtol=0.1)


@pytest.mark.parametrize("build", [Rising, RisingWeighted])
def test_encoder_gets_the_weighted_sum_and_heads_what_they_get_with_respect_to_parameters(build):
    model, other = Model(), Model()
    backward, plain = representation(build(), model), mtlbench.Backward(build(), other.encoder)
    for step in range(5):
        step_of(backward, model, step)
        other.zero_grad()
        plain(other.losses(other.features(step)))
        assert_close(model.gradients(model.heads), other.gradients(other.heads))
        expected = combined(other.losses(other.features(step)), other.encoder.parameters(), torch.tensor([1, 2, 3]))
        assert_close(model.gradients(model.encoder), expected)


def test_one_pass_goes_through_the_encoder_whatever_the_number_of_objectives():
    for objectives in (1, 2, 8):
        model = Model(objectives)
        step_of(representation(mtlbench.method("mgda"), model), model, 0)
        assert model.passes == 1


def test_heads_may_share_what_no_parameter_trains_and_autograd_may_share_gradients_of_theirs():
    """All heads read one tanh; the gradient of a sum of two parameters is one tensor for both."""
    model, parts = Model(), [[nn.Parameter(torch.ones(4).double() * (k + i)) for i in range(2)] for k in range(K)]
    features = model.features(0)
    read = features.tanh()
    losses = [(read @ (one + two)).square().mean() for one, two in parts]
    expected = [torch.autograd.grad(loss, part, retain_graph=True) for loss, part in zip(losses, parts, strict=True)]
    representation(RisingWeighted(), model)(losses, representation=features)
    for k in range(K):
        assert_close([p.grad for p in parts[k]], [(k + 1) * g for g in expected[k]])


def test_equal_weights_are_the_plain_sum():
    model, other = Model(dropout=0.5), Model(dropout=0.5)
    backward = representation(Fixed(), model)
    for step in range(3):
        step_of(backward, model, step)
        other.zero_grad()
        sum(other.losses(other.features(step))).backward()
        assert_close(model.gradients(model), other.gradients(other))


@pytest.mark.parametrize("name", GRAMIAN_METHODS)
def test_every_method_weighs_the_gramian_of_the_representation(name):
    model = Model()
    backward = representation(mtlbench.method(name), model)
    alone = mtlbench.method(name)
    for step in range(4):
        values = step_of(backward, model, step)
        features = model.features(step)
        losses = model.losses(features)
        rows = rows_at(features, losses)
        weights = alone.weights(rows @ rows.T, values)
        torch.testing.assert_close(backward.weights[0], weights, rtol=1e-6, atol=1e-9)
        assert_close(model.gradients(model.encoder), combined(losses, model.encoder.parameters(), backward.weights[0]))


def test_mgda_ub_by_hand():
    """Features (1, 0) and (0, 1) of two examples are the parameters themselves (an encoder I on inputs e1, e2).

    Losses L1 = z_11 + z_22 and L2 = -z_11 + 2 z_12 have gradients with respect to Z of g1 = (1, 0, 0, 1) and
    g2 = (-1, 2, 0, 0) over the four entries: |g1|^2 = 2, |g2|^2 = 5, <g1, g2> = -1. The shortest vector of their hull
    has alpha_1 = (g2.g2 - g1.g2) / (g1.g1 + g2.g2 - 2 g1.g2) = 6/9, alpha_2 = 3/9, so d = (1/3, 2/3, 0, 2/3), and
    <d, g1> = <d, g2> = |d|^2 = 1. z_ij is the entry j of W x_i = row W_j, so the gradient of W is d transposed. Summed
    over the batch, gradients would be (1, 1) and (-1, 2), with alpha_1 = 4/5 instead.
    """
    encoder = nn.Linear(2, 2, bias=False).double()
    nn.init.eye_(encoder.weight)
    z = encoder(torch.eye(2, dtype=torch.float64))
    backward = mtlbench.Backward(mtlbench.method("mgda"), encoder, wrt="representation")
    backward([z[0, 0] + z[1, 1], -z[0, 0] + 2 * z[0, 1]], representation=z)
    torch.testing.assert_close(backward.weights, torch.tensor([[2 / 3, 1 / 3]], dtype=torch.float64))
    torch.testing.assert_close(encoder.weight.grad, torch.tensor([[1 / 3, 0], [2 / 3, 2 / 3]], dtype=torch.float64))


@pytest.mark.parametrize("name", [*GRAMIAN_METHODS, "graddrop"])
def test_with_one_example_and_a_linear_encoder_it_is_no_approximation(name):
    """For W x the gradient of objective k is g_k x', so the Gramian of the parameters is |x|^2 times that of the g_k.

    Methods that do not depend on scale have the same weights; with |x| = 1 all have. The entries of one column of the
    g_k x' have the signs of one entry of the g_k, so that rules for single entries agree with x > 0 where they draw
    nothing: with a draw for each entry they do not, and GradDrop is tried on gradients without a conflict.
    """
    torch.manual_seed(1)
    x = torch.rand(1, 6, dtype=torch.float64)
    x /= x.norm()
    encoder, heads = nn.Linear(6, 5, bias=False).double(), nn.Linear(5, K).double().requires_grad_(False)
    if name == "graddrop":
        heads.weight.abs_()
    found = {}
    for wrt in ("parameters", "representation"):
        encoder.zero_grad()
        features = encoder(x)
        losses = list((heads(features).tanh() - 1).square()[0].unbind())
        backward = mtlbench.Backward(mtlbench.method(name), encoder, wrt=wrt)
        backward(losses, representation=features if wrt == "representation" else None)
        found[wrt] = encoder.weight.grad.clone()
    torch.testing.assert_close(found["representation"], found["parameters"], rtol=1e-5, atol=1e-9)


def test_the_shortest_vector_at_the_representation_bounds_that_of_the_parameters():
    """For every w, |J_theta w| <= |dZ/dtheta| |J_Z w|; so where d_Z = 0 the model is stationary too (MGDA-UB)."""
    model = Model()
    backward = representation(mtlbench.method("mgda"), model)
    for step in range(5):
        step_of(backward, model, step)
        features = model.features(step)
        columns = [torch.autograd.grad(f, [*model.encoder.parameters()], retain_graph=True) for f in features.flatten()]
        jacobian = torch.stack([torch.cat([g.flatten() for g in column]) for column in columns])
        w, gramian = backward.weights[0], backward.gramian[0]
        update = torch.cat([g.flatten() for g in model.gradients(model.encoder)])
        shortest = (w @ gramian @ w).sqrt()
        assert update.norm() <= torch.linalg.matrix_norm(jacobian, 2) * shortest * (1 + 1e-9)


def test_the_parameters_themselves_as_representation_are_no_approximation():
    point, other = (nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)) for _ in range(2))
    for p, wrt in ((point, "representation"), (other, "parameters")):
        backward = mtlbench.Backward(mtlbench.method("gradvac"), [p], wrt=wrt)
        losses = [(p * torch.tensor([1.0, 2.0, k])).pow(2).sum() - k * p[0] for k in range(K)]
        backward(losses, representation=p if wrt == "representation" else None)
    torch.testing.assert_close(point.grad, other.grad, rtol=1e-12, atol=0)


def test_absent_and_treated_objectives():
    model = Model()
    backward = representation(Rising(), model, objectives=K, treated=[1, 2])
    for step, present in enumerate([[0, 1, 2], [2, 0], [1]]):
        step_of(backward, model, step, present)
        weights = torch.tensor([1.0 if k == 0 else 1.0 + k for k in present])
        losses = model.losses(model.features(step), present)
        assert_close(model.gradients(model.encoder), combined(losses, model.encoder.parameters(), weights))
        given = [k for k in present if k > 0]
        assert backward.method.given.shape == (1, len(given), len(given))
        for k, head in enumerate(model.heads):
            assert all((g is None) == (k not in present) for g in model.gradients(head))


@pytest.mark.parametrize("build", [Rising, RisingWeighted])
def test_kept_weights_serve_the_steps_between(build):
    model = Model()
    backward = representation(build(), model, refresh=3)
    for step in range(5):
        step_of(backward, model, step)
        assert (backward.gramian is None) == (step % 3 != 0)
        losses = model.losses(model.features(step))
        assert_close(model.gradients(model.encoder), combined(losses, model.encoder.parameters(), backward.weights[0]))


def test_aggregators_combine_the_entries_of_the_representation():
    class Largest(mtlbench.JacobianAggregator):
        def aggregate(self, jacobian):
            return jacobian.amax(0)

    model = Model()
    step_of(representation(Largest(), model), model, 0)
    features = model.features(0)
    seed = rows_at(features, model.losses(features)).amax(0).view_as(features)
    expected = torch.autograd.grad(features, [*model.encoder.parameters()], seed)
    assert_close(model.gradients(model.encoder), expected)


def test_batches_of_other_sizes_and_several_tensors():
    torch.manual_seed(0)
    one, two = nn.Linear(5, 4).double(), nn.Linear(5, 2).double()
    heads = [nn.Linear(6, 1).double() for _ in range(K)]
    backward = mtlbench.Backward(Rising(), [*one.parameters(), *two.parameters()], wrt="representation")
    for batch in (4, 3, 4, 7):
        x = torch.randn(batch, 5, dtype=torch.float64)
        a, b = one(x), two(x).tanh()
        losses = [head(torch.cat([a, b], 1)).square().mean() for head in heads]
        expected = combined(losses, [*one.parameters(), *two.parameters()], torch.tensor([1, 2, 3]))
        rows = torch.cat([rows_at(a, losses), rows_at(b, losses)], 1)
        for p in (*one.parameters(), *two.parameters()):
            p.grad = None
        backward(losses, representation=[a, b])
        torch.testing.assert_close(backward.gramian[0], rows @ rows.T, rtol=1e-12, atol=0)
        assert_close([p.grad for p in (*one.parameters(), *two.parameters())], expected)


def test_gradients_that_are_there_are_added_to_and_hooks_run_once():
    model, seen = Model(), []
    backward = representation(Rising(), model)
    step_of(backward, model, 0)
    before = model.gradients(model)
    for p in model.parameters():
        p.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
    features = model.features(0)
    backward(model.losses(features), representation=features)
    assert_close(model.gradients(model), [2 * g for g in before])
    assert len(seen) == len(before)


def test_the_state_goes_on_to_the_bit():
    model, other = Model(), Model()
    backward = representation(mtlbench.method("gradvac"), model, objectives=K)
    for step in range(3):
        step_of(backward, model, step)
    fresh = representation(mtlbench.method("gradvac"), other, objectives=K)
    fresh.load_state_dict(through_a_file(backward.state_dict()))
    for step in range(3, 6):
        step_of(backward, model, step)
        step_of(fresh, other, step)
        assert all(map(torch.equal, model.gradients(model), other.gradients(other)))


def test_nothing_of_a_step_that_diverges_stays():
    model = Model()
    backward = representation(Rising(), model)
    step_of(backward, model, 0)
    before = model.gradients(model)
    features = model.features(0)
    losses = model.losses(features)
    losses[1] = losses[1] * float("inf")
    with pytest.raises(Diverged, match="objective 1"):
        backward(losses, representation=features)
    assert_close(model.gradients(model), before)


def test_methods_of_the_losses_have_no_use_for_it():
    model, other = Model(), Model()
    step_of(representation(mtlbench.method("uniform"), model), model, 0)
    mtlbench.Backward(mtlbench.method("uniform"), other.encoder)(other.losses(other.features(0)))
    assert all(map(torch.equal, model.gradients(model), other.gradients(other)))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gradnorm", "last shared layer"),
        ("modo", "several batches"),
        ("sdmgrad", "several batches"),
        ("moco", "remembers a number for each column"),
        ("db_mtl", "remembers a number for each column"),
    ],
)
def test_methods_without_an_answer_there_say_why(name, reason):
    with pytest.raises(UsageError, match=f"{name} is not allowed with wrt=representation: .*{reason}"):
        representation(mtlbench.method(name), Model())


def test_other_granularities_are_refused():
    with pytest.raises(UsageError, match="whole_model alone"):
        representation(Fixed(), Model(), granularity="all_layer")


@pytest.mark.parametrize(
    ("passed", "message"),
    [
        (lambda f: None, "wants what all heads read"),
        (lambda f: f.detach(), "requires no gradient"),
        (lambda f: [], "a tensor, or a list"),
        (lambda f: {"features": f}, "a tensor, or a list"),
        (lambda f: f * 1, "reaches the shared parameter .* around the representation"),
    ],
)
def test_what_is_no_representation_is_refused(passed, message):
    model = Model()
    features = model.features(0)
    with pytest.raises(UsageError, match=message):
        representation(Fixed(), model)(model.losses(features), representation=passed(features))


def test_losses_that_do_not_fit_the_representation_are_refused():
    model = Model()
    features = model.features(0)
    losses = model.losses(features)
    with pytest.raises(UsageError, match="objective 3 does not depend on the representation"):
        representation(Fixed(), model)([*losses, nn.Parameter(torch.ones(())) * 1], representation=features)
    around = losses[2] + model.encoder[0].weight.sum()
    with pytest.raises(UsageError, match=r"objective 2 reaches the shared parameter encoder.0.weight .* around"):
        representation(Fixed(), model)([*losses[:2], around], representation=features)
    with pytest.raises(UsageError, match="pass a list"):
        representation(Fixed(), model, objectives=K)(iter(losses), representation=features)
    with pytest.raises(UsageError, match='wrt="representation"'):
        mtlbench.Backward(Fixed(), model.encoder)(losses, representation=features)
    with pytest.raises(UsageError, match="wrt"):
        mtlbench.Backward(Fixed(), model.encoder, wrt="features")


def test_one_output_of_a_node_does_not_hide_another():
    """Both halves come from one split; heads that read the second one reach the encoder around the first."""
    model = Model()
    first, second = model.features(0).chunk(2, dim=1)
    losses = [(first.sum() - k).square() for k in range(K)]
    losses[1] = losses[1] + second.sum()
    with pytest.raises(UsageError, match="objective 1 reaches the shared parameter"):
        representation(Fixed(), model)(losses, representation=first)


def test_tensors_that_depend_on_each_other_are_refused():
    model = Model()
    features = model.features(0)
    deeper = features.tanh()
    losses = [(features.sum() + deeper.sum() - k).square() for k in range(K)]
    with pytest.raises(UsageError, match="depends on another"):
        representation(Fixed(), model)(losses, representation=[deeper, features])


def test_parameters_below_the_representation_are_shared():
    model = Model()
    features = model.features(0)
    backward = mtlbench.Backward(Fixed(), model.encoder[2], wrt="representation")
    with pytest.raises(UsageError, match=r"depends on encoder.0.* which is not in shared"):
        backward(model.losses(features), representation=features)


def test_a_parameter_of_two_heads_is_refused():
    model = Model()
    features = model.features(0)
    losses = [(model.heads[0](features) - k).square().mean() for k in range(K)]
    with pytest.raises(UsageError, match="is reached by the losses of objectives 0 and 1"):
        representation(Fixed(), model)(losses, representation=features)


def test_a_model_in_bfloat16_is_combined_in_float32():
    torch.manual_seed(0)
    encoder, heads = nn.Linear(4, 3).bfloat16(), [nn.Linear(3, 1).bfloat16() for _ in range(2)]
    features = encoder(torch.randn(5, 4).bfloat16())
    losses = [head(features).square().mean() for head in heads]
    rows = rows_at(features, losses).double()
    backward = mtlbench.Backward(Fixed(), encoder, wrt="representation")
    backward(losses, representation=features)
    torch.testing.assert_close(backward.gramian[0], rows @ rows.T, rtol=1e-12, atol=0)
    assert encoder.weight.grad.dtype == torch.bfloat16
