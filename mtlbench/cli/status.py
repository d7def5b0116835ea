"""`mtlbench status`."""

from __future__ import annotations

import argparse
from pathlib import Path

from mtlbench.cli.console import console_of, safe, warn


def status(options: argparse.Namespace) -> int:
    """Tell which cells are finished, running, interrupted or failed."""
    from rich.table import Table

    from mtlbench.cells.words import read_words
    from mtlbench.record.reading import CellState, cells

    axes = read_words(options.words, ("results",))
    results = Path(str(axes.get("results", ["results"])[0])).expanduser()
    console = console_of()
    counts: dict[tuple[str, ...], dict[str, int]] = {}
    failed: list[CellState] = []
    unreadable: list[str] = []
    for state in cells(results):
        if state.status == "unreadable":
            unreadable.append(state.reason)
            continue
        if state.record is not None:
            cell = state.record.cell
            regime = "" if cell.tuning is None else " trials" if cell.tuning.is_trial else " tuned"
            key: tuple[str, ...] = (
                f"{cell.task}/{cell.variant}",
                f"{state.record.protocol_label}{regime}",
                state.record.label,
            )
            if state.status != "finished":
                failed.append(state)
        else:
            parts = state.path.relative_to(results).parts
            key = ("/".join(parts[:2]), parts[2].replace("-tuned", " tuned"), *parts[3:4])
        by_status = counts.setdefault(key, {})
        by_status[state.status] = by_status.get(state.status, 0) + 1
    if not counts and not unreadable:
        console.print(f"No cells under {safe(str(results))}. `mtlbench run method=gradvac task=multimnist` makes one.")
        return 0
    grid = Table("task", "protocol", "method", "cells", box=None, padding=(0, 2))
    for key, by_status in sorted(counts.items()):
        grid.add_row(*map(safe, key), ", ".join(f"{n} {status}" for status, n in sorted(by_status.items())))
    console.print(grid)
    for state in failed:
        assert state.record is not None
        console.print(
            f"[red]{state.status}[/] {safe(state.record.label)}, seed {state.record.cell.seed}: {safe(state.reason)}",
            highlight=False,
        )
    warn(console, unreadable)
    return 0
