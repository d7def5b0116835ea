"""What a task knows of the sampling of its scores is kept beside them, and changes nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mtlbench
from mtlbench.catalogue import building
from mtlbench.errors import UsageError
from mtlbench.record.reading import load
from mtlbench.record.schema import RECORD, Evaluation, Record, Sampling
from mtlbench.running.training import Interrupted
from mtlbench.statistics import mean_error

WORDS = "method=gradvac task=tiny"


@pytest.fixture
def estimate(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], Any]], None]:
    """Let the tiny task answer something else, made of its plain scores, for the objective `b`."""
    cls = building.task_class("tiny")
    evaluate = cls.evaluate

    def replace(make: Callable[[Any], Any]) -> None:
        def other(self: Any, model: torch.nn.Module, split: str, objectives: list[int]) -> Mapping[str, Any]:
            found = evaluate(self, model, split, objectives)
            return {name: {"mse": make(s["mse"]) if name == "b" else s["mse"]} for name, s in found.items()}

        monkeypatch.setattr(cls, "evaluate", other)

    return replace


def of_squares(self: Any, model: torch.nn.Module, split: str, objectives: list[int]) -> Mapping[str, Any]:
    """The scores of the tiny task, with the errors of their means."""
    x, y = self.splits[split]
    answers = {}
    for k in objectives:
        squares = (model(x, k) - y[:, k]).square()
        error = mean_error(squares.numpy())
        answers[self.objectives[k].name] = {"mse": mtlbench.Estimate(float(squares.mean()), error, len(squares))}
    return answers


def plain(record: Record) -> Any:
    """Everything that was measured but for the sampling and for times."""
    return record.id, record.diagnostics, [e.model_copy(update={"sampling": {}}) for e in record.evaluations]


@pytest.mark.parametrize("words", [WORDS, "method=single_task task=tiny"])
def test_estimates_are_kept_and_change_neither_scores_nor_identity(
    train: Callable[..., Record], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str
) -> None:
    before = train(words, tmp_path / "before")
    monkeypatch.setattr(building.task_class("tiny"), "evaluate", of_squares)
    record = train(words, tmp_path / "after")
    assert plain(record) == plain(before)
    assert [e.sampling for e in before.evaluations] == [{}] * 3
    for evaluation in record.evaluations:
        assert {split: sorted(found) for split, found in evaluation.sampling.items()} == {
            "val": ["a", "b"],
            "test": ["a", "b"],
        }
        told = evaluation.sampling["test"]["b"]["mse"]
        assert told.count == 64
        assert told.error is not None
        assert 0 < told.error < evaluation.scores["test"]["b"]["mse"]


def test_estimates_come_back_from_the_file_and_after_an_interruption(
    train: Callable[..., Record], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(building.task_class("tiny"), "evaluate", of_squares)
    whole = train(WORDS, tmp_path / "whole")
    whole.save(tmp_path)
    assert load(tmp_path / RECORD) == whole
    asked = iter(range(12))
    with pytest.raises(Interrupted):
        train(WORDS, tmp_path / "cut", should_stop=lambda: next(asked, None) is None)
    resumed = train(WORDS, tmp_path / "cut")
    assert resumed.evaluations == whole.evaluations
    assert resumed.evaluations[0].sampling


def test_some_scores_may_be_estimates_and_others_numbers(
    train: Callable[..., Record], estimate: Callable[..., None]
) -> None:
    estimate(lambda value: mtlbench.Estimate(value, None, np.int64(64)))  # type: ignore[arg-type]
    last = train(WORDS).evaluations[-1]
    assert last.sampling["test"] == {"b": {"mse": Sampling(error=None, count=64)}}
    assert json.loads(last.model_dump_json())["sampling"]["val"] == {"b": {"mse": {"error": None, "count": 64}}}


@pytest.mark.parametrize(
    ("error", "count", "says"),
    [
        (math.nan, 64, "the error nan"),
        (-1.0, 64, "the error -1.0"),
        (torch.tensor(1.0), 64, "the error tensor"),
        (1.0, 0, "the count 0"),
        (1.0, 2.5, "the count 2.5"),
        (1.0, True, "the count True"),
    ],
)
def test_what_cannot_be_of_an_estimate_is_refused_with_its_name(
    train: Callable[..., Record], estimate: Callable[..., None], error: Any, count: Any, says: str
) -> None:
    estimate(lambda value: mtlbench.Estimate(value, error, count))
    with pytest.raises(UsageError, match=f"task tiny: mse of b on val has {says}"):
        train(WORDS)


def test_an_estimate_without_a_number_is_a_divergence(
    train: Callable[..., Record], estimate: Callable[..., None]
) -> None:
    estimate(lambda _: mtlbench.Estimate(math.nan, math.nan, 64))
    record = train(WORDS)
    assert (record.status, record.reason) == ("diverged", "mse of b on val is nan after epoch 1.")


def test_a_record_without_word_of_sampling_is_read_as_before(train: Callable[..., Record], tmp_path: Path) -> None:
    record = train(WORDS)
    record.save(tmp_path)
    content = json.loads((tmp_path / RECORD).read_text())
    for evaluation in content["evaluations"]:
        del evaluation["sampling"]
    (tmp_path / RECORD).write_text(json.dumps({**content, "schema_version": 4}))
    assert load(tmp_path / RECORD).evaluations == record.evaluations


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"test": {"b": {"f1": {"error": 1, "count": 2}}}}, "sampling of b f1 on test, of which there is no score"),
        ({"news": {"b": {"mse": {"error": 1, "count": 2}}}}, "sampling of b mse on news"),
        ({"test": {"b": {"mse": {"error": -1, "count": 2}}}}, "greater than or equal to 0"),
        ({"test": {"b": {"mse": {"error": math.nan, "count": 2}}}}, "finite"),
        ({"test": {"b": {"mse": {"error": None, "count": 0}}}}, "greater than or equal to 1"),
    ],
)
def test_sampling_that_no_cell_can_leave_is_named(told: Any, says: str) -> None:
    scores = {"test": {"b": {"mse": 1.0}}}
    with pytest.raises(ValueError, match=says):
        Evaluation(epoch=1, step=1, losses={}, scores=scores, sampling=told)
