"""Whatever one record holds, no other is hidden by it: seeded mutations of committed records at every place."""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import FIXTURES, ROOT

from mtlbench.cells.cell import identity
from mtlbench.cli.status import status
from mtlbench.record.reading import Unreadable, cells, load
from mtlbench.record.runs import collect
from mtlbench.record.schema import RECORD
from mtlbench.rendering.files import FORMATS, render
from mtlbench.tables.making import make

COMMITTED = ROOT / "results"
BASES = {
    "fixed": "multimnist/digits/digits@1/gradvac",
    "tuned": "multimnist/digits/digits@1-tuned/gradvac",
    "separate": "nmt/families/families@1/single_task",
    "modified": "nmt/multi30k/cpu@1-modified/uniform",
}
"""What is mutated, and stands unharmed beside it."""

NASTY: list[Any] = [
    None, True, -1, 0, 10**25, 2**63, 1e308, -0.5, "", "..", "/etc", "../../x", "a/b", "x" * 300, "\x1b[31m", "\u202e",
    "\x00", "none", [], [None], [[]], {}, {"": None}, {"low": 1}, "mean-last-0", "mean-last-99999999999999999999",
]  # fmt: skip
MUTATIONS = 90
"""Of each base; a few hundred in all."""


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in nested dictionaries and lists."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        yield (*at, key)
        yield from places(inner, (*at, key))


def mutated(content: Any, place: tuple[Any, ...], value: Any, how: str) -> Any:
    """The content with another value at a place, without it, or with a key beside it."""
    content = copy.deepcopy(content)
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    if how == "drop":
        del inner[place[-1]]
    elif how == "add" and isinstance(inner, dict):
        inner["axes" if value is None else str(value)] = value
    else:
        inner[place[-1]] = value
    return content


def with_its_identity(content: Any) -> Any:
    """The content under the identity of what it is now, as if it had been written so."""
    cell = content.get("cell") if isinstance(content, dict) else None
    if isinstance(cell, dict):
        canonical = {k: v for k, v in cell.items() if v is not None or k not in ("tuning", "treated")}
        content["id"] = identity(canonical)
    return content


def beside(base: str, results: Path) -> tuple[Path, Path]:
    """Good records of one kind under `results`; the folder of their method, and the file that may be mutated."""
    folder = results / BASES[base]
    shutil.copytree(COMMITTED / BASES[base], folder)
    spare = next(path for path in sorted((COMMITTED / BASES[base]).rglob(RECORD)))
    return folder, spare


def shortened(path: Path) -> Any:
    """The content of a record with two evaluations, so that other places are met as often as curves."""
    content = json.loads(path.read_text())
    content["evaluations"] = content["evaluations"][:2]
    return content


def put(content: Any, folder: Path) -> Path:
    """Write a record into a folder that is called as its cell's would be."""
    name = content.get("id") if isinstance(content, dict) else None
    place = folder / f"seed77-{name if isinstance(name, str) and name.isalnum() else 'f' * 12}"
    place.mkdir(exist_ok=True)
    (place / RECORD).write_text(json.dumps(content))
    return place


def require_shown(results: Path, good: set[str]) -> None:
    """Read, list and tabulate everything under `results`: the good cells are there, and nothing raises."""
    found = collect(cells(results))
    assert good <= {run.id for run in found.runs}
    assert status(argparse.Namespace(words=[f"results={results}"])) == 0
    tables = make(found)
    assert tables.all or tables.report.refused  # a table that is told to mix what must not be mixed
    for form in FORMATS:
        for table in tables.all:
            render(form, [table])


def mutations(base: str, count: int | None) -> Iterator[tuple[tuple[Any, ...], Any, str, Any]]:
    """Seeded mutations of a base record: place, value, kind and the content; all of them where no count is given."""
    content = shortened(next(iter(sorted((COMMITTED / BASES[base]).rglob(RECORD)))))
    generator = random.Random(f"nasty {base}")
    every = [(place, value, how) for place in places(content) for value in NASTY for how in ("set", "drop", "add")]
    for place, value, how in every if count is None else generator.sample(every, count):
        try:
            made = with_its_identity(mutated(content, place, value, how))
        except ValueError:
            continue
        yield place, value, how, made


