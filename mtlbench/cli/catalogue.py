"""`mtlbench list` and `mtlbench show`."""

from __future__ import annotations

import argparse

from mtlbench.catalogue import registry
from mtlbench.cli import plugins
from mtlbench.cli.console import console_of, safe
from mtlbench.errors import unknown


def list_names(options: argparse.Namespace) -> int:
    """Name the methods, tasks and strategies of sampling there are, the broken ones with the reason."""
    from rich.table import Table

    broken = plugins.load_what_works(options.plugin)
    console = console_of()
    for names in (registry.methods, registry.tasks, registry.samplings):
        if options.what not in (None, names.plural):
            continue
        grid = Table.grid(padding=(0, 2))
        for name, entry in sorted(names.entries().items()):
            reason = f"[red]broken[/]: {safe(entry.error)} ({safe(entry.origin)})"
            grid.add_row(f"  [bold]{safe(name)}[/]", reason if entry.error else safe(entry.summary))
        for library in names.libraries:
            grid.add_row(f"  [bold]{library}.NAME[/]", f"what {library} has under this name, where it is installed")
        console.print(names.plural, style="bold underline")
        console.print(grid, highlight=False)
    for file, reason in broken.items():
        console.print(f"[red]broken plug-in[/] {safe(file)}: {safe(reason)}", highlight=False, soft_wrap=True)
    return 0


def show(options: argparse.Namespace) -> int:
    """Describe what has the name: a method, a task or one variant of it, a strategy of sampling."""
    plugins.load(options.plugin)
    name, _, variant = options.name.partition("/")
    is_method, is_task = registry.methods.knows(name) and not variant, name in registry.tasks.entries()
    is_sampling = name in registry.samplings.entries() and not variant
    if not (is_method or is_task or is_sampling):
        known = [*registry.methods.names(), *registry.tasks.names(), *registry.samplings.names()]
        raise unknown("method, task or sampling", options.name, known)
    from mtlbench.cli.describe import describe_method, describe_sampling, describe_task

    if is_method:
        describe_method(console_of(), name)
    if is_task:
        describe_task(console_of(), name, variant)
    if is_sampling:
        describe_sampling(console_of(), name)
    return 0
