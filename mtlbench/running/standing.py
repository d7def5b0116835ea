"""What stands in a cell's folder before it is trained: its own record or failure, or what must be out of the way."""

from __future__ import annotations

from pathlib import Path

from mtlbench.cells.cell import Cell
from mtlbench.record.reading import Unreadable, load
from mtlbench.record.schema import FAILURE, RECORD, Record
from mtlbench.storage import set_aside


def finished(cell: Cell, folder: Path) -> Record | None:
    """The record of a finished cell, or None; raises `Unreadable` if it is not whole or of another cell."""
    return _own(cell, folder / RECORD)


def failed(cell: Cell, folder: Path) -> Record | None:
    """Why the cell failed when it was tried before; see `finished`."""
    return _own(cell, folder / FAILURE)


def clear(cell: Cell, folder: Path) -> list[str]:
    """Keep what `finished` and `failed` cannot read under another name; returns what people should be told."""
    told = []
    for name in (RECORD, FAILURE):
        try:
            _own(cell, folder / name)
        except Unreadable as error:
            told.append(f"{error}; kept as {set_aside(folder / name).name}, running the cell again")
    return told


def _own(cell: Cell, path: Path) -> Record | None:
    try:
        record = load(path)
    except Unreadable as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    if record.id != cell.id:
        raise Unreadable(f"{path} is of another cell ({record.label}, {record.id})")
    return record
