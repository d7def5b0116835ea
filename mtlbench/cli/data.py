"""`mtlbench data`."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtlbench.catalogue import data as catalogue
from mtlbench.catalogue import fetching, registry
from mtlbench.cells.words import read_words
from mtlbench.cli.console import console_of, safe
from mtlbench.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

_GOOD = ("present", "verified")


def data(options: argparse.Namespace) -> int:
    """Look for, download or verify data sets; 1 if a file is missing or corrupt, `status` apart."""
    places = [word for word in options.words if "=" not in word]
    axes = read_words([word for word in options.words if "=" in word], ("data_root",))
    root = catalogue.data_root(str(axes["data_root"][0]) if "data_root" in axes else None)
    chosen = _chosen(places)
    console = console_of()
    if not chosen:
        console.print(f"{safe(', '.join(places))} needs no files: its data is embedded.")
        return 0
    if options.action != "status" and not places:
        raise UsageError(f"Name what to {options.action}, such as `mtlbench data {options.action} multimnist/mnist`.")
    where = str(root) if root else "not set; give data_root=DIR or set MTLBENCH_DATA"
    console.print(f"data root: {safe(where)}", highlight=False, soft_wrap=True)
    whole = True
    for dataset in chosen:
        if options.action == "fetch":
            _fetch(console, dataset, root)
        states = (fetching.status if options.action == "status" else fetching.verify)(dataset, root)
        if dataset.files:
            whole &= all(s.state in _GOOD or (s.state == "missing" and s.file.optional) for s in states)
            _tell(console, dataset, states, options.files or options.action == "verify")
        else:
            whole &= _tell_of_folder(console, dataset, root)
    return 0 if whole or options.action == "status" else 1


def _chosen(places: Sequence[str]) -> list[catalogue.DataSet]:
    """The data sets of the tasks and variants that were named, each once; those of all tasks if none was."""
    found: dict[str, catalogue.DataSet] = {}
    for place in places or registry.tasks.names():
        task, _, variant = place.partition("/")
        registry.tasks.entry(task)
        some = catalogue.needed(task, variant) if variant else catalogue.datasets(task).values()
        found.update({dataset.name: dataset for dataset in some})
    return list(found.values())


def _tell(console: Console, dataset: catalogue.DataSet, states: Sequence[fetching.FileState], each: bool) -> None:
    """How many of the files are there, and where; `each` of them, or those alone that are corrupt."""
    counts = Counter(s.state for s in states)
    told = ", ".join(
        f"[{'green' if state in _GOOD else 'red'}]{n} {state}[/]" for state, n in sorted(counts.items(), reverse=True)
    )
    optional = sum(s.state == "missing" and s.file.optional for s in states)
    told += f" ({'all' if optional == counts['missing'] else optional} optional)" if optional else ""
    _tell_of(console, dataset, told)
    for state in states:
        if each or state.state == "corrupt":
            colour = "green" if state.state in _GOOD else "red"
            where = f" [dim]{safe(str(state.path))}[/]" if state.path else ""
            line = f"  [{colour}]{state.state:9}[/]{safe(state.file.name)}{where}"
            console.print(line, highlight=False, soft_wrap=True)


def _tell_of_folder(console: Console, dataset: catalogue.DataSet, root: Path | None) -> bool:
    """Whether a data set is there of whose files no list is published: whether one of its folders is."""
    there = [root / folder for folder in dataset.folders if root and (root / folder).is_dir()]
    wanted = (root or Path("DIR")) / dataset.folders[0]
    told = f"[green]present[/] in {safe(str(there[0]))}" if there else "[red]missing[/]"
    hint = "no list of its files is published" if there else f"get it by hand into {safe(str(wanted))}"
    _tell_of(console, dataset, f"{told}; {hint}")
    return bool(there)


def _tell_of(console: Console, dataset: catalogue.DataSet, state: str) -> None:
    about = safe(f"{dataset.title}, from {dataset.source}")
    console.print(f"[bold]{safe(dataset.name)}[/]: {state} [dim]({about})[/]", highlight=False, soft_wrap=True)


def _fetch(console: Console, dataset: catalogue.DataSet, root: Path | None) -> None:
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
        BarColumn(bar_width=None),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bars: dict[str, TaskID] = {}

        def tell(file: catalogue.DataFile, done: int, total: int | None) -> None:
            if file.name not in bars:
                bars[file.name] = progress.add_task(safe(file.name), total=total)
            progress.update(bars[file.name], completed=done)

        fetching.fetch(dataset, root, tell)
