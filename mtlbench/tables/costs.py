"""Cost columns: time and memory, each beside its ratio to the baseline's on the same host."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mtlbench.record.runs import Run
from mtlbench.rendering.table import Column, Value
from mtlbench.tables.entries import Entry


class Machine(NamedTuple):
    """What must be equal for times to compare."""

    host: str
    hardware: str
    device: str
    """Its kind: `cpu` or `cuda`."""
    threads: int
    processes: str

    @classmethod
    def of(cls, run: Run) -> Machine:
        """Where the run was trained."""
        made = run.provenance
        return cls(made.host, made.hardware, made.device.partition(":")[0], made.threads, made.processes)


def costs(entries: Sequence[Entry], baseline: Entry | None, values: dict[str, dict[str, Value]]) -> list[Column]:
    """The columns; their values, medians over seeds, go into `values`, by label and column key.

    A ratio is of medians on one host (same processor, kind of device and threads) that both ran on, the median over
    such hosts; without one there is no ratio, since times of different machines do not compare.
    """
    against = baseline.label if baseline else ""
    columns = []
    for key, what, title, digits, measured in (
        ("milliseconds_per_step", "time", "ms/step", 1, _milliseconds),
        ("peak_megabytes", "memory", "MB", 0, _megabytes),
    ):
        absolute = Column(key, title, False, digits=digits)
        ratio = Column(f"{what}_ratio", f"{what} / {against}", False, suffix="x", about="on the same host")
        columns += [absolute, ratio] if baseline else [absolute]
        for e in (e for e in entries if any(measured(run) for run in e.runs)):  # without steps there is no time of one
            values[e.label][absolute.key] = Value(statistics.median(map(measured, e.runs)))
            found = _ratio(e, baseline, measured) if baseline else None
            if found is not None:
                values[e.label][ratio.key] = Value(found)
    if any(e.search for e in entries):
        column = Column("search_minutes", "search [min]", False, digits=1, about="training time of the search")
        columns.append(column)
        for e in entries:
            if e.search:
                values[e.label][column.key] = Value(e.search.seconds / 60)
    return columns


def _milliseconds(run: Run) -> float:
    return 1000 * run.cost.seconds_per_step


def _megabytes(run: Run) -> float:
    return run.cost.peak_memory_bytes / 1e6


def _ratio(e: Entry, baseline: Entry, measured: Callable[[Run], float]) -> float | None:
    mine, theirs = _by_host(e.runs, measured), _by_host(baseline.runs, measured)
    ratios = [mine[host] / theirs[host] for host in mine if theirs.get(host)]
    return statistics.median(ratios) if ratios else None


def _by_host(runs: Sequence[Run], measured: Callable[[Run], float]) -> dict[Machine, float]:
    """Machine -> median."""
    found: dict[Machine, list[float]] = {}
    for run in runs:
        found.setdefault(Machine.of(run), []).append(measured(run))
    return {machine: statistics.median(values) for machine, values in found.items()}
