"""What single-task models get of a step where objectives have data of their own: their share, or as much as all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mtlbench
from mtlbench.catalogue import building
from mtlbench.catalogue.variants import resolve
from mtlbench.cells.request import parse
from mtlbench.errors import UsageError
from mtlbench.record.schema import CHECKPOINT, Record
from mtlbench.running.checking import check
from mtlbench.running.observing import Observer, View
from mtlbench.running.training import Interrupted

SHARE, WHOLE = 4, 12
SAME_STEP = "protocol.single_task_budget=same_step"


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x).squeeze(1)


class Regression(mtlbench.Task):
    """Three regressions, each on 48 examples of its own; a step has four of each."""

    objectives = tuple(
        mtlbench.Objective(name, (mtlbench.Metric(name="mse", higher_is_better=False),)) for name in "abc"
    )
    data_digest = "0" * 64
    steps_per_epoch = 5

    def __init__(self, variant: str, protocol: mtlbench.Protocol, data_root: Path | None, device: torch.device) -> None:
        self.x = torch.randn(3, 48, 5, generator=torch.Generator().manual_seed(1))
        self.y = self.x @ torch.randn(5, generator=torch.Generator().manual_seed(2))

    def model(self) -> nn.Module:
        return Network()

    def shared(self, model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
        return model.named_parameters()

    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[dict[int, Tensor]]:
        for _ in range(self.steps_per_epoch):
            yield {k: torch.randint(48, (SHARE,), generator=generator) for k in range(3)}

    def present(self, batch: dict[int, Tensor]) -> list[int]:
        return list(batch)

    def losses(self, model: nn.Module, batch: dict[int, Tensor], objectives: Sequence[int]) -> Iterator[Tensor]:
        for k in objectives:
            yield (model(self.x[k, batch[k]]) - self.y[k, batch[k]]).square().mean()

    def evaluate(self, model: nn.Module, split: str, objectives: Sequence[int]) -> dict[str, dict[str, float]]:
        return {
            Regression.objectives[k].name: {"mse": float((model(self.x[k]) - self.y[k]).square().mean())}
            for k in objectives
        }


class WholeSteps(Regression):
    """The same, with steps of one objective alone."""

    def batches_of(self, objective: int, epoch: int, generator: torch.Generator) -> Iterator[dict[int, Tensor]]:
        for _ in range(self.steps_per_epoch):
            yield {objective: torch.randint(48, (WHOLE,), generator=generator)}


class LastAlone(WholeSteps):
    """The whole steps of the last objective, as a task of its own."""

    objectives = Regression.objectives[2:]

    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[dict[int, Tensor]]:
        return ({0: batch[2]} for batch in super().batches_of(2, epoch, generator))

    def losses(self, model: nn.Module, batch: dict[int, Tensor], objectives: Sequence[int]) -> Iterator[Tensor]:
        return super().losses(model, {2: batch[0]}, [2])

    def evaluate(self, model: nn.Module, split: str, objectives: Sequence[int]) -> dict[str, dict[str, float]]:
        return super().evaluate(model, split, [2])


PROTOCOL: dict[str, Any] = {
    "version": 1,
    "description": "short",
    "variants": ["plain"],
    "epochs": 2,
    "batch_size": WHOLE,
    "optimizer": {"name": "adam", "lr": 0.01},
}


@pytest.fixture(autouse=True)
def tasks(tiny: Path) -> None:
    """The tasks above by name: with whole steps, without, and one objective alone."""
    for name, cls in {"whole": WholeSteps, "shares": Regression, "alone": LastAlone}.items():
        data = {
            "variants": {"plain": {"description": "it", "protocol": "short"}},
            "protocols": {"short": PROTOCOL},
            "own_data": True,
        }
        mtlbench.register_task(name, protocols=data)(type(cls.__name__, (cls,), {"__module__": __name__}))


class Sizes(Observer):
    """The examples that each model is trained on in each step."""

    every = 1

    def __init__(self) -> None:
        self.seen: list[list[dict[int, int]]] = []
        self.batches: list[Any] = []

    def after_step(self, view: View) -> None:
        self.seen.append([{k: len(rows) for k, rows in model.batch.items()} for model in view.models])
        self.batches.append(view.batch)
        for model in view.models:
            for k in model.objectives:
                assert k in view.losses
                list(view.task.losses(model.module, model.batch, [k]))

    def after_evaluation(self, view: View) -> None:
        assert all(model.batch is None for model in view.models)


def test_under_same_step_each_model_has_whole_steps_and_else_the_steps_of_the_joint_model(
    train: Callable[..., Record], tmp_path: Path
) -> None:
    def seen(words: str) -> Sizes:
        sizes = Sizes()
        train(f"task=whole {words}", tmp_path / words.replace(" ", "-"), observers=(sizes,))
        return sizes

    shares = dict.fromkeys(range(3), SHARE)
    whole = seen(f"method=single_task {SAME_STEP}")
    assert whole.seen == [[{0: WHOLE}, {1: WHOLE}, {2: WHOLE}]] * 10
    assert whole.batches == [None] * 10
    for words in ("", " protocol.single_task_budget=same_share"):
        old = seen(f"method=single_task{words}")
        assert old.seen == [[shares] * 3] * 10
        assert None not in old.batches
    assert seen(f"method=uniform {SAME_STEP}").seen == [[shares]] * 10


def test_under_same_step_a_model_is_trained_as_if_its_objective_were_alone(
    train: Callable[..., Record], tmp_path: Path
) -> None:
    together = train(f"method=single_task task=whole {SAME_STEP}", tmp_path / "together")
    alone = train("method=uniform task=alone", tmp_path / "alone")
    for mine, its in zip(together.evaluations, alone.evaluations, strict=True):
        assert mine.losses["c"] == its.losses["c"]
        assert {split: by["c"] for split, by in mine.scores.items()} == {s: by["c"] for s, by in its.scores.items()}
    shares = train("method=single_task task=whole", tmp_path / "shares")
    assert shares.evaluations != together.evaluations
    assert together.cost is not None
    assert together.cost.steps == 10


def test_the_rule_moves_no_joint_model_and_the_word_for_the_old_one_moves_nothing(
    train: Callable[..., Record], tmp_path: Path
) -> None:
    def curves(method: str, word: str) -> Any:
        return train(f"method={method} task=whole {word}", tmp_path / f"{method}{len(word)}").evaluations

    assert curves("gradvac", SAME_STEP) == curves("gradvac", "")
    assert curves("single_task", "protocol.single_task_budget=same_share") == curves("single_task", "")


@pytest.mark.parametrize("stop", [1, 3, 7])
def test_single_task_models_with_whole_steps_resume_bitwise(
    train: Callable[..., Record], tmp_path: Path, stop: int
) -> None:
    words = f"method=single_task task=whole {SAME_STEP}"
    whole = train(words, tmp_path / "whole")
    calls = iter(range(stop))
    with pytest.raises(Interrupted):
        train(words, tmp_path / "cut", should_stop=lambda: next(calls, None) is None, checkpoint_steps=2)
    assert (tmp_path / "cut" / CHECKPOINT).exists()
    resumed = train(words, tmp_path / "cut")
    assert resumed.provenance is not None
    assert resumed.provenance.resumed == 1
    assert resumed.evaluations == whole.evaluations


def test_identities_tell_of_a_rule_that_is_stated_and_of_no_other() -> None:
    def cell(words: str = "") -> Any:
        (found,) = parse(["method=single_task", "task=whole", *words.split()]).cells
        return found

    assert "single_task_budget" not in cell().canonical()["protocol"]
    assert cell(SAME_STEP).canonical()["protocol"]["single_task_budget"] == "same_step"
    assert len({cell(w).id for w in ("", SAME_STEP, "protocol.single_task_budget=same_share")}) == 3
    for words in ("", SAME_STEP):
        assert type(cell(words)).from_data(cell(words).to_data()).id == cell(words).id


def test_a_task_without_whole_steps_refuses_the_rule_before_anything_is_trained() -> None:
    for method in ("single_task", "uniform"):
        cells = parse(["task=shares", f"method={method}", SAME_STEP]).cells
        with pytest.raises(UsageError, match=r"'shares' has no batches of one objective .* Choose same_share\.$"):
            check(cells, "cpu", None)
    check(parse(["task=shares", "method=single_task", "protocol.single_task_budget=same_share"]).cells, "cpu", None)


def test_where_objectives_share_their_input_there_is_no_rule() -> None:
    with pytest.raises(UsageError, match=r"same_step is not allowed: the objectives of multimnist share their input"):
        resolve("multimnist", None, None, {"single_task_budget": "same_step"})
    with pytest.raises(UsageError, match="is not allowed"):
        resolve("whole", None, None, {"single_task_budget": "all"})


def test_whole_steps_that_end_early_are_told(train: Callable[..., Record], monkeypatch: pytest.MonkeyPatch) -> None:
    def short(self: Regression, objective: int, epoch: int, generator: torch.Generator) -> Iterator[Any]:
        return (batch for _, batch in zip(range(5 - objective), self.batches(epoch, generator), strict=False))

    monkeypatch.setattr(building.task_class("whole"), "batches_of", short)
    with pytest.raises(UsageError, match="yielded 3 batches in epoch 0 but states steps_per_epoch=5"):
        train(f"method=single_task task=whole {SAME_STEP}")
