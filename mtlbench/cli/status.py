"""`mtlbench status`."""

from __future__ import annotations

import argparse
import dataclasses
from collections import Counter

from mtlbench.cells.words import read_words
from mtlbench.cli.console import console_of, safe, warn
from mtlbench.cli.folders import nothing_under, results_folder
from mtlbench.record.reading import CellState, cells


def status(options: argparse.Namespace) -> int:
    """Tell which cells are finished, running, queued, interrupted or failed."""
    from rich.table import Table

    results = results_folder(read_words(options.words, ("results",)))
    console = console_of()
    counts: dict[tuple[str, str, str], Counter[str]] = {}
    failed: list[CellState] = []
    unreadable: list[str] = []
    sent: list[CellState] = []
    for state in cells(results):
        if state.sent is not None:
            sent.append(state)
            continue
        if state.status == "unreadable":
            unreadable.append(state.reason)
            continue
        counts.setdefault(_row(state), Counter())[state.status] += 1
        if state.record is not None and state.status != "finished":
            failed.append(state)
    sent, slurm = _asked(sent)
    for state in sent:
        counts.setdefault(_row(state), Counter())[state.status] += 1
    if not counts and not unreadable:
        console.print(safe(nothing_under(results)), highlight=False, soft_wrap=True)
        return 0
    grid = Table("task", "protocol", "method", "cells", box=None, padding=(0, 2))
    for row, by_status in sorted(counts.items()):
        grid.add_row(*map(safe, row), ", ".join(f"{n} {status}" for status, n in sorted(by_status.items())))
    console.print(grid)
    if slurm:
        console.print(safe(slurm), highlight=False, soft_wrap=True)
    for state in failed:
        assert state.record is not None
        told = f"{state.record.label}, seed {state.record.cell.seed}: {state.reason}"
        console.print(f"[red]{state.status}[/] {safe(told)}", highlight=False, soft_wrap=True)
    warn(console, unreadable)
    return 0


def _asked(states: list[CellState]) -> tuple[list[CellState], str]:
    """The same, with what Slurm says of those that were sent there, and that in words."""
    sent = [state.sent for state in states if state.sent and state.sent.on == "slurm"]
    if not sent:
        return states, ""
    from mtlbench.running.launchers import arrays

    try:
        jobs = arrays.states(one.name for one in sent)
    except arrays.Silent as error:
        return states, f"Slurm does not tell how jobs stand, which may be over: {error}"
    waiting: Counter[str] = Counter()
    found = []
    for state in states:
        if state.sent and state.sent.on == "slurm":
            job = jobs.get((state.sent.name, state.sent.index))
            if job is None or job.over:
                state = dataclasses.replace(state, status="interrupted")
            elif job.runs:
                state = dataclasses.replace(state, status="running")
            else:
                waiting[job.why or "no reason told"] += 1
        found.append(state)
    told = ", ".join(f"{count} {why}" for why, count in waiting.most_common())
    return found, f"Jobs that wait in Slurm: {told}" if told else ""


def _row(state: CellState) -> tuple[str, str, str]:
    """Task and variant, protocol and regime, method; of a cell without a record as far as its folder tells them."""
    if state.record is None:
        task, variant, protocol, method = [*[""] * 4, *state.path.absolute().parts][-5:-1]
        return f"{task}/{variant}", protocol.replace("-tuned", " tuned"), method
    cell = state.record.cell
    regime = "" if cell.tuning is None else " trials" if cell.tuning.is_trial else " tuned"
    return f"{cell.task}/{cell.variant}", f"{state.record.protocol_label}{regime}", state.record.label
