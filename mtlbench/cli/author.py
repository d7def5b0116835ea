"""`mtlbench new` and `mtlbench check`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlbench.catalogue import building, data, registry
from mtlbench.cells.words import read_words
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
    named = _named(options.name)
    given = _parameters(options.words, named)
    whole = True
    for name in named["method"]:
        whole &= _tell(name, _findings_of_method(name, given["method"]))
    for name in named["sampling"]:
        whole &= _tell(name, _findings_of_sampling(name, given["sampling"]))
    for place in named["task"]:
        whole &= _tell(place, _findings_of_task(place))
    return 0 if whole else 1


def _named(name: str) -> dict[str, list[str]]:
    """The methods, strategies of sampling and tasks, a variant behind their names if given, that `name` speaks of."""
    kinds = {"method": registry.methods, "sampling": registry.samplings, "task": registry.tasks}
    if name.endswith(".py"):
        before = {what: set(kind.entries()) for what, kind in kinds.items()}
        registry.load_plugin(name)
        found = {what: sorted(set(kind.entries()) - before[what]) for what, kind in kinds.items()}
        if not any(found.values()):
            raise UsageError(f"{name} registers no method, task or strategy of sampling; nothing else has a battery.")
        return found
    found = {what: [name] if kind.knows(name) else [] for what, kind in kinds.items() if what != "task"}
    found["task"] = [name] if name.partition("/")[0] in registry.tasks.entries() else []
    if not any(found.values()):
        raise unknown(
            "method, task or strategy of sampling", name, [n for kind in kinds.values() for n in kind.names()]
        )
    return found


def _parameters(words: Sequence[str], named: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """What `method.KEY=VALUE` and `sampling.KEY=VALUE` say; raises `UsageError` for what none of those named takes."""
    given: dict[str, dict[str, Any]] = {"method": {}, "sampling": {}}
    for word, values in read_words(words, ("method.KEY", "sampling.KEY")).items():
        what, _, key = word.partition(".")
        if len(values) != 1:
            raise UsageError(f"{word}= has {len(values)} values: check tries one at a time.")
        if not named[what]:
            raise UsageError(f"{word}= is not allowed: no {what} is named here.")
        given[what][key] = values[0]
    return given


def _findings_of_method(name: str, given: Mapping[str, Any]) -> Iterable[Finding]:
    from mtlbench.engine.conformance.battery import battery

    building.method(name, **given)  # a wrong parameter, or one without default, is an error of its own
    return battery(lambda: building.method(name, **given))


def _findings_of_sampling(name: str, given: Mapping[str, Any]) -> Iterable[Finding]:
    from mtlbench.running.sampling_conformance import battery

    building.sampling(name, **given)
    return battery(lambda: building.sampling(name, **given))


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
