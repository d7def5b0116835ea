"""What tasks log while they prepare data and models: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator

from mtlbench.cli.console import safe
from mtlbench.cli.progress import Reporter

LINE_SECONDS = 10.0
"""Between two lines on how far something is."""


@contextlib.contextmanager
def preparation_told(reporter: Reporter, quiet: bool) -> Iterator[None]:
    """While open, what the package logs for information, such as how far pre-training is, is shown.

    A log record with the attribute `progress`, a pair (done, total), moves a bar on a terminal.
    """
    if quiet:
        yield
        return
    logger = logging.getLogger("mtlbench")
    handler, level = _Told(reporter), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Told(logging.Handler):
    def __init__(self, reporter: Reporter) -> None:
        super().__init__()
        self._reporter = reporter
        self._told = -LINE_SECONDS

    def emit(self, record: logging.LogRecord) -> None:
        progress: tuple[int, int] | None = getattr(record, "progress", None)
        if progress is not None:
            if self._reporter.prepare(*progress, record.getMessage()):
                return
            now = time.monotonic()
            if now - self._told < LINE_SECONDS and progress[0] < progress[1]:
                return
            self._told = now
        self._reporter.say(f"[dim]preparing {safe(record.getMessage())}[/]")
