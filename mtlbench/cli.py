"""The command line: `mtlbench run | list | show | status | table | data | new | check | bench`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlbench import registry
from mtlbench.arguments import parser
from mtlbench.errors import UsageError, unknown

if TYPE_CHECKING:
    from rich.console import Console

    from mtlbench.tables import Tables


_WIDTH_OF_FILES = 160


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point; exits with the command's code."""
    options = parser(
        {
            "run": _run,
            "list": _list,
            "show": _show,
            "status": _status,
            "table": _table,
            "data": _data,
            "new": _new,
            "check": _check,
            "bench": _bench,
        }
    ).parse_args(arguments)
    try:
        code = options.command(options)
    except UsageError as error:
        _console(stderr=True).print(f"[red]error[/]: {_safe(str(error))}", highlight=False, soft_wrap=True)
        code = 2
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    sys.exit(code)


def _run(options: argparse.Namespace) -> int:
    from mtlbench.config import parse
    from mtlbench.launch import Stopped, launch
    from mtlbench.terminal import Reporter

    for plugin in options.plugin:
        registry.load_plugin(plugin)
    request = parse(options.words, [Path(p).expanduser().resolve() for p in options.plugin])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's wish to stop is a Ctrl-C
    console = _console()
    again = "the same command goes on from here"
    if request.added and not options.quiet:
        names = ", ".join(dict.fromkeys(cell.method for cell in request.added))
        console.print(f"Compared with {_safe(names)}, which is trained too; against=none leaves it out.")
    with Reporter(console, request.total, options.quiet) as reporter:
        try:
            outcomes = launch(request, reporter, options.retry)
        except Stopped as stopped:
            done = sum(o.status in ("finished", "skipped") for o in stopped.outcomes)
            console.print(f"[yellow]interrupted[/]: {done} of {request.total} cells are finished; {again}.")
            return 130
    folders = dict.fromkeys(o.folder for o in outcomes)
    if not options.quiet:
        from mtlbench.leaderboard import Options
        from mtlbench.record import cell_state
        from mtlbench.runs import collect
        from mtlbench.tables import make

        scored = [o.cell for o in outcomes if o.status in ("finished", "skipped")]
        there = {cell.label for cell in scored if not (cell.tuning and cell.tuning.is_trial)}
        compare = Options(against=request.against if request.against in there else None)
        _show_tables(make(collect(cell_state(folder) for folder in folders if folder.exists()), compare))
        console.print(f"Records: {_safe(str(request.results))}", highlight=False)
    failed = [o for o in outcomes if o.status not in ("finished", "skipped")]
    if failed and not options.quiet:
        console.print(f"[red]{len(failed)} of {len(outcomes)} cells failed[/]; {again} where that can help.")
    return 1 if failed else 0


def _show_tables(tables: Tables) -> None:
    """Tables on standard output; what was refused or is missing on standard error."""
    from mtlbench.terminal import show_table

    console, errors = _console(), _console(stderr=True)
    for table in tables.all:
        show_table(console, table)
    _tell(errors, tables)


def _tell(console: Console, tables: Tables) -> None:
    _warn(console, tables.report.warnings)
    for message in tables.report.refused:
        console.print(f"[red]refused[/]: {_safe(message)}", highlight=False, soft_wrap=True)


def _list(options: argparse.Namespace) -> int:
    from rich.table import Table

    broken = _load_plugins_leniently(options.plugin)
    console = _console()
    for kind, entries in (("method", registry.methods.entries()), ("task", registry.tasks.entries())):
        if options.what not in (None, f"{kind}s"):
            continue
        grid = Table.grid(padding=(0, 2))
        for name, entry in sorted(entries.items()):
            about = (
                f"[red]broken[/]: {_safe(entry.error)} ({_safe(entry.origin)})" if entry.error else _safe(entry.summary)
            )
            grid.add_row(f"  [bold]{_safe(name)}[/]", about)
        console.print(f"{kind}s", style="bold underline")
        console.print(grid, highlight=False)
    for file, reason in broken.items():
        console.print(f"[red]broken plug-in[/] {_safe(file)}: {_safe(reason)}", highlight=False, soft_wrap=True)
    return 0


