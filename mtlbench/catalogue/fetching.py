"""Files of data sets: which are there, whether they are whole, and their download."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.client
import os
import tempfile
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from mtlbench.catalogue.data import ENVIRONMENT, DataFile, DataSet, find
from mtlbench.errors import UsageError

CHUNK = 1 << 18
TIMEOUT = 30.0
"""Seconds without a byte after which a download counts as failed."""

State = Literal["missing", "present", "verified", "corrupt"]
Progress = Callable[["DataFile", int, int | None], None]
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


def fetch(dataset: DataSet, root: Path | None, progress: Progress | None = None) -> list[Path]:
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
            _fetch_file(dataset, file, target, progress)
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
    return FileState(file, "verified" if digest == expected else "corrupt", path)


def _fetch_file(dataset: DataSet, file: DataFile, target: Path, progress: Progress | None) -> None:
    if not file.urls:
        raise UsageError(
            f"{file.name} of {dataset.title} cannot be downloaded by a command: get it from {dataset.source} "
            f"and save it as {target}."
        )
    failures = []
    for url in file.urls:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        except OSError as error:
            raise UsageError(f"{target} cannot be written: {error}. Choose another data_root.") from error
        try:
            with os.fdopen(descriptor, "wb") as out:
                failure = _download(url, file, out, progress)
            if not failure:
                Path(temporary).chmod(0o644)  # mkstemp makes it readable by its owner alone
                Path(temporary).replace(target)
                return
        finally:
            Path(temporary).unlink(missing_ok=True)
        failures.append(f"  {url}: {failure}")
    raise UsageError(
        f"{file.name} of {dataset.title} could not be downloaded; {target} is left as it was. Tried\n"
        + "\n".join(failures)
        + f"\nTry again later, or get it from {dataset.source} on a machine with a connection, save it as "
        f"{target} and run `mtlbench data verify`."
    )


def _download(url: str, file: DataFile, out: IO[bytes], progress: Progress | None) -> str:
    """Copy `url` to `out`; the reason why it is not the declared file, or an empty string."""
    algorithm, expected = file.checksum
    digest, done = hashlib.new(algorithm), 0
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
            length = response.headers.get("Content-Length")
            total = int(length) if length else file.size
            while chunk := response.read(CHUNK):
                out.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                if progress:
                    progress(file, done, total)
            out.flush()
    except urllib.error.HTTPError as error:
        return f"the server answered {error.code} {error.reason}"
    except urllib.error.URLError as error:
        return f"the server cannot be reached ({error.reason})"
    except (OSError, http.client.HTTPException) as error:
        return f"it broke off after {done} bytes ({error or type(error).__name__})"
    if length and done < int(length):
        return f"the connection ended after {done} of {length} bytes"
    if digest.hexdigest() != expected:
        return f"its {algorithm} is {digest.hexdigest()} and should be {expected}"
    return ""
