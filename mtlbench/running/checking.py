"""A dry build: what would be trained is built, and nothing trained, so that what does not fit is refused early."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from mtlbench.catalogue import building, data
from mtlbench.catalogue.task import Task
from mtlbench.cells.cell import Cell
from mtlbench.cells.request import Request
from mtlbench.errors import UsageError
from mtlbench.running.declared import TaskInfo
from mtlbench.running.streams import process_of_a_cell
from mtlbench.running.trainee import trainees


def check_data(request: Request) -> None:
    """Raise `DataMissing` if files that a cell needs are not under the data root."""
    root = data.data_root(request.data_root)
    for task, variant in dict.fromkeys((cell.task, cell.variant) for cell in request.cells):
        for dataset in data.needed(task, variant):
            for file in (file for file in dataset.files if not file.optional):
                data.locate(dataset, file.name, root, f"{task}/{variant}")


def check(cells: Sequence[Cell], device: str, data_root: Path | None) -> list[tuple[Cell, str]]:
    """Build what the cells would train, and train nothing.

    Of cells that differ in seed or in searched values only, the first one is built; a task is built once for all that
    differ in method or in values of the protocol other than its options and `batch_size`. An error of the task's own
    code is not told here: its cells end with it when they run.

    Returns:
        The notices of the tasks, each with the first cell that it is about.

    Raises:
        UsageError: a device that is not there, missing data, a value that the task or the optimiser does not
            allow, a method or granularity that does not fit the task.
    """
    _check_device(device)
    built: dict[str, tuple[Task, nn.Module] | None] = {}
    first: dict[str, Cell] = {}
    for cell in cells:
        first.setdefault(cell.setting_id, cell)
    notices: dict[str, Cell] = {}
    for cell in first.values():
        protocol = cell.protocol
        key = json.dumps([cell.task, cell.variant, protocol.options, protocol.batch_size], sort_keys=True, default=str)
        with process_of_a_cell(protocol.threads):
            if key not in built:
                built[key] = _built(cell, data_root)
            if (found := built[key]) is not None:
                trainees(cell, *found, building.method(cell.method, **cell.parameters))
                for notice in found[0].notices:
                    notices.setdefault(f"{cell.task}/{cell.variant}: {notice}", cell)
    return [(cell, notice) for notice, cell in notices.items()]


def _built(cell: Cell, data_root: Path | None) -> tuple[Task, nn.Module] | None:
    try:
        task = building.task_class(cell.task)(cell.variant, cell.protocol, data_root, torch.device("cpu"))
        built = task, task.model()
        TaskInfo.of(task)
        return built
    except UsageError:
        raise
    except Exception:
        return None


def _check_device(device: str) -> None:
    kind, _, index = device.partition(":")
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(index or 0) >= there:
        names = ", ".join(f"cuda:{i}" for i in range(torch.cuda.device_count()))
        raise UsageError(f"device={device} is not there. This machine has: cpu{', ' + names if names else ''}.")
