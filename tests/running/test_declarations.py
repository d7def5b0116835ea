"""What a task declares is in the record: groups, facts, extra splits, signatures; what cannot be is refused at once."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from conftest import FIXTURES

import mtlbench
from mtlbench.catalogue import building
from mtlbench.cells.request import parse
from mtlbench.errors import UsageError
from mtlbench.record.reading import load
from mtlbench.record.schema import RECORD, Record
from mtlbench.running.checking import check
from mtlbench.running.training import Interrupted, Progress
from tests.handmade import multilingual, record, save


@pytest.fixture
def declare(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the tiny task declare more; of extra splits it has the objective `b` alone."""
    cls = building.task_class("tiny")
    evaluate = cls.evaluate

    def with_extra(self: Any, model: torch.nn.Module, split: str, objectives: list[int]) -> Mapping[str, Any]:
        if split in ("val", "test"):
            return evaluate(self, model, split, objectives)
        return evaluate(self, model, "test", [k for k in objectives if k == 1])

    monkeypatch.setattr(cls, "evaluate", with_extra)

    def set_all(**declared: Any) -> None:
        for name, value in declared.items():
            monkeypatch.setattr(cls, name, value, raising=False)

    return set_all


def test_groups_facts_and_signatures_are_in_the_record(
    train: Callable[..., Record], declare: Callable[..., None], tmp_path: Path
) -> None:
    exact = mtlbench.Metric(name="mse", higher_is_better=False, signature="mean over 64 points")
    declare(
        objectives=tuple(mtlbench.Objective(name, (exact,)) for name in "ab"),
        groups={"one": [1], "both": [1, 0]},
        facts=MappingProxyType({"lines": {"dropped": 3, "lengths": (1, 2.5)}, "subwords": "abc", "none": None}),
    )
    train("method=uniform task=tiny").save(tmp_path)
    found = load(tmp_path / RECORD)
    assert found.groups == {"one": ("b",), "both": ("b", "a")}
    assert found.facts == {"lines": {"dropped": 3, "lengths": [1, 2.5]}, "subwords": "abc", "none": None}
    assert [o.metrics[0].signature for o in found.objectives] == ["mean over 64 points"] * 2
    assert found.schema_version == 7


def test_what_a_task_says_of_itself_does_not_change_which_cell_it_is(
    train: Callable[..., Record], declare: Callable[..., None], tmp_path: Path
) -> None:
    bare = train("method=uniform task=tiny", tmp_path / "bare")
    declare(facts={"lines": 3}, groups={"one": [1]}, extra_splits=("news",))
    told = train("method=uniform task=tiny", tmp_path / "told")
    assert told.id == bare.id
    assert [e.scores["test"] for e in told.evaluations] == [e.scores["test"] for e in bare.evaluations]


