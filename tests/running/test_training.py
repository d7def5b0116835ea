"""A cell's result depends on its configuration alone: not on interruptions, on the method's cost, or on luck."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT
from torch import Tensor, nn

import mtlbench
from mtlbench.catalogue import building
from mtlbench.catalogue.protocol import Schedule
from mtlbench.cells.request import parse
from mtlbench.errors import UsageError
from mtlbench.record.schema import CHECKPOINT, Record
from mtlbench.running.checking import check
from mtlbench.running.streams import flushes_denormals, process_of_a_cell, stream
from mtlbench.running.trainee import learning_rate_factor, step_batches, trainees
from mtlbench.running.training import Interrupted, Progress, run_cell

METHODS = sorted(p.stem for p in (ROOT / "methods").glob("[a-z]*.py"))
EVERY = [*METHODS, "uncertainty"]
STEPS = 24


def stop_after(calls: int) -> Callable[[], bool]:
    """A `should_stop` that says yes when it is asked for the `calls`-th time."""
    asked = iter(range(calls - 1))
    return lambda: next(asked, None) is None


def measured(record: Record) -> Any:
    return record.status, record.evaluations, record.diagnostics


def trace(file: Path, what: str) -> list[str]:
    return [line for line in file.read_text().splitlines() if line.startswith(what)]


@pytest.mark.parametrize("method", EVERY)
def test_two_runs_are_bitwise_equal(train: Callable[..., Record], tmp_path: Path, method: str) -> None:
    words = f"method={method} task=tiny"
    first = train(words, tmp_path / "a")
    assert first.status == "finished"
    assert measured(first) == measured(train(words, tmp_path / "b"))
    assert first.evaluations != train(f"{words} seed=1", tmp_path / "c").evaluations


@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize("variant", ["plain", "sampled"])
def test_resumed_equals_uninterrupted_bitwise(
    train: Callable[..., Record], tmp_path: Path, method: str, variant: str
) -> None:
    words = f"method={method} task=tiny/{variant} protocol.optimizer.weight_decay=0.01 protocol.schedule.name=cosine"
    whole = train(words, tmp_path / "whole")
    assert whole.status == "finished"
    # In the first step, in mid-epoch, at the end of an epoch, in the last step but one: then through to the end.
    for stop in (1, 4, 3, 9, 6):
        with pytest.raises(Interrupted):
            train(words, tmp_path / "cut", should_stop=stop_after(stop), checkpoint_steps=5)
        assert (tmp_path / "cut" / CHECKPOINT).exists()
    resumed = train(words, tmp_path / "cut", checkpoint_steps=5)
    assert resumed.provenance.resumed == 5
    assert measured(resumed) == measured(whole)
    assert resumed.cost.steps == whole.cost.steps == STEPS


@pytest.mark.parametrize("granularity", ["enc_dec", "all_layer", "all_matrix"])
def test_resumed_equals_uninterrupted_at_every_granularity(
    train: Callable[..., Record], tmp_path: Path, granularity: str
) -> None:
    words = f"method=gradvac task=tiny granularity={granularity} jacobian_dtype=bfloat16 protocol.clip_norm=1"
    whole = train(words, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(words, tmp_path / "cut", should_stop=stop_after(11))
    assert measured(train(words, tmp_path / "cut")) == measured(whole)


@pytest.mark.parametrize("variant", ["plain", "sampled"])
def test_resumed_equals_uninterrupted_between_two_refreshes(
    train: Callable[..., Record], tmp_path: Path, variant: str
) -> None:
    words = f"method=gradvac task=tiny/{variant} refresh=4 against=none"
    whole = train(words, tmp_path / "whole")
    assert measured(whole) != measured(train(words.replace("refresh=4", ""), tmp_path / "each"))
    for stop in (3, 4, 2):  # after 3, 7 and 9 steps
        with pytest.raises(Interrupted):
            train(words, tmp_path / "cut", should_stop=stop_after(stop))
    assert measured(train(words, tmp_path / "cut")) == measured(whole)


@pytest.mark.parametrize("variant", ["plain", "sampled"])
def test_resumed_equals_uninterrupted_where_a_step_takes_several_batches(
    train: Callable[..., Record], tmp_path: Path, variant: str
) -> None:
    words = f"method=sdmgrad task=tiny/{variant} against=none"
    whole = train(words, tmp_path / "whole")
    assert whole.cost.steps == STEPS
    for stop in (3, 5):
        with pytest.raises(Interrupted):
            train(words, tmp_path / "cut", should_stop=stop_after(stop))
    assert measured(train(words, tmp_path / "cut")) == measured(whole)


def test_several_batches_come_from_orders_of_the_data_of_their_own(tiny: Path) -> None:
    task, orders = building.task_class("tiny"), {}
    for name in ("modo", "sdmgrad", "gradvac"):
        (cell,) = parse([f"method={name}", "task=tiny", "against=none"]).cells
        made = task(cell.variant, cell.protocol, None, torch.device("cpu"))
        parts = trainees(cell, made, made.model(), mtlbench.method(name))
        steps = [one for (one,) in step_batches(made, parts, 0, 7)]
        orders[name] = [[*map(_numbers, one if parts[0].batches > 1 else [one])] for one in steps]
    assert [len(steps[0]) for steps in orders.values()] == [2, 3, 1]
    assert [[step[0] for step in steps] for steps in orders.values()] == [[step[0] for step in orders["gradvac"]]] * 3
    assert [step[1] for step in orders["modo"]] == [step[1] for step in orders["sdmgrad"]]
    assert all(len({*step}) == 3 for step in orders["sdmgrad"])
    assert len(orders["sdmgrad"]) == len(orders["gradvac"])


def _numbers(batch: Any) -> bytes:
    """What tells two batches of the tiny task apart."""
    return pickle.dumps([t.tolist() if isinstance(t, torch.Tensor) else t for t in batch])


def test_a_process_that_dies_goes_on_from_the_last_checkpoint(train: Callable[..., Record], tmp_path: Path) -> None:
    words = "method=gradvac task=tiny"
    whole = train(words, tmp_path / "whole")

    def die(progress: Progress) -> None:
        if progress.step >= 14:
            raise SystemExit

    with pytest.raises(SystemExit):
        train(words, tmp_path / "cut", on_progress=die, checkpoint_steps=12)
    steps: list[int] = []
    resumed = train(words, tmp_path / "cut", on_progress=lambda p: steps.append(p.step))
    assert steps[0] == 12
    assert measured(resumed) == measured(whole)


def test_an_interruption_between_evaluations_loses_no_step(train: Callable[..., Record], tmp_path: Path) -> None:
    words = "method=uniform task=tiny protocol.evaluate_every=2"
    whole = train(words, tmp_path / "whole")
    with pytest.raises(Interrupted):  # at the end of the first epoch, which is not evaluated
        train(words, tmp_path / "cut", should_stop=stop_after(8))
    steps: list[int] = []
    resumed = train(words, tmp_path / "cut", on_progress=lambda p: steps.append(p.step))
    assert steps[0] == 8
    assert measured(resumed) == measured(whole)
    assert [e.epoch for e in whole.evaluations] == [2, 3]


def test_a_stop_is_noticed_after_the_step_in_which_it_is_asked(train: Callable[..., Record], tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train("method=uniform task=tiny", should_stop=stop_after(3))
    steps: list[int] = []
    train("method=uniform task=tiny", on_progress=lambda p: steps.append(p.step))
    assert steps[0] == 3


@pytest.mark.parametrize("what", ["batch", "mask"])
def test_all_methods_see_the_same_batches_and_draw_the_same_dropout_masks(
    train: Callable[..., Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    # After the first step the weights differ and with them the activations, so masks are compared in that step,
    # and in later steps through inputs that the weights do not change.
    seen = {}
    for method in EVERY:
        monkeypatch.setenv("TINY_TRACE", str(tmp_path / method))
        train(f"method={method} task=tiny seed=3", tmp_path / f"{method}.cell")
        lines = trace(tmp_path / method, what)
        if method == "single_task":  # each of the two models is shown every batch
            assert lines[: 2 * STEPS : 2] == lines[1 : 2 * STEPS : 2] or what == "mask"
            lines = lines[::2]
        if method == "famo":  # which looks at every batch again after its step
            assert lines[: 2 * STEPS : 2] == lines[1 : 2 * STEPS : 2] or what == "mask"
            lines = lines[::2]
        if method in ("modo", "sdmgrad"):  # whose first batch of two or three in a step is everybody's
            lines = lines[:: len(mtlbench.method(method).batch_shares)]
        seen[method] = lines if what == "batch" else lines[:1]
    assert len(seen["uniform"]) == (STEPS if what == "batch" else 1)
    assert all(lines == seen["uniform"] for lines in seen.values())


def test_all_methods_start_from_the_same_weights(
    train: Callable[..., Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Path
) -> None:
    starts = []
    built = building.task_class("tiny").model

    def model(self: Any) -> nn.Module:
        made = built(self)
        starts.append(torch.cat([p.detach().flatten() for p in made.parameters()]))
        return made

    monkeypatch.setattr(building.task_class("tiny"), "model", model)
    for method in EVERY:
        train(f"method={method} task=tiny seed=3", tmp_path / method)
    assert len(starts) == len(EVERY)
    assert all(torch.equal(start, starts[0]) for start in starts)


def test_random_numbers_drawn_by_a_method_do_not_move_the_dropout_masks(
    train: Callable[..., Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With a learning rate of almost nothing the weights stand still, so every step's mask can be compared.
    masks = {}
    for method in ("uniform", "gradvac", "pcgrad", "single_task"):
        monkeypatch.setenv("TINY_TRACE", str(tmp_path / method))
        train(f"method={method} task=tiny protocol.optimizer.lr=1e-30", tmp_path / f"{method}.cell")
        masks[method] = trace(tmp_path / method, "mask")
    # A step of the joint model draws one mask for each objective; each separate model draws the first of them.
    assert masks["uniform"] == masks["gradvac"] == masks["pcgrad"]
    assert masks["single_task"][::2] == masks["single_task"][1::2] == masks["uniform"][::2]


def test_single_task_equals_training_each_objective_alone(train: Callable[..., Record], tmp_path: Path) -> None:
    together = train("method=single_task task=tiny protocol.options.dropout=0", tmp_path / "single")
    assert together.separate_models
    for k, name in enumerate("ab"):
        weights = "[1,0]" if k == 0 else "[0,1]"
        alone = train(
            f"method=scalarization method.weights={weights} task=tiny protocol.options.dropout=0", tmp_path / name
        )
        for mine, theirs in zip(together.evaluations, alone.evaluations, strict=True):
            assert mine.scores["test"][name]["mse"] == pytest.approx(theirs.scores["test"][name]["mse"], rel=1e-4)


def test_the_streams_of_a_seed_are_independent() -> None:
    seeds = {stream(s, name, i) for s in range(3) for name in ("init", "data", "noise", "method") for i in range(5)}
    assert len(seeds) == 60
    assert all(0 <= s < 2**63 for s in seeds)


def test_training_leaves_the_settings_of_the_process_as_they_were(train: Callable[..., Record]) -> None:
    torch.manual_seed(5)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    train("method=gradvac task=tiny protocol.threads=2")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("before", [False, True])
def test_denormal_numbers_are_zero_while_a_cell_trains(train: Callable[..., Record], before: bool) -> None:
    small = torch.full((2,), 1e-30)
    products: list[float] = []
    torch.set_flush_denormal(before)
    try:
        train("method=uniform task=tiny", on_progress=lambda _: products.append(float((small * 1e-10).sum())))
        assert products
        assert not any(products)
        assert bool((small * 1e-10).any()) is not before
        with process_of_a_cell(1):
            assert flushes_denormals()
        assert flushes_denormals() is before
    finally:
        torch.set_flush_denormal(False)


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ({}, [1, 1, 1, 1, 1, 1, 1, 1]),
        ({"warmup_steps": 4}, [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]),
        ({"name": "step", "every_epochs": 2, "factor": 0.5}, [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5]),
        ({"name": "step", "factor": 0.5}, [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]),
        ({"name": "linear"}, [1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
        ({"name": "linear", "warmup_steps": 2}, [1 / 2, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]),
        ({"name": "cosine"}, [0.5 * (1 + math.cos(math.pi * s / 8)) for s in range(8)]),
        (
            {"name": "cosine", "warmup_steps": 2},
            [0.5, 1, *(0.5 * (1 + math.cos(math.pi * s / 6)) for s in range(6))],
        ),
        ({"name": "inverse_sqrt", "warmup_steps": 2}, [0.5, 1, *(math.sqrt(2 / s) for s in range(3, 9))]),
    ],
)
def test_the_learning_rate_follows_the_schedule(schedule: dict[str, Any], factors: list[float]) -> None:
    given = Schedule.model_validate(schedule)
    assert [learning_rate_factor(given, s, 2, 8) for s in range(8)] == pytest.approx(factors)


def test_the_optimiser_gets_the_scheduled_learning_rate(
    train: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = []
    step = torch.optim.SGD.step

    def spy(self: torch.optim.SGD, *args: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    words = "protocol.optimizer.name=sgd protocol.optimizer.lr=0.1 protocol.schedule.name=step"
    train(f"method=uniform task=tiny {words} protocol.schedule.factor=0.1")
    assert rates == pytest.approx([0.1] * 8 + [0.01] * 8 + [0.001] * 8)


def test_a_time_limit_ends_the_cell_and_a_higher_one_goes_on(train: Callable[..., Record], tmp_path: Path) -> None:
    words = "method=gradvac task=tiny"
    whole = train(words, tmp_path / "whole")
    stopped = train(words, tmp_path / "cut", time_limit=1e-9)
    assert stopped.status == "timeout"
    assert "1e-09 s" in stopped.reason
    assert stopped.cost.steps == 1
    assert stopped.evaluations == ()
    resumed = train(words, tmp_path / "cut", time_limit=1000)
    assert resumed.provenance.resumed == 1
    assert measured(resumed) == measured(whole)


def test_a_cell_that_diverges_says_in_which_objective(train: Callable[..., Record]) -> None:
    record = train("method=gradvac task=tiny/diverges")
    assert record.status == "diverged"
    assert "loss of objective 1 is nan" in record.reason
    assert "1 is b" in record.reason
    alone = train("method=single_task task=tiny/diverges")
    assert "loss of objective 0 is nan" in alone.reason
    assert "0 is b" in alone.reason


def test_a_diverged_cell_keeps_the_curves_it_has(train: Callable[..., Record], monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate = building.task_class("tiny").evaluate
    calls = iter(range(100))

    def later_nan(self: Any, *args: Any) -> dict[str, dict[str, float]]:
        found = evaluate(self, *args)
        return found if next(calls) < 2 else {**found, "b": {"mse": float("nan")}}

    monkeypatch.setattr(building.task_class("tiny"), "evaluate", later_nan)
    record = train("method=uniform task=tiny")
    assert record.status == "diverged"
    assert record.reason.startswith("mse of b on val is nan after epoch 2")
    assert [e.epoch for e in record.evaluations] == [1]
    Record.model_validate_json(record.model_dump_json())


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no memory\nmore"), MemoryError()])
def test_out_of_memory_is_a_status(
    train: Callable[..., Record], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def starve(*_: Any) -> None:
        raise error

    monkeypatch.setattr(building.task_class("tiny"), "losses", starve)
    record = train("method=uniform task=tiny")
    assert (record.status, record.reason) == ("oom", "no memory" if str(error) else "out of memory")


def test_parameters_of_a_method_are_trained_and_resumed(train: Callable[..., Record], tmp_path: Path) -> None:
    record = train("method=uncertainty task=tiny", tmp_path / "whole")
    assert set(record.diagnostics) == {"s0", "s1"}
    assert all(abs(s) > 0.05 for s in record.diagnostics.values())
    assert record.diagnostics["s0"] != record.diagnostics["s1"]


def test_a_task_that_yields_another_number_of_batches_than_it_states_is_refused(
    train: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = building.task_class("tiny").batches
    for change in (lambda made: made[:-1], lambda made: [*made, made[0]]):
        monkeypatch.setattr(
            building.task_class("tiny"),
            "batches",
            lambda self, *a, change=change: iter(change(list(batches(self, *a)))),
        )
        with pytest.raises(UsageError, match="steps_per_epoch=8"):
            train("method=uniform task=tiny")


def test_a_task_without_batches_is_refused(train: Callable[..., Record]) -> None:
    with pytest.raises(UsageError, match="no training batches"):
        train("method=uniform task=tiny protocol.batch_size=65")


class Trap:
    """What runs when a checkpoint is unpickled without care."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


