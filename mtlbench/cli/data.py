"""`mtlbench data`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlbench.catalogue import fetching, registry
from mtlbench.cli.console import console_of, safe
from mtlbench.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console


def data(options: argparse.Namespace) -> int:
    """Look for, download or verify data sets; 1 if a file is missing or corrupt."""
    from mtlbench.catalogue import data, fetching
    from mtlbench.cells.words import read_words

    places = [word for word in options.words if "=" not in word]
    axes = read_words([word for word in options.words if "=" in word], ("data_root",))
    root = data.data_root(str(axes["data_root"][0]) if "data_root" in axes else None)
    chosen: dict[str, data.DataSet] = {}
    for place in places or registry.tasks.names():
        task, _, variant = place.partition("/")
        registry.tasks.entry(task)
        found = data.needed(task, variant) if variant else data.datasets(task).values()
        chosen.update({dataset.name: dataset for dataset in found})
    console = console_of()
    if not chosen:
        console.print(f"{', '.join(places)} needs no files: its data is embedded.")
        return 0
    if options.action != "status" and not places:
        raise UsageError(f"Name what to {options.action}, such as `mtlbench data {options.action} multimnist/mnist`.")
    bad = 0
    console.print(
        f"data root: {safe(str(root)) if root else 'not set; give data_root=DIR or set MTLBENCH_DATA'}",
        highlight=False,
    )
    for dataset in chosen.values():
        if options.action == "fetch":
            _fetch(console, dataset, root)
        console.print(
            f"[bold]{safe(dataset.name)}[/]: {safe(dataset.title)}, from {safe(dataset.source)}",
            highlight=False,
            soft_wrap=True,
        )
        for state in fetching.verify(dataset, root) if options.action != "status" else fetching.status(dataset, root):
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
    console.print(f"  [{colour}]{state:9}[/]{safe(what)}[dim]{safe(more)}[/]", highlight=False, soft_wrap=True)


def _fetch(console: Console, dataset: Any, root: Path | None) -> None:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

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
                bars[file.name] = progress.add_task(safe(file.name), total=total)
            progress.update(bars[file.name], completed=done)

        fetching.fetch(dataset, root, tell)
