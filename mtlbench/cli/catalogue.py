"""`mtlbench list` and `mtlbench show`."""

from __future__ import annotations

import argparse

from mtlbench.catalogue import registry
from mtlbench.cli import plugins
from mtlbench.cli.console import console_of, safe
from mtlbench.errors import unknown


def list_names(options: argparse.Namespace) -> int:
    """Name the methods and tasks there are, the broken ones with the reason."""
    from rich.table import Table

    broken = plugins.load_what_works(options.plugin)
    console = console_of()
    for names in (registry.methods, registry.tasks):
        if options.what not in (None, f"{names.kind}s"):
            continue
        grid = Table.grid(padding=(0, 2))
        for name, entry in sorted(names.entries().items()):
            reason = f"[red]broken[/]: {safe(entry.error)} ({safe(entry.origin)})"
            grid.add_row(f"  [bold]{safe(name)}[/]", reason if entry.error else safe(entry.summary))
        for library in names.libraries:
            grid.add_row(f"  [bold]{library}.NAME[/]", f"what {library} has under this name, where it is installed")
        console.print(f"{names.kind}s", style="bold underline")
        console.print(grid, highlight=False)
    for file, reason in broken.items():
        console.print(f"[red]broken plug-in[/] {safe(file)}: {safe(reason)}", highlight=False, soft_wrap=True)
    return 0


def show(options: argparse.Namespace) -> int:
    """Describe a method, a task, or one variant of a task."""
    plugins.load(options.plugin)
    name, _, variant = options.name.partition("/")
    is_method, is_task = registry.methods.knows(name) and not variant, name in registry.tasks.entries()
    if not (is_method or is_task):
        raise unknown("method or task", options.name, [*registry.methods.names(), *registry.tasks.names()])
    from mtlbench.cli.describe import describe_method, describe_task

    if is_method:
        describe_method(console_of(), name)
    if is_task:
        describe_task(console_of(), name, variant)
    return 0
