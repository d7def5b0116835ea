"""Who is treated: the method corrects the gradients of some objectives, those of the others stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
import torch
from conftest import ROOT, curves
from oracles import (
    assert_updates_equal,
    gramian,
    orders_about_to_be_drawn,
    random_problem,
    stacked_gramian,
    through_a_file,
)
from torch import nn

import mtlbench
from mtlbench.catalogue import building
from mtlbench.cells.cell import identity
from mtlbench.cells.request import parse
from mtlbench.errors import UsageError
from mtlbench.record.reading import records
from mtlbench.record.schema import Record

RESULTS = ROOT / "results"
GRAMIAN_METHODS = ["pcgrad", "gradvac", "mgda", "gradnorm"]


class Median(mtlbench.JacobianAggregator):
    """K times the coordinate-wise median: no weighted sum of the rows."""

    def aggregate(self, jacobian):
        assert len(self.present) == len(jacobian)
        return len(jacobian) * jacobian.median(0).values


class ByNumber(mtlbench.GramianWeighting):
    """Weights 10, 20, ... by the number of the objective; counts how often each was seen."""

    def start(self):
        self.seen = torch.zeros(self.objectives, dtype=torch.int64)

    def weigh(self, gramian, losses):
        self.seen[self.present] += 1
        assert gramian.shape[-1] == len(losses) == len(self.present)
        return (10.0 * (self.present + 1)).double().expand(len(gramian), -1)


def tables(objectives: int, steps: int, groups: int = 2, seed: int = 0) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    rows = torch.randn(steps, groups, objectives, 20, generator=rng, dtype=torch.float64)
    return list(rows @ rows.transpose(-1, -2))


# --- the mathematics --------------------------------------------------------------------------------------------


def test_a_treated_gradient_is_projected_and_the_untreated_ones_are_added_as_they_are() -> None:
    # g0 meets g1 (product -1, so + g1/2), then g2 (product -1/2, so + g2/2). g1 and g2 conflict too and stay.
    rows = torch.tensor([[1.0, 0.0], [-1.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    weights = mtlbench.method("pcgrad", shuffle=False).weights(gramian(rows), treated=[0])
    assert weights.tolist() == pytest.approx([1.0, 1.5, 1.5], rel=1e-12)
    assert (weights @ rows).tolist() == pytest.approx([0.5 - 1.0 + 0.0, 0.0 + 1.0 - 1.0], abs=1e-12)


@pytest.mark.parametrize("name", GRAMIAN_METHODS)
def test_all_treated_is_the_method_itself_bit_for_bit(name: str) -> None:
    one, other = mtlbench.method(name).seed(2), mtlbench.method(name).seed(2)
    for table in tables(5, 20, groups=1):
        assert torch.equal(one.weights(table), other.weights(table, treated=[4, 2, 0, 1, 3]))
    assert one.state_dict().keys() == other.state_dict().keys()
    for key, value in one.named_buffers():
        assert torch.equal(value, other.get_buffer(key))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("name", ["pcgrad", "gradvac"])
def test_steps_with_some_present_and_some_treated_equal_the_pseudo_code_on_whole_vectors(
    name: str, shuffle: bool
) -> None:
    rng = np.random.default_rng(3)
    treated = {1, 2, 5}
    method = mtlbench.method(name, shuffle=shuffle).seed(5)
    method.begin(6, 2)
    targets = np.zeros((2, 6, 6))
    apart = ~np.eye(6, dtype=bool)
    for _ in range(40):
        present = sorted(rng.choice(6, size=rng.integers(1, 7), replace=False).tolist())
        rows = [row for row, k in enumerate(present) if k in treated]
        gradients = random_problem(rng, len(present), (25, 30), 0.4)
        orders = orders_about_to_be_drawn(method, 2, len(present))
        weights = method.weights(stacked_gramian(gradients), present=present, treated=treated)
        if name == "pcgrad":
            expected = oracles.pcgrad(gradients, orders, rows)
        else:
            block = np.ix_([0, 1], present, present)
            local = targets[block]
            expected = oracles.gradvac(gradients, orders, local, 0.01, treated=rows)
            targets[block] = local
            np.testing.assert_allclose(method.target.numpy()[:, apart], targets[:, apart], rtol=1e-10, atol=1e-14)
        assert_updates_equal(weights, gradients, expected)
    if name == "gradvac":
        untreated = [0, 3, 4]
        assert (method.target[:, untreated] == 0).all()
        assert (method.target[:, sorted(treated)][:, :, untreated] != 0).all()  # the others are visited all the same


def test_visits_of_the_untreated_are_not_counted_nor_their_targets_averaged() -> None:
    method = mtlbench.method("gradvac")
    for table in tables(5, 3, groups=4):
        method.weights(table, treated=[0, 3])
    assert method.visited.item() == 3 * 4 * 2 * 4
    assert 0 < method.corrected.item() < method.visited.item()
    rows = method.target[:, [0, 3]]
    assert method.report()["mean_target"] == pytest.approx(rows.sum().item() / (4 * 2 * 4))


@pytest.mark.parametrize("name", ["pcgrad", "gradvac"])
def test_the_orders_that_are_drawn_do_not_depend_on_who_is_treated(name: str) -> None:
    methods = [mtlbench.method(name).seed(1) for _ in range(4)]
    for table in tables(4, 5):
        for method, treated in zip(methods, (None, [0], [1, 2], []), strict=True):
            method.weights(table, treated=treated)
    states = [method.generator.get_state() for method in methods]
    assert all(torch.equal(states[0], state) for state in states)
    # The correction of a treated objective is the same whoever else is treated.
    (table,) = tables(4, 1, seed=1)
    both, one, other = (mtlbench.method(name).seed(4).weights(table, treated=t) for t in ([1, 2], [1], [2]))
    torch.testing.assert_close(both - 1, (one - 1) + (other - 1), rtol=1e-12, atol=1e-12)


def test_mgda_finds_the_shortest_vector_in_the_hull_of_the_treated_gradients() -> None:
    (table,) = tables(4, 1)
    weights = mtlbench.method("mgda").weights(table, treated=[3, 1])
    assert weights[:, [0, 2]].tolist() == [[1.0, 1.0]] * 2
    expected = mtlbench.method("mgda").weights(table[:, [1, 3]][:, :, [1, 3]])
    assert torch.equal(weights[:, [1, 3]], expected)
    assert weights[:, [1, 3]].sum(1).tolist() == pytest.approx([1.0, 1.0])


def test_gradnorm_balances_the_treated_objectives_alone() -> None:
    method, small = mtlbench.method("gradnorm", layer="all"), mtlbench.method("gradnorm", layer="all")
    rng = torch.Generator().manual_seed(1)
    for table in tables(4, 10, groups=1):
        losses = 0.5 + torch.rand(4, generator=rng, dtype=torch.float64)
        weights = method.weights(table, losses, treated=[0, 2])
        expected = small.weights(table[:, [0, 2]][:, :, [0, 2]], losses[[0, 2]])
        assert weights[:, [1, 3]].tolist() == [[1.0, 1.0]]
        torch.testing.assert_close(weights[:, [0, 2]], expected, rtol=1e-12, atol=0)
    assert method.weight[[1, 3]].tolist() == [1.0, 1.0]
    assert method.weight[0] != 1
    assert method.initial_loss[[1, 3]].isnan().all()


def test_any_gramian_method_sees_the_treated_objectives_that_are_present_under_their_numbers() -> None:
    method = ByNumber()
    method.begin(5, 2)
    table = torch.eye(3, dtype=torch.float64).expand(2, 3, 3)
    assert method.weights(table, present=[4, 1, 3], treated=[0, 3, 4]).tolist() == [[50, 1, 40]] * 2
    assert method.present.tolist() == [4, 1, 3]
    assert method.weights(table, present=[1, 2, 3], treated=[0, 4]).tolist() == [[1, 1, 1]] * 2
    assert method.seen.tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("name", GRAMIAN_METHODS)
def test_a_step_without_a_treated_objective_is_the_plain_sum_and_moves_no_state(name: str) -> None:
    method = mtlbench.method(name)
    first, *others = tables(4, 6, groups=1)
    method.weights(first, treated=[0])
    before = {key: value.clone() for key, value in method.named_buffers()}
    for table in others:
        weights = method.weights(table[:, 1:, 1:], present=[1, 2, 3], treated=[0])
        assert weights.tolist() == [pytest.approx([1.0, 1.0, 1.0], rel=1e-15)]
    assert before.keys() == dict(method.named_buffers()).keys()
    for key, value in method.named_buffers():
        assert torch.equal(value.nan_to_num(), before[key].nan_to_num())


def test_an_objective_that_there_is_none_of_is_refused() -> None:
    with pytest.raises(UsageError, match=r"pcgrad: treated=\[3\] is not allowed: objectives are 0 to 2"):
        mtlbench.method("pcgrad").weights(torch.eye(3), treated=[0, 3])
    encoder = nn.Linear(2, 2)
    with pytest.raises(UsageError, match=r"treated=\[-1\]"):
        mtlbench.Backward(mtlbench.method("mgda"), encoder, objectives=2, treated=[-1])
    backward = mtlbench.Backward(mtlbench.method("mgda"), encoder, treated=[2])
    with pytest.raises(UsageError, match=r"treated=\[2\]"):
        backward([encoder.weight.sum(), encoder.bias.sum()])
    assert encoder.weight.grad is None


# --- the engine -------------------------------------------------------------------------------------------------


class Problem:
    """Four regressions on one encoder."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.encoder = nn.Linear(6, 4).double()
        self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(4)).double()
        self.x = torch.randn(16, 6, dtype=torch.float64)

    def loss(self, k: int, features: torch.Tensor) -> torch.Tensor:
        return (self.heads[k](features.tanh()) - self.x[:, [k]]).square().mean()

    def losses(self, present: list[int], shape: str) -> Any:
        if shape == "list":
            features = self.encoder(self.x)
            return [self.loss(k, features) for k in present]
        return (self.loss(k, self.encoder(self.x)) for k in present)

    def row(self, k: int) -> list[torch.Tensor]:
        """The gradient of one loss, by parameter of the encoder and of its own head."""
        parameters = [*self.encoder.parameters(), *self.heads[k].parameters()]
        return list(torch.autograd.grad(self.loss(k, self.encoder(self.x)), parameters))


