"""`mtlbench run`."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mtlbench.cells.request import Request, parse
from mtlbench.cli import plugins
from mtlbench.cli.console import console_of, safe
from mtlbench.storage import path_of

if TYPE_CHECKING:
    from mtlbench.running.events import Outcome
    from mtlbench.running.torchrun import Leader

_GOOD = ("finished", "skipped")
_AGAIN = "the same command goes on from here"


def run(options: argparse.Namespace) -> int:
    """Train a grid of cells and print its leaderboard; 1 if a cell failed, 130 if stopped.

    Under torchrun the first process does so, and the others train along.
    """
    if not os.environ.keys() >= {"RANK", "WORLD_SIZE"}:
        return _run(options)
    from mtlbench.running import torchrun

    position = torchrun.position()
    if position is None:
        return _run(options)
    if position.rank:
        return torchrun.follow(position)
    with torchrun.leading(position) as leader:
        return _run(options, leader)


def _run(options: argparse.Namespace, leader: Leader | None = None) -> int:
    from mtlbench.cli.preparation import preparation_told
    from mtlbench.cli.progress import Reporter
    from mtlbench.running.events import Stopped
    from mtlbench.running.launch import launch

    plugins.load(options.plugin)
    words = [*options.words, *([f"predictions={options.predictions}"] if options.predictions else [])]
    request = parse(words, [path_of(file).resolve() for file in options.plugin])
    for wish in (signal.SIGTERM, signal.SIGHUP):  # of a batch system, of a terminal that is closed: a Ctrl-C
        if signal.getsignal(wish) != signal.SIG_IGN:  # as `nohup` says
            signal.signal(wish, signal.default_int_handler)
    console = console_of()
    if request.added and not options.quiet:
        names = ", ".join(dict.fromkeys(cell.method for cell in request.added))
        console.print(f"Compared with {safe(names)}, which is trained too; against=none leaves it out.")
    with Reporter(console, request.total, options.quiet) as reporter, preparation_told(reporter, options.quiet):
        try:
            outcomes = launch(request, reporter, options.retry, leader)
        except Stopped as stopped:
            done = sum(o.status in _GOOD for o in stopped.outcomes)
            lost = (
                f" {stopped.killed} had no time to save a checkpoint and go on from their last."
                if stopped.killed
                else ""
            )
            if stopped.left:
                lost = f" {stopped.left} stay in the queue or train on; `scancel` ends them."
            console.print(f"[yellow]interrupted[/]: {done} of {request.total} cells are finished; {_AGAIN}.{lost}")
            return 130
    failed = sum(o.status not in _GOOD for o in outcomes)
    if not options.quiet:
        _show_results(request, outcomes)
        console.print(f"Records: {safe(str(request.results))}", highlight=False, soft_wrap=True)
        if failed:
            console.print(f"[red]{failed} of {len(outcomes)} cells failed[/]; {_AGAIN} where that can help.")
    return 1 if failed else 0


def _show_results(request: Request, outcomes: Sequence[Outcome]) -> None:
    """The tables of the cells of this run, compared as it asks for where that is among what finished."""
    from mtlbench.cli.table import show_tables
    from mtlbench.record.reading import cell_state
    from mtlbench.record.runs import collect
    from mtlbench.tables.making import make
    from mtlbench.tables.options import TableOptions

    scored = [o.cell for o in outcomes if o.status in _GOOD]
    there = {cell.label for cell in scored if not (cell.tuning and cell.tuning.is_trial)}
    compared = TableOptions(against=request.against if request.against in there else None)
    folders = dict.fromkeys(o.folder for o in outcomes)
    show_tables(make(collect(cell_state(folder) for folder in folders if folder.exists()), compared))
