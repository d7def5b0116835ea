"""A record is whole or named as broken; nothing that is read back can crash what reads it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic
import pytest

import mtlbench
from mtlbench.catalogue.registry import methods
from mtlbench.cells.request import parse
from mtlbench.locks import locked
from mtlbench.record.reading import Unreadable, cells, load
from mtlbench.record.schema import CHECKPOINT, FAILURE, RECORD, CellInfo, Record


@pytest.fixture
def place(train: Callable[..., Record], tmp_path: Path) -> Path:
    """The folder of a finished cell below `tmp_path / "results"`."""
    (cell,) = parse(["method=gradvac", "task=tiny", "method.beta=0.1"]).cells
    folder = cell.folder(tmp_path / "results")
    folder.mkdir(parents=True)
    train("method=gradvac task=tiny method.beta=0.1").save(folder)
    return folder


def failure(status: str = "error", seed: int = 0) -> Record:
    (cell,) = parse(["method=uniform", "task=tiny", f"seed={seed}"]).cells
    return Record(id=cell.id, status=status, reason="because", cell=CellInfo(**cell.canonical()))


def test_a_record_comes_back_as_it_was_written(train: Callable[..., Record], tmp_path: Path) -> None:
    words = (
        "method=scalarization method.weights=[1,0.3] task=tiny protocol.optimizer.lr=1e-3 protocol.options.dropout=0.1"
    )
    record = train(words)
    record.save(tmp_path)
    again = load(tmp_path / RECORD)
    assert again == record
    assert again.id == parse(words.split()).cells[0].id
    assert again.label == "scalarization(weights=[1.0,0.3])"


def test_the_file_says_its_schema_version_and_what_ran(place: Path) -> None:
    content = json.loads((place / RECORD).read_text())
    assert content["schema_version"] == 7
    assert content["cell"]["parameters"] == {"beta": 0.1, "target": None, "shuffle": True}
    assert content["cell"]["protocol"]["version"] == 1
    packages = set(content["provenance"]["packages"])
    assert {"torch", "python", "mtlbench"} <= packages
    assert "sentencepiece" not in packages  # on which this task does not depend
    assert content["provenance"]["method_digest"] != "unknown"
    assert [sorted(e["scores"]) for e in content["evaluations"]] == [["test", "val"]] * 3


def test_a_reason_with_half_a_character_is_written_and_read(tmp_path: Path) -> None:
    (cell,) = parse(["method=uniform", "task=tiny"]).cells
    made = Record(id=cell.id, status="error", reason="bad \ud800 text", cell=CellInfo(**cell.canonical()))
    made.save(tmp_path)
    assert load(tmp_path / FAILURE).reason == "bad ? text"


def test_a_record_tells_the_layer_at_which_gradients_were_measured(train: Callable[..., Record]) -> None:
    assert train("method=gradnorm task=tiny").last_layer == ("decoder.weight", "decoder.bias")
    assert train("method=gradvac task=tiny").last_layer == ()


def test_a_label_leaves_defaults_out_where_the_method_is_not_installed(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = {name: entry for name, entry in methods.entries().items() if name != "gradvac"}
    monkeypatch.setattr(methods, "_entries", entries)
    monkeypatch.setattr("mtlbench.cells.parameters._defaults", {})
    assert load(place / RECORD).label == "gradvac(beta=0.1)"
    content = json.loads((place / RECORD).read_text())
    assert content.pop("defaults") == {"beta": 0.01, "target": None, "shuffle": True}
    (place / RECORD).write_text(json.dumps({**content, "schema_version": 3}))
    assert load(place / RECORD).label == "gradvac(beta=0.1, target=None, shuffle=True)"  # nobody knows better


def change(path: str, value: Any) -> Callable[[str], str]:
    def apply(text: str) -> str:
        content = json.loads(text)
        *keys, last = path.split(".")
        place = content
        for key in keys:
            place = place[int(key) if isinstance(place, list) else key]
        place[last] = value
        return json.dumps(content)

    return apply


DAMAGE: dict[str, tuple[Callable[[str], Any], str]] = {
    "another schema version": (change("schema_version", 8), "schema_version"),
    "cut short": (lambda text: text[: len(text) // 2], "invalid JSON"),
    "empty": (lambda _: "", "invalid JSON"),
    "binary": (lambda _: b"\xff\x00\xfe", "invalid JSON"),
    "a list": (lambda _: "[]", "object"),
    "NaN metric": (change("evaluations.1.scores.test.a.mse", math.nan), "evaluations.1.scores.test.a.mse"),
    "infinite loss": (change("evaluations.0.losses.b", math.inf), "evaluations.0.losses.b"),
    "text metric": (change("evaluations.1.scores.test.a.mse", "good"), "evaluations.1.scores.test.a.mse"),
    "wrong id": (change("id", "0" * 12), "id"),
    "changed configuration": (change("cell.seed", 7), "id"),
    "NaN parameter": (change("cell.parameters.beta", math.nan), "not a whole record"),
    "unknown status": (change("status", "done"), "status"),
    "finished without curves": (change("evaluations", []), "finished record needs"),
    "unknown key": (change("extra", 1), "extra"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_broken_record_is_named_and_never_counts(place: Path, tmp_path: Path, damage: str) -> None:
    apply, says = DAMAGE[damage]
    broken = apply((place / RECORD).read_text())
    (place / RECORD).write_bytes(broken if isinstance(broken, bytes) else broken.encode())
    with pytest.raises(Unreadable, match=says) as error:
        load(place / RECORD)
    assert str(place / RECORD) in str(error.value)
    (found,) = cells(tmp_path / "results")
    assert (found.status, found.path, found.record) == ("unreadable", place / RECORD, None)
    assert says in found.reason
    with pytest.warns(UserWarning, match="not a whole record"):
        assert mtlbench.records(tmp_path / "results") == []


def test_broken_records_hide_no_whole_ones(place: Path, tmp_path: Path, command: Callable[..., Any]) -> None:
    other = place.parent / "seed1-000000000000"
    other.mkdir()
    (other / RECORD).write_text("{")
    with pytest.warns(UserWarning, match=other.name):
        assert len(mtlbench.records(tmp_path / "results")) == 1
    for words in ("status results=results", "table results=results", "table results=results --format md"):
        result = command(words)
        assert result.code == 0
        assert "Traceback" not in result.output
        assert str(Path("results", *other.relative_to(tmp_path / "results").parts, RECORD)) in result.output
        assert "gradvac" in result.output


def test_a_record_with_a_number_that_is_not_finite_is_never_written(
    train: Callable[..., Record], tmp_path: Path
) -> None:
    record = train("method=uniform task=tiny")
    with pytest.raises(pydantic.ValidationError):
        Record.model_validate({**record.model_dump(), "diagnostics": {"x": math.nan}})
    unchecked = record.model_copy(update={"diagnostics": {"x": math.nan}})
    with pytest.raises(ValueError, match="JSON"):
        unchecked.save(tmp_path)
    assert not (tmp_path / RECORD).exists()


def test_a_scan_tells_finished_running_interrupted_and_failed_apart(place: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    method = results / "tiny" / "plain" / "short@1" / "uniform"
    folders = {name: method / f"seed{name}-{failure(seed=int(name)).id}" for name in "1234"}
    for folder in folders.values():
        folder.mkdir(parents=True)
    (folders["1"] / CHECKPOINT).touch()
    failure("diverged", 2).save(folders["2"])
    failure("timeout", 3).save(folders["3"])  # was cut off, and is being trained again now
    (folders["4"] / "log.txt").touch()
    with locked(folders["3"]) as mine:
        assert mine
        found = {state.path: (state.status, state.record and state.record.label) for state in cells(results)}
    assert found == {
        place / RECORD: ("finished", "gradvac(beta=0.1)"),
        folders["1"]: ("interrupted", None),
        folders["2"] / FAILURE: ("diverged", "uniform"),
        folders["3"]: ("running", None),
        folders["4"]: ("interrupted", None),
    }
    assert not [*cells(tmp_path / "nowhere")]


def test_saving_a_finished_record_removes_what_it_makes_obsolete(train: Callable[..., Record], tmp_path: Path) -> None:
    for name in (CHECKPOINT, FAILURE):
        (tmp_path / name).write_text("old")
    failure("timeout").save(tmp_path)
    assert (tmp_path / CHECKPOINT).exists()
    train("method=uniform task=tiny", tmp_path / "cell").save(tmp_path)
    assert not (tmp_path / CHECKPOINT).exists()
    assert not (tmp_path / FAILURE).exists()
    (tmp_path / CHECKPOINT).write_text("old")
    failure("diverged").save(tmp_path)
    assert not (tmp_path / CHECKPOINT).exists()
