"""The conformance battery: built-in methods pass, a method with a defect is found out, and nothing untried holds."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor

import mtlbench
from mtlbench.catalogue.registry import methods
from mtlbench.engine.conformance.battery import PROMISED, REQUIRED, battery
from mtlbench.engine.conformance.properties import PROMISES
from mtlbench.engine.remembering import RememberingAggregator

NOT_SEEN = {("cr_mogm", "descent")}
"""Declared, and kept in all trials: the ten steps are too short for weights to lag behind."""


def found_of(make):
    """Name of what may be declared, or what the property says -> finding."""
    return {finding.key or finding.name: finding for finding in battery(make)}


@pytest.mark.parametrize("name", methods.names())
def test_every_built_in_method_does_what_it_promises_and_declares_what_it_does_not(name: str) -> None:
    found = list(battery(lambda: mtlbench.method(name)))
    assert {f.key for f in found} >= {*PROMISES}
    assert [(f.name, f.told) for f in found if f.violated] == []
    assert {(name, f.key) for f in found if f.needless} <= NOT_SEEN


@pytest.mark.parametrize(
    ("name", "parameters", "key"),
    [
        ("pcgrad", {"shuffle": False}, "order"),
        ("mgda", {"normalize": "l2"}, "descent"),
        ("mgda", {"normalize": "l2", "applied": "normalized"}, "common_scale"),
        ("gradnorm", {"layer": "all"}, "groups"),
        ("stch", {"form": "plain"}, "single_scale"),
        ("scalarization", {"weights": [1.0, 2.0, 0.5]}, "plain_sum"),
        ("cr_mogm", {"base": "upgrad"}, "treated"),
        ("cr_mogm", {"base": "nash_mtl"}, "bounded"),
        ("cr_mogm", {"base": "modo"}, "common_scale"),
    ],
)
def test_what_a_parameter_takes_from_a_method_the_object_declares(name, parameters, key) -> None:
    found = found_of(lambda: mtlbench.method(name, **parameters))
    assert [(f.name, f.told) for f in found.values() if f.violated] == []
    assert (found[key].verdict, found[key].needless) == ("declared", False)


class Summing(mtlbench.GramianWeighting):
    """The plain sum, to which the classes below give a defect each."""

    exceptions: ClassVar = {"single_scale": "a sum", "descent": "a sum"}

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        return torch.ones(gramian.shape[:-1], dtype=torch.float64)


def test_the_plain_sum_holds_what_it_does_not_declare() -> None:
    found = found_of(Summing)
    assert {key: f.verdict for key, f in found.items() if f.verdict != "holds"} == {
        "single_scale": "declared",
        "descent": "declared",
    }
    assert not any(f.needless for f in found.values())


class Infinite(Summing):
    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        return super().weigh(gramian, losses) * torch.inf


class DividesByLengths(Summing):
    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        return 1 / gramian.diagonal(dim1=-2, dim2=-1).sqrt()


class Inverts(Summing):
    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        return torch.linalg.solve(gramian, gramian.diagonal(dim1=-2, dim2=-1).sqrt())


class Exponential(Summing):
    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        return gramian.diagonal(dim1=-2, dim2=-1).exp()


class DrawsElsewhere(Summing):
    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        return super().weigh(gramian, losses) * (1 + torch.rand(()))


class NotStatic(mtlbench.LossWeighting):
    static = True

    def scalarize(self, losses: Tensor) -> Tensor:
        return losses.square().sum()


class TakesAnything(mtlbench.JacobianAggregator):
    def require_finite(self, what: str, values: Tensor) -> None:
        return

    def aggregate(self, jacobian: Tensor) -> Tensor:
        return jacobian.nan_to_num().sum(0)


class ForgetsItsState(Summing):
    steps = 0

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        self.steps += 1
        return self.steps * super().weigh(gramian, losses)


class ForgetsAnEpoch(ForgetsItsState):
    """What is lost matters late only."""

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        self.steps += 1
        return (1 + self.steps // 10) * Summing.weigh(self, gramian, losses)


class Counts(mtlbench.Method):
    """A number of steps, in the state."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.float64))


class CountsKeptSteps(Counts, Summing):
    def begin(self, *given, **named) -> None:
        super().begin(*given, **named)
        self.steps += 1


class IgnoresPresence(Summing):
    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        return torch.ones(len(gramian), self.objectives, dtype=torch.float64)


class DecaysEverybody(Summing):
    """The state of absent and of untreated objectives moves."""

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.empty(0, dtype=torch.float64))

    def start(self) -> None:
        self.weight = torch.ones(self.objectives, dtype=torch.float64)

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        self.weight *= 0.99
        return self.weight[self.present].expand(gramian.shape[:-1])


class DecaysPartners(DecaysEverybody):
    """A table with a row for each objective, of which those of absent objectives move in a column."""

    def start(self) -> None:
        self.weight = torch.ones(self.objectives, self.objectives, dtype=torch.float64)

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        self.weight[self.present] *= 0.99
        return self.weight[self.present][:, self.present].diagonal().expand(gramian.shape[:-1])


