"""The battery of strategies of sampling: those of the suite hold what they promise, and each fault is found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import mtlbench
from mtlbench.catalogue import building
from mtlbench.catalogue.registry import samplings
from mtlbench.running.sampling_conformance import PROMISED, PROMISES, REQUIRED, battery

PARAMETERS: dict[str, list[dict[str, Any]]] = {
    "temperature": [{}, {"temperature": 1.0}],
    "unimax": [{"repeats": 0.5}, {"repeats": 4.0}],
    "chi2_dro": [{}, {"rho": 5.0, "least": 0.0}],
    "order": [{"switch": 0.5}],
}


def found_of(make: Any) -> dict[str, Any]:
    return {finding.key or finding.name: finding for finding in battery(make)}


def test_all_strategies_of_the_suite_are_tried() -> None:
    assert {*PARAMETERS} == {*samplings.names()}


@pytest.mark.parametrize(("name", "given"), [(name, g) for name, cases in PARAMETERS.items() for g in cases])
def test_strategies_of_the_suite_do_what_they_promise(name: str, given: dict[str, Any]) -> None:
    found = found_of(lambda: building.sampling(name, **given))
    assert [(f.name, f.told) for f in found.values() if f.violated or f.needless] == []
    assert {key for key, f in found.items() if f.verdict == "holds"} >= {*PROMISES, next(iter(REQUIRED))}
    sees = "copes with losses of any size, equal ones, and zeros"
    assert found[sees].verdict == ("holds" if name == "chi2_dro" else "not applicable")


class Equal(mtlbench.Sampling):
    name: ClassVar[str] = "tried"

    def shares(self, epoch: int) -> Any:
        count = len(self.supply.sizes)
        return np.full(count, 1 / count)


class SumToK(Equal):
    def shares(self, epoch: int) -> Any:
        return np.ones(len(self.supply.sizes))


class Learning(Equal):
    """More of what has high losses."""

    observes = True

    def start(self) -> None:
        self.state = {"sum": np.zeros(len(self.supply.sizes))}

    def observe(self, losses: Mapping[int, float]) -> None:
        for k, loss in losses.items():
            self.state["sum"][k] += loss

    def shares(self, epoch: int) -> Any:
        total = 1 + np.log1p(self.state["sum"])
        return total / total.sum()


class DividesByLosses(Learning):
    def shares(self, epoch: int) -> Any:
        total = self.state["sum"]
        return total / total.sum() if epoch else super().shares(epoch)


class Draws(Equal):
    def shares(self, epoch: int) -> Any:
        drawn = 1 + np.random.rand(len(self.supply.sizes))
        return drawn / drawn.sum()


class Forgets(Learning):
    def start(self) -> None:
        super().start()
        self.seen = self.state.pop("sum")

    def observe(self, losses: Mapping[int, float]) -> None:
        for k, loss in losses.items():
            self.seen[k] += loss

    def shares(self, epoch: int) -> Any:
        total = 1 + np.log1p(self.seen)
        return total / total.sum()


class WritesIntoSizes(Equal):
    def shares(self, epoch: int) -> Any:
        self.supply.sizes[:] = 1.0
        return super().shares(epoch)


class FirstComesFirst(Equal):
    def shares(self, epoch: int) -> Any:
        weights = np.arange(len(self.supply.sizes), 0, -1.0)
        return weights / weights.sum()


class CountsInTokens(Equal):
    def shares(self, epoch: int) -> Any:
        weights = self.supply.amounts + 1000.0
        return weights / weights.sum()


class Largest(Equal):
    def shares(self, epoch: int) -> Any:
        return (np.arange(len(self.supply.sizes)) == self.supply.sizes.argmax()).astype(float)


DEFECTS = {
    "gives shares in every epoch: none negative, of one for each objective, summing to 1": SumToK,
    "copes with losses of any size, equal ones, and zeros": DividesByLosses,
    "gives the same shares again from the same losses": Draws,
    "goes on from a state that is saved in the middle of an epoch": Forgets,
    "leaves what it is told of the data as it is": WritesIntoSizes,
    "order": FirstComesFirst,
    "unit": CountsInTokens,
    "everyone": Largest,
}


def test_there_is_a_defect_for_every_property() -> None:
    assert {*DEFECTS} == {*REQUIRED, *PROMISED}
    assert {*PROMISED} == {*PROMISES}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_found(name: str) -> None:
    found = found_of(DEFECTS[name])[name]
    assert found.verdict == "violated"
    assert found.told


@pytest.mark.parametrize("make", [Equal, Learning])
def test_a_sound_strategy_holds_everywhere(make: Any) -> None:
    assert {f.verdict for f in found_of(make).values()} <= {"holds", "not applicable"}


def test_declarations_are_told_and_checked() -> None:
    class Declares(Largest):
        exceptions: ClassVar = {"everyone": "only the largest is trained on"}

    assert found_of(Declares)["everyone"].verdict == "declared"

    class Misspelt(Largest):
        exceptions: ClassVar = {"everybody": "only the largest is trained on"}

    with pytest.raises(mtlbench.UsageError, match="tried: exceptions names 'everybody', which is none of order, unit"):
        list(battery(Misspelt))


def test_a_strategy_that_refuses_every_training_is_told_so() -> None:
    class Refuses(Equal):
        def start(self) -> None:
            raise mtlbench.UsageError("sampling.group=mine is no group")

    (finding,) = battery(Refuses)
    assert finding.violated
    assert "sampling.group=mine is no group" in finding.told


def test_the_battery_leaves_the_random_state_as_it_was() -> None:
    before = np.random.get_state()[1].tobytes(), torch.get_rng_state().tolist()
    list(battery(Draws))
    list(battery(Equal))
    # What a strategy draws itself aside, nothing is drawn or seeded.
    assert torch.get_rng_state().tolist() == before[1]
