"""Records read back from disk: one file, one cell's folder, everything below a results folder."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydantic

from mtlbench.cells.words import RESULTS
from mtlbench.errors import UsageError
from mtlbench.locks import is_locked
from mtlbench.record.schema import CHECKPOINT, FAILURE, RECORD, Record
from mtlbench.record.sent import SENT, Sent, attempts, read_sent
from mtlbench.storage import read_regular
from mtlbench.strict import first_error


class Unreadable(UsageError):
    """A record file that is not whole."""


LARGEST_FILE = 512 * 2**20
"""Bytes; a thousand objectives with a thousand evaluations of three splits are some 450 MiB with sampling errors."""


def load(path: Path) -> Record:
    """Read a `record.json` or `failure.json`; raises `Unreadable` naming the file and what is wrong with it."""
    try:
        record = Record.model_validate_json(read_regular(path, LARGEST_FILE))
    except pydantic.ValidationError as error:
        raise Unreadable(f"{path} is not a whole record: {first_error(error)}") from error
    except (RecursionError, ValueError) as error:  # nested too deep, or numbers of more digits than Python writes
        raise Unreadable(f"{path} is not a whole record: {error}") from error
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror}") from error
    if path.name in (RECORD, FAILURE) and (path.name == RECORD) != (record.status == "finished"):
        raise Unreadable(f"{path} is not a whole record: {path.name} cannot have the status {record.status}")
    return record


@dataclass(frozen=True)
class CellState:
    """What stands in the folder of one cell."""

    path: Path
    """The record, the failure, or the folder where there is neither."""
    id: str
    """As the folder's name says."""
    status: str
    """That of the record or failure; else `running`, `interrupted` or `unreadable`; `queued` or `requeued` if it was
    sent elsewhere, which only that place knows to be still so."""
    reason: str = ""
    record: Record | None = None
    """None while the cell is running or interrupted, and where its file is not whole."""
    sent: Sent | None = None
    """Where a `queued` or `requeued` cell was sent to."""


def cells(results: Path) -> Iterator[CellState]:
    """Everything under `results`, folder by folder in the order of their names; nothing found there raises."""
    return map(cell_state, _cell_folders(results))


def cell_state(folder: Path) -> CellState:
    """What stands in the folder of one cell."""
    cell = folder.name.rpartition("-")[2]
    path = folder / RECORD
    if not path.exists():
        if is_locked(folder):
            return CellState(folder, cell, "running", "it is being trained now")
        if sent := read_sent(folder):  # later than a failure, which would have removed it
            status = "requeued" if attempts(folder) else "queued"
            return CellState(folder, cell, status, f"it was sent to {sent.on}", sent=sent)
        path = folder / FAILURE
        if not path.exists():
            return CellState(folder, cell, "interrupted", "the same command goes on from there")
    try:
        record = load(path)
    except Unreadable as error:
        return CellState(path, cell, "unreadable", str(error))
    if record.id != cell:
        return CellState(path, cell, "unreadable", f"{path} is of another cell ({record.label}, {record.id})")
    return CellState(path, cell, record.status, record.reason, record)


def records(results: str | Path = RESULTS) -> list[Record]:
    """Every finished record under `results`; warns about each file that is not whole."""
    found = []
    for state in cells(Path(results)):
        if state.status == "unreadable":
            warnings.warn(state.reason, stacklevel=2)
        elif state.status == "finished" and state.record is not None:
            found.append(state.record)
    return found


def _cell_folders(results: Path) -> Iterator[Path]:
    marks = {RECORD, FAILURE, CHECKPOINT, SENT, "log.txt", ".lock"}
    for folder, inside, files in os.walk(results):
        inside.sort()
        if marks.intersection(files) and Path(folder).name.startswith("seed"):
            yield Path(folder)
