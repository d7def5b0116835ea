"""What tasks log while they prepare data and models, as lines on the terminal."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from rich.console import Console

from mtlbench.cli.console import safe


@contextlib.contextmanager
def preparation_told(console: Console, quiet: bool) -> Iterator[None]:
    """While open, what the package logs for information, such as how far pre-training is, stands in lines."""
    if quiet:
        yield
        return
    logger = logging.getLogger("mtlbench")
    handler, level = _Told(console), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Told(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(f"[dim]preparing {safe(record.getMessage())}[/]", highlight=False, soft_wrap=True)
