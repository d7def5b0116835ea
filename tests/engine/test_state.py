"""State: what is saved in the middle of a run continues bit-identically in a fresh object."""

import pytest
import torch
from oracles import through_a_file
from torch import nn

import mtlbench
from mtlbench.catalogue import registry
from mtlbench.errors import UsageError

K, G = 4, 3
KINDS = (mtlbench.LossWeighting, mtlbench.GramianWeighting, mtlbench.JacobianAggregator)


def inputs(seed=0):
    """Gramians and losses of an endless run."""
    rng = torch.Generator().manual_seed(seed)
    while True:
        rows = torch.randn(G, K, 20, generator=rng, dtype=torch.float64)
        yield rows @ rows.transpose(1, 2), 0.1 + torch.rand(K, generator=rng, dtype=torch.float64)


def built(name):
    """A method that has been told how long an epoch is."""
    method = mtlbench.method(name)
    method.steps_per_epoch = 1
    return method


def updates(method, gramian, losses, present):
    """What an aggregator makes of rows with these Gramians."""
    method.begin(K, G, present)
    method.losses = losses
    found = []
    for method.group, table in enumerate(gramian):
        values, vectors = torch.linalg.eigh(table)
        rows = vectors * values.clamp(min=0).sqrt()
        found.append(method.aggregate(torch.nn.functional.pad(rows, (0, K - len(rows)))))
    return torch.stack(found)


def answers(method, source, steps):
    """The weights of a run with full and partial steps, bare: of a Gramian, of the losses, or what rows become."""
    found = []
    for step, (gramian, losses) in zip(range(steps), source, strict=False):
        present = [0, 2, 3] if step % 4 == 3 else None
        if present:
            gramian, losses = gramian[:, present][:, :, present], losses[present]
        if isinstance(method, mtlbench.LossWeighting):
            found.append(method.weights(losses, present=present))
            if method.reviews:
                method.review(losses * torch.linspace(0.5, 0.9, len(losses)))
        elif isinstance(method, mtlbench.JacobianAggregator):
            found.append(updates(method, gramian, losses, present))
        else:
            found.append(method.weights(gramian, losses, present=present))
    return found


def assert_same_state(one, other):
    """Every buffer and the extra state, bit by bit."""
    assert one.keys() == other.keys()
    for key, value in one.items():
        if isinstance(value, dict):
            assert_same_state(value, other[key])
        elif isinstance(value, torch.Tensor):
            assert value.dtype == other[key].dtype
            assert torch.equal(
                value.nan_to_num(-7.0) if value.is_floating_point() else value,
                (other[key].nan_to_num(-7.0) if value.is_floating_point() else other[key]),
            )
        else:
            assert value == other[key]


@pytest.mark.parametrize("steps", [0, 1, 7])
@pytest.mark.parametrize("name", registry.methods.names())
def test_a_method_continues_bit_identically_in_a_fresh_object(name, steps):
    source = inputs()
    method = built(name).seed(3)
    answers(method, source, steps)
    saved = through_a_file(method.state_dict())
    fresh = built(name).seed(99)
    fresh.load_state_dict(saved)
    assert_same_state(fresh.state_dict(), method.state_dict())
    later = [next(source) for _ in range(12)]
    assert all(map(torch.equal, answers(method, iter(later), 12), answers(fresh, iter(later), 12)))
    assert_same_state(fresh.state_dict(), method.state_dict())


def test_what_is_saved_is_what_moved():
    source = inputs()
    moved = {}
    for name in registry.methods.names():
        method = built(name)
        answers(method, source, 1)
        before = through_a_file(method.state_dict())
        answers(method, source, 6)
        after = method.state_dict()
        moved[name] = {
            key
            for key in after
            if not key.endswith("_extra_state") and not torch.equal(before[key].nan_to_num(), after[key].nan_to_num())
        }
        if not torch.equal(before["_extra_state"]["generator"], after["_extra_state"]["generator"]):
            moved[name].add("generator")
    assert moved["gradvac"] == {"target", "visited", "corrected", "generator"}
    assert moved["pcgrad"] == {"generator"}
    assert "weight" in moved["gradnorm"]
    assert moved["uniform"] == moved["mgda"] == set()


def test_a_fixed_target_and_the_order_of_visits_survive():
    source = inputs()
    for parameters in ({"target": 0.4}, {"shuffle": False}, {"beta": 0.5}):
        method = mtlbench.method("gradvac", **parameters)
        answers(method, source, 5)
        fresh = mtlbench.method("gradvac", **parameters)
        fresh.load_state_dict(through_a_file(method.state_dict()))
        later = [next(source) for _ in range(5)]
        assert all(map(torch.equal, answers(method, iter(later), 5), answers(fresh, iter(later), 5)))


@pytest.mark.parametrize("move", ["half", "bfloat16", "float", "to"])
@pytest.mark.parametrize("name", ["pcgrad", "gradvac", "mgda", "gradnorm"])
def test_casting_or_moving_a_gramian_method_changes_nothing(name, move):
    source = inputs()
    method, twin = mtlbench.method(name), mtlbench.method(name)
    steps = [next(source) for _ in range(10)]
    answers(method, iter(steps[:5]), 5)
    answers(twin, iter(steps[:5]), 5)
    moved = nn.ModuleDict({"method": method}).to(torch.float16) if move == "to" else getattr(method, move)()
    assert moved is method or moved["method"] is method
    assert_same_state(method.state_dict(), twin.state_dict())
    assert all(map(torch.equal, answers(method, iter(steps[5:]), 5), answers(twin, iter(steps[5:]), 5)))
    fresh = mtlbench.method(name).half()
    fresh.load_state_dict(through_a_file(method.state_dict()))
    assert_same_state(fresh.state_dict(), method.state_dict())


