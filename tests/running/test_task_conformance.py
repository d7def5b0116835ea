"""The battery of tasks finds what is wrong with a task, says what, and nothing where nothing is."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mtlbench
from mtlbench.catalogue import registry
from mtlbench.errors import DataMissing, UsageError
from mtlbench.running.task_conformance import battery

PROTOCOLS = {
    "variants": {"small": {"description": "Random numbers.", "protocol": "short"}},
    "protocols": {
        "short": {
            "version": 1,
            "description": "Two epochs.",
            "variants": ["small"],
            "epochs": 2,
            "batch_size": 8,
            "optimizer": {"name": "adam", "lr": 0.01},
        }
    },
}
MSE = mtlbench.Metric(name="mse", higher_is_better=False)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(4, 6)
        self.heads = nn.ModuleList(nn.Linear(6, 1) for _ in range(2))
        self.dropout = nn.Dropout(0.5)


class Sound(mtlbench.Task):
    """Two regressions on one encoder."""

    objectives = (mtlbench.Objective("a", (MSE,)), mtlbench.Objective("b", (MSE,)))

    def __init__(self, variant: str, protocol: mtlbench.Protocol, data_root: Path | None, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x, self.y = torch.randn(32, 4, generator=generator), torch.randn(32, 2, generator=generator)
        self.data_digest = "0" * 64
        self.steps_per_epoch = 4

    def model(self) -> nn.Module:
        return Network()

    def shared(self, model: Any) -> list[tuple[str, nn.Parameter]]:
        return list(model.encoder.named_parameters(prefix="encoder"))

    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[Any]:
        yield from torch.randperm(32, generator=generator).split(8)

    def losses(self, model: Any, batch: Tensor, objectives: Sequence[int]) -> Any:
        features = model.dropout(model.encoder(self.x[batch]))
        return [(model.heads[k](features)[:, 0] - self.y[batch, k]).square().mean() for k in objectives]

    def evaluate(self, model: Any, split: str, objectives: Sequence[int]) -> Any:
        features = model.encoder(self.x)
        error = [(model.heads[k](features)[:, 0] - self.y[:, k]).square().mean().item() for k in range(2)]
        return {self.objectives[k].name: {"mse": error[k]} for k in objectives}


class Generated(Sound):
    """The same with a graph for each loss, and steps that hold one objective or both."""

    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[Any]:
        for number, index in enumerate(super().batches(epoch, generator)):
            yield dict.fromkeys(([0, 1], [0], [1], [1])[number], index)

    def present(self, batch: dict[int, Tensor]) -> list[int]:
        return list(batch)

    def losses(self, model: Any, batch: Any, objectives: Sequence[int]) -> Any:
        for k in objectives:
            yield from super().losses(model, batch[k], [k])


class Undeclared(Sound):
    objectives = (mtlbench.Objective("a", ()), mtlbench.Objective("b", (MSE,)))


class DigestOfTheMoment(Sound):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.data_digest = f"{int(torch.rand(()) * 1e9):064d}"


class NoDigest(Sound):
    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.data_digest = "mnist"


class WeightsOfTheMoment(Sound):
    def model(self) -> nn.Module:
        network = Network()
        with torch.no_grad():
            network.encoder.bias[0] = float(np.random.rand())
        return network


class TooFewBatches(Sound):
    def batches(self, *given: Any) -> Iterator[Any]:
        yield from list(super().batches(*given))[:-1]


class BatchesOfTheMoment(Sound):
    def batches(self, *given: Any) -> Iterator[Any]:
        yield from torch.randperm(32).split(8)


class WholeSteps(Generated):
    """The same with steps of one objective alone."""

    def batches_of(self, objective: int, epoch: int, generator: torch.Generator) -> Iterator[Any]:
        return ({objective: index} for index in torch.randperm(32, generator=generator).split(8))


class TooFewWholeSteps(WholeSteps):
    def batches_of(self, objective: int, *given: Any) -> Iterator[Any]:
        yield from list(super().batches_of(objective, *given))[objective:]


class WholeStepsOfTheMoment(WholeSteps):
    def batches_of(self, objective: int, *given: Any) -> Iterator[Any]:
        return ({objective: index} for index in torch.randperm(32).split(8))


class WholeStepsOfAll(WholeSteps):
    def batches_of(self, objective: int, *given: Any) -> Iterator[Any]:
        return self.batches(*given)


class Represented(Sound):
    """The same, saying what its heads read."""

    def losses(self, *given: Any) -> Any:
        return self.losses_and_representation(*given)[0]

    def losses_and_representation(self, model: Any, batch: Tensor, objectives: Sequence[int]) -> Any:
        features = model.dropout(model.encoder(self.x[batch]))
        return [(model.heads[k](features)[:, 0] - self.y[batch, k]).square().mean() for k in objectives], features


class OtherLossesWithTheRepresentation(Represented):
    def losses(self, *given: Any) -> Any:
        return [2 * loss for loss in super().losses(*given)]


class AnotherRepresentation(Represented):
    def losses_and_representation(self, model: Any, batch: Tensor, objectives: Sequence[int]) -> Any:
        return super().losses_and_representation(model, batch, objectives)[0], model.encoder(self.x[batch])


class PartOfTheRepresentation(Represented):
    def losses_and_representation(self, model: Any, batch: Tensor, objectives: Sequence[int]) -> Any:
        features = model.encoder(self.x[batch])
        read = features.tanh()
        losses = [(model.heads[k](read + 1e-3 * features)[:, 0] - self.y[batch, k]).square().mean() for k in objectives]
        return losses, read

    def losses(self, *given: Any) -> Any:
        return self.losses_and_representation(*given)[0]


class AbsentPresent(Sound):
    def present(self, batch: Tensor) -> list[int]:
        return [0, 0]


class TooManyLosses(Generated):
    def losses(self, model: Any, batch: Any, objectives: Sequence[int]) -> Any:
        return Sound.losses(self, model, next(iter(batch.values())), [0, 1])


class TooFewLosses(Sound):
    def losses(self, *given: Any) -> Any:
        return super().losses(*given)[:1]


class LossesInAnotherOrder(Sound):
    def losses(self, *given: Any) -> Any:
        return super().losses(*given)[::-1]


class LossesOfRows(Sound):
    def losses(self, *given: Any) -> Any:
        return [loss[None] for loss in super().losses(*given)]


class LossesWithoutGradient(Sound):
    def losses(self, *given: Any) -> Any:
        return [loss.detach() for loss in super().losses(*given)]


class SharesTheHeads(Sound):
    def shared(self, model: Any) -> list[tuple[str, nn.Parameter]]:
        return list(model.named_parameters())


class SharesTooLittle(Sound):
    def shared(self, model: Any) -> list[tuple[str, nn.Parameter]]:
        return [("encoder.weight", model.encoder.weight)]


class SharesAnotherModel(Sound):
    def shared(self, model: Any) -> list[tuple[str, nn.Parameter]]:
        return list(Network().encoder.named_parameters())


class ScoresOne(Sound):
    def evaluate(self, model: Any, split: str, objectives: Sequence[int]) -> Any:
        return super().evaluate(model, split, [0])


class ScoresByAnotherMetric(Sound):
    def evaluate(self, *given: Any) -> Any:
        return {name: {"mae": 1.0} for name in super().evaluate(*given)}


class ScoresTensors(Sound):
    def evaluate(self, *given: Any) -> Any:
        return {name: {"mse": torch.tensor(1.0)} for name in super().evaluate(*given)}


class Estimates(Sound):
    """The same, telling the sampling of its scores."""

    def evaluate(self, *given: Any) -> Any:
        scores = super().evaluate(*given)
        return {name: {"mse": mtlbench.Estimate(found["mse"], *self.told)} for name, found in scores.items()}

    told: tuple[Any, Any] = (0.0, 32)


class EstimatesNoError(Estimates):
    told = (None, 1)


class EstimatesAnErrorBelowZero(Estimates):
    told = (-0.1, 32)


class EstimatesAnErrorThatIsNoNumber(Estimates):
    told = (float("nan"), 32)


class EstimatesOverNothing(Estimates):
    told = (0.1, 0)


class EstimatesOverHalfAnExample(Estimates):
    told = (0.1, 31.5)


class EstimatesWithoutAValue(Sound):
    def evaluate(self, *given: Any) -> Any:
        return {name: {"mse": mtlbench.Estimate(float("inf"), 0.1, 32)} for name in super().evaluate(*given)}


class ScoresInAnotherOrder(Sound):
    def evaluate(self, model: Any, split: str, objectives: Sequence[int]) -> Any:
        scores = super().evaluate(model, split, range(2))
        values = list(scores.values())[::-1]
        return {self.objectives[k].name: values[place] for place, k in enumerate(objectives)}


class SeedsTorch(Sound):
    def __init__(self, *given: Any) -> None:
        torch.manual_seed(0)
        super().__init__(*given)


class Draws(Sound):
    def batches(self, *given: Any) -> Iterator[Any]:
        random.random()
        np.random.rand()
        yield from super().batches(*given)


class Moves(Sound):
    def evaluate(self, *given: Any) -> Any:
        os.chdir("/")
        torch.set_num_threads(2)
        return super().evaluate(*given)


class KeepsDenormals(Sound):
    def evaluate(self, *given: Any) -> Any:
        torch.set_flush_denormal(False)
        return super().evaluate(*given)


class Raises(Sound):
    def __init__(self, *given: Any) -> None:
        raise KeyError("field")


FAULTS: dict[type, tuple[str, str]] = {
    Raises: ("is built", "KeyError: 'field'"),
    Undeclared: ("is built", "each objective a metric"),
    DigestOfTheMoment: ("has the same data", "built again"),
    NoDigest: ("has the same data", "data_digest is 'mnist', and should be a SHA-256"),
    WeightsOfTheMoment: ("starts from the same weights", "encoder.bias differs"),
    TooFewBatches: ("yields steps_per_epoch", "an epoch has 3 batches, and steps_per_epoch is 4"),
    BatchesOfTheMoment: ("yields steps_per_epoch", "batch 0 differs between two passes"),
    TooFewWholeSteps: ("yields steps_per_epoch", "batches_of b yields 3 batches, not steps_per_epoch=4"),
    WholeStepsOfTheMoment: ("yields steps_per_epoch", "batches_of a differs between equal generators"),
    WholeStepsOfAll: ("yields steps_per_epoch", "batches_of a holds the objectives [0, 1]"),
    AbsentPresent: ("holds in every batch", "present says [0, 0] of batch 0; objectives are 0 to 1"),
    TooManyLosses: ("gives one finite loss", "losses gives more than the 1 that objectives=[0] asks for"),
    TooFewLosses: ("gives one finite loss", "losses gives fewer than the 2 that objectives=[0, 1] asks for"),
    LossesInAnotherOrder: ("gives one finite loss", "the loss of a is"),
    LossesOfRows: ("gives one finite loss", "the loss of a is a tensor of shape (1,), and should be"),
    LossesWithoutGradient: ("gives one finite loss", "the loss of a has no gradient"),
    SharesTheHeads: ("shares the parameters", "heads.0.weight of shared is reached by a only: leave it to its head"),
    SharesTooLittle: ("shares the parameters", "encoder.bias is reached by a and b, and shared leaves it out"),
    SharesAnotherModel: ("shares the parameters", "weight of shared is no parameter of the model"),
    OtherLossesWithTheRepresentation: ("gives what all heads read", "gives other losses than losses"),
    AnotherRepresentation: ("gives what all heads read", "reaches the shared parameter"),
    PartOfTheRepresentation: ("gives what all heads read", "reaches the shared parameter encoder."),
    ScoresOne: ("scores every objective", "val has no scores of b"),
    ScoresByAnotherMetric: ("scores every objective", "val scores a by mae; its metrics are mse"),
    ScoresTensors: ("scores every objective", "should be a finite number"),
    EstimatesAnErrorBelowZero: ("scores every objective", "mse of a on val has the error -0.1: allowed are numbers"),
    EstimatesAnErrorThatIsNoNumber: ("scores every objective", "mse of a on val has the error nan"),
    EstimatesOverNothing: ("scores every objective", "mse of a on val has the count 0: allowed are whole numbers"),
    EstimatesOverHalfAnExample: ("scores every objective", "mse of a on val has the count 31.5"),
    EstimatesWithoutAValue: ("scores every objective", "mse of a on val is inf, and should be a finite number"),
    ScoresInAnotherOrder: ("scores every objective", "mse of b on val is"),
    SeedsTorch: ("leaves the process", "its constructor changes torch's global random state"),
    Draws: ("leaves the process", "batches changes NumPy's global random state"),
    Moves: ("leaves the process", "evaluate changes the working directory"),
    KeepsDenormals: ("leaves the process", "evaluate changes whether denormal numbers are zero"),
}


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.tasks.load("multimnist")  # a module that is imported already does not register again
    monkeypatch.setattr(registry.tasks, "_entries", dict(registry.tasks.entries()))


def found(cls: type) -> dict[str, str]:
    """Property -> the problem, of a task registered for the moment."""
    name = f"tried_{cls.__name__}"
    mtlbench.register_task(name, protocols=PROTOCOLS)(cls)
    return {finding.name: finding.problem for finding in battery(name)}


@pytest.mark.parametrize("cls", [Sound, Generated, WholeSteps, Represented, Estimates, EstimatesNoError])
def test_a_sound_task_holds_everywhere(cls: type) -> None:
    problems = found(cls)
    assert len(problems) == 13
    assert not any(problems.values()), problems


@pytest.mark.parametrize("cls", FAULTS, ids=lambda cls: cls.__name__)
def test_each_fault_is_found_where_it_is_and_told_in_words(cls: type) -> None:
    name, reason = FAULTS[cls]
    problems = found(cls)
    assert any(property_.startswith(name) and reason in problem for property_, problem in problems.items()), problems


@pytest.mark.parametrize("cls", [SeedsTorch, Draws, Moves, Sound])
def test_the_battery_leaves_the_process_as_it_was_even_where_the_task_does_not(cls: type) -> None:
    def state() -> list[Any]:
        numpy = np.random.get_state()[1].tobytes()  # type: ignore[union-attr]
        return [torch.get_rng_state().tolist(), numpy, random.getstate(), Path.cwd(), torch.get_num_threads()]

    before = state()
    found(cls)
    assert state() == before


def test_multimnist_holds() -> None:
    problems = {finding.name: finding.problem for finding in battery("multimnist", "digits")}
    assert len(problems) == 13
    assert not any(problems.values()), problems


def test_what_a_user_can_mend_is_no_finding(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Unknown task 'multimnits'"):
        list(battery("multimnits"))
    with pytest.raises(DataMissing):
        list(battery("multimnist", "mnist", tmp_path))


class Scored(Sound):
    """A model that is only scored."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.steps_per_epoch = 0

    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[Any]:
        raise AssertionError("a batch was asked for")

    def losses(self, *_: Any) -> Any:
        raise AssertionError("a loss was asked for")


def test_a_task_that_is_only_scored_is_asked_for_no_batch_and_no_loss() -> None:
    content = {**PROTOCOLS, "protocols": {"short": {**PROTOCOLS["protocols"]["short"], "epochs": 0}}}
    mtlbench.register_task("only_scored", protocols=content)(Scored)
    findings = list(battery("only_scored"))
    assert [f.name for f in findings if f.problem] == []
    untried = [f.name for f in findings if f.verdict == "not applicable"]
    assert untried == [
        "yields steps_per_epoch batches, the same from the same generator",
        "holds in every batch some of its objectives, each once",
        "gives one finite loss for each objective, in their order",
        "shares the parameters that several objectives reach, and no others",
        "gives what all heads read, where it says that it does",
        "takes shares of a step, and goes back to its own way",
        "gives probes that hold every objective, the same from the same generator",
        "relates its objectives and no others",
    ]
    mtlbench.register_task("never_trained", protocols=PROTOCOLS)(type("Untrained", (Scored,), {}))
    assert "steps_per_epoch is 0" in next(battery("never_trained")).problem
