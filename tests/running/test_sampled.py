"""A strategy that shares steps out: asked once an epoch, shown plain losses, and gone on with from a checkpoint."""

from __future__ import annotations

import hashlib
import io
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mtlbench
from mtlbench.cells.request import parse
from mtlbench.errors import UsageError
from mtlbench.record.schema import CHECKPOINT, Record
from mtlbench.running.checking import check
from mtlbench.running.training import Interrupted

ROWS, STEPS = 12, 4
PROTOCOL = {
    "version": 1,
    "description": "Three epochs of four steps.",
    "variants": ["plain"],
    "epochs": 3,
    "batch_size": 8,
    "optimizer": {"name": "adam", "lr": 0.05},
}
DATA = {
    "variants": {"plain": {"description": "three regressions", "protocol": "short"}},
    "protocols": {"short": PROTOCOL},
    "own_data": True,
}
DRO = "method=gradvac method.beta=0.5 task=shared_out sampling=chi2_dro sampling.rho=0.2"


@pytest.fixture(autouse=True, scope="module")
def _registered() -> None:
    mtlbench.register_task("shared_out", protocols=DATA)(SharedOut)
    mtlbench.register_task("one_way", protocols=DATA)(OneWay)
    mtlbench.register_sampling("listening")(Listening)
    mtlbench.register_sampling("wrong")(Wrong)


