"""`Backward`: rows equal `torch.autograd.grad`, heads and shared parameters get what they should, errors are clear."""

import inspect
import textwrap
import weakref

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import mtlbench
from mtlbench.errors import UsageError

SHAPES = ["list", "generator"]


class Recorder(mtlbench.JacobianAggregator):
    """Adds the rows up and keeps a copy of them."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def aggregate(self, jacobian):
        self.rows.append(jacobian.clone())
        return jacobian.sum(0)


class Median(mtlbench.JacobianAggregator):
    """K times the coordinate-wise median: no weighted sum of the rows."""

    def aggregate(self, jacobian):
        return len(jacobian) * jacobian.median(0).values


# --- a zoo of models: `shared`, `heads`, and the loss of objective k from the trunk's features -------------------


class Problem(nn.Module):
    """A trunk and one head per objective."""

    k = 3

    def __init__(self, trunk, width=4):
        super().__init__()
        self.shared = trunk
        self.heads = nn.ModuleList(nn.Linear(width, 1) for _ in range(self.k))

    def features(self, x):
        return self.shared(x)

    def loss(self, k, features):
        return (self.heads[k](features.flatten(1)) - k).pow(2).mean()


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)
        self.two.weight = self.one.weight
        self.out = nn.Linear(6, 4)

    def forward(self, x):
        return self.out(self.two(self.one(x).tanh()).tanh())


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(2, 4)

    def forward(self, x):
        state = x.new_zeros(len(x), 4)
        for part in x.split(2, dim=1):
            state = self.cell(part, state)
        return state


class Checkpointed(nn.Module):
    """One tied layer in two checkpointed segments, whose gradient arrives in two parts."""

    def __init__(self):
        super().__init__()
        self.first, self.layer, self.out = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x):
        x = self.first(x)
        for _ in range(2):
            x = checkpoint(lambda z: self.layer(z).tanh(), x, use_reentrant=True)
        return self.out(x)


class PartlyUsed(Problem):
    """A shared layer that only objective 1 reaches, and one that none reaches."""

    def __init__(self):
        super().__init__(nn.ModuleDict({"all": nn.Linear(6, 4), "one": nn.Linear(4, 4), "none": nn.Linear(4, 4)}))

    def features(self, x):
        return self.shared["all"](x).tanh()

    def loss(self, k, features):
        return super().loss(k, self.shared["one"](features) if k == 1 else features)


def frozen():
    problem = Problem(nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4)))
    problem.shared[0].weight.requires_grad_(False)
    problem.heads[1].bias.requires_grad_(False)
    return problem


ZOO = {
    "plain": lambda: Problem(nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))),
    "tied": lambda: Problem(Tied()),
    "recurrent": lambda: Problem(Recurrent()),
    "reentrant checkpoints": lambda: Problem(Checkpointed()),
    "partly used": PartlyUsed,
    "batch norm": lambda: Problem(nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU())),
    "dropout": lambda: Problem(nn.Sequential(nn.Linear(6, 40), nn.Dropout(0.5), nn.Linear(40, 4))),
    "convolution": lambda: Problem(
        nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Conv1d(2, 1, 1)), 4
    ),
    "attention": lambda: Problem(
        nn.Sequential(nn.Unflatten(1, (3, 2)), nn.TransformerEncoderLayer(2, 1, 4, 0.1, batch_first=True)), 6
    ),
    "frozen": frozen,
}


def build(name, dtype=torch.float64):
    torch.manual_seed(3)
    problem = ZOO[name]().to(dtype)
    return problem, [torch.randn(8, 6, dtype=dtype) for _ in range(problem.k)]


def listed(problem, xs, chosen=None):
    """Losses of heads on one graph, from the first batch."""
    torch.manual_seed(7)
    features = problem.features(xs[0])
    return [problem.loss(k, features) for k in chosen or range(problem.k)]


def generated(problem, xs, chosen=None):
    """Losses one at a time, each of a batch and graph of its own."""
    for k in chosen or range(problem.k):
        torch.manual_seed(7 + k)
        yield problem.loss(k, problem.features(xs[k]))


def losses_of(problem, xs, shape, chosen=None):
    return (listed if shape == "list" else generated)(problem, xs, chosen)


def trainable(module):
    return [p for p in module.parameters() if p.requires_grad]


def rows_by_autograd(problem, xs, shape, parameters):
    """(K, P) gradients by `torch.autograd.grad`, zero where a loss does not reach."""
    rows = []
    for loss in list(losses_of(problem, xs, shape)):
        if isinstance(problem.shared, Checkpointed):  # which torch.autograd.grad does not support
            clear(problem)
            loss.backward(retain_graph=True)
            found = [p.grad for p in parameters]
            clear(problem)
        else:
            found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        rows.append(
            torch.cat(
                [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(parameters, found, strict=True)]
            )
        )
    return torch.stack(rows)


def flat_grad(parameters):
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])


def clear(module):
    for p in module.parameters():
        p.grad = None


def buffers_of(module):
    return {name: b.clone() for name, b in module.named_buffers()}


@pytest.mark.parametrize("gathered", [True, False], ids=["gathered", "by hooks"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ZOO)
def test_rows_equal_autograd_row_by_row_and_heads_get_their_own_gradient(name, shape, gathered, monkeypatch):
    if not gathered:
        monkeypatch.setattr("mtlbench.engine.jacobian._GATHERED_COLUMNS", 0)
    problem, xs = build(name)
    shared, heads = trainable(problem.shared), trainable(problem.heads)
    expected, head_rows = (rows_by_autograd(problem, xs, shape, ps) for ps in (shared, heads))
    recorder = Recorder()
    backward = mtlbench.Backward(recorder, problem.shared, objectives=problem.k)
    values = backward(losses_of(problem, xs, shape))
    torch.testing.assert_close(recorder.rows[0], expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(flat_grad(shared), expected.sum(0), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(flat_grad(heads), head_rows.sum(0), rtol=1e-12, atol=1e-14)
    assert not values.requires_grad
    torch.testing.assert_close(values, torch.stack([x.detach() for x in losses_of(problem, xs, shape)]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ZOO)
def test_the_sum_of_rows_is_the_gradient_of_the_summed_loss(name, shape):
    problem, xs = build(name)
    everything = trainable(problem)
    sum(losses_of(problem, xs, shape)).backward()
    expected = flat_grad(everything)
    state = buffers_of(problem)
    fresh, _ = build(name)
    # No similarity is below -1, so nothing is corrected: weights of one.
    mtlbench.Backward(mtlbench.method("gradvac", target=-1), fresh.shared, "all_matrix", objectives=3)(
        losses_of(fresh, xs, shape)
    )
    torch.testing.assert_close(flat_grad(trainable(fresh)), expected, rtol=1e-11, atol=1e-13)
    for key, value in buffers_of(fresh).items():  # statistics of batch norm moved as in a plain loop
        torch.testing.assert_close(value, state[key])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("granularity", ["whole_model", "all_layer", "all_matrix"])
@pytest.mark.parametrize("name", ["pcgrad", "gradvac", "mgda"])
def test_the_update_is_the_weighted_sum_of_rows_in_every_group(name, granularity, shape):
    problem, xs = build("plain")
    backward = mtlbench.Backward(mtlbench.method(name), problem.shared, granularity, objectives=3)
    columns = [p.numel() for p in problem.shared.parameters()]
    rows = rows_by_autograd(problem, xs, shape, list(problem.shared.parameters()))
    backward(losses_of(problem, xs, shape))
    group_of = {"whole_model": [0, 0, 0, 0], "all_layer": [0, 0, 1, 1], "all_matrix": [0, 1, 2, 3]}[granularity]
    weights = torch.repeat_interleave(backward.weights[group_of], torch.tensor(columns), dim=0)
    torch.testing.assert_close(flat_grad(trainable(problem.shared)), (weights.T * rows).sum(0), rtol=1e-10, atol=1e-14)
    fresh = mtlbench.method(name)
    torch.testing.assert_close(
        fresh.weights(backward.gramian, torch.stack([x.detach() for x in losses_of(problem, xs, shape)])),
        backward.weights,
        rtol=1e-12,
        atol=1e-14,
    )


def test_unreached_parameters_are_zero_also_after_a_step_that_filled_their_row():
    problem, xs = build("partly used")
    recorder = Recorder()
    backward = mtlbench.Backward(recorder, problem.shared, objectives=3)
    through = [problem.heads[k](problem.shared["one"](problem.features(xs[k]))).sum() for k in range(3)]
    backward(through)  # every row reaches `one`
    assert recorder.rows[0].ne(0).any(0).sum() == 28 + 20
    clear(problem)
    expected = rows_by_autograd(problem, xs, "generator", trainable(problem.shared))
    backward(generated(problem, xs))
    torch.testing.assert_close(recorder.rows[1], expected, rtol=1e-12, atol=0)
    assert recorder.rows[1][0, 28:].eq(0).all()
    assert recorder.rows[1][1, 28:48].ne(0).any()


# --- gradients that are already there ---------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["mgda", "pcgrad", "uniform", "gradnorm"])
def test_gradients_accumulate_over_calls_and_onto_foreign_ones(name, shape):
    problem, xs = build("plain")
    backward = mtlbench.Backward(mtlbench.method(name), problem.shared, objectives=3)
    if name != "uniform":
        backward.method.shuffle = False
    twin = mtlbench.Backward(mtlbench.method(name), problem.shared, objectives=3)
    single = []
    for _ in range(2):
        clear(problem)
        twin.method.seed(0)
        twin(losses_of(problem, xs, shape))
        single.append(flat_grad(trainable(problem)))
    clear(problem)
    foreign = [torch.full_like(p, 2.0) for p in problem.parameters()]
    for p, g in zip(problem.parameters(), foreign, strict=True):
        p.grad = g.clone()
    backward.method.seed(0)
    for step in range(2):
        backward.method.seed(0)
        backward(losses_of(problem, xs, shape))
        expected = 2.0 + sum(single[: step + 1])
        torch.testing.assert_close(flat_grad(trainable(problem)), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["gradvac", "mgda", "gradnorm", "uniform"])
def test_zeroing_in_place_or_to_none_trains_the_same(name):
    trained = []
    for set_to_none in (True, False):
        problem, xs = build("plain")
        backward = mtlbench.Backward(mtlbench.method(name), problem.shared)
        optimizer = torch.optim.SGD(problem.parameters(), lr=0.1, momentum=0.9)
        for _ in range(5):
            optimizer.zero_grad(set_to_none=set_to_none)
            backward(listed(problem, xs))
            optimizer.step()
        trained.append(torch.cat([p.detach().flatten() for p in problem.parameters()]))
    assert torch.equal(*trained)


# --- graphs are freed -------------------------------------------------------------------------------------------


class Token:
    """Lives as long as the graph node that holds it."""


class Traced(torch.autograd.Function):
    """The identity; its node in the graph holds a token."""

    @staticmethod
    def forward(ctx, x, token):
        ctx.token = token
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


@pytest.mark.parametrize("name", ["gradvac", "mgda", "gradnorm", "uniform", "scalarization", "Recorder"])
def test_each_graph_of_a_generator_is_freed_before_the_next_is_built(name):
    problem, xs = build("plain")
    built = []

    def one_at_a_time():
        for k in range(3):
            alive = [i for i, token in enumerate(built) if token() is not None]
            assert not alive, f"the graph of objective {alive} is alive while that of {k} is built"
            yield traced(k)

    def traced(k):
        token = Token()
        built.append(weakref.ref(token))
        return problem.loss(k, Traced.apply(problem.features(xs[k]), token))

    method = Recorder() if name == "Recorder" else mtlbench.method(name)
    mtlbench.Backward(method, problem.shared, objectives=3)(one_at_a_time())
    assert len(built) == 3


def test_a_generator_whose_losses_share_a_graph_is_told_to_be_a_list():
    problem, xs = build("plain")
    backward = mtlbench.Backward(mtlbench.method("pcgrad"), problem.shared, objectives=3)
    with pytest.raises(UsageError, match=r"share a graph.*pass a list"):
        backward(loss for loss in listed(problem, xs))
    backward(listed(problem, xs))


def test_losses_in_a_list_may_have_graphs_of_their_own():
    problem, xs = build("plain")
    expected = rows_by_autograd(problem, xs, "generator", trainable(problem.shared))
    recorder = Recorder()
    mtlbench.Backward(recorder, problem.shared)(list(generated(problem, xs)))
    torch.testing.assert_close(recorder.rows[0], expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["gradvac", "mgda", "Recorder"])
def test_an_exception_in_a_generator_puts_shared_gradients_back_and_removes_hooks(name):
    problem, xs = build("plain")
    shared = trainable(problem.shared)
    kept = [torch.full_like(p, float(i)) for i, p in enumerate(shared)]
    for p, g in zip(shared, kept, strict=True):
        p.grad = g

    def broken():
        yield problem.loss(0, problem.features(xs[0]))
        raise KeyError("no more data")

    backward = mtlbench.Backward(
        Recorder() if name == "Recorder" else mtlbench.method(name), problem.shared, objectives=3
    )
    with pytest.raises(KeyError):
        backward(broken())
    assert all(p.grad is g for p, g in zip(shared, kept, strict=True))
    before = flat_grad(shared)
    expected = rows_by_autograd(problem, xs, "list", shared)
    sum(listed(problem, xs)).backward()
    torch.testing.assert_close(flat_grad(shared), before + expected.sum(0), rtol=1e-12, atol=1e-12)
    clear(problem)
    backward(generated(problem, xs))  # and the next step is as if nothing had happened
    clean, _ = build("plain")
    mtlbench.Backward(Recorder() if name == "Recorder" else mtlbench.method(name), clean.shared, objectives=3)(
        generated(clean, xs)
    )
    assert torch.equal(flat_grad(trainable(problem)), flat_grad(trainable(clean)))


# --- heads ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("granularity", ["whole_model", "all_matrix"])
@pytest.mark.parametrize("name", ["pcgrad", "gradvac", "mgda", "gradnorm"])
def test_heads_are_trained_by_their_own_loss_or_the_weighted_one(name, granularity, shape):
    problem, xs = build("plain")
    heads = trainable(problem.heads)
    rows = rows_by_autograd(problem, xs, shape, heads)
    backward = mtlbench.Backward(mtlbench.method(name), problem.shared, granularity, objectives=3)
    for _ in range(3):
        clear(problem)
        backward(losses_of(problem, xs, shape))
        weighted = name in ("mgda", "gradnorm")
        factors = backward.weights.mean(0) if weighted else torch.ones(3, dtype=torch.float64)
        torch.testing.assert_close(flat_grad(heads), factors @ rows, rtol=1e-12, atol=1e-14)
    assert backward.method.heads == ("weighted" if weighted else "own")


@pytest.mark.parametrize("layer", ["last", "all"])
def test_gradnorm_at_the_last_layer_is_the_same_for_both_graph_shapes(layer):
    trained = []
    for shape in SHAPES:
        problem, xs = build("plain")
        same = [xs[0]] * 3
        backward = mtlbench.Backward(mtlbench.method("gradnorm", layer=layer, lr=0.1), problem.shared, objectives=3)
        optimizer = torch.optim.SGD(problem.parameters(), lr=0.05)
        for _ in range(6):
            optimizer.zero_grad()
            backward(losses_of(problem, same, shape))
            optimizer.step()
        trained.append((backward.method.weight, torch.cat([p.detach().flatten() for p in problem.parameters()])))
    torch.testing.assert_close(trained[0], trained[1], rtol=1e-10, atol=1e-12)
    assert (trained[0][0] - 1).abs().max() > 0.05


def test_a_parameter_of_two_objectives_outside_shared_is_refused_also_after_a_partial_step():
    problem, xs = build("plain")
    backward = mtlbench.Backward(mtlbench.method("pcgrad"), problem.shared[2], objectives=3)
    with pytest.raises(UsageError, match=r"shape \(5, 6\) is reached by the losses of objectives 0 and 1|shape \(5,\)"):
        backward(listed(problem, xs))
    backward = mtlbench.Backward(mtlbench.method("pcgrad"), problem.shared[2], objectives=3)
    backward(listed(problem, xs, [0]), objectives=[0])
    with pytest.raises(UsageError, match="objectives 1 and 2 but is not in shared"):
        backward(listed(problem, xs, [1, 2]), objectives=[1, 2])


# --- methods that are no weighted sum ---------------------------------------------------------------------------


def test_a_matrix_product_in_an_aggregator_is_not_taken_in_half_precision_under_autocast():
    class Product(mtlbench.JacobianAggregator):
        def aggregate(self, jacobian):
            return (torch.ones(1, len(jacobian)) @ jacobian)[0]

    problem, xs = build("plain", torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        backward = mtlbench.Backward(Product(), problem.shared)
        backward([loss.float() for loss in listed(problem, xs)])
    with torch.autocast("cpu", torch.bfloat16):
        rows = rows_by_autograd(problem, xs, "list", trainable(problem.shared))
    torch.testing.assert_close(flat_grad(trainable(problem.shared)), rows.sum(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_coordinate_wise_rule_sees_the_rows_of_each_group(shape):
    problem, xs = build("plain")
    shared = trainable(problem.shared)
    rows = rows_by_autograd(problem, xs, shape, shared)
    for granularity in ("whole_model", "all_matrix"):
        clear(problem)
        backward = mtlbench.Backward(Median(), problem.shared, granularity, objectives=3)
        for times in (1, 2):
            backward(losses_of(problem, xs, shape))
            expected = times * 3 * rows.median(0).values
            torch.testing.assert_close(flat_grad(shared), expected, rtol=1e-12, atol=1e-14)


# --- steps with some objectives ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["pcgrad", "gradvac", "mgda", "gradnorm"])
def test_absent_objectives_get_no_gradient_and_keep_their_state(name, shape):
    problem, xs = build("plain")
    backward = mtlbench.Backward(mtlbench.method(name), problem.shared, objectives=3)
    for chosen in ([0, 2], [1], None, [2, 1]):
        before = {k: v.clone() for k, v in backward.method.named_buffers()}
        clear(problem)
        backward(losses_of(problem, xs, shape, chosen), objectives=chosen)
        absent = set(range(3)) - set(chosen or range(3))
        assert backward.weights.shape == (1, 3 - len(absent))
        for k in absent:
            assert all(p.grad is None for p in problem.heads[k].parameters())
            for buffer in ("target", "weight"):
                if buffer in before and len(before[buffer]):
                    now, then = (
                        b if buffer == "weight" else b[0] for b in (getattr(backward.method, buffer), before[buffer])
                    )
                    assert torch.equal(now[k], then[k])
                    if buffer == "target":
                        assert torch.equal(now[:, k], then[:, k])
        rows = rows_by_autograd(problem, xs, shape, trainable(problem.shared))
        update = backward.weights[0] @ (rows if chosen is None else rows[chosen])
        torch.testing.assert_close(flat_grad(trainable(problem.shared)), update, rtol=1e-10, atol=1e-14)


# --- precision --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_gradients_have_the_dtype_of_their_parameters_and_the_gramian_is_float64(dtype):
    problem, xs = build("plain", dtype)
    rows = rows_by_autograd(problem, xs, "list", trainable(problem.shared)).double()
    backward = mtlbench.Backward(mtlbench.method("gradvac"), problem.shared)
    backward(listed(problem, xs))
    assert {p.grad.dtype for p in problem.parameters()} == {dtype}
    assert backward.gramian.dtype == torch.float64
    torch.testing.assert_close(backward.gramian[0], rows @ rows.T, rtol=1e-12, atol=1e-12)
    update = backward.weights[0] @ rows
    torch.testing.assert_close(
        flat_grad(trainable(problem.shared)).double(), update, rtol=4 * torch.finfo(dtype).eps, atol=1e-6
    )


def test_parameters_of_several_dtypes_may_be_shared():
    problem, xs = build("plain", torch.float32)
    problem.shared[2].double()
    problem.heads.double()
    problem.features = lambda x: problem.shared[2](problem.shared[:2](x).double())
    backward = mtlbench.Backward(mtlbench.method("pcgrad"), problem.shared)
    rows = [
        torch.cat([g.flatten().double() for g in torch.autograd.grad(x, trainable(problem.shared), retain_graph=True)])
        for x in listed(problem, xs)
    ]
    backward(listed(problem, xs))
    torch.testing.assert_close(backward.gramian[0], torch.stack(rows) @ torch.stack(rows).T, rtol=1e-12, atol=1e-12)
    assert [p.grad.dtype for p in problem.shared.parameters()] == [torch.float32] * 2 + [torch.float64] * 2


def test_a_bfloat16_buffer_rounds_the_rows_and_nothing_else():
    problem, xs = build("plain", torch.float32)
    rows = rows_by_autograd(problem, xs, "list", trainable(problem.shared)).bfloat16().double()
    backward = mtlbench.Backward(mtlbench.method("mgda"), problem.shared, jacobian_dtype=torch.bfloat16)
    backward(listed(problem, xs))
    torch.testing.assert_close(backward.gramian[0], rows @ rows.T, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        flat_grad(trainable(problem.shared)).double(), backward.weights[0] @ rows, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("gradvac", "list"),
        ("mgda", "list"),
        ("gradvac", "generator"),
        ("gradnorm", "generator"),
        ("uniform", "generator"),
    ],
)
def test_under_autocast_rows_and_gramian_keep_full_precision(name, shape):
    torch.manual_seed(0)
    problem = Problem(nn.Sequential(nn.Linear(6, 900), nn.Tanh(), nn.Linear(900, 400)), 400)
    xs = [torch.randn(8, 6) for _ in range(3)]  # 1.1e6 entries: beyond what is taken in float64 throughout
    backward = mtlbench.Backward(mtlbench.method(name), problem.shared, objectives=3)
    with torch.autocast("cpu", torch.bfloat16):
        rows = rows_by_autograd(problem, xs, shape, trainable(problem.shared))
        backward(losses_of(problem, xs, shape))
    assert rows.dtype == torch.float32
    if name in ("gradvac", "mgda"):
        expected = rows.double() @ rows.double().T
        torch.testing.assert_close(backward.gramian[0], expected, rtol=1e-5, atol=1e-6 * expected.diag().max().item())
    update = flat_grad(trainable(problem.shared))
    torch.testing.assert_close(update, (backward.weights[0].float() @ rows), rtol=1e-3, atol=1e-5)


# --- errors -----------------------------------------------------------------------------------------------------


def test_a_wrong_number_of_losses_says_how_many_there_should_be():
    problem, xs = build("plain")
    backward = mtlbench.Backward(mtlbench.method("pcgrad"), problem.shared, objectives=3)
    with pytest.raises(UsageError, match=r"got 2 losses for 3 objectives; name the ones present"):
        backward(listed(problem, xs, [0, 1]))
    with pytest.raises(UsageError, match="got 2 losses for 3 objectives"):
        backward(generated(problem, xs, [0, 1]))
    with pytest.raises(UsageError, match="got more than 3 losses"):
        backward(generated(problem, xs, [0, 1, 2, 2]))
    with pytest.raises(UsageError, match="at least one loss"):
        backward([])
    with pytest.raises(UsageError, match="objectives names 1 objectives for 2 losses"):
        backward(listed(problem, xs, [0, 1]), objectives=[0])
    for bad in ([0, 0], [0, 3], [-1, 0]):
        with pytest.raises(UsageError, match="must be different numbers from 0 to 2"):
            backward(listed(problem, xs, [0, 1]), objectives=bad)
    assert all(p.grad is None for p in problem.shared.parameters())


@pytest.mark.parametrize("name", ["uniform", "pcgrad"])
def test_a_generator_or_a_partial_first_step_needs_the_number_of_objectives(name):
    problem, xs = build("plain")
    backward = mtlbench.Backward(mtlbench.method(name), problem.shared)
    with pytest.raises(UsageError, match=r"objectives=K"):
        backward(generated(problem, xs))
    with pytest.raises(UsageError, match=r"first step holds only some objectives.*objectives=K"):
        backward(listed(problem, xs, [0]), objectives=[0])
    backward(listed(problem, xs))
    backward(generated(problem, xs))  # K is known now


@pytest.mark.parametrize("name", ["uniform", "pcgrad", "gradnorm"])
def test_what_is_no_scalar_loss_is_refused(name):
    problem, xs = build("plain")
    backward = mtlbench.Backward(mtlbench.method(name), problem.shared, objectives=3)
    with pytest.raises(UsageError, match="not packed into one tensor"):
        backward(torch.stack(listed(problem, xs)))
    for bad, shown in (
        (torch.ones(2, requires_grad=True), r"\(2,\)"),
        (torch.ones(1, requires_grad=True), r"\(1,\)"),
        (3.0, "float"),
    ):
        with pytest.raises(UsageError, match=f"a loss is a tensor with one number and no dimensions, not {shown}"):
            backward([*listed(problem, xs, [0, 1]), bad])
    with pytest.raises(UsageError, match="depends on no parameter"):
        backward([*listed(problem, xs, [0, 1]), torch.tensor(1.0)])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["uniform", "scalarization", "pcgrad", "gradvac", "mgda", "gradnorm", "Recorder"])
def test_a_loss_that_is_not_finite_names_method_and_objective(name, shape):
    problem, xs = build("plain")
    method = Recorder() if name == "Recorder" else mtlbench.method(name)
    backward = mtlbench.Backward(method, problem.shared, objectives=3)

    def spoilt(chosen):
        for k, loss in zip(chosen, generated(problem, xs, chosen), strict=True):
            yield loss * torch.nan if k == 2 else loss

    called = "method" if name == "Recorder" else name
    for chosen in ([0, 1, 2], [2, 0]):
        losses = list(spoilt(chosen)) if shape == "list" else spoilt(chosen)
        with pytest.raises(mtlbench.Diverged, match=f"{called}: the loss of objective 2 is nan"):
            backward(losses, objectives=chosen)
    assert all(p.grad is None for p in problem.shared.parameters()) or name in ("uniform", "scalarization")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["pcgrad", "gradvac", "mgda", "gradnorm", "Recorder"])
def test_a_gradient_that_is_not_finite_names_method_and_objective(name, shape):
    problem, xs = build("plain")
    method = Recorder() if name == "Recorder" else mtlbench.method(name)
    backward = mtlbench.Backward(method, problem.shared, objectives=3)
    before = {k: v.clone() for k, v in method.named_buffers()}

    def spoilt():
        for k, loss in enumerate(generated(problem, xs)):
            yield (loss - loss.detach()).sqrt() if k == 1 else loss  # 0, with an infinite slope

    called = "method" if name == "Recorder" else name
    with pytest.raises(mtlbench.Diverged, match=f"{called}: the .*gradient.* of objective 1 is (inf|nan)"):
        backward(list(spoilt()) if shape == "list" else spoilt())
    assert all(p.grad is None for p in problem.shared.parameters())
    after = dict(method.named_buffers())
    for buffer, value in before.items():
        torch.testing.assert_close(after[buffer], value, rtol=0, atol=0, equal_nan=True)


def test_parameters_that_fit_no_group_are_refused_before_any_training():
    problem, _ = build("plain")
    for granularity in ("enc_dec", "layers", [[problem.heads[0].weight]]):
        with pytest.raises(UsageError):
            mtlbench.Backward(mtlbench.method("pcgrad"), problem.shared, granularity)


# --- documentation ----------------------------------------------------------------------------------------------


def test_the_example_in_the_documentation_runs_and_learns():
    lines = inspect.getdoc(mtlbench.Backward).splitlines()
    start = next(i for i, line in enumerate(lines) if line.endswith("::")) + 1
    stop = next(i for i, line in enumerate(lines) if i > start and line and not line.startswith(" "))
    source = textwrap.dedent("\n".join(lines[start:stop]))
    assert "mtlbench.Backward(" in source
    torch.manual_seed(0)
    scope = {}
    exec(source, scope)
    assert all(p.grad is not None for p in scope["parameters"])
    assert scope["backward"].objectives == 2
