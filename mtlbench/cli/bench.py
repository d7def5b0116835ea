"""`mtlbench bench`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from mtlbench.cli import plugins
from mtlbench.cli.console import console_of, safe, write_file
from mtlbench.storage import path_of

if TYPE_CHECKING:
    from mtlbench.bench.result import Bench


def bench(options: argparse.Namespace) -> int:
    """Measure, show, and write down what was measured."""
    from rich.progress import Progress

    out = path_of(options.out) if options.out else None
    plugins.load(options.plugin)
    console = console_of()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("preparing", total=None)

        def tell(done: int, total: int, label: str) -> None:
            progress.update(bar, completed=done, total=total, description=safe(label))

        from mtlbench.bench.words import run_bench  # it takes a while

        bench = run_bench(options.words, options.plugin, tell)
    if out:
        write_file(out, bench.to_json())
    show_bench(console, bench)
    return 0


def show_bench(console: Console, bench: Bench) -> None:
    """A benchmark's measurements, ratios first, and where they were taken."""
    labels = len(bench.rows[0].labels) if bench.rows else 0
    grid = RichTable(box=box.SIMPLE_HEAD)
    for index, name in enumerate(bench.columns):
        grid.add_column(safe(name), justify="left" if index < labels else "right")
    for cells in bench.table():
        grid.add_row(*map(safe, cells))
    console.print(grid)
    e = bench.environment
    peer = f", TorchJD {e.torchjd_version}" if e.torchjd_version else ""
    where = f"torch {e.torch_version}{peer}, {e.threads} threads on {e.device} ({e.processor}), {e.date}"
    console.print(f"  {safe(where)}; {bench.disturbed:.0%} of samples disturbed by other processes", style="dim")
