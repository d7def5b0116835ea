"""What methods cost: time and memory of combining a Jacobian, of whole training steps, and of tables, as ratios."""

from __future__ import annotations

from mtlbench.bench.combining import LAYOUTS, combination
from mtlbench.bench.result import Bench, Environment, Progress, Row, Spread
from mtlbench.bench.stepping import steps
from mtlbench.bench.tabulating import tables
from mtlbench.bench.workloads import Scale

__all__ = [
    "LAYOUTS",
    "Bench",
    "Environment",
    "Progress",
    "Row",
    "Scale",
    "Spread",
    "combination",
    "steps",
    "tables",
]
