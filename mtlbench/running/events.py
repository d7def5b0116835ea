"""What is told while cells run, and how each of them ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mtlbench.cells.cell import Cell


@dataclass
class Outcome:
    """How one cell of a run ended."""

    cell: Cell
    folder: Path
    status: str
    """`finished`, `skipped` (was finished before), `diverged`, `oom`, `timeout`, `error` or `interrupted`."""
    reason: str = ""


@dataclass
class Event:
    """Something that happened to a cell: `notice`, `start`, `resume`, `progress`, `waiting`, `warning` or `end`."""

    kind: str
    cell: Cell
    message: str = ""
    step: int = 0
    total_steps: int = 0
    epoch: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    outcome: Outcome | None = None


class Stopped(KeyboardInterrupt):
    """Ctrl-C was pressed; the cells in training have saved their checkpoints."""

    def __init__(self, outcomes: list[Outcome]) -> None:
        super().__init__()
        self.outcomes = outcomes