@pytest.mark.parametrize("base", BASES)
def test_a_mutated_record_hides_no_good_one(tmp_path: Path, base: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = beside(base, tmp_path)
    good = {run.id for run in collect(cells(tmp_path)).runs}
    assert good
    unreadable = []
    for _, _, _, content in mutations(base, MUTATIONS):
        made = put(content, folder)
        try:
            load(made / RECORD)
        except Unreadable as error:
            unreadable.append(str(error))
        else:
            require_shown(tmp_path, good)
        shutil.rmtree(made)
    assert len(unreadable) > MUTATIONS / 5
    put({"id": None}, folder)
    require_shown(tmp_path, good)


CONFIGURATIONS: dict[str, tuple[tuple[Any, ...], Any, str]] = {
    "modified that is null": (("cell", "protocol", "modified"), None, "protocol.modified"),
    "protocol without a name": (("cell", "protocol", "name"), ..., "protocol.name"),
    "selection that is a number": (("cell", "protocol", "selection"), 3, "protocol.selection"),
    "unknown selection": (("cell", "protocol", "selection"), "best", "protocol.selection"),
    "seed of 25 digits": (("cell", "seed"), 10**24, "seed"),
    "seed below zero": (("cell", "seed"), -1, "seed"),
    "task above": (("cell", "task"), "..", "task"),
    "task elsewhere": (("cell", "task"), "/etc", "task"),
    "variant above": (("cell", "variant"), "../x", "variant"),
    "method with a slash": (("cell", "method"), "a/b", "method"),
    "method with a control": (("cell", "method"), "a\x1b[31m", "method"),
    "protocol above": (("cell", "protocol", "name"), "..", "protocol"),
    "version that is text": (("cell", "protocol", "version"), "1", "protocol.version"),
    "epochs that are a fraction": (("cell", "protocol", "epochs"), 1.5, "protocol.epochs"),
    "epochs that are true": (("cell", "protocol", "epochs"), True, "protocol.epochs"),
    "optimiser that is a list": (("cell", "protocol", "optimizer"), [], "protocol.optimizer"),
    "unknown key of the protocol": (("cell", "protocol", "colour"), "red", "protocol.colour"),
    "treated that is a number": (("cell", "treated"), 3, "cell: input should be a valid array"),
    "unknown axis": (("cell", "axes"), {"colour": "red"}, "cell.granularity: extra"),
    "tuning that is text": (("cell", "tuning"), "much", "tuning"),
    "searched key that is none": (
        ("cell", "tuning"), {"space": {"x": {"low": 0, "high": 1}}, "trial": 0}, "x is no key of the cell",
    ),
    "searched key in a value": (
        ("cell", "tuning"), {"space": {"method.beta.x": {"low": 0, "high": 1}}, "trial": 0}, "is no key of the cell",
    ),
    "objective without metrics": (("objectives", 0, "metrics"), [], "objectives.0.metrics"),
    "metrics of one name": (
        ("objectives", 0, "metrics"), [{"name": "m", "higher_is_better": True, "unit": ""}] * 2, "two metrics",
    ),
    "objectives of one name": (
        ("objectives",), [{"name": "left", "metrics": [{"name": "m", "higher_is_better": True, "unit": ""}]}] * 2,
        "two objectives are called left",
    ),
    "empty group": (("groups",), {"low": []}, "the group low has no objectives"),
    "group of one twice": (("groups",), {"low": ["left", "left"]}, "two objectives in the group low are called left"),
    "epochs that go back": (("evaluations", 1, "epoch"), 1, "not in the order of their epochs"),
    "fewer evaluations than count": (("cell", "protocol", "selection"), "mean-last-3", "needs 3 evaluations"),
    "evaluations beyond number": (("cell", "protocol", "selection"), f"mean-last-{10**30}", "needs 10"),
    "epoch of 25 digits": (("evaluations", 1, "epoch"), 10**24, "evaluations.1.epoch"),
    "negative seconds": (("cost", "seconds_per_step"), -1.0, "cost.seconds_per_step"),
    "negative memory": (("cost", "peak_memory_bytes"), -1, "cost.peak_memory_bytes"),
    "memory of 25 digits": (("cost", "peak_memory_bytes"), 10**24, "cost.peak_memory_bytes"),
}  # fmt: skip


@pytest.mark.parametrize("what", CONFIGURATIONS)
def test_a_record_that_no_cell_can_leave_is_unreadable_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    place, value, says = CONFIGURATIONS[what]
    folder, spare = beside("fixed", tmp_path)
    good = {run.id for run in collect(cells(tmp_path)).runs}
    content = with_its_identity(mutated(shortened(spare), place, value, "drop" if value is ... else "set"))
    made = put(content, folder)
    with pytest.raises(Unreadable, match="is not a whole record") as error:
        load(made / RECORD)
    assert says in str(error.value)
    require_shown(tmp_path, good)


def test_what_no_mutation_touched_is_readable(tmp_path: Path) -> None:
    for base in BASES:
        _, spare = beside(base, tmp_path)
        made = put(with_its_identity(shortened(spare)), tmp_path)
        assert load(made / RECORD).id == json.loads(spare.read_text())["id"]


ENORMOUS: dict[str, Callable[[str], bytes]] = {
    "3,000 nested brackets": lambda text: text.replace('"facts": {}', f'"facts": {"[" * 3000}{"]" * 3000}').encode(),
    "bare brackets": lambda _: b"[" * 100_000,
    "a number of 5,000 digits": lambda text: text.replace('"seed": 0', f'"seed": {"9" * 5000}').encode(),
    "a fact of 5,000 digits": lambda text: text.replace('"facts": {}', f'"facts": {{"n": {"9" * 5000}}}').encode(),
    "a parameter of 5,000 digits": lambda text: text.replace('"beta": 0.01', f'"beta": {"9" * 5000}').encode(),
    "a float beyond all": lambda text: text.replace('"beta": 0.01', '"beta": 1e999').encode(),
    "half a surrogate": lambda text: text.replace('"task": "multimnist"', '"task": "\\ud800"').encode(),
    "no text": lambda _: bytes(range(256)),
}


@pytest.mark.parametrize("what", ENORMOUS)
def test_what_is_too_deep_too_long_or_no_text_is_unreadable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    folder, spare = beside("fixed", tmp_path)
    good = {run.id for run in collect(cells(tmp_path)).runs}
    made = folder / "seed9-000000000000"
    made.mkdir()
    content = json.loads(spare.read_text())
    content.setdefault("facts", {})
    text = json.dumps(content)
    (made / RECORD).write_bytes(ENORMOUS[what](text))
    assert (made / RECORD).read_bytes() != text.encode()
    with pytest.raises(Unreadable, match="is not a whole record") as error:
        load(made / RECORD)
    assert len(str(error.value)) < 1000
    require_shown(tmp_path, good)


@pytest.mark.parametrize("name", ["record.json", "failure.json"])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "too large"])
def test_what_is_no_file_of_a_records_size_is_unreadable_and_never_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, name: str
) -> None:
    folder, _ = beside("fixed", tmp_path)
    good = {run.id for run in collect(cells(tmp_path)).runs}
    made = folder / "seed9-000000000000"
    made.mkdir()
    (made / "log.txt").touch()
    path = made / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(2**40)
    with pytest.raises(Unreadable, match=r"cannot be read: it is (not a regular file|larger than)"):
        load(path)
    (state,) = (state for state in cells(tmp_path) if state.id == "000000000000")
    assert (state.status, state.path) == ("unreadable", path)
    require_shown(tmp_path, good)


def test_a_record_in_the_folder_of_another_cell_is_not_that_cells(tmp_path: Path) -> None:
    folder, spare = beside("fixed", tmp_path)
    foreign = folder / "seed9-000000000000"
    foreign.mkdir()
    shutil.copy(spare, foreign / RECORD)
    (state,) = (state for state in cells(tmp_path) if state.id == "000000000000")
    assert state.status == "unreadable"
    assert "is of another cell (gradvac, " in state.reason


@pytest.mark.parametrize(("name", "status"), [("record.json", "diverged"), ("failure.json", "finished")])
def test_a_failure_is_no_record_and_a_record_no_failure(tmp_path: Path, name: str, status: str) -> None:
    content = json.loads((FIXTURES / "record-v2.json").read_text())
    (tmp_path / name).write_text(json.dumps({**content, "status": status}))
    with pytest.raises(Unreadable, match=f"{name} cannot have the status {status}"):
        load(tmp_path / name)
