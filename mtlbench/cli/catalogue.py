"""`mtlbench list` and `mtlbench show`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mtlbench.catalogue import registry
from mtlbench.cli.console import console_of, safe
from mtlbench.errors import UsageError, unknown


def list_names(options: argparse.Namespace) -> int:
    """Name the methods and tasks there are, the broken ones with the reason."""
    from rich.table import Table

    broken = _load_plugins_leniently(options.plugin)
    console = console_of()
    for kind, entries in (("method", registry.methods.entries()), ("task", registry.tasks.entries())):
        if options.what not in (None, f"{kind}s"):
            continue
        grid = Table.grid(padding=(0, 2))
        for name, entry in sorted(entries.items()):
            about = (
                f"[red]broken[/]: {safe(entry.error)} ({safe(entry.origin)})" if entry.error else safe(entry.summary)
            )
            grid.add_row(f"  [bold]{safe(name)}[/]", about)
        console.print(f"{kind}s", style="bold underline")
        console.print(grid, highlight=False)
    for file, reason in broken.items():
        console.print(f"[red]broken plug-in[/] {safe(file)}: {safe(reason)}", highlight=False, soft_wrap=True)
    return 0


def _load_plugins_leniently(plugins: Sequence[str]) -> dict[str, str]:
    for plugin in plugins:
        try:
            registry.load_plugin(plugin)
        except UsageError:
            continue  # it is in broken_plugins now
    return registry.broken_plugins


def show(options: argparse.Namespace) -> int:
    """Describe a method or a task."""
    for plugin in options.plugin:
        registry.load_plugin(plugin)
    name = options.name.split("/")[0]
    is_method, is_task = name in registry.methods.entries(), name in registry.tasks.entries()
    if not (is_method or is_task):
        raise unknown("method or task", name, [*registry.methods.names(), *registry.tasks.names()])
    from mtlbench.cli.describe import describe_method, describe_task

    if is_method:
        describe_method(console_of(), name)
    if is_task:
        describe_task(console_of(), name)
    return 0
