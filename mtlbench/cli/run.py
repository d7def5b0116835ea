"""`mtlbench run`."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path

from mtlbench.catalogue import registry
from mtlbench.cli.console import console_of, safe
from mtlbench.cli.table import show_tables


def run(options: argparse.Namespace) -> int:
    """Train a grid of cells and print its leaderboard; 1 if a cell failed, 130 if stopped."""
    from mtlbench.cells.request import parse
    from mtlbench.cli.progress import Reporter
    from mtlbench.running.events import Stopped
    from mtlbench.running.launch import launch

    for plugin in options.plugin:
        registry.load_plugin(plugin)
    request = parse(options.words, [Path(p).expanduser().resolve() for p in options.plugin])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's wish to stop is a Ctrl-C
    console = console_of()
    again = "the same command goes on from here"
    if request.added and not options.quiet:
        names = ", ".join(dict.fromkeys(cell.method for cell in request.added))
        console.print(f"Compared with {safe(names)}, which is trained too; against=none leaves it out.")
    with Reporter(console, request.total, options.quiet) as reporter:
        try:
            outcomes = launch(request, reporter, options.retry)
        except Stopped as stopped:
            done = sum(o.status in ("finished", "skipped") for o in stopped.outcomes)
            console.print(f"[yellow]interrupted[/]: {done} of {request.total} cells are finished; {again}.")
            return 130
    folders = dict.fromkeys(o.folder for o in outcomes)
    if not options.quiet:
        from mtlbench.record.reading import cell_state
        from mtlbench.record.runs import collect
        from mtlbench.tables.making import make
        from mtlbench.tables.options import TableOptions

        scored = [o.cell for o in outcomes if o.status in ("finished", "skipped")]
        there = {cell.label for cell in scored if not (cell.tuning and cell.tuning.is_trial)}
        compare = TableOptions(against=request.against if request.against in there else None)
        show_tables(make(collect(cell_state(folder) for folder in folders if folder.exists()), compare))
        console.print(f"Records: {safe(str(request.results))}", highlight=False)
    failed = [o for o in outcomes if o.status not in ("finished", "skipped")]
    if failed and not options.quiet:
        console.print(f"[red]{len(failed)} of {len(outcomes)} cells failed[/]; {again} where that can help.")
    return 1 if failed else 0