class SharedOut(mtlbench.Task):
    """Three regressions with data of their own; a step has `ROWS` rows, each objective's loss the weight 3 p_i."""

    objectives = tuple(
        mtlbench.Objective(name, (mtlbench.Metric(name="mse", higher_is_better=False),)) for name in "abc"
    )
    groups = {"hrl": [0, 1], "lrl": [2]}  # noqa: RUF012
    data_digest = "0" * 64
    steps_per_epoch = STEPS
    taken: ClassVar[list[Any]] = []
    """What `share_out` was called with."""
    plain: ClassVar[list[dict[int, float]]] = []
    """The mean losses of every step."""

    def __init__(self, variant: str, protocol: mtlbench.Protocol, data_root: Path | None, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randn(3, 48, 5, generator=generator)
        self.y = self.x.sum(2) * torch.tensor([1.0, 2.0, 4.0])[:, None]
        self.p = np.full(3, 1 / 3)
        self.taken.clear()
        self.plain.clear()

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))

    def shared(self, model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
        return model.named_parameters()

    def supply(self) -> mtlbench.Supply:
        sizes = np.array([48.0, 24.0, 12.0])
        return mtlbench.Supply(sizes=sizes, amounts=sizes, step=float(ROWS), temperature=np.inf)

    def share_out(self, shares: Any) -> Any:
        self.taken.append(None if shares is None else shares.tolist())
        self.p = np.full(3, 1 / 3) if shares is None else shares
        return 3 * self.p

    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[dict[int, Tensor]]:
        for _ in range(STEPS):
            rows = {k: max(1, round(ROWS * self.p[k])) for k in np.flatnonzero(self.p).tolist()}
            yield {k: torch.randint(48, (count,), generator=generator) for k, count in rows.items()}

    def present(self, batch: dict[int, Tensor]) -> list[int]:
        return list(batch)

    def losses(self, model: nn.Module, batch: dict[int, Tensor], objectives: Sequence[int]) -> Iterator[Tensor]:
        self.plain.append({})
        for k in objectives:
            loss = (model(self.x[k, batch[k]]).squeeze(1) - self.y[k, batch[k]]).square().mean()
            self.plain[-1][k] = loss.item()
            yield loss * float(3 * self.p[k])

    def evaluate(self, model: nn.Module, split: str, objectives: Sequence[int]) -> dict[str, dict[str, float]]:
        return {
            self.objectives[k].name: {"mse": (model(self.x[k]).squeeze(1) - self.y[k]).square().mean().item()}
            for k in objectives
        }


class OneWay(SharedOut):
    """Its steps are shared out in one way."""

    supply = mtlbench.Task.supply


class Listening(mtlbench.Sampling):
    """Equal shares; writes down what it is asked and shown."""

    observes = True
    log: ClassVar[list[Any]] = []

    def start(self) -> None:
        self.log.clear()
        self.log.append((self.epochs, self.steps_per_epoch, self.groups, self.supply.step))

    def shares(self, epoch: int) -> Any:
        self.log.append(epoch)
        return np.array([0.5, 0.25, 0.25])

    def observe(self, losses: Mapping[int, float]) -> None:
        self.log.append(dict(losses))


class Wrong(mtlbench.Sampling):
    """What it gives from the second epoch on are no shares."""

    given: ClassVar[Any] = [0.5, 0.5, 0.5]

    def shares(self, epoch: int) -> Any:
        return np.array([1.0, 0.0, 0.0]) if epoch == 0 else self.given


def cut_off(train: Callable[..., Record], words: str, folder: Path, steps: int) -> Path:
    """Stop a cell after so many steps; its checkpoint."""
    asked = itertools.count(1)
    with pytest.raises(Interrupted):
        train(words, folder, should_stop=lambda: next(asked) >= steps)
    return folder / CHECKPOINT


def test_a_strategy_is_asked_once_an_epoch_and_shown_every_loss_without_the_weight_of_its_share(
    train: Callable[..., Record],
) -> None:
    train("method=gradvac task=shared_out sampling=listening")
    told, *heard = Listening.log
    assert told == (3, STEPS, {"hrl": [0, 1], "lrl": [2]}, ROWS)
    assert [x for x in heard if isinstance(x, int)] == [0, 1, 2]
    assert heard[0] == 0
    seen = [x for x in heard if not isinstance(x, int)]
    assert len(seen) == len(SharedOut.plain) == 3 * STEPS
    for found, plain in zip(seen, SharedOut.plain, strict=True):
        assert found == pytest.approx(plain, rel=1e-5)


def test_without_the_word_no_task_is_asked_to_share_out(train: Callable[..., Record]) -> None:
    record = train("method=gradvac task=shared_out")
    assert SharedOut.taken == []
    assert "sampling" not in record.cell.canonical()
    assert not [name for name in record.diagnostics if name.startswith("share of")]


def test_shares_move_towards_the_objective_of_the_highest_loss_and_the_record_tells_them(
    train: Callable[..., Record],
) -> None:
    record = train(DRO)
    first, *later = SharedOut.taken
    assert first == pytest.approx([48 / 84, 24 / 84, 12 / 84])
    assert len(later) == 2
    assert later[-1][2] > 1.5 * first[2]
    assert [record.diagnostics[f"share of {name}"] for name in "abc"] == later[-1]
    assert record.label == "gradvac(beta=0.5, sampling=chi2_dro(rho=0.2))"


def test_objectives_without_a_share_are_absent_and_come_later(train: Callable[..., Record]) -> None:
    record = train(
        "method=gradvac task=shared_out sampling=order sampling.switch=0.5 sampling.temperature=1 protocol.epochs=4"
    )
    assert [sorted(losses) for losses in SharedOut.plain] == [[0, 1]] * 2 * STEPS + [[0, 1, 2]] * 2 * STEPS
    assert [sorted(e.losses) for e in record.evaluations] == [["a", "b"]] * 2 + [["a", "b", "c"]] * 2


@pytest.mark.parametrize("steps", [2, STEPS + 1, STEPS + 3, 2 * STEPS + 2])
@pytest.mark.parametrize("words", [DRO, DRO.replace("sampling.rho=0.2", "sampling.ema=1")])
def test_a_cell_that_stopped_goes_on_with_the_shares_and_the_losses_that_it_had(
    train: Callable[..., Record], tmp_path: Path, words: str, steps: int
) -> None:
    whole = train(words, tmp_path / "whole")
    taken = list(SharedOut.taken)
    path = cut_off(train, words, tmp_path / "cut", steps)
    resumed = train(words, path.parent)
    assert resumed.provenance
    assert resumed.provenance.resumed == 1
    assert resumed.evaluations == whole.evaluations
    assert resumed.diagnostics == whole.diagnostics
    assert SharedOut.taken == taken[-len(SharedOut.taken) :]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s.pop("sampling"), "it has no state of sampling"),
        (lambda s: s["sampling"].update(epoch=0), "its shares are of epoch 0, not 1"),
        (lambda s: s["sampling"].update(shares=torch.tensor([0.75, 0.5, 0]).double()), "its shares sum to 1.25, not 1"),
        (lambda s: s["sampling"].update(shares=torch.tensor([1.5, -0.5, 0.0]).double()), "its shares are no shares"),
        (lambda s: s["sampling"].update(shares=torch.ones(1).double()), r"it has no \(3,\) numbers called shares"),
        (lambda s: s["sampling"]["state"].clear(), r"the state of sampling has \[\], not \['mean_loss'\]"),
        (lambda s: s["sampling"]["state"].update(mean_loss=torch.ones(3)), "numbers called mean_loss"),
    ],
)
def test_a_state_that_the_cell_cannot_have_come_to_is_not_gone_on_from(
    train: Callable[..., Record], tmp_path: Path, change: Callable[[Any], Any], reason: str
) -> None:
    whole = train(DRO, tmp_path / "whole")
    path = cut_off(train, DRO, tmp_path / "cut", STEPS + 3)
    state = torch.load(io.BytesIO(path.read_bytes()[32:]), weights_only=True)
    change(state)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    path.write_bytes(hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue())
    warned: list[str] = []
    again = train(DRO, path.parent, on_warning=warned.append)
    assert len(warned) == 1
    assert re.search(reason, warned[0]), warned
    assert again.provenance
    assert again.provenance.resumed == 0
    assert again.evaluations == whole.evaluations


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ([0.5, 0.5, 0.5], r"gives sum to 1\.5, not 1"),
        ([1.5, -0.5, 0.0], "gives are no shares"),
        ([np.nan, 0.5, 0.5], "gives are no shares"),
        ([0.5, 0.5], r"gives have the shape \(2,\), not \(3,\)"),
    ],
)
def test_what_a_strategy_gives_in_a_later_epoch_is_checked_before_training(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, given: list[float], wrong: str
) -> None:
    monkeypatch.setattr(Wrong, "given", np.array(given))
    cells = parse(["method=uniform", "task=shared_out", "sampling=wrong"]).cells
    with pytest.raises(UsageError, match=f"shares that sampling=wrong {wrong}"):
        check(cells, "cpu", None)
    assert SharedOut.taken[-1] is None  # the task is as it was


def test_tasks_that_share_steps_out_in_one_way_say_so_before_training(tiny: Path) -> None:
    (cell,) = parse(["method=uniform", "task=one_way", "sampling=unimax", "sampling.repeats=2"]).cells
    with pytest.raises(UsageError, match="task 'one_way' shares its steps out in one way only"):
        check([cell], "cpu", None)
    check(parse(["method=uniform", "task=one_way"]).cells, "cpu", None)


def test_models_of_one_objective_each_are_what_they_are_without_a_strategy(train: Callable[..., Record]) -> None:
    cells = parse(["method=single_task", "task=shared_out", "sampling=temperature,chi2_dro"]).cells
    assert [cell.id for cell in cells] == [parse(["method=single_task", "task=shared_out"]).cells[0].id]
    train("method=single_task task=shared_out sampling=chi2_dro")
    assert SharedOut.taken == []
