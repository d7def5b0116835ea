"""What `mtlbench show` tells of a method or a task."""

from __future__ import annotations

import inspect
import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mtlbench.catalogue import registry
from mtlbench.catalogue.data import needed
from mtlbench.catalogue.signature import parameters
from mtlbench.catalogue.variants import task_data
from mtlbench.cells.words import task_words
from mtlbench.engine import kinds


def describe_method(console: Console, name: str) -> None:
    """Formula, conventions and source as the method\'s file states them, and its parameters."""
    cls = registry.methods.load(name)
    entry = registry.methods.entry(name)
    kind = next(
        k.__name__
        for k in (kinds.LossWeighting, kinds.GramianWeighting, kinds.JacobianAggregator)
        if issubclass(cls, k)
    )
    passes = "one" if kind == "LossWeighting" else "K"
    console.print(f"[bold]{name}[/]  {escape(entry.paper)}", highlight=False)
    console.print(escape(inspect.getdoc(sys.modules[cls.__module__]) or ""), highlight=False)
    console.print(
        f"\n{kind}, {passes} backward pass{'es' if passes == 'K' else ''} a step, in {escape(entry.origin)}",
        style="dim",
    )
    console.print(escape(inspect.getdoc(cls) or ""), highlight=False)
    grid = Table("parameter", "takes", "default", "search", box=None, padding=(0, 2))
    for parameter in parameters(cls).values():
        default = "required" if parameter.required else str(parameter.default)
        search = "" if parameter.search is None else str(parameter.search)
        grid.add_row(f"method.{parameter.name}", escape(parameter.allowed), escape(default), escape(search))
    console.print(grid if grid.row_count else "It takes no parameters.")


def describe_task(console: Console, name: str) -> None:
    """The variants and protocols of a task, and its short words for keys of them."""
    entry, data, words = registry.tasks.entry(name), task_data(name), task_words(name)
    console.print(f"[bold]{name}[/]  {escape(entry.summary)}\n\n[bold]variants[/]", highlight=False)
    for index, (variant, about) in enumerate(data.variants.items()):
        default = ", default" if index == 0 else ""
        needs = ", ".join(dataset.title for dataset in needed(name, variant))
        console.print(f"  [bold]{name}/{variant}[/]{default}: {escape(about.description)}", highlight=False)
        told = [f"protocol {about.protocol}"]
        told += [f"reads {escape(needs)}"] if needs else []
        told += [f"runs are compared with {about.against}"] if about.against else []
        console.print(f"    {'; '.join(told)}", highlight=False)
    if words:
        console.print("\n[bold]words of its own[/]")
    for word, key in words.items():
        console.print(f"  [bold]{word}[/]=VALUE, short for protocol.{key}=VALUE", highlight=False)
    console.print("\n[bold]protocols[/]")
    for protocol in data.protocols.values():
        console.print(
            f"  [bold]{protocol.label}[/] for {', '.join(protocol.variants)}: {escape(protocol.description)}",
            highlight=False,
        )
        skip = {"name", "version", "description", "variants", "modified"}
        for key, value in protocol.model_dump(exclude=skip).items():
            console.print(f"    {key}: {escape(str(value))}", highlight=False)
        if protocol.search:
            console.print("    search, with tune=N:", highlight=False)
        for key, searched in protocol.search.items():
            console.print(f"      {key}: {escape(str(searched))}", highlight=False)
