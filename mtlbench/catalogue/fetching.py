"""Files of data sets: which are there, whether they are whole, and their download."""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import http.client
import os
import re
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from mtlbench.catalogue.data import ENVIRONMENT, DataFile, DataSet, find
from mtlbench.errors import UsageError

CHUNK = 1 << 18
TIMEOUT = 30.0
"""Seconds without a byte after which a download counts as failed."""
STALL, SLOWEST = 60.0, 1000
"""Seconds over which fewer bytes a second than this count as failed too: a server may send a byte now and then."""
LARGEST = 1 << 34
"""Bytes of a download whose size is not declared; of another one, twice the declared size."""
LONGEST_ANSWER = 200
"""Characters of a server's words that a message shows."""

State = Literal["missing", "present", "verified", "corrupt"]
Received = Callable[["DataFile", int, int | None], None]
"""Called during a download with the file, the bytes received so far and the bytes in all (None: unknown)."""


@dataclass(frozen=True)
class FileState:
    """What is on disk of one file: its state, and where it was found (None: missing)."""

    file: DataFile
    state: State
    path: Path | None


def status(dataset: DataSet, root: Path | None) -> list[FileState]:
    """Which files of `dataset` are `present` or `missing` below `root`, by name alone (see `verify`)."""
    found = [(file, find(dataset, file.name, root)) for file in dataset.files]
    return [FileState(file, "present" if path else "missing", path) for file, path in found]


def verify(dataset: DataSet, root: Path | None) -> list[FileState]:
    """Read every file of `dataset` below `root` and compare its checksum: `verified`, `corrupt` or `missing`.

    A `.gz` of a file that is declared plain is judged by its contents. A plain file that is declared as
    `.gz` has no checksum to compare with and stays `present`.
    """
    return [_verified(file, find(dataset, file.name, root)) for file in dataset.files]


def fetch(dataset: DataSet, root: Path | None, received: Received | None = None) -> list[Path]:
    """Download the files of `dataset` that are missing or corrupt below `root`; returns those it wrote.

    A file is written beside its place under another name, compared with its checksum and then renamed, so
    that a file under its own name is always whole. What is already verified is not downloaded again, so a
    fetch that failed midway goes on with the file that it failed at.

    Raises:
        UsageError: no data root, a folder that cannot be written, a file without address, or no address from
            which the file could be had whole; the message gives the reason for each address.
    """
    if root is None:
        raise UsageError(
            f"There is no data root to fetch {dataset.title} into: give data_root=DIR or set {ENVIRONMENT}."
        )
    written = []
    for file in dataset.files:
        if _verified(file, find(dataset, file.name, root)).state in ("missing", "corrupt"):
            target = root / dataset.folders[0] / file.name
            _fetch_file(dataset, file, target, received)
            written.append(target)
    return written


def _verified(file: DataFile, path: Path | None) -> FileState:
    if path is None:
        return FileState(file, "missing", None)
    algorithm, expected = file.checksum
    if path.name.endswith(".gz") == file.name.endswith(".gz"):
        opener: Callable[[Path], Any] = functools.partial(open, mode="rb")
    elif path.name.endswith(".gz"):
        opener = gzip.open
    else:
        return FileState(file, "present", path)
    try:
        with opener(path) as stream:
            digest = hashlib.file_digest(stream, algorithm).hexdigest()
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return FileState(file, "corrupt", path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.") from error
    return FileState(file, "verified" if digest == expected else "corrupt", path)


def _fetch_file(dataset: DataSet, file: DataFile, target: Path, received: Received | None) -> None:
    if not file.urls:
        raise UsageError(
            f"{file.name} of {dataset.title} cannot be downloaded by a command: get it from {dataset.source} "
            f"and save it as {target}."
        )
    failures = []
    for url in file.urls:
        with _folder(target.parent), _beside(target) as temporary:
            with temporary.open("wb") as out:
                failure = _download(url, file, out, received)
            if not failure:
                temporary.replace(target)
                return
        failures.append(f"  {url}: {failure}")
    kept = f"; {target} is left as it was" if target.exists() else ""
    raise UsageError(
        f"{file.name} of {dataset.title} could not be downloaded{kept}. Tried\n"
        + "\n".join(failures)
        + f"\nTry again later, or get it from {dataset.source} on a machine with a connection, save it as "
        f"{target} and run `mtlbench data verify`."
    )


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[None]:
    """A folder to write in; what was made of it goes again if it is empty in the end."""
    made = []
    try:
        made = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """An empty file beside `target`, removed if it is still there in the end."""
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    os.close(descriptor)
    try:
        Path(name).chmod(0o644)  # mkstemp makes it readable by its owner alone
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path} cannot be written: {error.strerror or error}. Choose another data_root.")


def _download(url: str, file: DataFile, out: IO[bytes], received: Received | None) -> str:
    """Copy `url` to `out`; the reason why it is not the declared file, or an empty string."""
    algorithm, expected = file.checksum
    digest, done = hashlib.new(algorithm), 0
    most = 2 * file.size if file.size else LARGEST
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
            length = response.headers.get("Content-Length")
            if length is not None and not re.fullmatch("[0-9]{1,18}", length):
                return f"the server says that it has {_shown(length)} bytes, which is no number"
            total = int(length) if length is not None else None
            if total is not None and total > most:
                return f"the server has {total} bytes of it, and it is at most {most}"
            slow = _Slow()
            while chunk := response.read1(CHUNK):
                out.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                if done > most:
                    return f"the server sent more than {most} bytes, and it is less"
                if slow(done):
                    return f"the server had sent {done} bytes when less than {SLOWEST} a second came for {STALL:.0f} s"
                if received:
                    received(file, done, total if total is not None else file.size)
            out.flush()
    except urllib.error.HTTPError as error:
        return f"the server answered {error.code} {_shown(str(error.reason))}"
    except urllib.error.URLError as error:
        return f"the server cannot be reached ({_shown(str(error.reason))})"
    except (OSError, http.client.HTTPException) as error:
        return f"it broke off after {done} bytes ({_shown(str(error)) or type(error).__name__})"
    except ValueError as error:
        return f"that is no address ({_shown(str(error))})"
    if total is not None and done < total:
        return f"the connection ended after {done} of {total} bytes"
    if digest.hexdigest() != expected:
        return f"its {algorithm} is {digest.hexdigest()} and should be {expected}"
    return ""


class _Slow:
    """Whether too little came over the last STALL seconds; called with the bytes so far."""

    def __init__(self) -> None:
        self._since, self._done = time.monotonic(), 0

    def __call__(self, done: int) -> bool:
        passed = time.monotonic() - self._since
        if passed < STALL:
            return False
        slow = done - self._done < SLOWEST * passed
        self._since, self._done = time.monotonic(), done
        return slow


def _shown(text: str) -> str:
    """What a server wrote, short and without control characters."""
    return "".join(c for c in text[:LONGEST_ANSWER] if c.isprintable())
