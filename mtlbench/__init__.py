"""mtlbench: a benchmark suite for multi-task optimisation."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtlbench.catalogue.building import method
    from mtlbench.catalogue.protocol import Protocol
    from mtlbench.catalogue.registry import register_method, register_task
    from mtlbench.catalogue.relation import Relation
    from mtlbench.catalogue.sampling import Sampling, Supply, register_sampling
    from mtlbench.catalogue.search import Choice, Range
    from mtlbench.catalogue.task import Estimate, Metric, Objective, Probes, Task
    from mtlbench.engine.backward import Backward
    from mtlbench.engine.kinds import GramianWeighting, JacobianAggregator, LossWeighting, Method
    from mtlbench.errors import DataMissing, Diverged, UsageError
    from mtlbench.record.reading import records
    from mtlbench.record.schema import Record
    from mtlbench.running.launch import run, run_grid
    from mtlbench.tables.making import leaderboards

__version__ = "0.1.0"

# In a clone, methods/ and tasks/ stand beside this folder; a wheel has them in it.
if not Path(__file__).with_name("methods").is_dir():
    __path__.append(str(Path(__file__).absolute().parents[1]))

# Every public name and the module that defines it. They are imported on first use, so that
# `mtlbench list` and `--help` never wait for torch.
_HOME = {
    "Backward": "engine.backward",
    "Choice": "catalogue.search",
    "DataMissing": "errors",
    "Diverged": "errors",
    "Estimate": "catalogue.task",
    "GramianWeighting": "engine.kinds",
    "JacobianAggregator": "engine.kinds",
    "LossWeighting": "engine.kinds",
    "Method": "engine.kinds",
    "Metric": "catalogue.task",
    "Objective": "catalogue.task",
    "Probes": "catalogue.task",
    "Protocol": "catalogue.protocol",
    "Range": "catalogue.search",
    "Record": "record.schema",
    "Relation": "catalogue.relation",
    "Sampling": "catalogue.sampling",
    "Supply": "catalogue.sampling",
    "Task": "catalogue.task",
    "UsageError": "errors",
    "leaderboards": "tables.making",
    "method": "catalogue.building",
    "records": "record.reading",
    "register_method": "catalogue.registry",
    "register_sampling": "catalogue.sampling",
    "register_task": "catalogue.registry",
    "run": "running.launch",
    "run_grid": "running.launch",
}

__all__ = [
    "Backward",
    "Choice",
    "DataMissing",
    "Diverged",
    "Estimate",
    "GramianWeighting",
    "JacobianAggregator",
    "LossWeighting",
    "Method",
    "Metric",
    "Objective",
    "Probes",
    "Protocol",
    "Range",
    "Record",
    "Relation",
    "Sampling",
    "Supply",
    "Task",
    "UsageError",
    "leaderboards",
    "method",
    "records",
    "register_method",
    "register_sampling",
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