@pytest.mark.parametrize("shape", ["list", "generator"])
@pytest.mark.parametrize("name", GRAMIAN_METHODS)
def test_shared_parameters_and_heads_get_the_weights_of_the_treated_and_one_for_the_others(
    name: str, shape: str
) -> None:
    problem, present = Problem(), [0, 1, 3]
    method = mtlbench.method(name)
    backward = mtlbench.Backward(method, problem.encoder, objectives=4, treated=[1, 2, 3])
    backward(problem.losses(present, shape), objectives=present)
    weights = backward.weights[0].tolist()
    rows = [problem.row(k) for k in present]
    if name in ("mgda", "gradnorm"):
        assert weights[0] == 1
    for place, p in enumerate(problem.encoder.parameters()):
        torch.testing.assert_close(p.grad, sum(w * row[place] for w, row in zip(weights, rows, strict=True)))
    for k, w, row in zip(present, weights, rows, strict=True):
        factor = w if method.heads == "weighted" else 1.0
        for p, own in zip(problem.heads[k].parameters(), row[2:], strict=True):
            torch.testing.assert_close(p.grad, factor * own)
    assert problem.heads[2].weight.grad is None


@pytest.mark.parametrize(("present", "treated"), [([0, 1, 2, 3], [0, 1, 3]), ([0, 2], [0, 1, 3]), ([2], [0])])
def test_an_aggregator_combines_the_treated_rows_and_the_others_are_added(
    present: list[int], treated: list[int]
) -> None:
    problem = Problem()
    backward = mtlbench.Backward(Median(), problem.encoder, "all_matrix", objectives=4, treated=treated)
    backward(problem.losses(present, "list"), objectives=present)
    for place, p in enumerate(problem.encoder.parameters()):
        rows = {k: problem.row(k)[place] for k in present}
        chosen = [row for k, row in rows.items() if k in treated]
        expected = sum(row for k, row in rows.items() if k not in treated)
        if chosen:
            expected = expected + len(chosen) * torch.stack(chosen).median(0).values
        torch.testing.assert_close(p.grad, expected)