class KeepsByPlace(Summing):
    """What it remembers belongs to a place in the step, and begins anew where there are more or fewer places."""

    mean: Tensor | None = None

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        if self.mean is None or len(self.mean) != len(losses):
            self.mean = losses.clone()
        self.mean = 0.9 * self.mean + 0.1 * losses
        return (losses / self.mean).expand(gramian.shape[:-1])


class KeepsThoseThatAreThere(Summing):
    """The state of absent objectives is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("last", torch.zeros(0))

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        self.last = losses.clone()
        return super().weigh(gramian, losses)


class TreatsEverybody(Summing):
    def weigh_treated(self, gramian: Tensor, losses: Tensor, rows) -> Tensor:
        return 2 * self.weigh(gramian, losses)


class RemembersColumns(mtlbench.JacobianAggregator):
    """A number for each column, of which a representation has other ones in every step."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.empty(0))

    def aggregate(self, jacobian: Tensor) -> Tensor:
        if not self.mean.numel():
            self.mean = torch.zeros_like(jacobian[0])
        self.mean = 0.5 * self.mean + jacobian.sum(0)
        return self.mean


class Erratic(Summing):
    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        return 1 + (1e9 * gramian.diagonal(dim1=-2, dim2=-1)) % 1


class DividesByTheirSum(Summing):
    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        weights = gramian.sum(-1)
        return weights / weights.sum(-1, keepdim=True)


class LooksAcross(Summing):
    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        lengths = gramian.diagonal(dim1=-2, dim2=-1).sqrt()
        return (lengths.mean() / lengths.mean(-1, keepdim=True)).expand(gramian.shape[:-1])


class Averages(RememberingAggregator):
    def aggregate(self, jacobian: Tensor) -> Tensor:
        return self.remember(jacobian, lambda mean, rows: mean.lerp_(rows, 0.5)).sum(0)


class FirstComesFirst(Summing):
    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        return torch.linspace(2.0, 1.0, gramian.shape[-1], dtype=torch.float64).expand(gramian.shape[:-1])


class FirstComesFirstOnAverage(FirstComesFirst):
    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        noise = torch.rand(gramian.shape[:-1], generator=self.generator, dtype=torch.float64)
        return super().weigh(gramian, losses) + noise


class AbsoluteEpsilon(Summing):
    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        lengths = gramian.diagonal(dim1=-2, dim2=-1).sqrt()
        return lengths.mean(-1, keepdim=True) / (lengths + 1e-3)


class DeclaresNothing(Summing):
    exceptions: ClassVar = {}


class EquallyLong(Summing):
    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        lengths = gramian.diagonal(dim1=-2, dim2=-1).sqrt()
        return torch.where(lengths > 0, lengths.mean(-1, keepdim=True) / lengths, 1.0)


class OfTwoBatches(mtlbench.GramianWeighting):
    """The symmetric part alone: right on one batch."""

    batch_shares = (0.5, 0.5)

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        return 1 + 1e-3 * torch.linalg.cholesky(gramian).sum(-1)


