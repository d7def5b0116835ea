"""A dry build: what would be trained is built, and nothing trained, so that what does not fit is refused early."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from mtlbench.catalogue import building, data
from mtlbench.catalogue.protocol import Protocol
from mtlbench.catalogue.task import Task
from mtlbench.cells.cell import Cell
from mtlbench.cells.recording import Recording
from mtlbench.cells.request import Request
from mtlbench.errors import UsageError
from mtlbench.record.configuration import require_enough
from mtlbench.running.declared import TaskInfo
from mtlbench.running.predicting import require_predictions
from mtlbench.running.recorder import drawn_probes
from mtlbench.running.sampled import require_sharing
from mtlbench.running.streams import process_of_a_cell
from mtlbench.running.team import Team
from mtlbench.running.trainee import trainees


def check_data(request: Request) -> None:
    """Raise `DataMissing` if files that a cell needs are not under the data root."""
    root = data.data_root(request.data_root)
    for task, variant in dict.fromkeys((cell.task, cell.variant) for cell in request.cells):
        for dataset in data.needed(task, variant):
            for file in (file for file in dataset.files if not file.optional):
                data.locate(dataset, file.name, root, f"{task}/{variant}")


def check(
    cells: Sequence[Cell],
    device: str,
    data_root: Path | None,
    predictions: bool = False,
    geometry: Recording | None = None,
    processes: int = 1,
) -> list[tuple[Cell, str]]:
    """Build what the cells would train, and train nothing.

    Of cells that differ in seed or in searched values only, the first one is built; a task is built once for all that
    differ in method or in values of the protocol other than its options and `batch_size`. An error of the task's own
    code is not told here: its cells end with it when they run.

    Args:
        cells: what would be trained.
        device: a torch device.
        data_root: the folder of the real data sets.
        predictions: whether predictions are asked for.
        geometry: what is to be recorded of the gradients' geometry; None for nothing.
        processes: on which each cell is to be trained.

    Returns:
        The notices of the tasks, each with the first cell that it is about.

    Raises:
        UsageError: a device that is not there, missing data, a value that the task or the optimiser does not
            allow, a method or granularity that does not fit the task, a selection that counts more evaluations than
            the protocol makes, predictions of a task that writes none, probes of a task that has not so many, a model,
            a method or batches that cannot be spread over processes.
    """
    check_device(device)
    together = Team(size=processes)
    first: dict[str, Cell] = {}
    for cell in cells:
        first.setdefault(cell.setting_id, cell)
    built: dict[str, tuple[Task, nn.Module] | None] = {}
    notices: dict[str, Cell] = {}
    for cell in first.values():
        _check_selection(cell.protocol)
        with process_of_a_cell(cell.protocol.threads):
            task = _built(cell, built, data_root, together)
        if predictions and task:
            require_predictions(task)
        if geometry and task and cell.protocol.trains:
            _check_probes(task, cell, geometry)
        for notice in task.notices if task else ():
            notices.setdefault(f"{cell.task}/{cell.variant}: {notice}", cell)
    return [(cell, notice) for notice, cell in notices.items()]


def _built(
    cell: Cell, built: dict[str, tuple[Task, nn.Module] | None], data_root: Path | None, together: Team
) -> Task | None:
    """The task of a cell whose models fit; None where code of its own fails. `built` are those of cells before."""
    protocol = cell.protocol
    key = json.dumps([cell.task, cell.variant, protocol.options, protocol.batch_size], sort_keys=True, default=str)
    try:
        if key not in built:
            built[key] = None  # as it stays where the following fails
            task = building.task_class(cell.task)(cell.variant, protocol, data_root, torch.device("cpu"))
            model = task.model()
            TaskInfo.of(task)
            built[key] = task, model
        if (found := built[key]) is None:
            return None
        trainees(cell, *found, building.method(cell.method, **cell.parameters), together)
        require_sharing(cell, found[0])
        if together.size > 1 and cell.protocol.trains:
            together.share(found[0], next(found[0].batches(0, torch.Generator().manual_seed(0))))
        return found[0]
    except UsageError:
        raise
    except Exception:
        return None


def _check_probes(task: Task, cell: Cell, geometry: Recording) -> None:
    with process_of_a_cell(cell.protocol.threads):
        try:
            drawn_probes(task, cell, geometry)
        except UsageError:
            raise
        except Exception:  # of the task's own code: its cells end with it
            return


def _check_selection(protocol: Protocol) -> None:
    evaluations = max(1, -(-protocol.epochs // protocol.evaluate_every))
    try:
        require_enough(protocol.selection, evaluations)
    except ValueError as error:
        raise UsageError(
            f"protocol.{error}: epochs={protocol.epochs}, evaluate_every={protocol.evaluate_every}. Count fewer, or "
            "evaluate more often."
        ) from error


def check_device(device: str) -> None:
    """Raise `UsageError` for a device that this machine does not have."""
    kind, _, index = device.partition(":")
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(index or 0) >= there:
        names = ", ".join(f"cuda:{i}" for i in range(torch.cuda.device_count()))
        raise UsageError(f"device={device} is not there. This machine has: cpu{', ' + names if names else ''}.")