def test_methods_of_the_losses_alone_have_no_use_for_it() -> None:
    gradients = []
    for treated in (None, [1]):
        problem = Problem()
        mtlbench.Backward(mtlbench.method("uniform"), problem.encoder, treated=treated)(
            problem.losses([0, 1, 2, 3], "list")
        )
        gradients.append(problem.encoder.weight.grad)
    assert torch.equal(*gradients)


def test_training_continues_bit_identically_in_a_fresh_object() -> None:
    def train(backward: mtlbench.Backward, problem: Problem, steps: range) -> None:
        optimizer = torch.optim.SGD([*problem.encoder.parameters(), *problem.heads.parameters()], 0.1)
        for step in steps:
            present = [[0, 1, 2, 3], [1, 3], [0, 2, 3]][step % 3]
            optimizer.zero_grad()
            backward(problem.losses(present, "list"), objectives=present)
            optimizer.step()

    whole, cut = Problem(), Problem()
    settings: dict[str, Any] = {"granularity": "all_matrix", "objectives": 4, "treated": [1, 2]}
    one = mtlbench.Backward(mtlbench.method("gradvac"), whole.encoder, **settings)
    train(one, whole, range(9))
    first = mtlbench.Backward(mtlbench.method("gradvac"), cut.encoder, **settings)
    train(first, cut, range(4))
    other = mtlbench.Backward(mtlbench.method("gradvac").seed(8), cut.encoder, **settings)
    other.load_state_dict(through_a_file(first.state_dict()))
    train(other, cut, range(4, 9))
    assert torch.equal(whole.encoder.weight, cut.encoder.weight)
    assert torch.equal(one.method.target, other.method.target)


