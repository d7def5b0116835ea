"""Predictions as files: those of the epoch that counts, objective by objective, as training goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mtlbench.catalogue.task import Task
from mtlbench.errors import UsageError
from mtlbench.record.runs import Run
from mtlbench.record.schema import Record
from mtlbench.record.selection import Rule, counting
from mtlbench.running.trainee import Trainee
from mtlbench.storage import write_atomically

SPLIT = "test"


class Predictions:
    """Writes the predictions of a cell below a folder.

    An evaluation that counts so far, under the protocol's selection, replaces the files of the ones before. So when
    the cell is finished, the files are of the epoch whose scores tables report; where every objective has a model of
    its own, each objective's are of its own epoch. Of `mean-last-N` they are of the last epoch.

    Args:
        folder: where files go; made when there are some.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, task: Task, record: Record, parts: Sequence[Trainee]) -> None:
        """Write what the models of now predict for the objectives for which the last evaluation of `record` counts.

        The models are in evaluation mode, and gradients are off.

        Raises:
            UsageError: a file outside the folder. OSError: one that cannot be written.
        """
        run = Run.of(record)
        rows = counting(run, Rule.parse(record.cell.protocol["selection"]))
        counts = (rows == len(run.epochs) - 1).any(0)
        names = {m.objective for m, now in zip(run.measures, np.atleast_1d(counts), strict=True) if now}
        for part in parts:
            chosen = [k for k in part.objectives if task.objectives[k].name in names]
            for name, content in task.predictions(part.model, SPLIT, chosen).items() if chosen else ():
                path = self.folder / name
                if not path.resolve().is_relative_to(self.folder.resolve()):
                    raise UsageError(f"task {task.name} names its predictions {name!r}, which is outside their folder.")
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, content.encode() if isinstance(content, str) else content)


def require_predictions(task: Task) -> None:
    """Raise `UsageError` for a task that writes none."""
    if type(task).predictions is Task.predictions:
        raise UsageError(f"task {task.name} writes no predictions: leave predictions= out.")
