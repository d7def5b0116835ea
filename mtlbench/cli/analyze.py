"""`mtlbench analyze`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtlbench.cells.words import RESULTS, read_words
from mtlbench.cli import plugins
from mtlbench.cli.console import console_of, safe
from mtlbench.cli.folders import nothing_under, results_folder
from mtlbench.errors import UsageError
from mtlbench.record.reading import CellState, cell_state, cells
from mtlbench.record.runs import Collection, collect
from mtlbench.record.schema import FAILURE, RECORD
from mtlbench.storage import path_of

if TYPE_CHECKING:
    from mtlbench.geometry.contents import Report

FOLDER = Path("analysis")
"""Where a report goes unless `--out` says otherwise."""


def analyze(options: argparse.Namespace) -> int:
    """Write the report on the geometry of the runs that were named."""
    from mtlbench.geometry.drawn import Options
    from mtlbench.geometry.files import write
    from mtlbench.geometry.report import analyse

    plugins.load(options.plugin)
    folder = FOLDER if options.out is None else path_of(options.out)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, and a report is a folder: name another one, --out DIR.")
    found = chosen(options.runs)
    errors = console_of(stderr=True)
    steps = tuple(options.step) if options.step else Options().steps
    with errors.status("reading") as status:
        report = analyse(
            found.runs, Options(options.kind, steps, options.granularity), lambda text: status.update(safe(text))
        )
        written = write(report, folder, lambda text: status.update(safe(text)))
    show(report)
    told = f"Wrote {len(written)} files (page, summary, figures, tables) to {folder}; open {written[-1]}"
    console_of().print(safe(told), highlight=False, soft_wrap=True)
    return 0


def chosen(words: Sequence[str]) -> Collection:
    """The finished runs that some words name: folders of cells or of results, and filters as `mtlbench table` has them.

    Raises:
        UsageError: a path that is not there, a word that is no filter, or nothing that fits.
    """
    from mtlbench.tables.making import FILTERS, narrow

    paths = [word for word in words if "=" not in word or path_of(word).exists()]
    axes = read_words([word for word in words if word not in paths], (*FILTERS, "results"))
    places = [path_of(word) for word in paths]
    if "results" in axes or not places:
        places.append(results_folder(axes))
    everything = collect({state.path: state for place in places for state in _states(place)}.values())
    found = narrow(everything, axes)
    if not found.runs:
        there = sorted({f"{run.cell.task}/{run.cell.variant}" for run in everything.runs})
        raise UsageError(
            f"No finished run under {', '.join(map(str, places))} fits. "
            f"There are runs of: {', '.join(there) or 'nothing yet'}."
        )
    return found


def _states(place: Path) -> Iterator[CellState]:
    """What stands under a path: one cell, or a folder of results."""
    if not place.exists():
        if place == RESULTS:
            raise UsageError(nothing_under(place))
        raise UsageError(
            f"{place} is not there. A run is the folder of a cell, a folder of results, or words such as "
            "task=nmt/families method=gradvac."
        )
    folder = place if place.is_dir() else place.parent
    if any((folder / name).is_file() for name in (RECORD, FAILURE)):
        yield cell_state(folder)
    else:
        yield from cells(folder)


def show(report: Report) -> None:
    """The key numbers of every section on standard output."""
    from mtlbench.rendering.terminal import show_table

    console = console_of()
    for section in report.sections:
        console.print(safe(section.title), style="bold", highlight=False)
        show_table(console, section.summary)
        for text in section.missing:
            console.print(f"[yellow]missing[/]: {safe(text)}", highlight=False, soft_wrap=True)
