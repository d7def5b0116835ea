"""Runs with wrt=representation: what is refused before training, what is trained, and the same when it is resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mtlbench.catalogue import building
from mtlbench.cells.request import parse
from mtlbench.errors import UsageError
from mtlbench.record.schema import Record
from mtlbench.running.checking import check
from mtlbench.running.trainee import trainees
from mtlbench.running.training import Interrupted

SCALE = "task=controls/scale protocol.epochs=1 against=none"


def stop_after(calls: int) -> Callable[[], bool]:
    asked = iter(range(calls - 1))
    return lambda: next(asked, None) is None


def measured(record: Record) -> Any:
    return record.status, record.evaluations, record.diagnostics


@pytest.mark.parametrize("words", ["method=gradvac", "method=gradvac refresh=3", "method=graddrop"])
def test_resumed_equals_uninterrupted_bitwise(train: Callable[..., Record], tmp_path: Path, words: str) -> None:
    words = f"{words} wrt=representation {SCALE}"
    whole = train(words, tmp_path / "whole")
    assert whole.status == "finished"
    assert whole.cell.axes["wrt"] == "representation"
    assert whole.evaluations != train(words.replace("wrt=representation", ""), tmp_path / "parameters").evaluations
    for stop in (1, 4, 3):
        with pytest.raises(Interrupted):
            train(words, tmp_path / "cut", should_stop=stop_after(stop))
    assert measured(train(words, tmp_path / "cut")) == measured(whole)


def test_the_command_trains_and_its_table_says_it(command: Callable[..., Any], tmp_path: Path) -> None:
    ran = command(f"run method=mgda wrt=representation task=multimnist protocol.epochs=1 results={tmp_path / 'runs'}")
    assert ran.code == 0, ran.output
    table = command(f"table results={tmp_path / 'runs'} --format md").output
    assert "mgda(wrt=representation)" in table
    assert table.count("an approximation of those with respect to the parameters") == 1
    assert "task=multimnist/digits protocol=digits protocol.epochs=1 wrt=representation" in table


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("method=mgda task=controls/surgery", "controls/surgery has no representation .* multimnist, nyuv2"),
        ("method=mgda task=toy", "toy/.* has no representation .* controls, multimnist, nyuv2"),
        ("method=mgda task=tiny", "tiny/plain has no representation"),
        ("method=gradnorm task=multimnist", "gradnorm is not allowed with wrt=representation: .* last shared layer"),
        ("method=modo task=multimnist", "modo is not allowed with wrt=representation: .* several batches"),
        ("method=moco task=multimnist", "moco is not allowed with wrt=representation: .* remembers"),
        ("method=mgda task=multimnist granularity=all_layer", "goes with granularity=whole_model alone"),
    ],
)
def test_what_has_no_answer_is_refused_before_anything_is_trained(tiny: Path, words: str, reason: str) -> None:
    cells = parse([*words.split(), "wrt=representation", "against=none"]).cells
    with pytest.raises(UsageError, match=reason):
        check(cells, "cpu", None)


def test_the_geometry_has_no_trace_of_gradients_that_are_not_of_parameters(tiny: Path) -> None:
    (cell,) = parse(f"method=mgda wrt=representation {SCALE}".split()).cells
    task = building.task_class("controls")(cell.variant, cell.protocol, None, torch.device("cpu"))
    (part,) = trainees(cell, task, task.model(), building.method("mgda"))
    assert part.backward.watch() is None
