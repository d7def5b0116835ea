"""What all commands print with: consoles, text that others wrote, errors, warnings, files."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtlbench.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console


_WIDTH_OF_FILES = 160


def print_whatever_comes() -> None:
    """Let characters that an output's encoding lacks appear as `?`, in place of an error after hours of work."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def console_of(stderr: bool = False) -> Console:
    """Standard output, or standard error, as all commands write to it."""
    from rich.console import Console

    console = Console(stderr=stderr)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDTH_OF_FILES  # tables in logs and pipes are not squeezed into 80 columns
    return console


def safe(text: str, lines: bool = False) -> str:
    """Text that others wrote, without control codes, changes of writing direction and what rich takes for markup.

    Args:
        text: from a record, a plug-in, a server, a file's name: nobody has looked at it yet.
        lines: keep line breaks and indentation; otherwise it becomes one line.
    """
    from rich.markup import escape

    from mtlbench.rendering.text import one_line, several_lines

    return escape(several_lines(text) if lines else one_line(text))


def error(message: str) -> None:
    """Say on standard error why a command ends."""
    console_of(stderr=True).print(f"[red]error[/]: {safe(message, lines=True)}", highlight=False, soft_wrap=True)


def warn(console: Console, messages: Sequence[str]) -> None:
    """Print warnings."""
    for message in messages:
        console.print(f"[yellow]warning[/]: {safe(message)}", highlight=False, soft_wrap=True)


def write_file(path: Path, text: str) -> None:
    """Write an export, whole or not at all; raises `UsageError` where the disk does not take it."""
    from mtlbench.storage import write_atomically

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode(errors="replace"))
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error