def build():
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4))
    return trunk, nn.ModuleList(nn.Linear(4, 1) for _ in range(K))


def given(method, losses):
    """The losses, or their losses for each batch of a method that takes several."""
    several = len(getattr(method, "batch_shares", "1"))
    return losses() if several == 1 else [losses() for _ in range(several)]


def train(backward, trunk, heads, optimizer, steps):
    """Some steps with all objectives and some with three, deterministic in the number of the step."""
    for step in steps:
        present = [0, 1, 3] if step % 3 == 2 else list(range(K))

        def losses(x=torch.randn(8, 5, generator=torch.Generator().manual_seed(step)), present=present):  # noqa: B008
            features = trunk(x)
            return [(heads[k](features) - k).pow(2).mean() for k in present]

        optimizer.zero_grad()
        backward(given(backward.method, losses), objectives=present if step % 3 == 2 else None)
        optimizer.step()
        with torch.no_grad():
            features = trunk(torch.randn(8, 5, generator=torch.Generator().manual_seed(step)))
            backward.review((heads[k](features) - k).pow(2).mean() for k in present)


@pytest.mark.parametrize("granularity", ["whole_model", "all_matrix"])
@pytest.mark.parametrize("name", [name for name in registry.methods.names() if name != "single_task"])
def test_training_with_backward_continues_bit_identically_in_a_fresh_object(name, granularity):
    trunk, heads = build()
    parameters = [*trunk.parameters(), *heads.parameters()]
    backward = mtlbench.Backward(built(name), trunk, granularity)
    train(backward, trunk, heads, torch.optim.SGD(parameters, 0.05), range(5))
    saved = through_a_file(
        {"backward": backward.state_dict(), "trunk": trunk.state_dict(), "heads": heads.state_dict()}
    )
    train(backward, trunk, heads, torch.optim.SGD(parameters, 0.05), range(5, 11))

    new_trunk, new_heads = build()
    new_trunk.load_state_dict(saved["trunk"])
    new_heads.load_state_dict(saved["heads"])
    fresh = mtlbench.Backward(built(name).seed(77), new_trunk, granularity)
    fresh.load_state_dict(saved["backward"])
    new_parameters = [*new_trunk.parameters(), *new_heads.parameters()]
    train(fresh, new_trunk, new_heads, torch.optim.SGD(new_parameters, 0.05), range(5, 11))
    assert all(map(torch.equal, parameters, new_parameters))
    assert_same_state(fresh.state_dict(), backward.state_dict())


def test_a_restored_backward_knows_k_for_generators_and_partial_steps():
    trunk, heads = build()
    backward = mtlbench.Backward(mtlbench.method("gradvac"), trunk)
    train(backward, trunk, heads, torch.optim.SGD(trunk.parameters(), 0.1), range(1))
    fresh = mtlbench.Backward(mtlbench.method("gradvac"), trunk)
    fresh.load_state_dict(through_a_file(backward.state_dict()))
    x = torch.randn(3, 5)
    losses = fresh((heads[k](trunk(x)).mean() for k in (1, 2)), objectives=[1, 2])
    assert fresh.objectives == K
    assert losses.tolist() == pytest.approx([heads[k](trunk(x)).mean().item() for k in (1, 2)])


@pytest.mark.parametrize("name", registry.methods.names())
def test_a_method_refuses_another_number_of_objectives_than_its_state(name):
    method = built(name)
    answers(method, inputs(), 1)
    fresh = built(name)
    fresh.load_state_dict(through_a_file(method.state_dict()))
    two = torch.ones(2, dtype=torch.float64)
    ask = {
        mtlbench.LossWeighting: lambda: fresh.weights(two),
        mtlbench.GramianWeighting: lambda: fresh.weights(torch.diag(two)),
        mtlbench.JacobianAggregator: lambda: fresh.begin(2, 1),
    }[next(kind for kind in KINDS if isinstance(fresh, kind))]
    with pytest.raises(UsageError, match=f"{name} began with 4 objectives and . groups and now gets 2 and 1"):
        ask()
    if isinstance(fresh, mtlbench.GramianWeighting):
        with pytest.raises(UsageError, match="4 objectives and 3 groups and now gets 4 and 1"):
            fresh.weights(torch.eye(4))


def test_backward_refuses_the_state_of_other_groups_objectives_or_method():
    trunk, heads = build()
    backward = mtlbench.Backward(mtlbench.method("gradvac"), trunk, "all_matrix")
    train(backward, trunk, heads, torch.optim.SGD(trunk.parameters(), 0.1), range(1))
    state = through_a_file(backward.state_dict())
    with pytest.raises(UsageError, match=r"the state is of 4 groups \(0\.weight.*this is of 1"):
        mtlbench.Backward(mtlbench.method("gradvac"), trunk).load_state_dict(state)
    with pytest.raises(UsageError, match="the state is of 4 objectives, this is of 3"):
        mtlbench.Backward(mtlbench.method("gradvac"), trunk, "all_matrix", objectives=3).load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*target"):
        mtlbench.Backward(mtlbench.method("pcgrad"), trunk, "all_matrix").load_state_dict(state)


def test_a_saved_state_does_not_move_with_the_method():
    source = inputs()
    method = mtlbench.method("gradvac")
    answers(method, source, 3)
    extra = method.state_dict()["_extra_state"]["generator"].clone()
    state = method.state_dict()
    answers(method, source, 3)
    assert torch.equal(state["_extra_state"]["generator"], extra)
    assert not torch.equal(method.state_dict()["_extra_state"]["generator"], extra)
