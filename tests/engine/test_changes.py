"""Parameters that are frozen, unfrozen, moved, cast or replaced during training are taken up in the next step."""

import pytest
import torch
from torch import nn

import mtlbench
from mtlbench.errors import UsageError

GRADIENT_METHODS = ["pcgrad", "gradvac", "mgda"]


def build(dtype=torch.float64):
    torch.manual_seed(1)
    trunk = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 4)).to(dtype)
    heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(3)).to(dtype)
    return trunk, heads, torch.randn(8, 6, dtype=dtype)


def losses(trunk, heads, x):
    features = trunk(x.to(next(trunk.parameters()).dtype))
    return [(head(features) - k).pow(2).mean() for k, head in enumerate(heads)]


def gradients(*modules):
    return [None if p.grad is None else p.grad.clone() for m in modules for p in m.parameters()]


def clear(*modules):
    for m in modules:
        for p in m.parameters():
            p.grad = None


def call(backward, trunk, heads, x):
    clear(trunk, heads)
    backward(losses(trunk, heads, x))
    return gradients(trunk, heads)


def assert_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def unordered(name):
    """A method whose answer in a step depends on nothing from before."""
    return {
        "pcgrad": lambda: mtlbench.method("pcgrad", shuffle=False),
        "gradvac": lambda: mtlbench.method("gradvac", target=0.3, shuffle=False),
        "mgda": lambda: mtlbench.method("mgda"),
        "uniform": lambda: mtlbench.method("uniform"),
        "gradnorm": lambda: mtlbench.method("gradnorm", lr=1e-18),
    }[name]()


@pytest.mark.parametrize("name", [*GRADIENT_METHODS, "uniform", "gradnorm"])
@pytest.mark.parametrize("granularity", ["whole_model", "all_layer", "all_matrix"])
def test_unfreezing_and_freezing_gives_what_a_fresh_backward_gives(name, granularity):
    trunk, heads, x = build()
    trunk[0].requires_grad_(False)
    backward = mtlbench.Backward(unordered(name), trunk, granularity)
    for frozen in ([0], [], [2], [0, 2], []):
        for index in (0, 2, 4):
            trunk[index].requires_grad_(index not in frozen)
        found = call(backward, trunk, heads, x)
        assert_equal(found, call(mtlbench.Backward(unordered(name), trunk, granularity), trunk, heads, x))


def test_targets_are_kept_where_the_groups_are_the_same_and_new_groups_start_afresh():
    trunk, heads, x = build()
    trunk[0].requires_grad_(False)
    backward = mtlbench.Backward(mtlbench.method("gradvac", beta=0.5), trunk, "all_layer")
    for _ in range(3):
        call(backward, trunk, heads, x)
    assert backward.group_names == ["2", "4"]
    kept, visited = backward.method.target.clone(), int(backward.method.visited)
    trunk[0].requires_grad_(True)
    backward._take_up_changes()
    assert backward.group_names == ["0", "2", "4"]
    assert torch.equal(backward.method.target[1:], kept)
    assert backward.method.target[0].eq(0).all()
    assert int(backward.method.visited) == visited
    call(backward, trunk, heads, x)
    trunk[2].requires_grad_(False)
    kept = backward.method.target[[0, 2]].clone()
    backward._take_up_changes()
    assert backward.group_names == ["0", "4"]
    assert torch.equal(backward.method.target, kept)
    assert call(backward, trunk, heads, x)[2] is None  # frozen: no gradient


