"""`mtlbench new` and `mtlbench check`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mtlbench.catalogue import building, data, registry
from mtlbench.cli import plugins
from mtlbench.cli.console import console_of, safe
from mtlbench.errors import UsageError, unknown

MARKS = {"holds": "green", "declared": "yellow", "violated": "red", "not applicable": "dim"}
WHY = "why, in a few words"

if TYPE_CHECKING:
    from mtlbench.engine.conformance.finding import Finding


def new(options: argparse.Namespace) -> int:
    """Write the skeleton of a method or a task."""
    from mtlbench.cli.scaffold import scaffold

    path = scaffold(options.what, options.name, Path.cwd())
    console = console_of()
    console.print(f"Wrote {safe(path.name)}. Try it:", highlight=False, soft_wrap=True)
    other = "task=multimnist" if options.what == "method" else "method=uniform,gradvac"
    for command in (f"check {path.name}", f"run --plugin {path.name} {options.what}={options.name} {other}"):
        console.print(f"  mtlbench {safe(command)}", highlight=False, soft_wrap=True)
    return 0


def check(options: argparse.Namespace) -> int:
    """Run the conformance battery on a method or a task, or on those that a file registers; 1 if one fails."""
    plugins.load(options.plugin)
    methods, tasks = _named(options.name)
    whole = True
    for name in methods:
        whole &= _tell(name, _findings_of_method(name))
    for place in tasks:
        whole &= _tell(place, _findings_of_task(place))
    return 0 if whole else 1


def _named(name: str) -> tuple[list[str], list[str]]:
    """The methods and the tasks, a variant behind their names where one was given, that `name` speaks of."""
    kinds = (registry.methods, registry.tasks)
    if name.endswith(".py"):
        before = [set(kind.entries()) for kind in kinds]
        registry.load_plugin(name)
        methods, tasks = (sorted(set(kind.entries()) - known) for kind, known in zip(kinds, before, strict=True))
        if not (methods or tasks):
            raise UsageError(f"{name} registers no method and no task; there is no battery for anything else.")
        return methods, tasks
    methods = [name] if registry.methods.knows(name) else []
    tasks = [name] if name.partition("/")[0] in registry.tasks.entries() else []
    if not (methods or tasks):
        raise unknown("method or task", name, [*registry.methods.names(), *registry.tasks.names()])
    return methods, tasks


def _findings_of_method(name: str) -> Iterable[Finding]:
    from mtlbench.engine.conformance.battery import battery

    building.method(name)  # a parameter without default is an error of its own
    return battery(lambda: building.method(name))


def _findings_of_task(place: str) -> Iterable[Finding]:
    from mtlbench.running.task_conformance import battery

    name, _, variant = place.partition("/")
    return battery(name, variant or None, data.data_root())


def _tell(name: str, findings: Iterable[Finding]) -> bool:
    """Say of each finding, as soon as there is one, what came of it; answers whether nothing is violated."""
    console = console_of()
    console.print(f"[bold]{safe(name)}[/]")
    violated = []
    for finding in findings:
        mark = f"[{MARKS[finding.verdict]}]{finding.verdict:<14}[/]"
        link = ": not promised, " if finding.verdict == "declared" else ": "
        detail = f"{link}{safe(finding.told)}" if finding.told else ""
        held = "; held in every trial" if finding.needless else ""
        console.print(f"  {mark}  {safe(finding.name)}{detail}{held}", highlight=False, soft_wrap=True)
        violated += [finding] if finding.violated else []
    if keys := [finding.key for finding in violated if finding.key]:
        told = f"exceptions = {{{', '.join(f'{key!r}: {WHY!r}' for key in keys)}}}"
        console.print(f"What it does not promise by its definition is declared in its class:\n  {safe(told)}")
    return not violated
