"""The command line: `mtlbench COMMAND`, each of which is imported when it is asked for."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mtlbench.cli import console
from mtlbench.cli.arguments import parse
from mtlbench.errors import UsageError

_COMMANDS = {
    "run": "run.run",
    "list": "catalogue.list_names",
    "show": "catalogue.show",
    "status": "status.status",
    "table": "table.table",
    "analyze": "analyze.analyze",
    "draw": "draw.draw",
    "controls": "controls.controls",
    "reproduce": "reproduce.reproduce",
    "data": "data.data",
    "new": "author.new",
    "check": "author.check",
    "bench": "bench.bench",
}
"""Command -> where its function is, in this room; imported when it is asked for."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point; exits with the command's code."""
    console.print_whatever_comes()
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
        code = _command(options.command)(options)
        sys.stdout.flush()
    except UsageError as error:
        console.error(str(error))
        code = 2
    except KeyboardInterrupt:
        console.console_of(stderr=True).print("[yellow]interrupted[/]")
        code = 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # where the interpreter flushes what is left
        code = 0
    except OSError as error:
        if not _is_of_a_file(error):
            raise
        console.error(f"{error.filename}: {error.strerror}.")
        code = 2
    sys.exit(code)


def _command(name: str) -> Callable[[argparse.Namespace], int]:
    """What the command does, imported now; it answers the exit code."""
    module, _, function = _COMMANDS[name].partition(".")
    command: Callable[[argparse.Namespace], int] = getattr(importlib.import_module(f"mtlbench.cli.{module}"), function)
    return command


def _is_of_a_file(error: OSError) -> bool:
    """Whether the disk said no to a file of the user's; anything else, our own files included, is our mistake."""
    return isinstance(error.filename, str) and Path(__file__).parents[1] not in Path(error.filename).parents