# --- words and records ------------------------------------------------------------------------------------------


def test_words_make_a_grid_and_mean_nothing_to_methods_that_see_no_gradients() -> None:
    found = parse(["method=gradvac,uniform", "task=multimnist", "treated=all,hrl,[right,left],[left,right]"]).cells
    assert [(cell.method, cell.axes["treated"]) for cell in found] == [
        ("gradvac", None),
        ("gradvac", ("hrl",)),
        ("gradvac", ("left", "right")),
        ("uniform", None),
    ]
    assert [cell.label for cell in found] == [
        "gradvac",
        "gradvac(treated=hrl)",
        "gradvac(treated=[left,right])",
        "uniform",
    ]
    assert len({cell.id for cell in found}) == len({cell.setting_id for cell in found}) == 4
    (both,) = parse(["method=gradvac", "task=multimnist", "treated=lrl", "granularity=all_layer"]).cells
    assert both.name == "gradvac(all_layer, treated=lrl) on multimnist/digits, seed 0"


def test_a_yaml_file_says_the_same(tmp_path: Path) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text("method: gradvac\ntask: multimnist\ntreated: [all, lrl, [left, right]]\n")
    words = ["method=gradvac", "task=multimnist", "treated=all,lrl,[left,right]"]
    assert [cell.id for cell in parse([str(file)]).cells] == [cell.id for cell in parse(words).cells]


def test_identities_of_committed_records_are_as_they_were() -> None:
    committed = {record.id: record for record in records(RESULTS / "multimnist" / "digits")}
    assert len(committed) > 20
    assert all(identity(record.cell.canonical()) == record.id for record in committed.values())
    words = ["method=uniform,gradvac,pcgrad,mgda,gradnorm,single_task", "task=multimnist/digits", "seed=0..2"]
    for treated in ([], ["treated=all"]):
        cells = parse([*words, *treated]).cells
        assert {cell.id for cell in cells} <= committed.keys()
        assert all(cell.canonical() == committed[cell.id].cell.canonical() for cell in cells)


@pytest.mark.parametrize("variant", ["plain", "sampled"])
def test_a_run_treats_the_objectives_of_a_group(
    train: Callable[..., Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    monkeypatch.setattr(building.task_class("tiny"), "groups", {"low": [1], "both": [0, 1]})
    words = f"method=gradvac task=tiny/{variant}"
    found = {
        treated: train(f"{words} treated={treated}", tmp_path / f"cell{number}")
        for number, treated in enumerate(("all", "both", "low", "b", "a"))
    }
    assert found["both"].evaluations == found["all"].evaluations
    assert found["low"].evaluations == found["b"].evaluations
    assert found["low"].evaluations not in (found["all"].evaluations, found["a"].evaluations)
    assert found["low"].cell.axes["treated"] == ("low",)
    assert found["low"].label == "gradvac(treated=low)"
    with pytest.raises(UsageError, match=r"'lov'. Did you mean 'low'\? Known: a, b, both, low\..*\(both, low\)"):
        train(f"{words} treated=lov", tmp_path / "none")


def test_the_command_line_runs_a_grid_of_them(command: Callable[..., Any], tiny: Path, tmp_path: Path) -> None:
    ran = command(f"run --plugin {tiny} method=gradvac,uniform,single_task task=tiny treated=all,a,[b,a]")
    assert ran.code == 0, ran.output
    for label in ("gradvac(treated=a)", "gradvac(treated=[a,b])"):
        assert f"finished  {label} on tiny/plain, seed 0" in ran.output
        table = ran.output[ran.output.index("tiny/plain, protocol short@1") :]
        assert any(line.startswith(f"{label} ") for line in table.splitlines())
    found = {record.label: record for record in records(tmp_path / "runs")}
    assert found.keys() == {"gradvac", "gradvac(treated=a)", "gradvac(treated=[a,b])", "uniform", "single_task"}
    assert found["gradvac(treated=[a,b])"].evaluations == found["gradvac"].evaluations
    assert found["gradvac(treated=a)"].evaluations != found["gradvac"].evaluations
    again = command(f"run --plugin {tiny} method=gradvac task=tiny treated=a")
    assert "skipped" in again.output
    assert len(curves(tmp_path / "runs")) == 5