def _load_plugins_leniently(plugins: Sequence[str]) -> dict[str, str]:
    for plugin in plugins:
        try:
            registry.load_plugin(plugin)
        except UsageError:
            continue  # it is in broken_plugins now
    return registry.broken_plugins


def _show(options: argparse.Namespace) -> int:
    for plugin in options.plugin:
        registry.load_plugin(plugin)
    name = options.name.split("/")[0]
    is_method, is_task = name in registry.methods.entries(), name in registry.tasks.entries()
    if not (is_method or is_task):
        raise unknown("method or task", name, [*registry.methods.names(), *registry.tasks.names()])
    from mtlbench.describe import describe_method, describe_task

    if is_method:
        describe_method(_console(), name)
    if is_task:
        describe_task(_console(), name)
    return 0


def _status(options: argparse.Namespace) -> int:
    from rich.table import Table

    from mtlbench.record import CellState, cells
    from mtlbench.words import read_words

    axes = read_words(options.words, ("results",))
    results = Path(str(axes.get("results", ["results"])[0])).expanduser()
    console = _console()
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
        console.print(f"No cells under {_safe(str(results))}. `mtlbench run method=gradvac task=multimnist` makes one.")
        return 0
    grid = Table("task", "protocol", "method", "cells", box=None, padding=(0, 2))
    for key, by_status in sorted(counts.items()):
        grid.add_row(*map(_safe, key), ", ".join(f"{n} {status}" for status, n in sorted(by_status.items())))
    console.print(grid)
    for state in failed:
        assert state.record is not None
        console.print(
            f"[red]{state.status}[/] {_safe(state.record.label)}, seed {state.record.cell.seed}: {_safe(state.reason)}",
            highlight=False,
        )
    _warn(console, unreadable)
    return 0


