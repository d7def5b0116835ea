"""`mtlbench controls`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtlbench.cells.request import Request, parse
from mtlbench.cells.words import read_words
from mtlbench.cli.console import console_of, safe, write_file
from mtlbench.errors import UsageError, unknown
from mtlbench.storage import path_of

if TYPE_CHECKING:
    from mtlbench.tables.expected import Control, Verdict
    from mtlbench.tables.making import Tables

KEYS = ("seed", "results", "jobs")
"""What may be said beside names of controls."""


def controls(options: argparse.Namespace) -> int:
    """Run controls and compare their tables with what must come out; 1 if something does not, 130 if stopped."""
    from mtlbench.cli.table import show_tables
    from mtlbench.record.reading import cell_state
    from mtlbench.record.runs import collect
    from mtlbench.running.events import Stopped
    from mtlbench.tables import expected

    known = expected.controls()
    names = _named([word for word in options.words if "=" not in word], known)
    axes = read_words([word for word in options.words if "=" in word], KEYS)
    requests = {name: _request(name, known[name], axes) for name in names}
    out = _page_file(options.out)
    try:
        failed = _trained(list(requests.values()), options.quiet)
    except Stopped as stopped:
        done = len(stopped.outcomes)
        console_of().print(f"[yellow]interrupted[/] after {done} cells; the same command goes on from here.")
        return 130
    judged: dict[str, tuple[Tables, list[Verdict]]] = {}
    for name, request in requests.items():
        folders = dict.fromkeys(cell.folder(request.results) for cell in request.cells)
        found = collect(cell_state(folder) for folder in folders if folder.exists())
        judged[name] = expected.judge(known[name], found)
        if not options.quiet:
            show_tables(judged[name][0])
    _tell(judged)
    if out is not None:
        write_file(out, _page({name: (known[name], *judged[name]) for name in names}))
    return 1 if failed or not all(verdict.holds for _, verdicts in judged.values() for verdict in verdicts) else 0


def _named(words: Sequence[str], known: Mapping[str, Control]) -> list[str]:
    """The controls that are asked for, all of them where none is; a variant's name is enough where one task has it."""
    chosen = []
    for word in words:
        fitting = [name for name in known if word in (name, name.partition("/")[2])]
        if len(fitting) != 1:
            raise unknown("control", word, [*known, *(name.partition("/")[2] for name in known)])
        chosen += fitting
    return list(dict.fromkeys(chosen)) or list(known)


def _request(name: str, control: Control, axes: Mapping[str, Sequence[Any]]) -> Request:
    """All cells of a control as one request."""
    seeds = ",".join(map(str, axes["seed"])) if "seed" in axes else control.seeds
    words = [f"task={name}", f"seed={seeds}", "against=none"]
    words += [f"{key}={axes[key][0]}" for key in ("results", "jobs") if key in axes]
    asked = [parse([*setting.split(), *words]) for setting in control.settings]
    cells = {cell.id: cell for request in asked for cell in request.cells}
    return replace(asked[0], cells=[*cells.values()])


def _page_file(out: str | None) -> Path | None:
    path = None if out is None else path_of(out)
    if path is not None and path.suffix != ".md":
        raise UsageError(f"{path} is no Markdown file: --out FILE.md.")
    return path


def _trained(requests: Sequence[Request], quiet: bool) -> int:
    """Train the cells of all controls that are not finished; the number that failed."""
    from mtlbench.cli.progress import Reporter
    from mtlbench.running.launch import launch

    whole = replace(requests[0], cells=[cell for request in requests for cell in request.cells])
    with Reporter(console_of(), whole.total, quiet) as reporter:
        outcomes = launch(whole, reporter)
    return sum(outcome.status not in ("finished", "skipped") for outcome in outcomes)


def _tell(judged: Mapping[str, tuple[Tables, Sequence[Verdict]]]) -> None:
    console = console_of()
    every = [verdict for _, verdicts in judged.values() for verdict in verdicts]
    for name, (_, verdicts) in judged.items():
        console.print(f"[bold]{safe(name)}[/]", highlight=False)
        for verdict in verdicts:
            word = "[green]holds[/]" if verdict.holds else "[red]fails[/]"
            console.print(f"  {word}  {safe(verdict.claim)}: {safe(verdict.found)}", highlight=False, soft_wrap=True)
    held = sum(verdict.holds for verdict in every)
    console.print(f"{held} of {len(every)} expectations hold.", highlight=False)


def _page(judged: Mapping[str, tuple[Control, Tables, Sequence[Verdict]]]) -> str:
    """All of it in Markdown."""
    from mtlbench.rendering.files import render
    from mtlbench.rendering.plain import escape_markdown

    lines = [
        "# Standing controls",
        "",
        "Problems whose outcome follows from theory. If their tables do not show it, other tables of the same suite "
        "need not be believed; that they do is no proof that others are right. `mtlbench controls` makes this page.",
        "",
    ]
    for name, (control, tables, verdicts) in judged.items():
        lines += [f"## {escape_markdown(name)}", "", escape_markdown(control.about), ""]
        lines += ["| expectation | | found |", "| --- | --- | --- |"]
        for verdict in verdicts:
            word = "holds" if verdict.holds else "**fails**"
            lines.append(f"| {escape_markdown(verdict.claim)} | {word} | {escape_markdown(verdict.found)} |")
        lines += ["", render("md", tables.all)]
    return "\n".join(lines)
