"""What is given as losses, torch's own errors in words, loss scaling, compiled trunks, and state of an unknown K."""

import pytest
import torch
from torch import nn

import mtlbench
from mtlbench.engine.losses import explained
from mtlbench.errors import UsageError

METHODS = ["uniform", "scalarization", "pcgrad", "gradvac", "mgda", "gradnorm"]


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))
        self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(3))
        self.double()

    def losses(self, x):
        features = self.encoder(x)
        return [(head(features) - k).pow(2).mean() for k, head in enumerate(self.heads)]


X = torch.randn(8, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def start(name, **parameters):
    model = Model()
    return model, mtlbench.Backward(mtlbench.method(name, **parameters), model.encoder, objectives=3)


@pytest.mark.parametrize("name", METHODS)
def test_a_generator_of_losses_that_share_a_graph_is_told_to_be_a_list(name):
    model, backward = start(name)
    if name in ("uniform", "scalarization", "pcgrad"):
        with pytest.raises(UsageError, match=r"share a graph.*pass a list"):
            backward(loss for loss in model.losses(X))
    else:
        with pytest.raises(UsageError, match="share a graph"):
            backward(iter(model.losses(X)))
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_a_second_call_on_the_same_losses_is_told_to_build_them_anew(name):
    model, backward = start(name)
    losses = model.losses(X)
    backward(losses)
    for again in (losses, iter(losses)):
        with pytest.raises(UsageError, match=r"a backward pass has been through it. Build the losses anew"):
            backward(again)


@pytest.mark.parametrize("name", METHODS)
def test_what_is_no_sequence_of_losses_is_refused_in_words_and_other_collections_are_lists(name):
    model, backward = start(name)
    with pytest.raises(UsageError, match=r"in a dict, .* pass a list, such as list\(losses.values\(\)\)"):
        backward(dict(zip("abc", model.losses(X), strict=True)))
    with pytest.raises(UsageError, match="in a set, which has no order"):
        backward(set(model.losses(X)))
    with pytest.raises(UsageError, match="as a list or a generator of scalars, not float"):
        backward(3.0)
    backward(tuple(model.losses(X)))
    backward(dict(zip("abc", model.losses(X), strict=True)).values())
    assert backward.objectives == 3


def test_errors_of_torch_in_words():
    for said, words in {
        "Trying to backward through the graph a second time": "Build the losses anew",
        "This backward function was compiled with non-empty donated buffers": r"_functorch.config; .*donated_buffer = ",
        "Checkpointing is not compatible with .grad()": "use_reentrant=False",
        "Expected to mark a variable ready only once.": "process_group=",
    }.items():
        found = explained(RuntimeError(said))
        assert isinstance(found, UsageError)
        assert pytest.importorskip("re").search(words, str(found))
    other = RuntimeError("CUDA error")
    assert explained(other) is other


# --- loss scaling -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["uniform", "pcgrad", "gradvac", "mgda", "gradnorm"])
def test_a_scaler_whose_loss_overflows_halves_its_scale_and_training_goes_on_as_without_the_step(name):
    """The recipe for float16: a step that overflows is skipped and leaves no trace in gradients or state."""
    model, backward = start(name)
    model.float()
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)  # a loss above 2 becomes infinite
    skipped = 0
    for _ in range(12):
        optimizer.zero_grad()
        before = {k: v.clone() for k, v in backward.method.named_buffers()}
        try:
            backward([scaler.scale(8 * loss) for loss in model.losses(X.float())])
        except mtlbench.Diverged:
            assert all(p.grad is None for p in model.parameters())
            after = dict(backward.method.named_buffers())
            assert all(torch.equal(after[k].nan_to_num(), v.nan_to_num()) for k, v in before.items())
            scaler.update(scaler.get_scale() * scaler.get_backoff_factor())
            skipped += 1
            continue
        scaler.step(optimizer)
        scaler.update()
    assert 0 < skipped < 12
    assert all(p.isfinite().all() for p in model.parameters())


def test_gradients_of_scaled_losses_are_scaled_and_weights_are_not():
    for name in ("pcgrad", "gradvac", "mgda", "gradnorm"):
        (model, backward), (twin, other) = start(name), start(name)
        backward([1024.0 * loss for loss in model.losses(X)])
        other(twin.losses(X))
        torch.testing.assert_close(backward.weights, other.weights, rtol=1e-12, atol=0)
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(p.grad, 1024 * q.grad, rtol=1e-12, atol=1e-12)


# --- compiled trunks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["the encoder", "everything"])
@pytest.mark.parametrize("name", ["pcgrad", "mgda", "gradnorm", "uniform"])
def test_compiled_models_get_the_gradients_of_eager_ones(name, what):
    (model, backward), (twin, other) = start(name), start(name)
    torch._dynamo.reset()
    if what == "the encoder":
        compiled = torch.compile(model.encoder, backend="aot_eager")
        backward = mtlbench.Backward(mtlbench.method(name), compiled, objectives=3)
        features = compiled(X)
        losses = [(head(features) - k).pow(2).mean() for k, head in enumerate(model.heads)]
    else:
        losses = torch.compile(model.losses, backend="aot_eager")(X)
    backward(losses)
    other(twin.losses(X))
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-10, atol=1e-12)
    assert backward.last_layer == other.last_layer


