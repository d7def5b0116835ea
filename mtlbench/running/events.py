"""What is told while cells run, and how each of them ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mtlbench.cells.cell import Cell
from mtlbench.running.reports import Progress, Queued

Ending = Literal["finished", "skipped", "diverged", "oom", "timeout", "error", "interrupted"]
"""How a cell of a run ended; `skipped` was finished before."""


@dataclass(frozen=True)
class Outcome:
    """How one cell of a run ended."""

    cell: Cell
    folder: Path
    status: Ending
    reason: str = ""
    """Why it did not finish; empty for a cell that did, or that was only interrupted."""


@dataclass(frozen=True)
class Noticed:
    """The cell's task has something to tell people before anything is trained."""

    cell: Cell
    message: str


@dataclass(frozen=True)
class Started:
    """A worker begins the cell."""

    cell: Cell


@dataclass(frozen=True)
class Resumed:
    """A worker goes on from the cell's checkpoint."""

    cell: Cell


@dataclass(frozen=True)
class Sent:
    """The cell waits for its turn at the place that it was sent to."""

    cell: Cell
    queued: Queued


@dataclass(frozen=True)
class Progressed:
    """Where the cell stands."""

    cell: Cell
    progress: Progress


@dataclass(frozen=True)
class Waiting:
    """Another process is training the cell; it is taken up when that lets go of it."""

    cell: Cell


@dataclass(frozen=True)
class Warned:
    """Something that people should know; the cell goes on."""

    cell: Cell
    message: str


@dataclass(frozen=True)
class Ended:
    """The cell is done with, whether or not it was trained."""

    outcome: Outcome

    @property
    def cell(self) -> Cell:
        """The cell."""
        return self.outcome.cell


Event = Noticed | Started | Resumed | Sent | Progressed | Waiting | Warned | Ended


class Stopped(KeyboardInterrupt):
    """Ctrl-C was pressed; the cells in training have saved their checkpoints, or were killed."""

    def __init__(self, outcomes: list[Outcome], killed: int, left: int = 0) -> None:
        super().__init__()
        self.outcomes = outcomes
        self.killed = killed
        """Cells that were killed before they had saved one: Ctrl-C was pressed twice, or they took too long."""
        self.left = left
        """Cells that go on, at a place whose workers outlive the run."""