class TrainedTogether(mtlbench.LossWeighting):
    """One vector for all objectives: those that are absent decay with it."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = torch.nn.Parameter(torch.empty(0))

    def start(self) -> None:
        self.scales = torch.nn.Parameter(torch.zeros(self.objectives))

    def scalarize(self, losses: Tensor) -> Tensor:
        s = self.scales[self.present]
        return (s.exp() * losses - s).sum()


DEFECTS = {
    "answers one finite weight for each objective and group": [Infinite, OfTwoBatches],
    "copes with gradients of zero": [DividesByLengths],
    "copes with duplicated and opposite gradients": [Inverts],
    "copes with gradients and losses from 1e-6 to 1e6": [Exponential],
    "answers the same from the same seed, whatever else is drawn": [DrawsElsewhere],
    "gives the same with one graph as with a graph per objective": [NotStatic],
    "refuses a loss that is not finite": [TakesAnything],
    "saved_state": [ForgetsItsState, ForgetsAnEpoch],
    "refresh": [ForgetsItsState, CountsKeptSteps],
    "representation": [RemembersColumns],
    "absent": [
        IgnoresPresence,
        DecaysEverybody,
        DecaysPartners,
        TrainedTogether,
        KeepsByPlace,
        KeepsThoseThatAreThere,
    ],
    "treated": [DecaysEverybody, TreatsEverybody],
    "float32": [Erratic],
    "bounded": [DividesByTheirSum],
    "groups": [LooksAcross],
    "alone": [Averages],
    "order": [FirstComesFirst, FirstComesFirstOnAverage],
    "common_scale": [AbsoluteEpsilon],
    "single_scale": [DeclaresNothing],
    "plain_sum": [EquallyLong],
    "descent": [DeclaresNothing],
}


def test_there_is_a_defect_for_every_property() -> None:
    assert {*DEFECTS} == {*REQUIRED, *PROMISED}
    assert {*PROMISED} == {*PROMISES}


@pytest.mark.parametrize(("name", "method"), [(name, m) for name, defects in DEFECTS.items() for m in defects])
def test_a_defect_is_found(name: str, method: type[mtlbench.Method]) -> None:
    finding = found_of(method)[name]
    assert finding.verdict == "violated"
    assert finding.told


class Fair(Summing):
    """Random weights, of which none is favoured."""

    exceptions: ClassVar = dict.fromkeys(("single_scale", "descent", "plain_sum", "groups", "common_scale"), "drawn")

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        return torch.rand(gramian.shape[:-1], generator=self.generator, dtype=torch.float64)


def test_of_a_method_that_draws_the_order_must_not_matter_in_the_mean() -> None:
    assert found_of(Fair)["order"].verdict == "holds"


def test_a_declaration_that_no_trial_needs_is_told() -> None:
    found = found_of(Fair)
    assert (found["plain_sum"].verdict, found["plain_sum"].needless) == ("declared", False)
    assert (found["common_scale"].verdict, found["common_scale"].needless) == ("declared", True)
    assert found["common_scale"].told == "drawn"


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"scale": "why"}, "exceptions names 'scale', which is none of alone, order"),
        ({"copes with gradients of zero": "why"}, "which is none of"),
        ({"order": " "}, r"exceptions\['order'\] needs a reason"),
    ],
)
def test_only_promises_can_be_declared_and_with_a_reason(declared: dict[str, str], message: str) -> None:
    class Declares(Summing):
        exceptions = declared

    with pytest.raises(mtlbench.UsageError, match=message):
        list(battery(Declares))


class OfLosses(mtlbench.LossWeighting):
    exceptions: ClassVar = {"groups": "it has none"}

    def scalarize(self, losses: Tensor) -> Tensor:
        return losses.sum()


def test_what_says_nothing_about_a_method_neither_holds_nor_is_declared() -> None:
    found = found_of(OfLosses)
    assert {found[key].verdict for key in ("groups", "treated", "refresh")} == {"not applicable"}
    assert all(found[key].told for key in ("groups", "treated", "refresh"))
    models = found_of(lambda: mtlbench.method("single_task"))
    assert {models[key].verdict for key in PROMISES} == {"not applicable", "holds"}
    assert [key for key in PROMISES if models[key].verdict == "holds"] == ["saved_state"]
    modo = found_of(lambda: mtlbench.method("modo"))
    assert {modo[key].verdict for key in ("refresh", "representation")} == {"not applicable"}
    assert found_of(lambda: mtlbench.method("gradnorm"))["groups"].verdict == "not applicable"


class OfPairs(Summing):
    supports = frozenset({2})

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        assert gramian.shape[-1] in self.supports
        return super().weigh(gramian, losses)


class OfManyOnly(OfPairs):
    supports = range(20, 30)


class OfSeveral(OfPairs):
    supports = range(2, 5)


@pytest.mark.parametrize("method", [OfPairs, OfManyOnly, OfSeveral])
def test_a_method_is_tried_with_the_numbers_of_objectives_that_it_supports(method) -> None:
    found = found_of(method)
    assert [(f.name, f.told) for f in found.values() if f.violated] == []
    # What cannot be tried is not said to hold.
    assert found["absent"].verdict == ("holds" if method is OfSeveral else "not applicable")
    assert {found[key].verdict for key in ("treated", "alone")} == {"not applicable"}


def test_a_method_that_supports_no_number_of_objectives_fails() -> None:
    class OfNone(OfPairs):
        supports = range(0)

    assert [f.name for f in battery(OfNone) if f.violated] == ["supports a number of objectives up to 64"]


class Momentum(mtlbench.JacobianAggregator):
    """The mean of all sums so far; right as a buffer, lost as an attribute."""

    saved: bool

    def __init__(self) -> None:
        super().__init__()
        if self.saved:
            self.register_buffer("steps", torch.zeros((), dtype=torch.float64))
        else:
            self.steps = torch.zeros((), dtype=torch.float64)

    def aggregate(self, jacobian: Tensor) -> Tensor:
        self.steps.add_(1.0)
        return jacobian.sum(0) * self.steps


class Remembers(Momentum):
    saved = True


class Forgets(Momentum):
    saved = False


def test_the_state_of_an_aggregator_is_tried_too() -> None:
    assert found_of(Remembers)["saved_state"].verdict == "holds"
    assert found_of(Forgets)["saved_state"].verdict == "violated"


def test_a_method_refuses_a_number_of_objectives_that_it_does_not_support() -> None:
    trunk = torch.nn.Linear(2, 2)
    with pytest.raises(mtlbench.UsageError, match="method combines 2 objectives, not 3"):
        mtlbench.Backward(OfPairs(), trunk, objectives=3)
    with pytest.raises(mtlbench.UsageError, match="method combines 20 to 29 objectives, not 3"):
        OfManyOnly().weights(torch.eye(3))
    backward = mtlbench.Backward(OfPairs(), trunk, objectives=2)
    with pytest.raises(mtlbench.UsageError, match="method combines 2 objectives, not 1"):
        backward([trunk(torch.ones(2)).sum()], objectives=[0])
    with pytest.raises(mtlbench.UsageError, match="method combines 2 objectives, not 1"):
        mtlbench.Backward(OfPairs(), trunk, objectives=2, treated=[0])([trunk(torch.ones(2))[k] for k in range(2)])
