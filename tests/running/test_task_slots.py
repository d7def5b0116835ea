"""The battery of tasks tries shares, probes and relations where a task has them, and says where it has none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from test_task_conformance import PROTOCOLS, Sound

import mtlbench
from mtlbench.catalogue import registry
from mtlbench.running.task_conformance import battery

SHARES = "takes shares of a step, and goes back to its own way"
PROBES = "gives probes that hold every objective, the same from the same generator"
RELATIONS = "relates its objectives and no others"


class SharedOut(Sound):
    """Two regressions with data of their own; a loss has the weight 2 p_i."""

    p: Any = None

    def supply(self) -> mtlbench.Supply:
        sizes = np.array([20.0, 12.0])
        return mtlbench.Supply(sizes=sizes, amounts=sizes, step=8.0, temperature=np.inf)

    def share_out(self, shares: Any) -> Any:
        self.p = shares
        return np.ones(2) if shares is None else 2 * shares

    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[Any]:
        held = [0, 1] if self.p is None else np.flatnonzero(self.p).tolist()
        for _ in range(4):
            yield {k: torch.randperm(32, generator=generator)[:8] for k in held}

    def present(self, batch: dict[int, Any]) -> list[int]:
        return list(batch)

    def losses(self, model: Any, batch: Any, objectives: Sequence[int]) -> Any:
        for k in objectives:
            (loss,) = super().losses(model, batch[k], [k])
            yield loss if self.p is None else loss * float(2 * self.p[k])


class NoStep(SharedOut):
    def supply(self) -> mtlbench.Supply:
        return mtlbench.Supply(sizes=np.ones(2), amounts=np.ones(2), step=0.0, temperature=np.inf)


class AnObjectiveWithoutData(SharedOut):
    def supply(self) -> mtlbench.Supply:
        return mtlbench.Supply(sizes=np.array([5.0, 0.0]), amounts=np.ones(2), step=1.0, temperature=1.0)


class NoFactor(SharedOut):
    def share_out(self, shares: Any) -> Any:
        super().share_out(shares)
        return np.zeros(2)


class LeavesNobodyOut(SharedOut):
    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[Any]:
        self.p, kept = None, self.p
        yield from super().batches(epoch, generator)
        self.p = kept


class NeverGoesBack(SharedOut):
    def share_out(self, shares: Any) -> Any:
        return super().share_out(self.p if shares is None else shares)


class WeighsNothing(SharedOut):
    def losses(self, model: Any, batch: Any, objectives: Sequence[int]) -> Any:
        for k in objectives:
            yield from Sound.losses(self, model, batch[k], [k])


class SharesOfTheMoment(SharedOut):
    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[Any]:
        yield from super().batches(epoch, generator if self.p is None else torch.Generator().manual_seed(torch.seed()))


class SharesOneWay(SharedOut):
    def supply(self) -> mtlbench.Supply:
        raise mtlbench.UsageError("of 2 languages only 1 is trained on")


class Probing(Sound):
    def probes(self, count: int, examples: int, generator: torch.Generator) -> mtlbench.Probes:
        drawn = [torch.randperm(32, generator=generator)[:examples] for _ in range(count)]
        return mtlbench.Probes(drawn, aligned=True, examples=examples)


class TooFewProbes(Probing):
    def probes(self, count: int, *given: Any) -> mtlbench.Probes:
        return super().probes(count - 1, *given)


class ProbesOfTheMoment(Probing):
    def probes(self, count: int, examples: int, generator: torch.Generator) -> mtlbench.Probes:
        return super().probes(count, examples, torch.Generator().manual_seed(torch.seed()))


class ProbesOfOne(SharedOut):
    def probes(self, count: int, examples: int, generator: torch.Generator) -> mtlbench.Probes:
        drawn = [{0: torch.randperm(32, generator=generator)[:examples]} for _ in range(count)]
        return mtlbench.Probes(drawn, aligned=False, examples=examples)


class HoldsOne(SharedOut):
    """Batches of one objective each, of which the default makes no probes."""

    def batches(self, *given: Any) -> Iterator[Any]:
        for number, batch in enumerate(super().batches(*given)):
            yield {k: rows for k, rows in batch.items() if k == number % 2 or len(batch) == 1}


class RelatesThree(Sound):
    def relations(self) -> Any:
        return [mtlbench.Relation("size", "amount", "how much there is", np.ones(3))]


class Relates(Sound):
    def relations(self) -> Any:
        return [mtlbench.Relation("size", "amount", "how much there is", np.ones(2))]


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.tasks, "_entries", dict(registry.tasks.entries()))


def found(cls: type) -> dict[str, tuple[str, str]]:
    """Property -> verdict and what is told, of a task registered for the moment."""
    name = f"slots_{cls.__name__}"
    mtlbench.register_task(name, protocols=PROTOCOLS)(cls)
    return {finding.name: (finding.verdict, finding.told) for finding in battery(name)}


@pytest.mark.parametrize(
    ("cls", "holding"), [(SharedOut, [SHARES, PROBES]), (Probing, [PROBES]), (Relates, [PROBES, RELATIONS])]
)
def test_what_a_task_has_is_tried_and_what_it_lacks_is_not_said_to_hold(cls: type, holding: list[str]) -> None:
    verdicts = found(cls)
    assert "violated" not in {verdict for verdict, _ in verdicts.values()}, verdicts
    assert [name for name in (SHARES, PROBES, RELATIONS) if verdicts[name][0] == "holds"] == holding
    assert all(told for verdict, told in verdicts.values() if verdict == "not applicable")


FAULTS: dict[type, tuple[str, str]] = {
    NoStep: (SHARES, "supply has step=0.0"),
    AnObjectiveWithoutData: (SHARES, "sizes of supply should be 2 finite numbers above 0"),
    NoFactor: (SHARES, "share_out([0.5, 0.5]) gives the factors [0.0, 0.0]"),
    LeavesNobodyOut: (SHARES, "b has no share, and is in batch 0"),
    NeverGoesBack: (SHARES, "after share_out(None) the batches are not what they were"),
    WeighsNothing: (SHARES, "over its factor the loss of a is"),
    SharesOfTheMoment: (SHARES, "under given shares batches differ between equal generators"),
    TooFewProbes: (PROBES, "probes gives 1 batches, and 2 were asked for"),
    ProbesOfTheMoment: (PROBES, "probes differ between equal generators"),
    ProbesOfOne: (PROBES, "probe 0 lacks b"),
    RelatesThree: (RELATIONS, "is about 3 objectives of 2"),
}


@pytest.mark.parametrize("cls", FAULTS, ids=lambda cls: cls.__name__)
def test_each_fault_is_found_and_told_in_words(cls: type) -> None:
    name, reason = FAULTS[cls]
    verdict, told = found(cls)[name]
    assert verdict == "violated"
    assert reason in told


def test_what_a_task_says_it_cannot_do_is_no_fault() -> None:
    assert found(SharesOneWay)[SHARES] == ("not applicable", "of 2 languages only 1 is trained on")
    verdict, told = found(HoldsOne)[PROBES]
    assert verdict == "not applicable"
    assert "has training batches without" in told