def test_facts_are_read_after_the_model_is_built(
    train: Callable[..., Record], declare: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    built = building.task_class("tiny").model

    def model(self: Any) -> torch.nn.Module:
        made = built(self)
        self.facts = {"parameters": sum(p.numel() for p in made.parameters())}
        return made

    monkeypatch.setattr(building.task_class("tiny"), "model", model)
    assert train("method=uniform task=tiny").facts == {"parameters": 6 * 8 + 8 + 8 * 8 + 8 + 2 * 9}


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({"groups": {"low": [2]}}, r"groups\['low'\] is \[2\]. .* from 0 to 1"),
        ({"groups": {"low": []}}, r"groups\['low'\] is \[\]"),
        ({"groups": {"low": [0, 0]}}, "different objectives"),
        ({"groups": {"all": [0]}}, "must not be called 'all'"),
        ({"groups": {"b": [0]}}, "must not be called 'b'"),
        ({"extra_splits": ("test",)}, "other than train, val, test"),
        ({"extra_splits": ("news", "news")}, "must be different names"),
        ({"facts": {"a": {"b": [1.0, math.nan]}}}, r"facts\['a'\]\['b'\]\[1\] is nan"),
        ({"facts": {"a": Path("x")}}, r"facts\['a'\] is .*allowed are strings"),
        ({"facts": {1: 2}}, "has the key 1, which is no string"),
    ],
)
def test_what_no_record_can_hold_is_refused_before_anything_is_trained(
    train: Callable[..., Record],
    declare: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    declared: dict[str, Any],
    says: str,
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("a batch was asked for")

    monkeypatch.setattr(building.task_class("tiny"), "batches", never)
    declare(**declared)
    with pytest.raises(UsageError, match=says):
        check(parse(["method=uniform", "task=tiny"]).cells, "cpu", None)
    with pytest.raises(UsageError, match=says):
        train("method=uniform task=tiny")


# --- extra splits


def scored(record: Record, split: str) -> list[int]:
    """The epochs at which the split was scored."""
    return [e.epoch for e in record.evaluations if split in e.scores]


@pytest.mark.parametrize("method", ["uniform", "single_task"])
def test_an_extra_split_is_scored_at_every_evaluation_with_the_objectives_that_it_has(
    train: Callable[..., Record], declare: Callable[..., None], method: str
) -> None:
    declare(extra_splits=("news",))
    record = train(f"method={method} task=tiny")
    assert scored(record, "news") == [1, 2, 3]
    assert all(e.scores["news"] == {"b": e.scores["test"]["b"]} for e in record.evaluations)


def test_where_the_last_evaluation_counts_an_extra_split_is_scored_then_only(
    train: Callable[..., Record], declare: Callable[..., None]
) -> None:
    declare(extra_splits=("news", "talks"))
    record = train("method=uniform task=tiny protocol.selection=last")
    assert scored(record, "news") == scored(record, "talks") == [3]
    assert scored(record, "test") == [1, 2, 3]


def test_a_score_on_an_extra_split_that_is_not_finite_is_a_divergence(
    train: Callable[..., Record], declare: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    declare(extra_splits=("news",))
    evaluate = building.task_class("tiny").evaluate

    def broken(self: Any, model: torch.nn.Module, split: str, objectives: list[int]) -> Mapping[str, Any]:
        return {"b": {"mse": math.inf}} if split == "news" else evaluate(self, model, split, objectives)

    monkeypatch.setattr(building.task_class("tiny"), "evaluate", broken)
    record = train("method=uniform task=tiny")
    assert (record.status, record.reason) == ("diverged", "mse of b on news is inf after epoch 1.")


def test_scores_on_extra_splits_survive_an_interruption(
    train: Callable[..., Record], declare: Callable[..., None], tmp_path: Path
) -> None:
    declare(extra_splits=("news",))
    whole = train("method=uniform task=tiny", tmp_path / "whole")
    asked = iter(range(12))
    with pytest.raises(Interrupted):
        train("method=uniform task=tiny", tmp_path / "cut", should_stop=lambda: next(asked, None) is None)
    assert train("method=uniform task=tiny", tmp_path / "cut").evaluations == whole.evaluations


def test_progress_tells_every_score_of_few_objectives_and_the_means_of_many(
    train: Callable[..., Record], declare: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    declare(groups={"one": [1]})
    told: list[Progress] = []
    record = train("method=uniform task=tiny", on_progress=told.append)
    last = {name: metrics["mse"] for name, metrics in record.evaluations[-1].scores["val"].items()}
    assert told[-1].scores == last
    monkeypatch.setattr("mtlbench.running.observing.MOST_SCORES", 1)
    train("method=uniform task=tiny", tmp_path / "many", on_progress=told.append)
    assert told[-1].scores == pytest.approx({"mean": (last["a"] + last["b"]) / 2, "mean one": last["b"]})


# --- the schema


@pytest.mark.parametrize(("version", "identity"), [(1, "c089e5e653eb"), (2, "33510a6e63f7")])
def test_older_records_read_as_before(version: int, identity: str) -> None:
    found = load(FIXTURES / f"record-v{version}.json")
    assert (found.schema_version, found.id, found.status) == (version, identity, "finished")
    assert (found.groups, found.facts) == ({}, {})
    assert found.provenance is not None
    assert found.provenance.precision == "float32"
    assert all(m.signature == "" for o in found.objectives for m in o.metrics)


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        ("facts", {"a": math.inf}, r"facts.*is inf"),
        ("groups", {"low": ["l0", "nobody"]}, "nobody, which is no objective"),
        ("provenance", {"precision": "float8"}, "precision"),
    ],
)
def test_a_record_with_a_broken_declaration_is_named(tmp_path: Path, place: str, value: Any, says: str) -> None:
    (path,) = save([multilingual()], tmp_path)
    content = json.loads(path.read_text())
    content[place] = {**content[place], **value} if place == "provenance" else value
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=says) as error:
        load(path)
    assert str(path) in str(error.value)


def test_a_record_comes_back_with_its_declarations(tmp_path: Path) -> None:
    for name, made in (("some", multilingual()), ("none", record())):
        (path,) = save([made], tmp_path / name)
        assert load(path) == made
