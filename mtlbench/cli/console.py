"""What all commands print with: consoles, safe text, warnings, files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtlbench.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console


_WIDTH_OF_FILES = 160


def write_file(path: Path, text: str) -> None:
    """Write an export, whole or not at all; raises `UsageError` where the disk does not take it."""
    from mtlbench.storage import write_atomically

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error


def warn(console: Console, messages: Sequence[str]) -> None:
    """Print warnings."""
    for message in messages:
        console.print(f"[yellow]warning[/]: {safe(message)}", highlight=False, soft_wrap=True)


def console_of(stderr: bool = False) -> Console:
    """Standard output, or standard error, as all commands write to it."""
    from rich.console import Console

    console = Console(stderr=stderr)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDTH_OF_FILES  # tables in logs and pipes are not squeezed into 80 columns
    return console


def safe(text: str) -> str:
    """Text in which rich sees no markup."""
    from rich.markup import escape

    return escape(text)
