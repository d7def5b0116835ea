"""The log of a cell: everything that its worker prints, in a file that does not grow without end."""

from __future__ import annotations

import os
import stat
import threading
import time
from pathlib import Path

from mtlbench.storage import open_regular

LOG = "log.txt"
MOST = 16 * 2**20
"""Bytes of a log."""
KEPT = 2**20
"""Bytes that are left of a log that has become longer: the last ones, where an error stands."""

_SECONDS = 0.25
_CUT = b"(what stood here before was cut)\n"


def open_log(folder: Path) -> int:
    """The log of a cell, opened for appending; raises `OSError` if it cannot be."""
    return open_regular(folder / LOG, os.O_RDWR | os.O_CREAT | os.O_APPEND)


def keep_short(handle: int) -> None:
    """Watch over an open log from now on, whichever process writes to it."""

    def watch() -> None:
        while True:
            shorten(handle)
            time.sleep(_SECONDS)

    threading.Thread(target=watch, daemon=True).start()


def shorten(handle: int, most: int = MOST, kept: int = KEPT) -> None:
    """Cut an open log that is longer than `most` bytes to its last `kept`; what is no file is left alone."""
    status = os.fstat(handle)
    if stat.S_ISREG(status.st_mode) and status.st_size > most:
        last = os.pread(handle, kept, status.st_size - kept)
        os.ftruncate(handle, 0)
        os.write(handle, _CUT + last)
