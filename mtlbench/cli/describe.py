"""What `mtlbench show` tells of a method, a task or a strategy of sampling."""

from __future__ import annotations

import inspect
import re
import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from mtlbench.catalogue import registry
from mtlbench.catalogue.data import needed
from mtlbench.catalogue.protocol import Protocol, flat
from mtlbench.catalogue.signature import parameters
from mtlbench.catalogue.variants import TaskData, task_data
from mtlbench.cells.words import task_words
from mtlbench.cli import needs
from mtlbench.cli.console import safe
from mtlbench.engine import kinds
from mtlbench.engine.conformance.properties import PROMISES
from mtlbench.errors import unknown


def describe_method(console: Console, name: str) -> None:
    """Formula, conventions and source as the method's file states them, and its parameters."""
    cls = registry.methods.load(name)
    entry = registry.methods.entry(name)
    kind = next(
        k.__name__
        for k in (kinds.LossWeighting, kinds.GramianWeighting, kinds.JacobianAggregator)
        if issubclass(cls, k)
    )
    method = needs.method_of(name)
    _say(console, f"[bold]{safe(name)}[/]  {safe(entry.paper)}")
    _say(console, _flowing(inspect.getdoc(sys.modules[cls.__module__]) or ""))
    _say(console, f"\n[dim]{kind}, in {safe(entry.origin)}[/]")
    grid = Table.grid(padding=(0, 2))
    for fact in needs.facts(method).items():
        grid.add_row(*map(safe, fact))
    console.print(grid)
    _say(console, _flowing(inspect.getdoc(cls) or ""))
    _describe_parameters(console, cls, "method", ("search",))
    if declared := method.exceptions:
        _say(console, "\n[bold]not promised[/]")
        for key, reason in declared.items():
            _say(console, f"  {safe(PROMISES.get(key, key))}: {safe(reason)}")


def describe_sampling(console: Console, name: str) -> None:
    """Formula, conventions and source as the strategy's file states them, and its parameters."""
    cls = registry.samplings.load(name)
    entry = registry.samplings.entry(name)
    _say(console, f"[bold]{safe(name)}[/]  {safe(entry.paper)}")
    _say(console, _flowing(inspect.getdoc(sys.modules[cls.__module__]) or ""))
    wants = "from the losses of training" if getattr(cls, "observes", False) else "known before training"
    _say(console, f"\n[dim]shares {wants}, in {safe(entry.origin)}[/]")
    _describe_parameters(console, cls, "sampling", ())


def _describe_parameters(console: Console, cls: type, word: str, more: tuple[str, ...]) -> None:
    """What the constructor takes, as words; with `search` among `more`, where it is searched."""
    grid = Table("parameter", "takes", "default", *more, box=None, padding=(0, 2))
    for parameter in parameters(cls).values():
        default = "required" if parameter.required else _typed(parameter.default)
        told = [f"{word}.{parameter.name}", parameter.allowed, default]
        told += ["" if parameter.search is None else str(parameter.search)] if more else []
        grid.add_row(*map(safe, told))
    console.print(grid if grid.row_count else "It takes no parameters.")


def describe_task(console: Console, name: str, variant: str = "") -> None:
    """The variants and protocols of a task, or of the one variant, and its short words for keys of protocols.

    Raises:
        UsageError: the task has no such variant.
    """
    data = task_data(name)
    if variant and variant not in data.variants:
        raise unknown(f"variant of {name}:", variant, data.variants)
    _say(console, f"[bold]{safe(name)}[/]  {safe(registry.tasks.entry(name).summary)}\n\n[bold]variants[/]")
    for index, each in enumerate(data.variants):
        if variant in ("", each):
            _describe_variant(console, name, each, data, is_default=index == 0)
    if words := task_words(name):
        _say(console, "\n[bold]words of its own[/]")
    for word, key in words.items():
        _say(console, f"  [bold]{safe(word)}[/]=VALUE, short for protocol.{safe(key)}=VALUE")
    _say(console, "\n[bold]protocols[/]")
    for protocol in data.protocols.values():
        if not variant or variant in protocol.variants:
            _describe_protocol(console, protocol)


def _describe_variant(console: Console, task: str, variant: str, data: TaskData, is_default: bool) -> None:
    about = data.variants[variant]
    default = ", default" if is_default else ""
    _say(console, f"  [bold]{safe(f'{task}/{variant}')}[/]{default}: {safe(about.description)}")
    told = [f"protocol {about.protocol}"]
    if needs := needed(task, variant):
        told.append(f"reads {', '.join(dataset.title for dataset in needs)}")
    if about.against:
        told.append(f"runs are compared with {about.against}")
    _say(console, f"    {safe('; '.join(told))}")


def _describe_protocol(console: Console, protocol: Protocol) -> None:
    variants = ", ".join(protocol.variants)
    _say(console, f"  [bold]{safe(protocol.label)}[/] for {safe(variants)}: {safe(protocol.description)}")
    skip = {"name", "version", "description", "variants", "modified"}
    for key, value in flat(protocol.model_dump(exclude=skip)).items():
        _say(console, f"    {safe(key)}: {safe(_typed(value))}")
    if protocol.search:
        _say(console, "    search, with tune=N:")
    for key, searched in protocol.search.items():
        _say(console, f"      {safe(key)}: {safe(str(searched))}")


def _typed(value: Any) -> str:
    """A value as it is typed in a word."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_typed, value))}]"
    return str(value)


def _flowing(doc: str) -> str:
    """A docstring whose plain paragraphs are one line each, to be wrapped anew; formulas and lists stay as they are."""
    paragraphs = safe(doc, lines=True).split("\n\n")
    return "\n\n".join(p if re.search(r"^(\s|[-*] )", p, re.MULTILINE) else p.replace("\n", " ") for p in paragraphs)


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False)