class CountsGroups(mtlbench.GramianWeighting):
    """State with an entry for each group, of which it says nothing."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.empty(0))

    def start(self):
        self.seen = torch.zeros(self.groups)

    def weigh(self, gramian, losses):
        self.seen += 1
        return torch.ones(gramian.shape[:-1], dtype=torch.float64)


def test_a_method_whose_state_cannot_follow_the_groups_is_refused_in_words_and_keeps_it():
    trunk, heads, x = build()
    trunk[0].requires_grad_(False)
    backward = mtlbench.Backward(CountsGroups(), trunk, "all_layer")
    call(backward, trunk, heads, x)
    trunk[0].requires_grad_(True)
    with pytest.raises(UsageError, match=r"were in 2 groups and are now in 3, and its state seen has another shape"):
        backward(losses(trunk, heads, x))
    assert backward.method.seen.tolist() == [1, 1]


def test_the_whole_model_is_one_group_whatever_is_frozen_so_that_state_goes_on():
    trunk, heads, x = build()
    trunk[0].requires_grad_(False)
    backward = mtlbench.Backward(mtlbench.method("gradvac", beta=0.5), trunk)
    call(backward, trunk, heads, x)
    before = backward.method.target.clone()
    trunk[0].requires_grad_(True)
    backward._take_up_changes()
    assert torch.equal(backward.method.target, before)
    assert before.ne(0).any()


@pytest.mark.parametrize("name", [*GRADIENT_METHODS, "uniform", "gradnorm"])
def test_casting_the_model_after_the_first_step_gives_what_a_fresh_backward_gives(name):
    trunk, heads, x = build(torch.float32)
    backward = mtlbench.Backward(unordered(name), trunk)
    call(backward, trunk, heads, x)
    trunk.double()
    heads.double()
    found = call(backward, trunk, heads, x)
    assert {g.dtype for g in found} == {torch.float64}
    assert_equal(found, call(mtlbench.Backward(unordered(name), trunk), trunk, heads, x))


@pytest.mark.parametrize("name", [*GRADIENT_METHODS, "uniform", "gradnorm"])
def test_parameters_replaced_or_added_in_the_module_are_taken_up(name):
    trunk, heads, x = build()
    backward = mtlbench.Backward(unordered(name), trunk)
    call(backward, trunk, heads, x)
    trunk[2].weight = nn.Parameter(torch.randn(4, 5, dtype=torch.float64))
    trunk.append(nn.Linear(4, 4).double())
    found = call(backward, trunk, heads, x)
    assert all(g is not None for g in found)
    assert_equal(found, call(mtlbench.Backward(unordered(name), trunk), trunk, heads, x))


def test_a_parameter_replaced_behind_a_list_of_parameters_is_told_since_two_objectives_reach_it():
    trunk, heads, x = build()
    backward = mtlbench.Backward(mtlbench.method("pcgrad"), list(trunk.parameters()))
    call(backward, trunk, heads, x)
    trunk[2].weight = nn.Parameter(torch.randn(4, 5, dtype=torch.float64))
    with pytest.raises(UsageError, match=r"2\.weight of shape \(4, 5\) is reached by the losses of objectives 0 and 1"):
        call(backward, trunk, heads, x)  # the second step, in which graphs are walked again


def test_freezing_everything_is_an_error_in_words():
    trunk, heads, x = build()
    backward = mtlbench.Backward(mtlbench.method("pcgrad"), trunk)
    call(backward, trunk, heads, x)
    trunk.requires_grad_(False)
    with pytest.raises(UsageError, match="no parameter that requires a gradient"):
        backward(losses(trunk, heads, x))


def test_a_head_may_change_its_objective():
    trunk, heads, x = build()
    backward = mtlbench.Backward(mtlbench.method("mgda"), trunk)
    call(backward, trunk, heads, x)
    turned = nn.ModuleList(reversed(list(heads)))
    found = call(backward, trunk, turned, x)
    assert_equal(found, call(mtlbench.Backward(mtlbench.method("mgda"), trunk), trunk, turned, x))


def test_a_frozen_parameter_stands_in_no_group_also_of_explicit_ones():
    trunk, heads, x = build()
    trunk[0].requires_grad_(False)
    groups = [list(trunk[0].parameters()), list(trunk[2:].parameters())]
    backward = mtlbench.Backward(mtlbench.method("pcgrad"), trunk, groups)
    assert backward.group_names == ["group_1"]
    trunk[0].requires_grad_(True)
    call(backward, trunk, heads, x)
    assert backward.group_names == ["group_0", "group_1"]
