"""`mtlbench table`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtlbench.cells.words import read_words
from mtlbench.cli import plugins
from mtlbench.cli.console import console_of, safe, warn, write_file
from mtlbench.cli.folders import nothing_under, results_folder
from mtlbench.errors import UsageError
from mtlbench.record.reading import cells
from mtlbench.record.runs import collect
from mtlbench.rendering.files import FORMATS, render
from mtlbench.rendering.text import several_lines
from mtlbench.storage import path_of

if TYPE_CHECKING:
    from mtlbench.rendering.table import Table
    from mtlbench.tables.making import Tables


def table(options: argparse.Namespace) -> int:
    """Make leaderboards from the records; 1 if one was refused."""
    from mtlbench.tables.making import FILTERS, make, narrow, plans
    from mtlbench.tables.options import DeltaConvention, TableOptions

    form, path = destination(options.out, options.format)
    if options.power is not None and form == "folder":
        raise UsageError(f"--power makes no leaderboards for the folder {options.out}: name a file, such as power.md.")
    plugins.load(options.plugin)
    axes = read_words(options.words, (*FILTERS, "results"))
    results = results_folder(axes)
    everything = collect(cells(results))
    if not everything.runs and not everything.absent:
        raise UsageError(nothing_under(results))
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
            sampling=options.sampling,
            published=options.published,
        ),
    )
    if not tables.all and not tables.report.refused:
        _tell_what_is_missing(tables)
        raise UsageError("No cell that fits has a result yet. `mtlbench status` tells what there is.")
    if options.power is not None:
        _put_plain(plans(tables, options.power or None), form, path)
    else:
        _put(tables, form, path)
    _tell_what_is_missing(tables)
    return 1 if tables.report.refused else 0


def show_tables(tables: Tables) -> None:
    """Tables on standard output; what was refused or is missing on standard error."""
    _put(tables, "terminal", None)
    _tell_what_is_missing(tables)


def destination(out: str | None, stated: str | None) -> tuple[str, Path | None]:
    """What `--out` and `--format` ask for: one of `FORMATS`, `terminal`, or `folder` for all of `FORMATS`; and where.

    A stated format is one file whatever its name; otherwise the ending tells, and a folder has none.

    Raises:
        UsageError: an ending that is no format, or the two contradict each other.
    """
    form = "tex" if stated == "latex" else stated
    if out is None:
        return form or "terminal", None
    path = path_of(out)
    folder = path.is_dir() or out.endswith("/")
    ending = path.suffix.removeprefix(".").lower()
    if form == "terminal":
        raise UsageError("--format terminal is for the screen alone: give --out another format, or a file's ending.")
    if form and folder:
        raise UsageError(f"{out} is a folder and --format {stated} makes one file: name it, or leave --format out.")
    if form and ending in FORMATS and ending != form:
        raise UsageError(f"{out} ends in .{ending} and --format says {stated}: leave one of them out.")
    if not (form or folder or ending in ("", *FORMATS)):
        raise UsageError(
            f"{out} ends in no format of a table. Endings: {', '.join(f'.{name}' for name in FORMATS)}; with --format "
            "any other is a file too, and a name without ending is a folder for all formats."
        )
    return form or ("folder" if folder or not ending else ending), path


def _put(tables: Tables, form: str, path: Path | None) -> None:
    """Show the tables or write them, as `destination` says."""
    from mtlbench.tables.making import write

    if form == "folder" and path is not None:
        written = write(tables, path)
        counted = f"Wrote {len(tables.all)} tables as {len(written)} files; open {written[-1]}"
        console_of().print(safe(counted), highlight=False, soft_wrap=True)
    else:
        _put_plain(tables.all, form, path)


def _put_plain(tables: Sequence[Table], form: str, path: Path | None) -> None:
    """On the screen or in one file."""
    from mtlbench.rendering.terminal import show_table

    if form == "terminal":
        console = console_of()
        for table in tables:
            show_table(console, table)
    elif path is None:
        text = render(form, tables)
        sys.stdout.write(several_lines(text) + "\n" if sys.stdout.isatty() else text)
    else:
        write_file(path, render(form, tables))


def _tell_what_is_missing(tables: Tables) -> None:
    errors = console_of(stderr=True)
    warn(errors, tables.report.warnings)
    for message in tables.report.refused:
        errors.print(f"[red]refused[/]: {safe(message)}", highlight=False, soft_wrap=True)
