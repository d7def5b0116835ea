"""Observers see a cell train, and it ends as if nobody had looked, whatever they draw and compute meanwhile."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mtlbench.catalogue import building
from mtlbench.record.schema import Record
from mtlbench.running import clock, provenance
from mtlbench.running.clock import Clock, Interrupted, TimeLimit
from mtlbench.running.observing import Observer, ObserverFailed, View
from mtlbench.running.reports import Progress

EVERY = ["uniform", "gradvac", "pcgrad", "single_task", "uncertainty"]
CPU = torch.device("cpu")


class Watcher(Observer):
    """Keeps what it is shown."""

    def __init__(self, every: int | None = None) -> None:
        self.every = every
        self.steps: list[View] = []
        self.evaluations: list[View] = []

    def after_step(self, view: View) -> None:
        self.steps.append(view)

    def after_evaluation(self, view: View) -> None:
        self.evaluations.append(view)


class Meddler(Observer):
    """Draws from every generator, trains on the batch without a step, and leaves all switches turned."""

    every = 1

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.drawn: list[float] = []

    def after_step(self, view: View) -> None:
        self.meddle(view)
        for model in view.models:
            losses = list(view.task.losses(model.module, view.batch, [k for k in view.losses if k in model.objectives]))
            if losses:
                torch.stack(losses).sum().backward()
                self.losses.append(float(losses[0].detach()))
            model.module.eval()

    def after_evaluation(self, view: View) -> None:
        self.meddle(view)
        for model in view.models:
            model.module.eval()
            with torch.no_grad():
                for buffer in model.module.buffers():
                    buffer.add_(1)

    def meddle(self, view: View) -> None:
        self.drawn.append(torch.rand(3).sum().item() + random.random() + np.random.rand())
        torch.manual_seed(1)
        random.seed(2)
        np.random.seed(3)
        for model in view.models:
            model.module(torch.ones(2, 6), 0).sum().backward()


def measured(record: Record) -> Any:
    return record.status, record.evaluations, record.diagnostics, record.cost.steps


@pytest.fixture
def normalised(monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    """Give the tiny model batch normalisation, whose statistics a forward pass moves, and a task that draws."""
    cls = building.task_class("tiny")
    built, losses, batches = cls.model, cls.losses, cls.batches

    def model(self: Any) -> nn.Module:
        made = built(self)
        made.decoder = nn.Sequential(made.decoder, nn.BatchNorm1d(8))
        return made

    def noisy(self: Any, model: nn.Module, batch: Any, objectives: list[int]) -> Any:
        shift = random.random() + np.random.rand() if model.training else 0.0
        return (loss + shift * loss for loss in losses(self, model, batch, objectives))

    def shifted(self: Any, *args: Any) -> Any:
        return ((x + torch.rand(1), y) for x, y in batches(self, *args))  # from the generator of the process

    monkeypatch.setattr(cls, "model", model)
    monkeypatch.setattr(cls, "losses", noisy)
    monkeypatch.setattr(cls, "batches", shifted)


@pytest.mark.parametrize("method", EVERY)
def test_an_observer_that_draws_and_runs_forward_and_backward_leaves_no_bit_changed(
    train: Callable[..., Record], normalised: None, tmp_path: Path, method: str
) -> None:
    words = f"method={method} task=tiny"
    records = []
    for observers in ((), (Meddler(),)):
        random.seed(7)
        np.random.seed(7)
        records.append(train(words, tmp_path / str(len(observers)), observers=observers))
    assert records[0].status == "finished"
    assert measured(records[1]) == measured(records[0])


def test_what_an_observer_draws_is_not_what_training_draws_next(
    train: Callable[..., Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, observers in (("alone", ()), ("seen", (Meddler(),))):
        monkeypatch.setenv("TINY_TRACE", str(tmp_path / name))
        train("method=gradvac task=tiny", tmp_path / f"{name}.cell", observers=observers)
    alone, seen = ((tmp_path / name).read_text().splitlines() for name in ("alone", "seen"))
    assert [*dict.fromkeys(line for line in alone if line in seen)] == [*dict.fromkeys(alone)]


def test_an_observed_cell_that_is_cut_off_goes_on_as_an_unobserved_one(
    train: Callable[..., Record], tmp_path: Path
) -> None:
    whole = train("method=gradvac task=tiny", tmp_path / "whole")
    asked = iter(range(11))
    with pytest.raises(Interrupted):
        train(
            "method=gradvac task=tiny",
            tmp_path / "cut",
            observers=(Meddler(),),
            should_stop=lambda: next(asked, None) is None,
        )
    assert measured(train("method=gradvac task=tiny", tmp_path / "cut")) == measured(whole)


def test_an_observer_looks_after_its_own_steps_and_every_evaluation(train: Callable[..., Record]) -> None:
    often, seldom, blocks = Watcher(every=1), Watcher(every=5), Watcher()
    record = train("method=gradvac task=tiny", observers=(often, seldom, blocks))
    assert [view.step for view in often.steps] == [*range(1, 25)]
    assert [view.step for view in seldom.steps] == [5, 10, 15, 20]
    assert [view.step for view in blocks.steps] == [*range(1, 25)]  # since a block ends where anybody looks
    for watcher in (often, seldom, blocks):
        assert [view.evaluation for view in watcher.evaluations] == list(record.evaluations)
        assert [(view.step, view.epoch) for view in watcher.evaluations] == [(8, 1), (16, 2), (24, 3)]


def test_without_a_wish_of_its_own_an_observer_looks_where_blocks_end(
    train: Callable[..., Record], tmp_path: Path
) -> None:
    watcher = Watcher()
    train("method=gradvac task=tiny protocol.options.size=96", observers=(watcher,), checkpoint_steps=7)
    assert [view.step for view in watcher.steps] == [7, 12, 14, 21, 24, 28, 35, 36]
    assert [view.block.steps for view in watcher.steps] == [7, 5, 2, 7, 3, 4, 7, 1]
    other = Watcher()
    train("method=gradvac task=tiny protocol.options.size=96", tmp_path / "other", observers=(other,))
    assert [view.step for view in other.steps] == [10, 12, 22, 24, 34, 36]


@pytest.mark.parametrize("method", ["uniform", "single_task"])
def test_a_view_holds_the_batch_its_losses_and_the_models(train: Callable[..., Record], method: str) -> None:
    watcher = Watcher(every=3)
    train(f"method={method} task=tiny protocol.options.dropout=0 protocol.optimizer.lr=1e-30", observers=(watcher,))
    view = watcher.steps[2]
    assert (view.step, view.total_steps, view.epoch, view.task.name, view.cell.method) == (9, 24, 1, "tiny", method)
    assert [model.objectives for model in view.models] == ([(0,), (1,)] if method == "single_task" else [(0, 1)])
    for model in view.models:  # whose weights stand still
        for k in model.objectives:
            (loss,) = view.task.losses(model.module, view.batch, [k])
            assert view.losses[k].item() == pytest.approx(loss.item(), rel=1e-5)
            assert not view.losses[k].requires_grad
    assert (watcher.evaluations[0].batch, watcher.evaluations[0].losses, watcher.evaluations[0].block) == (
        None,
        {},
        None,
    )


class Broken(Watcher):
    def __init__(self, when: int, error: Exception | None = None) -> None:
        super().__init__(every=1)
        self.when = when
        self.error = error

    def after_step(self, view: View) -> None:
        if view.step == self.when:
            if self.error:
                raise self.error
            with torch.no_grad():
                next(view.models[0].module.parameters()).mul_(1.5)

    def after_evaluation(self, view: View) -> None:
        if self.when < 0:
            raise ValueError("cannot count")


def test_an_error_of_an_observer_ends_the_cell_and_names_it(train: Callable[..., Record], tmp_path: Path) -> None:
    with pytest.raises(ObserverFailed, match=r"^the observer Broken after step 5: ValueError: bad luck$"):
        train("method=uniform task=tiny", observers=(Broken(5, ValueError("bad luck")),))
    with pytest.raises(ObserverFailed, match="the observer Broken in the evaluation after epoch 1: ValueError: cannot"):
        train("method=uniform task=tiny", observers=(Broken(-1),))


def test_an_observer_that_changes_the_model_ends_the_cell(train: Callable[..., Record]) -> None:
    with pytest.raises(ObserverFailed, match=r"Broken after step 2 changed a parameter of the model"):
        train("method=uniform task=tiny", observers=(Broken(2),))


def test_memory_that_an_observer_lacks_is_out_of_memory(train: Callable[..., Record]) -> None:
    record = train("method=uniform task=tiny", observers=(Broken(9, torch.OutOfMemoryError("no memory\nmore")),))
    assert record.status == "oom"
    assert record.reason == "the observer Broken after step 9: OutOfMemoryError: no memory"
    assert [e.epoch for e in record.evaluations] == [1]


def test_an_error_of_whoever_is_told_of_progress_is_one_of_an_observer(train: Callable[..., Record]) -> None:
    def tell(progress: Progress) -> None:
        if progress.step > 0:
            raise ValueError("deaf")

    with pytest.raises(ObserverFailed, match="the observer Reporter after step 8: ValueError: deaf"):
        train("method=uniform task=tiny", on_progress=tell)


def test_what_an_observer_saw_is_in_a_checkpoint_of_that_step_or_is_shown_again(
    train: Callable[..., Record], tmp_path: Path
) -> None:
    with pytest.raises(ObserverFailed):
        train("method=uniform task=tiny", observers=(Broken(6, ValueError()),), checkpoint_steps=3)
    again = Watcher(every=1)
    assert train("method=uniform task=tiny", observers=(again,)).provenance.resumed == 1
    assert [view.step for view in again.steps][:3] == [4, 5, 6]


# --- the clock


class Time:
    """A clock that is turned by hand, for `time.perf_counter`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(clock.time, "perf_counter", lambda: self.now)


