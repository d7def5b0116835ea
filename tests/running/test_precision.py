"""Training and evaluation run in bfloat16 autocast where protocol and device have it, and the record says what ran."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mtlbench.catalogue import building
from mtlbench.record.schema import CHECKPOINT, Record
from mtlbench.running import precision
from mtlbench.running.training import Interrupted

WORDS = "method=gradvac task=tiny protocol.autocast=true"
CPU = torch.device("cpu")


@pytest.fixture
def units(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Let the CPU have matrix units for bfloat16 or not; autocast computes the same with and without them."""

    def have(there: bool) -> None:
        monkeypatch.setattr(precision, "_multiplies_bfloat16", lambda device: there)

    have(True)
    return have


def finals(record: Record) -> list[float]:
    return [record.evaluations[-1].scores["test"][name]["mse"] for name in "ab"]


@pytest.mark.parametrize("shape", ["generator", "list"])
def test_autocast_is_on_in_every_loss_and_in_evaluation_and_the_record_says_so(
    train: Callable[..., Record],
    units: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
    shape: str,
) -> None:
    cls, seen = building.task_class("tiny"), set()
    losses, evaluate = cls.losses, cls.evaluate

    def told(what: str, model: nn.Module) -> None:
        seen.add((what, model(torch.zeros(1, 6), 0).dtype))

    def spied_losses(self: Any, model: nn.Module, *args: Any) -> Any:
        def each() -> Any:
            for loss in losses(self, model, *args):
                told("loss", model)
                yield loss

        return each() if shape == "generator" else [*each()]

    def spied_evaluate(self: Any, model: nn.Module, *args: Any) -> Any:
        told("evaluation", model)
        return evaluate(self, model, *args)

    monkeypatch.setattr(cls, "losses", spied_losses)
    monkeypatch.setattr(cls, "evaluate", spied_evaluate)
    record = train(WORDS)
    assert record.provenance.precision == "bfloat16 autocast"
    assert seen == {("loss", torch.bfloat16), ("evaluation", torch.bfloat16)}


def test_without_the_units_the_cell_runs_in_float32_and_the_record_says_so(
    train: Callable[..., Record], units: Callable[[bool], None], tmp_path: Path
) -> None:
    units(False)
    record = train(WORDS, tmp_path / "asked")
    assert record.provenance.precision == "float32"
    assert record.evaluations == train("method=gradvac task=tiny", tmp_path / "plain").evaluations


def test_a_protocol_without_autocast_runs_in_float32_everywhere(
    train: Callable[..., Record], units: Callable[[bool], None]
) -> None:
    assert train("method=gradvac task=tiny").provenance.precision == "float32"


@pytest.mark.parametrize("method", ["uniform", "gradvac", "single_task"])
def test_training_after_an_evaluation_goes_on_from_the_trained_weights(
    train: Callable[..., Record], units: Callable[[bool], None], tmp_path: Path, method: str
) -> None:
    # Weights that are converted once and remembered would be stale after a step, and have no graph after an evaluation.
    words = f"method={method} task=tiny protocol.autocast=true protocol.options.dropout=0"
    often = train(words, tmp_path / "often")
    once = train(f"{words} protocol.evaluate_every=3", tmp_path / "once")
    exact = train(words.replace("protocol.autocast=true", ""), tmp_path / "exact")
    assert often.evaluations[-1].scores == once.evaluations[-1].scores
    assert finals(often) != finals(exact)
    assert finals(often) == pytest.approx(finals(exact), rel=0.03)


def test_resumed_equals_uninterrupted_under_autocast(
    train: Callable[..., Record], units: Callable[[bool], None], tmp_path: Path
) -> None:
    whole = train(WORDS, tmp_path / "whole")
    for stop in (4, 8):
        asked = iter(range(stop))
        with pytest.raises(Interrupted):
            train(WORDS, tmp_path / "cut", should_stop=lambda asked=asked: next(asked, None) is None)
    assert train(WORDS, tmp_path / "cut").evaluations == whole.evaluations


def test_a_cell_goes_on_in_the_precision_in_which_it_began(
    train: Callable[..., Record], units: Callable[[bool], None], tmp_path: Path
) -> None:
    whole = train(WORDS, tmp_path / "whole")
    asked = iter(range(12))
    with pytest.raises(Interrupted):
        train(WORDS, tmp_path / "cut", should_stop=lambda: next(asked, None) is None)
    units(False)
    with pytest.raises(ValueError, match=r"trained in bfloat16 autocast, and this device would go on in float32"):
        train(WORDS, tmp_path / "cut")
    assert (tmp_path / "cut" / CHECKPOINT).exists()
    units(True)
    assert train(WORDS, tmp_path / "cut").evaluations == whole.evaluations


def test_a_cpu_has_the_units_if_its_capabilities_name_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for capabilities, expected in (
        ({"amx_bf16": True}, "bfloat16 autocast"),
        ({"amx_bf16": False, "avx512_bf16": True}, "float32"),
        ({"architecture": "aarch64"}, "float32"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found, raising=False)
        assert precision.precision(True, CPU) == expected
        assert precision.precision(False, CPU) == "float32"
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert precision.precision(True, CPU) == "float32"