def test_the_state_of_a_compiled_trunk_loads_into_an_eager_one_and_back():
    (model, backward), (twin, other) = start("gradvac"), start("gradvac")
    compiled = torch.compile(model.encoder, backend="eager")
    backward = mtlbench.Backward(mtlbench.method("gradvac"), compiled, "all_layer")
    other = mtlbench.Backward(mtlbench.method("gradvac"), twin.encoder, "all_layer")
    assert backward.group_names == other.group_names == ["0", "2"]
    other(twin.losses(X))
    backward.load_state_dict(other.state_dict())
    assert torch.equal(backward.method.target, other.method.target)
    other.load_state_dict(backward.state_dict())


# --- state, and kinds of parameters -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gradvac", "gradnorm", "pcgrad", "uniform"])
def test_state_from_before_the_first_step_of_an_unknown_number_of_objectives_is_refused_in_words(name):
    model = Model()
    state = mtlbench.Backward(mtlbench.method(name), model.encoder).state_dict()
    _, backward = start(name)
    with pytest.raises(UsageError, match="saved before the first step, when the number of objectives was not known"):
        backward.load_state_dict(state)
    mtlbench.Backward(mtlbench.method(name), model.encoder).load_state_dict(state)


class Phases(nn.Module):
    def __init__(self):
        super().__init__()
        self.phase = nn.Parameter(torch.randn(4, dtype=torch.complex128))

    def forward(self, x):
        return (x * self.phase).abs()


def test_complex_shared_parameters_are_refused_by_methods_that_need_rows_and_right_under_the_sum():
    torch.manual_seed(0)
    trunk, x = Phases(), torch.randn(5, 4, dtype=torch.float64)
    with pytest.raises(UsageError, match=r"parameter phase is complex.*torch\.view_as_complex"):
        mtlbench.Backward(mtlbench.method("pcgrad"), trunk)
    (expected,) = torch.autograd.grad(trunk(x).sum() + trunk(x).square().sum(), trunk.phase)
    mtlbench.Backward(mtlbench.method("uniform"), trunk)([trunk(x).sum(), trunk(x).square().sum()])
    torch.testing.assert_close(trunk.phase.grad, expected)


def test_sparse_gradients_stay_sparse_under_the_sum_and_are_dense_under_methods_that_combine_rows():
    torch.manual_seed(0)
    embedding = nn.Embedding(9, 3, sparse=True)

    def losses():
        return [embedding(torch.tensor([1, 4])).square().sum(), embedding(torch.tensor([4, 7])).sum()]

    (expected,) = torch.autograd.grad(sum(losses()), embedding.weight)
    backward = mtlbench.Backward(mtlbench.method("uniform"), embedding)
    for times in (1, 2):
        backward(losses())
        assert embedding.weight.grad.is_sparse
        torch.testing.assert_close(embedding.weight.grad.to_dense(), times * expected.to_dense())
    embedding.weight.grad = None
    mtlbench.Backward(mtlbench.method("gradvac", target=-1), embedding)(losses())
    assert not embedding.weight.grad.is_sparse
    torch.testing.assert_close(embedding.weight.grad, expected.to_dense())


@pytest.mark.parametrize("name", ["pcgrad", "mgda", "gradnorm", "uniform"])
@pytest.mark.parametrize("existing", [False, True])
def test_gradients_have_the_strides_of_their_parameters_so_that_fused_optimisers_step_right(name, existing):
    def trained(memory_format, fused):
        torch.manual_seed(0)
        trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Conv2d(4, 2, 2)).to(memory_format=memory_format)
        x = torch.randn(4, 3, 6, 6)
        backward = mtlbench.Backward(mtlbench.method(name, **({"shuffle": False} if name == "pcgrad" else {})), trunk)
        optimizer = torch.optim.AdamW(trunk.parameters(), 0.05, fused=fused)
        for _ in range(3):
            optimizer.zero_grad()
            if existing:
                for p in trunk.parameters():
                    p.grad = torch.ones_like(p, memory_format=torch.contiguous_format)
            features = trunk(x)
            backward([(features - k).pow(2).mean() for k in range(2)])
            if not existing:
                assert all(p.grad.stride() == p.stride() for p in trunk.parameters())
            optimizer.step()
        return torch.cat([p.detach().flatten() for p in trunk.parameters()])

    plain = trained(torch.contiguous_format, False)
    torch.testing.assert_close(trained(torch.channels_last, not existing), plain, rtol=1e-4, atol=1e-5)
