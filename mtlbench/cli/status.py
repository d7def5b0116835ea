"""`mtlbench status`."""

from __future__ import annotations

import argparse
from collections import Counter

from mtlbench.cells.words import read_words
from mtlbench.cli.console import console_of, safe, warn
from mtlbench.cli.folders import nothing_under, results_folder
from mtlbench.record.reading import CellState, cells


def status(options: argparse.Namespace) -> int:
    """Tell which cells are finished, running, interrupted or failed."""
    from rich.table import Table

    results = results_folder(read_words(options.words, ("results",)))
    console = console_of()
    counts: dict[tuple[str, str, str], Counter[str]] = {}
    failed: list[CellState] = []
    unreadable: list[str] = []
    for state in cells(results):
        if state.status == "unreadable":
            unreadable.append(state.reason)
            continue
        counts.setdefault(_row(state), Counter())[state.status] += 1
        if state.record is not None and state.status != "finished":
            failed.append(state)
    if not counts and not unreadable:
        console.print(safe(nothing_under(results)), highlight=False, soft_wrap=True)
        return 0
    grid = Table("task", "protocol", "method", "cells", box=None, padding=(0, 2))
    for row, by_status in sorted(counts.items()):
        grid.add_row(*map(safe, row), ", ".join(f"{n} {status}" for status, n in sorted(by_status.items())))
    console.print(grid)
    for state in failed:
        assert state.record is not None
        told = f"{state.record.label}, seed {state.record.cell.seed}: {state.reason}"
        console.print(f"[red]{state.status}[/] {safe(told)}", highlight=False, soft_wrap=True)
    warn(console, unreadable)
    return 0


def _row(state: CellState) -> tuple[str, str, str]:
    """Task and variant, protocol and regime, method; of a cell without a record as far as its folder tells them."""
    if state.record is None:
        task, variant, protocol, method = [*[""] * 4, *state.path.absolute().parts][-5:-1]
        return f"{task}/{variant}", protocol.replace("-tuned", " tuned"), method
    cell = state.record.cell
    regime = "" if cell.tuning is None else " trials" if cell.tuning.is_trial else " tuned"
    return f"{cell.task}/{cell.variant}", f"{state.record.protocol_label}{regime}", state.record.label
