"""mtlbench: a benchmark suite for multi-task optimisation."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtlbench.backward import Backward
    from mtlbench.errors import DataMissing, Diverged, UsageError
    from mtlbench.kinds import GramianWeighting, JacobianAggregator, LossWeighting, Method
    from mtlbench.launch import run, run_grid
    from mtlbench.protocol import Protocol
    from mtlbench.record import Record, records
    from mtlbench.registry import method, register_method, register_task
    from mtlbench.search import Choice, Range
    from mtlbench.tables import leaderboards
    from mtlbench.task import Metric, Objective, Task

__version__ = "0.1.0"

# Every public name and the module that defines it. They are imported on first use, so that
# `mtlbench list` and `--help` never wait for torch.
_HOME = {
    "Backward": "backward",
    "DataMissing": "errors",
    "Diverged": "errors",
    "UsageError": "errors",
    "run": "launch",
    "run_grid": "launch",
    "GramianWeighting": "kinds",
    "JacobianAggregator": "kinds",
    "LossWeighting": "kinds",
    "Method": "kinds",
    "Protocol": "protocol",
    "Record": "record",
    "records": "record",
    "method": "registry",
    "register_method": "registry",
    "register_task": "registry",
    "Choice": "search",
    "Range": "search",
    "leaderboards": "tables",
    "Metric": "task",
    "Objective": "task",
    "Task": "task",
}

__all__ = [
    "Backward",
    "Choice",
    "DataMissing",
    "Diverged",
    "GramianWeighting",
    "JacobianAggregator",
    "LossWeighting",
    "Method",
    "Metric",
    "Objective",
    "Protocol",
    "Range",
    "Record",
    "Task",
    "UsageError",
    "leaderboards",
    "method",
    "records",
    "register_method",
    "register_task",
    "run",
    "run_grid",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mtlbench' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"mtlbench.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
