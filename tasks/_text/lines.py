"""The lines of text files, plain or `.gz`: strict reading, and the error for what cannot be used."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from mtlbench.errors import UsageError


def stream(path: Path) -> Iterator[str]:
    r"""The lines of a UTF-8 file, plain or `.gz`, without their ends.

    A line ends at `\n` or `\r\n` and nowhere else: U+2028, U+0085 and the like are characters of a sentence. A byte
    order mark before the first line is dropped.

    Raises:
        UsageError: a byte that is not UTF-8 (names file and line), or a file that cannot be read or unpacked.
    """
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for line in lines(file, path):
                number += 1
                yield line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise unusable(path, f"it cannot be unpacked after line {number} ({error})") from error
    except OSError as error:
        raise unusable(path, f"it cannot be read ({error.strerror or error})") from error


def lines(file: Iterable[bytes], name: Path | str) -> Iterator[str]:
    """The lines of a file that is open, as `stream` has them; raises `UsageError` for a byte that is not UTF-8."""
    for number, raw in enumerate(file, 1):
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise unusable(
                name, f"line {number} is not UTF-8: byte {error.object[error.start]:#04x} at place {error.start + 1}"
            ) from error
        yield line.removesuffix("\n").removesuffix("\r")


def unusable(path: Path | str, reason: str) -> UsageError:
    """The error for a file that is there and cannot be used."""
    return UsageError(
        f"{path} is not usable: {reason}. Get the official file again: `mtlbench data verify` finds those that "
        "differ, `mtlbench data fetch` replaces them where it can."
    )
