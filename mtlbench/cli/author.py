"""`mtlbench new` and `mtlbench check`."""

from __future__ import annotations

import argparse
from pathlib import Path

from mtlbench.catalogue import building, registry
from mtlbench.cli.console import console_of, safe
from mtlbench.errors import UsageError


def new(options: argparse.Namespace) -> int:
    """Write the skeleton of a method or a task."""
    from mtlbench.cli.scaffold import scaffold

    path = scaffold(options.what, options.name, Path.cwd())
    console = console_of()
    console.print(f"Wrote {path.name}. Try it:", highlight=False)
    other = "task=multimnist" if options.what == "method" else "method=uniform,gradvac"
    console.print(f"  mtlbench run --plugin {path.name} {options.what}={options.name} {other}", highlight=False)
    return 0


def check(options: argparse.Namespace) -> int:
    """Run the conformance battery on a method, or on those that a file registers; 1 if one fails."""
    from mtlbench.engine.conformance import battery

    before = set(registry.methods.entries())
    plugin = options.name.endswith(".py")
    if plugin:
        registry.load_plugin(options.name)
    names = sorted(set(registry.methods.entries()) - before) if plugin else [options.name]
    if not names:
        raise UsageError(f"{options.name} registers no method.")
    console = console_of()
    failed = 0
    for name in names:
        building.method(name)  # a parameter without default, or an unknown name, is an error of its own
        console.print(f"[bold]{safe(name)}[/]")
        for finding in battery(lambda name=name: building.method(name)):  # type: ignore[misc]
            failed += not finding.holds
            mark = "[green]holds[/]" if finding.holds else "[red]fails[/]"
            detail = "" if finding.holds else f": {safe(finding.problem)}"
            console.print(f"  {mark}  {finding.name}{detail}", highlight=False, soft_wrap=True)
    return 1 if failed else 0
