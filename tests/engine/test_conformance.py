"""The conformance battery: built-in methods pass, methods with a defect are found out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import mtlbench
from mtlbench.catalogue.registry import methods
from mtlbench.engine.conformance import battery


def failing(make) -> set[str]:
    return {finding.name for finding in battery(make) if not finding.holds}


@pytest.mark.parametrize("name", methods.names())
def test_every_built_in_method_passes(name: str) -> None:
    found = list(battery(lambda: mtlbench.method(name)))
    assert found
    assert [(f.name, f.problem) for f in found if not f.holds] == []


class AbsoluteEpsilon(mtlbench.GramianWeighting):
    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        norms = gramian.diagonal(dim1=-2, dim2=-1).sqrt()
        return norms.mean(-1, keepdim=True) / (norms + 1e-3)


class ForgetsItsState(mtlbench.GramianWeighting):
    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        self.steps += 1
        return torch.full(gramian.shape[:-1], float(self.steps), dtype=torch.float64)


class DividesByZero(mtlbench.GramianWeighting):
    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        return 1 / gramian.diagonal(dim1=-2, dim2=-1).sqrt()


class IgnoresPresence(mtlbench.GramianWeighting):
    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        return torch.ones(len(gramian), self.objectives, dtype=torch.float64)


@pytest.mark.parametrize(
    ("method", "property_"),
    [
        (AbsoluteEpsilon, "does not depend on the scale of the gradients"),
        (ForgetsItsState, "continues bit for bit from a saved state"),
        (DividesByZero, "copes with zero, duplicated and opposite gradients"),
        (IgnoresPresence, "takes steps that hold only some objectives"),
    ],
)
def test_a_defect_is_found(method: type[mtlbench.GramianWeighting], property_: str) -> None:
    assert property_ in failing(method)


class OfPairs(mtlbench.GramianWeighting):
    supports = frozenset({2})

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        assert gramian.shape[-1] == 2
        return torch.ones(gramian.shape[:-1], dtype=torch.float64)


class OfManyOnly(OfPairs):
    supports = range(20, 30)

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        assert gramian.shape[-1] in range(20, 30)
        return torch.ones(gramian.shape[:-1], dtype=torch.float64)


class OfSeveral(OfPairs):
    supports = range(2, 5)

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        assert gramian.shape[-1] in range(2, 5)
        return torch.ones(gramian.shape[:-1], dtype=torch.float64)


@pytest.mark.parametrize("method", [OfPairs, OfManyOnly, OfSeveral])
def test_a_method_is_tried_with_the_numbers_of_objectives_that_it_supports(method) -> None:
    found = list(battery(method))
    assert [(f.name, f.problem) for f in found if not f.holds] == []
    # What cannot be tried is not said to hold.
    assert ("takes steps that hold only some objectives" in {f.name for f in found}) == (method is OfSeveral)
    assert "changes nothing in a step without an objective that it treats" not in {f.name for f in found}


def test_a_method_that_supports_no_number_of_objectives_fails() -> None:
    class OfNone(OfPairs):
        supports = range(0)

    assert failing(OfNone) == {"supports a number of objectives up to 64"}


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
    state = "continues bit for bit from a saved state"
    assert state in {f.name for f in battery(Remembers)} - failing(Remembers)
    assert state in failing(Forgets)


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
