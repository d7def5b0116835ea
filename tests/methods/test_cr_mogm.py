"""CR-MOGM: averages of another method's weights, with that method's conventions and state."""

import numpy as np
import pytest
import torch
from oracles import stacked_gramian, through_a_file
from torch import nn

import mtlbench
from mtlbench.catalogue import registry
from mtlbench.cells.request import parse
from mtlbench.errors import UsageError

BASES = [
    name
    for name in registry.methods.names()
    if issubclass(registry.methods.load(name), mtlbench.GramianWeighting) and name != "cr_mogm"
]


TOY = ["task=toy", "against=none"]


class Given(mtlbench.GramianWeighting):
    """Answers rows of a table, step by step."""

    table = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], dtype=torch.float64)

    def __init__(self):
        super().__init__()
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def weigh(self, gramian, losses):
        found = self.table[int(self.step)][self.present]
        self.step += 1
        return found.expand(len(gramian), -1).clone()


@pytest.fixture
def given():
    mtlbench.register_method("given", paper="none")(Given)
    return "given"


def gramians(steps, k=3, groups=2, seed=0):
    rng = np.random.default_rng(seed)
    return [stacked_gramian([rng.standard_normal((k, 12)) + 0.3 for _ in range(groups)]) for _ in range(steps)]


def test_the_average_by_hand(given):
    """The average is (1, 0); then .9 (1, 0) + .1 (0, 1) = (.9, .1); then .9 (.9, .1) + .1 (.5, .5) = (.86, .14)."""
    method = mtlbench.method("cr_mogm", base=given)
    found = [method.weights(torch.eye(2).double()) for _ in range(3)]
    expected = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.86, 0.14]]).double()
    torch.testing.assert_close(torch.stack(found), expected)


def test_an_absent_objective_rests_and_one_that_comes_late_starts_with_its_own_weight(given):
    """Objective 1 first comes in the second step, with weight 1, and is away in the third: .9 + .1 x .5 = .95."""
    method = mtlbench.method("cr_mogm", base=given)
    method.begin(2, 1)
    assert method.weights(torch.eye(1).double(), present=[0]).tolist() == [1.0]
    assert method.average[0].isnan().tolist() == [False, True]
    assert method.weights(torch.eye(1).double(), present=[1]).tolist() == [1.0]
    assert method.weights(torch.eye(1).double(), present=[0]).tolist() == pytest.approx([0.95])
    assert method.average.tolist() == [[pytest.approx(0.95), 1.0]]


@pytest.mark.parametrize("name", BASES)
def test_without_averaging_it_is_the_base(name):
    method, base = mtlbench.method("cr_mogm", base=name, alpha=0).seed(3), mtlbench.method(name).seed(3)
    for gramian in gramians(4, groups=1):
        torch.testing.assert_close(method.weights(gramian), base.weights(gramian), rtol=1e-12, atol=1e-12)
    for convention in ("heads", "supports", "scope", "layer_name"):
        assert getattr(method, convention) == getattr(base, convention)
    assert base.exceptions.items() <= method.exceptions.items()


@pytest.mark.parametrize("name", ["mgda", "gradvac", "pcd", "cagrad"])
def test_groups_and_steps_are_averaged_as_a_loop_over_the_base_does(name):
    method, base = mtlbench.method("cr_mogm", base=name, alpha=0.7).seed(1), mtlbench.method(name).seed(1)
    average = None
    for gramian in gramians(6):
        found = base.weights(gramian)
        average = found if average is None else 0.7 * average + 0.3 * found
        torch.testing.assert_close(method.weights(gramian), average)


@pytest.mark.parametrize("name", ["mgda", "gradvac", "pcgrad"])
def test_treated_objectives_are_averaged_and_a_step_without_one_is_the_plain_sum(name):
    method, base = mtlbench.method("cr_mogm", base=name).seed(1), mtlbench.method(name).seed(1)
    average = None
    for gramian in gramians(4):
        found = base.weights(gramian, treated=[0, 1])
        average = found if average is None else 0.9 * average + 0.1 * found
        torch.testing.assert_close(method.weights(gramian, treated=[0, 1]), average)
    before = method.average.clone()
    assert method.weights(gramian[:, 2:, 2:], present=[2], treated=[0, 1]).tolist() == [[1.0], [1.0]]
    assert torch.equal(method.average, before)