def _table(options: argparse.Namespace) -> int:
    from mtlbench.comparison import DeltaConvention
    from mtlbench.leaderboard import Options
    from mtlbench.record import cells
    from mtlbench.rendering import FORMATS, render
    from mtlbench.runs import collect
    from mtlbench.tables import FILTERS, choose, make, write
    from mtlbench.words import read_words

    for plugin in options.plugin:
        registry.load_plugin(plugin)
    axes = read_words(options.words, (*FILTERS, "results"))
    results = Path(str(axes.get("results", ["results"])[0])).expanduser()
    everything = collect(cells(results))
    chosen = choose(everything, axes)
    if not chosen.runs and not chosen.absent:
        there = sorted({f"{run.cell.task}/{run.cell.variant}" for run in everything.runs})
        raise UsageError(f"No records under {results} fit. There are records of: {', '.join(there) or 'nothing yet'}.")
    tables = make(
        chosen,
        Options(
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
    errors = _console(stderr=True)
    if not tables.all and not tables.report.refused:
        _tell(errors, tables)
        raise UsageError("No cell that fits has a result yet. `mtlbench status` tells what there is.")
    form = {"latex": "tex"}.get(options.format, options.format)
    if options.out is None and form == "terminal":
        _show_tables(tables)
    elif options.out is None:
        sys.stdout.write(render(form, tables.all))
        _tell(errors, tables)
    elif options.out.suffix.removeprefix(".") in FORMATS and not options.out.is_dir():
        _write(options.out, render(options.out.suffix.removeprefix("."), tables.all))
        _tell(errors, tables)
    else:
        written = write(tables, options.out)
        _tell(errors, tables)
        _console().print(
            f"Wrote {len(tables.all)} tables as {len(written)} files; open {_safe(str(written[-1]))}", highlight=False
        )
    return 1 if tables.report.refused else 0


def _data(options: argparse.Namespace) -> int:
    from mtlbench import data
    from mtlbench.words import read_words

    places = [word for word in options.words if "=" not in word]
    axes = read_words([word for word in options.words if "=" in word], ("data_root",))
    root = data.data_root(str(axes["data_root"][0]) if "data_root" in axes else None)
    chosen: dict[str, data.DataSet] = {}
    for place in places or registry.tasks.names():
        task, _, variant = place.partition("/")
        registry.tasks.entry(task)
        found = data.needed(task, variant) if variant else data.datasets(task).values()
        chosen.update({dataset.name: dataset for dataset in found})
    console = _console()
    if not chosen:
        console.print(f"{', '.join(places)} needs no files: its data is embedded.")
        return 0
    if options.action != "status" and not places:
        raise UsageError(f"Name what to {options.action}, such as `mtlbench data {options.action} multimnist/mnist`.")
    bad = 0
    console.print(
        f"data root: {_safe(str(root)) if root else 'not set; give data_root=DIR or set MTLBENCH_DATA'}",
        highlight=False,
    )
    for dataset in chosen.values():
        if options.action == "fetch":
            _fetch(console, dataset, root)
        console.print(
            f"[bold]{_safe(dataset.name)}[/]: {_safe(dataset.title)}, from {_safe(dataset.source)}",
            highlight=False,
            soft_wrap=True,
        )
        for state in data.verify(dataset, root) if options.action != "status" else data.status(dataset, root):
            bad += state.state == "corrupt" or (state.state == "missing" and not state.file.optional)
            _tell_of_data(console, state.state, state.file.name, f" {state.path}" if state.path else "")
        if not dataset.files:
            there = [str(root / folder) for folder in dataset.folders if root and (root / folder).is_dir()]
            bad += not there
            where = ", ".join(there) or f"get it by hand into {root or 'DIR'}/{dataset.folders[0]}"
            _tell_of_data(console, "present" if there else "missing", where, "; no list of its files is published")
    return 1 if bad and options.action != "status" else 0


def _tell_of_data(console: Console, state: str, what: str, more: str) -> None:
    colour = "green" if state in ("present", "verified") else "red"
    console.print(f"  [{colour}]{state:9}[/]{_safe(what)}[dim]{_safe(more)}[/]", highlight=False, soft_wrap=True)


def _fetch(console: Console, dataset: Any, root: Path | None) -> None:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from mtlbench import data

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bars: dict[str, Any] = {}

        def tell(file: Any, done: int, total: int | None) -> None:
            if file.name not in bars:
                bars[file.name] = progress.add_task(_safe(file.name), total=total)
            progress.update(bars[file.name], completed=done)

        data.fetch(dataset, root, tell)


def _new(options: argparse.Namespace) -> int:
    from mtlbench.scaffold import scaffold

    path = scaffold(options.what, options.name, Path.cwd())
    console = _console()
    console.print(f"Wrote {path.name}. Try it:", highlight=False)
    other = "task=multimnist" if options.what == "method" else "method=uniform,gradvac"
    console.print(f"  mtlbench run --plugin {path.name} {options.what}={options.name} {other}", highlight=False)
    return 0


def _check(options: argparse.Namespace) -> int:
    from mtlbench.conformance import battery

    before = set(registry.methods.entries())
    plugin = options.method.endswith(".py")
    if plugin:
        registry.load_plugin(options.method)
    names = sorted(set(registry.methods.entries()) - before) if plugin else [options.method]
    if not names:
        raise UsageError(f"{options.method} registers no method.")
    console = _console()
    failed = 0
    for name in names:
        registry.method(name)  # a parameter without default, or an unknown name, is an error of its own
        console.print(f"[bold]{_safe(name)}[/]")
        for finding in battery(lambda name=name: registry.method(name)):  # type: ignore[misc]
            failed += not finding.holds
            mark = "[green]holds[/]" if finding.holds else "[red]fails[/]"
            detail = "" if finding.holds else f": {_safe(finding.problem)}"
            console.print(f"  {mark}  {finding.name}{detail}", highlight=False, soft_wrap=True)
    return 1 if failed else 0


def _bench(options: argparse.Namespace) -> int:
    from rich.progress import Progress

    from mtlbench.bench.words import run_bench
    from mtlbench.terminal import show_bench

    for plugin in options.plugin:
        registry.load_plugin(plugin)
    console = _console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("")

        def tell(done: int, total: int, label: str) -> None:
            progress.update(bar, completed=done, total=total, description=_safe(label))

        bench = run_bench(options.words, options.plugin, tell)
    if options.out:
        _write(options.out, bench.to_json())
    show_bench(console, bench)
    return 0


def _write(path: Path, text: str) -> None:
    from mtlbench.storage import write_atomically

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error


def _warn(console: Console, messages: Sequence[str]) -> None:
    for message in messages:
        console.print(f"[yellow]warning[/]: {_safe(message)}", highlight=False, soft_wrap=True)


def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDTH_OF_FILES  # tables in logs and pipes are not squeezed into 80 columns
    return console


def _safe(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