def test_the_time_of_observers_evaluations_and_checkpoints_is_in_no_step(
    train: Callable[..., Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand = Time(monkeypatch)
    cls = building.task_class("tiny")
    losses, evaluate = cls.losses, cls.evaluate

    def slow_losses(self: Any, *args: Any) -> Any:
        hand.now += 2.0
        return losses(self, *args)

    def slow_evaluate(self: Any, *args: Any) -> Any:
        hand.now += 50.0
        return evaluate(self, *args)

    class Slow(Watcher):
        def after_step(self, view: View) -> None:
            hand.now += 1000.0

        def after_evaluation(self, view: View) -> None:
            hand.now += 1000.0

    monkeypatch.setattr(cls, "losses", slow_losses)
    monkeypatch.setattr(cls, "evaluate", slow_evaluate)
    for watcher in ((), (Slow(),), (Slow(every=3),)):
        record = train("method=uniform task=tiny", tmp_path / str(len(str(watcher))), observers=watcher)
        assert record.cost.seconds_per_step == 2.0
        assert record.cost.seconds_training == 48.0
        assert record.cost.seconds_evaluation == 300.0


def test_the_time_limit_counts_what_was_spent_before(monkeypatch: pytest.MonkeyPatch) -> None:
    hand = Time(monkeypatch)
    ticking = Clock(CPU, spent=7.0, limit=10.0, should_stop=lambda: False)
    hand.now += 2.5
    ticking.step()
    assert not ticking.is_over
    assert ticking.end() == (1, 2.5)
    hand.now += 1000  # an evaluation
    ticking.start()
    hand.now += 1.0
    ticking.step()
    assert ticking.is_over
    with pytest.raises(TimeLimit):
        ticking.raise_if_over()


def test_a_wish_to_stop_goes_before_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    hand = Time(monkeypatch)
    ticking = Clock(CPU, spent=0.0, limit=1.0, should_stop=lambda: True)
    hand.now += 5.0
    ticking.step()
    with pytest.raises(Interrupted):
        ticking.raise_if_over()


def test_a_block_is_full_after_ten_steps_and_a_new_one_is_empty() -> None:
    ticking = Clock(CPU, spent=0.0, limit=None, should_stop=lambda: False)
    for number in range(1, 11):
        ticking.step()
        assert ticking.block_is_full == (number == 10)
    assert ticking.end().steps == 10
    ticking.start()
    assert not ticking.block_is_full


def test_peak_memory_is_the_most_that_was_seen_over_all_resumptions(
    train: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    for used, stop in ((9_000, 5), (4_000, 10**6)):
        monkeypatch.setattr(provenance, "peak_memory", lambda device, used=used: used)
        asked = iter(range(stop))
        if stop == 5:
            with pytest.raises(Interrupted):
                train("method=uniform task=tiny", should_stop=lambda asked=asked: next(asked, None) is None)
        else:
            record = train("method=uniform task=tiny")
    assert record.cost.peak_memory_bytes == 9_000