@pytest.mark.parametrize("name", ["gradvac", "gradnorm", "pcd"])
def test_the_state_of_the_base_is_saved_too(name):
    steps = gramians(10, groups=1)
    method = mtlbench.method("cr_mogm", base=name).seed(5)
    for gramian in steps[:5]:
        method.weights(gramian)
    fresh = mtlbench.method("cr_mogm", base=name)
    fresh.load_state_dict(through_a_file(method.state_dict()))
    for gramian in steps[5:]:
        assert torch.equal(method.weights(gramian), fresh.weights(gramian))


@pytest.mark.parametrize("heads", ["mgda", "gradvac"])
def test_heads_are_trained_as_the_base_does(heads):
    torch.manual_seed(0)
    trunk, layers = nn.Linear(4, 3).double(), nn.ModuleList(nn.Linear(3, 1) for _ in range(2)).double()
    x = torch.randn(6, 4).double()
    found = []
    for method in (mtlbench.method("cr_mogm", base=heads).seed(0), mtlbench.method(heads).seed(0)):
        trunk.zero_grad()
        layers.zero_grad()
        mtlbench.Backward(method, trunk)([(layer(trunk(x).tanh()) - 1).square().mean() for layer in layers])
        found.append([p.grad.clone() for p in (*trunk.parameters(), *layers.parameters())])
    torch.testing.assert_close(*found)


def test_layers_that_thaw_begin_anew_and_others_go_on():
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3)).double()
    trunk[0].requires_grad_(False)
    method = mtlbench.method("cr_mogm", base="gradvac")
    backward = mtlbench.Backward(method, trunk, "all_layer")

    def step():
        features = trunk(torch.randn(6, 4).double())
        backward([features[:, 0].square().mean(), (features[:, 1] - 1).square().mean() + features[:, 0].mean()])

    step()
    method.average.fill_(100)
    trunk[0].requires_grad_(True)
    step()
    assert backward.group_names == ["0", "1"]
    assert bool((method.average[0] < 10).all() and (method.average[1] > 80).all())
    assert method.base.target.shape == (2, 2, 2)


def test_settings_are_those_of_the_base():
    (cell,) = parse(["method=cr_mogm", "method.base=gradvac", "method.settings=[beta=0.5,shuffle=no]", *TOY]).cells
    method = mtlbench.method("cr_mogm", **cell.parameters)
    assert (method.base.beta, method.base.shuffle) == (0.5, False)
    with pytest.raises(UsageError, match="Unknown parameter of gradvac: 'bta'"):
        mtlbench.method("cr_mogm", base="gradvac", settings=("bta=0.5",))
    with pytest.raises(UsageError, match="gradvac: beta=2 is not allowed"):
        mtlbench.method("cr_mogm", base="gradvac", settings=("beta=2",))
    with pytest.raises(UsageError, match="KEY=VALUE"):
        mtlbench.method("cr_mogm", base="gradvac", settings=("beta",))


@pytest.mark.parametrize("name", ["uniform", "graddrop", "single_task", "cr_mogm"])
def test_what_has_no_weights_from_gramians_is_refused(name):
    with pytest.raises(UsageError, match=f"base={name} is not allowed"):
        mtlbench.method("cr_mogm", base=name)


def test_an_unknown_base_names_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'gradvac'"):
        mtlbench.method("cr_mogm", base="gradvax")


def test_it_agrees_with_torchjd():
    aggregation = pytest.importorskip("torchjd.aggregation")
    theirs = aggregation.CRMOGMWeighting(aggregation.MGDAWeighting(epsilon=1e-12, max_iters=100_000), alpha=0.9)
    ours = mtlbench.method("cr_mogm")
    for gramian in gramians(20, k=2, groups=1):
        torch.testing.assert_close(ours.weights(gramian)[0], theirs(gramian[0]), rtol=1e-6, atol=1e-6)
