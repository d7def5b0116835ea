"""`mtlbench table`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mtlbench.catalogue import registry
from mtlbench.cli.console import console_of, safe, warn, write_file
from mtlbench.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from mtlbench.tables.making import Tables


def show_tables(tables: Tables) -> None:
    """Tables on standard output; what was refused or is missing on standard error."""
    from mtlbench.rendering.terminal import show_table

    console, errors = console_of(), console_of(stderr=True)
    for table in tables.all:
        show_table(console, table)
    _tell(errors, tables)


def _tell(console: Console, tables: Tables) -> None:
    warn(console, tables.report.warnings)
    for message in tables.report.refused:
        console.print(f"[red]refused[/]: {safe(message)}", highlight=False, soft_wrap=True)


def table(options: argparse.Namespace) -> int:
    """Make leaderboards from the records; 1 if one was refused."""
    from mtlbench.cells.words import read_words
    from mtlbench.record.reading import cells
    from mtlbench.record.runs import collect
    from mtlbench.rendering.files import FORMATS, render
    from mtlbench.tables.making import FILTERS, make, narrow, write
    from mtlbench.tables.options import DeltaConvention, TableOptions

    for plugin in options.plugin:
        registry.load_plugin(plugin)
    axes = read_words(options.words, (*FILTERS, "results"))
    results = Path(str(axes.get("results", ["results"])[0])).expanduser()
    everything = collect(cells(results))
    chosen = narrow(everything, axes)
    if not chosen.runs and not chosen.absent:
        there = sorted({f"{run.cell.task}/{run.cell.variant}" for run in everything.runs})
        raise UsageError(f"No records under {results} fit. There are records of: {', '.join(there) or 'nothing yet'}.")
    tables = make(
        chosen,
        TableOptions(
            selection=options.selection,
            split=options.split,
            level=options.level,
            against=options.against,
            convention=DeltaConvention(options.delta_weighting, options.delta == "negative"),
            all_metrics=options.all_metrics,
            allow_mixed=options.allow_mixed,
            published=options.published,
        ),
    )
    errors = console_of(stderr=True)
    if not tables.all and not tables.report.refused:
        _tell(errors, tables)
        raise UsageError("No cell that fits has a result yet. `mtlbench status` tells what there is.")
    form = {"latex": "tex"}.get(options.format, options.format)
    if options.out is None and form == "terminal":
        show_tables(tables)
    elif options.out is None:
        sys.stdout.write(render(form, tables.all))
        _tell(errors, tables)
    elif options.out.suffix.removeprefix(".") in FORMATS and not options.out.is_dir():
        write_file(options.out, render(options.out.suffix.removeprefix("."), tables.all))
        _tell(errors, tables)
    else:
        written = write(tables, options.out)
        _tell(errors, tables)
        console_of().print(
            f"Wrote {len(tables.all)} tables as {len(written)} files; open {safe(str(written[-1]))}", highlight=False
        )
    return 1 if tables.report.refused else 0
