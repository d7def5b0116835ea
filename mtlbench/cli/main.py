"""The command line: `mtlbench run | list | show | status | table | data | new | check | bench`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from mtlbench.cli.arguments import Command, parser
from mtlbench.cli.console import console_of, safe
from mtlbench.errors import UsageError

_COMMANDS = {
    "run": "run.run",
    "list": "catalogue.list_names",
    "show": "catalogue.show",
    "status": "status.status",
    "table": "table.table",
    "data": "data.data",
    "new": "author.new",
    "check": "author.check",
    "bench": "bench.bench",
}
"""Command -> where its function is, in this room; imported when it is asked for."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point; exits with the command's code."""
    options = parser({name: _command(place) for name, place in _COMMANDS.items()}).parse_args(arguments)
    try:
        code = options.command(options)
    except UsageError as error:
        console_of(stderr=True).print(f"[red]error[/]: {safe(str(error))}", highlight=False, soft_wrap=True)
        code = 2
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    sys.exit(code)


def _command(place: str) -> Command:
    module, name = place.split(".")

    def run(options: argparse.Namespace) -> int:
        return int(getattr(importlib.import_module(f"mtlbench.cli.{module}"), name)(options))

    return run