def flipped(good: bytes, _: Path) -> bytes:
    middle = len(good) // 2
    return good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]


def with_a_trap(good: bytes, file: Path) -> bytes:
    import hashlib
    import io

    buffer = io.BytesIO()
    torch.save({"format": 1, "cell": Trap(file)}, buffer)
    return hashlib.sha256(buffer.getvalue()).digest() + buffer.getvalue()


DAMAGE = {
    "flipped bit": flipped,
    "cut short": lambda good, _: good[: len(good) // 2],
    "empty": lambda *_: b"",
    "zeros": lambda good, _: bytes(len(good)),
    "text": lambda *_: b"not a checkpoint",
    "bare pickle": lambda _, file: pickle.dumps(Trap(file)),
    "pickle with a valid digest": with_a_trap,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_set_aside_and_never_executed(
    train: Callable[..., Record], tmp_path: Path, damage: str
) -> None:
    words = "method=gradvac task=tiny"
    whole = train(words, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(words, tmp_path / "cut", should_stop=stop_after(12))
    checkpoint = tmp_path / "cut" / CHECKPOINT
    bad = DAMAGE[damage](checkpoint.read_bytes(), tmp_path / "executed")
    checkpoint.write_bytes(bad)
    with pytest.warns(UserWarning, match="damaged"):
        record = train(words, tmp_path / "cut")
    assert not (tmp_path / "executed").exists()
    assert (tmp_path / "cut" / "checkpoint.pt.corrupt1").read_bytes() == bad
    assert record.provenance.resumed == 0
    assert measured(record) == measured(whole)


def test_a_checkpoint_of_another_cell_is_not_used(train: Callable[..., Record], tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train("method=gradvac task=tiny seed=1", should_stop=stop_after(12))
    with pytest.warns(UserWarning, match="another cell"):
        record = train("method=gradvac task=tiny seed=0")
    assert measured(record) == measured(train("method=gradvac task=tiny seed=0", tmp_path / "fresh"))


def test_a_checkpoint_of_a_model_that_has_changed_is_named_and_kept_and_the_cell_starts_again(
    train: Callable[..., Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Interrupted):
        train("method=uniform task=tiny", should_stop=stop_after(12))
    built = building.task_class("tiny").model

    def wider(self: Any) -> nn.Module:
        model = built(self)
        model.extra = nn.Linear(1, 1)
        return model

    monkeypatch.setattr(building.task_class("tiny"), "model", wider)
    with pytest.warns(UserWarning, match=r"does not fit the model as it is now .*kept as checkpoint\.pt\.corrupt1"):
        record = train("method=uniform task=tiny")
    assert (record.status, record.provenance.resumed) == ("finished", 0)
    assert measured(record) == measured(train("method=uniform task=tiny", tmp_path / "fresh"))


def test_the_record_says_what_the_cell_cost(train: Callable[..., Record]) -> None:
    cost = train("method=gradvac task=tiny").cost
    assert cost.steps == STEPS
    assert cost.seconds_per_step > 0
    assert cost.seconds_training >= cost.seconds_per_step
    assert cost.peak_memory_bytes > 1_000_000
    assert cost.memory == "process"


def test_training_losses_are_means_since_the_previous_evaluation(train: Callable[..., Record]) -> None:
    # Weights that stand still have the same mean loss over every epoch, in whatever order the batches come.
    record = train("method=uniform task=tiny protocol.options.dropout=0 protocol.optimizer.lr=1e-30")
    first, *others = [e.losses for e in record.evaluations]
    assert first["a"] != first["b"]
    assert all(losses == pytest.approx(first, rel=1e-5) for losses in others)


def test_what_does_not_fit_is_found_without_training(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Iterator[Tensor]:
        raise AssertionError("a batch was asked for")

    monkeypatch.setattr(building.task_class("tiny"), "batches", never)
    check(parse([f"method={','.join(EVERY)}", "task=tiny"]).cells, "cpu", None)
    bad = {
        "method=scalarization task=tiny method.weights=[1,2,3]": "3 numbers for 2 objectives",
        "method=uniform task=tiny protocol.batch_size=8,65": "no training batches",
        "method=uniform task=tiny protocol.options.size=5000": "at most 1000",
        "method=uniform task=tiny protocol.optimizer.betas=[2,2]": "protocol.optimizer",
        "method=uniform task=tiny protocol.selection=mean-last-4": "needs 4 evaluations and there are 3: epochs=3",
        "method=uniform task=tiny protocol.selection=mean-last-2 protocol.evaluate_every=3": "there are 1",
    }
    for words, says in bad.items():
        with pytest.raises(UsageError, match=says):
            check(parse(words.split()).cells, "cpu", None)


def test_a_selection_that_counts_every_evaluation_is_allowed(tiny: Path) -> None:
    words = ["method=uniform", "task=tiny", "protocol.selection=mean-last-2", "protocol.evaluate_every=2"]
    assert check(parse(words).cells, "cpu", None)  # after epochs 2 and 3


def test_a_device_that_is_not_there_is_refused_with_those_that_are(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device in ("cuda:2", "mps"):
        with pytest.raises(UsageError, match=f"device={device} is not there. This machine has: cpu, cuda:0, cuda:1"):
            check([], device, None)
    assert check([], "cuda:1", None) == []


def test_the_check_builds_a_task_once_for_all_methods_and_seeds(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    original = building.task_class("tiny").__init__

    def count(self: Any, *args: Any) -> None:
        built.append(args[0])
        original(self, *args)

    monkeypatch.setattr(building.task_class("tiny"), "__init__", count)
    cells = parse(
        ["method=uniform,gradvac", "task=tiny,tiny/sampled", "seed=0..3", "protocol.optimizer.lr=0.1,0.2"]
    ).cells
    check(cells, "cpu", None)
    assert built == ["plain", "sampled"]


@pytest.mark.parametrize("where", ["__init__", "model", "shared", "groups"])
def test_an_error_of_the_task_itself_does_not_refuse_the_grid(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def broken(self: Any, *_: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(building.task_class("tiny"), where, property(broken) if where == "groups" else broken)
    cells = parse(["method=uniform", "task=tiny"]).cells
    check(cells, "cpu", None)
    with pytest.raises(RuntimeError, match="broken"):
        run_cell(cells[0], Path())


def test_without_epochs_the_model_is_scored_once_as_it_is(train: Callable[..., Record], tmp_path: Path) -> None:
    words = "method=uniform task=tiny"
    told: list[Progress] = []
    record = train(f"{words} protocol.epochs=0", tmp_path / "none", on_progress=told.append)
    (evaluation,) = record.evaluations
    assert (record.status, evaluation.epoch, evaluation.step, evaluation.losses) == ("finished", 0, 0, {})
    assert record.cost is not None
    assert (record.cost.steps, record.cost.seconds_training) == (0, 0)
    assert [(p.step, p.total_steps, p.epoch, bool(p.scores)) for p in told] == [(0, 0, 0, False), (0, 0, 0, True)]
    trained = train(f"{words} protocol.epochs=1", tmp_path / "one")
    assert evaluation.scores != trained.evaluations[0].scores
    assert evaluation.scores != train(f"{words} protocol.epochs=0 seed=1", tmp_path / "other").evaluations[0].scores
    assert Record.model_validate_json(record.model_dump_json()) == record


def test_without_epochs_a_cell_that_was_evaluated_is_not_evaluated_again(
    train: Callable[..., Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "method=uniform task=tiny protocol.epochs=0"
    whole = train(words, tmp_path / "cell")
    assert (tmp_path / "cell" / CHECKPOINT).exists()  # the caller writes the record, which did not come to it here
    monkeypatch.setattr(building.task_class("tiny"), "evaluate", lambda *_: pytest.fail("evaluated again"))
    again = train(words, tmp_path / "cell")
    assert again.evaluations == whole.evaluations
    assert again.provenance is not None
    assert again.provenance.resumed == 1


def test_an_evaluation_of_epoch_0_belongs_to_a_protocol_without_epochs(
    train: Callable[..., Record], tmp_path: Path
) -> None:
    content = train("method=uniform task=tiny", tmp_path / "a").model_dump(mode="json")
    content["evaluations"][0]["epoch"] = 0
    with pytest.raises(ValueError, match="an evaluation is of epoch 0, and the protocol has epochs"):
        Record.model_validate(content)
