"""`mtlbench reproduce`."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mtlbench.cells.cell import Cell
from mtlbench.cells.request import Request, parse
from mtlbench.cli import plugins
from mtlbench.cli.console import console_of, safe, warn
from mtlbench.errors import UsageError
from mtlbench.storage import path_of

if TYPE_CHECKING:
    from rich.console import Console

    from mtlbench.record.drift import Drift
    from mtlbench.record.schema import Record

KEYS = ("results", "data_root", "device", "jobs")
"""What may be said beside records."""
MOST_CURVES = 16
"""Curves that are shown of one cell; of more the largest drifts."""


def reproduce(options: argparse.Namespace) -> int:
    """Train the cells of records again and compare; 1 if one is not the same to the bit, 130 if stopped."""
    from mtlbench.cli.processors import add, report_file
    from mtlbench.running.events import Stopped

    plugins.load(options.plugin)
    words = [word for word in options.words if "=" in word]
    if strange := [word for word in words if word.partition("=")[0] not in KEYS]:
        raise UsageError(f"{strange[0]} is no word of reproduce: say RECORD..., and {'=, '.join(KEYS)}=.")
    records = _records([word for word in options.words if "=" not in word])
    out = None if options.out is None else report_file(path_of(options.out))
    kept = any(word.startswith("results=") for word in words)
    scratch, failed = tempfile.mkdtemp(prefix="mtlbench-"), 0
    try:
        request = _request(records, [*words, *([] if kept else [f"results={scratch}"])], options)
        failed = _trained(request, options.quiet)
        drifts = _drifts(records, request)
    except Stopped:
        where = "the same command goes on from here" if kept else "nothing is kept without results="
        console_of().print(f"[yellow]interrupted[/]; {where}.")
        return 130
    finally:
        if not failed:  # else it has the logs that the failures name
            shutil.rmtree(scratch, ignore_errors=True)
    for drift in drifts:
        _tell(console_of(), drift)
    if out is not None and drifts:
        add(out, drifts)
    return 1 if failed or not all(drift.is_equal for drift in drifts) else 0


def _records(words: Sequence[str]) -> dict[Path, Record]:
    """File -> record, of the files or folders of cells that are named."""
    from mtlbench.record.reading import load
    from mtlbench.record.schema import RECORD

    found = {}
    for word in words:
        path = path_of(word)
        file = path / RECORD if path.is_dir() else path
        record = load(file)
        if record.status != "finished":
            raise UsageError(f"{file} is of a cell that {record.status}: only finished ones can be compared.")
        found[file] = record
    if not found:
        raise UsageError(f"Which record? Say the folder of a cell, or its {RECORD}: results/TASK/VARIANT/.../seed0-ID.")
    return found


def _request(records: Mapping[Path, Record], words: Sequence[str], options: argparse.Namespace) -> Request:
    from mtlbench.catalogue.registry import holder
    from mtlbench.record.drift import cell_of

    cells = {cell.id: cell for cell in map(cell_of, records.values())}
    first: Cell = next(iter(cells.values()))
    named = [f"method={holder('baseline')}", f"task={first.task}/{first.variant}", "against=none"]
    base = parse([*named, *words], [path_of(file).resolve() for file in options.plugin])
    return replace(base, cells=[*cells.values()])


def _trained(request: Request, quiet: bool) -> int:
    """Train the cells that are not finished in the folder; the number that failed."""
    from mtlbench.cli.progress import Reporter
    from mtlbench.running.launch import launch

    with Reporter(console_of(), request.total, quiet) as reporter:
        outcomes = launch(request, reporter)
    return sum(outcome.status not in ("finished", "skipped") for outcome in outcomes)


def _drifts(records: Mapping[Path, Record], request: Request) -> list[Drift]:
    """How far each cell that is finished now is from its record."""
    from mtlbench.record import drift
    from mtlbench.record.reading import load
    from mtlbench.record.schema import RECORD

    now = {cell.id: cell.folder(request.results) / RECORD for cell in request.cells}
    return [
        drift.drift(record, load(now[record.id]), drift.siblings(path, record))
        for path, record in records.items()
        if now[record.id].exists()
    ]


def _tell(console: Console, drift: Drift) -> None:
    if drift.is_equal:
        verdict = "[green]the same to the bit[/] in every loss and score of every evaluation"
    else:
        verdict = f"[yellow]differs[/] from the evaluation after epoch {drift.first} on"
    console.print(f"[bold]{safe(drift.cell)}[/] ({safe(drift.protocol)}): {verdict}", highlight=False, soft_wrap=True)
    console.print(f"  before: {safe(_place(drift, 'before'))}", highlight=False, soft_wrap=True)
    console.print(f"  now:    {safe(_place(drift, 'now'))}", highlight=False, soft_wrap=True)
    if drift.causes and not drift.is_equal:
        warn(console, [f"not only the processor may be another: {'; '.join(drift.causes)}"])
    warn(console, [f"only one of the two has {', '.join(drift.lacking)}"] if drift.lacking else [])
    if not drift.is_equal:
        console.print(_table(drift))


def _place(drift: Drift, which: str) -> str:
    place = drift.before if which == "before" else drift.now
    libraries = ", ".join(f"{name} {place.kernels[name]}" for name in ("blas", "onednn") if name in place.kernels)
    return f"{place.kind}; {libraries or 'its record does not tell the kernels'}; {place.precision}"


def _table(drift: Drift) -> object:
    """The curves that differ, with what they end in."""
    from rich.table import Table

    seeds = f"sd over {len(drift.seeds)} seeds" if len(drift.seeds) > 1 else "sd over seeds"
    grid = Table("curve", "from epoch", "before", "now", "difference", "largest", seeds, box=None, padding=(0, 2))
    differing = [curve for curve in drift.shown if curve.first is not None]
    largest = sorted(differing, key=lambda curve: -max(map(abs, curve.differences)))[:MOST_CURVES]
    for curve in [curve for curve in differing if curve in largest]:
        noise = "-" if curve.noise is None else f"{curve.noise:.3g}"
        figures = f"{curve.before[-1]:.6g}", f"{curve.now[-1]:.6g}", f"{curve.differences[-1]:+.3g}"
        grid.add_row(safe(curve.name), str(curve.first), *figures, f"{max(map(abs, curve.differences)):.3g}", noise)
    return grid
