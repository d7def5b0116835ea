"""What is made once and kept between runs: folders of files, checksummed, made by one process at a time."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from mtlbench.locks import locked
from mtlbench.storage import write_atomically

ENVIRONMENT = "MTLBENCH_CACHE"
"""The environment variable that names the cache folder."""
DONE = "sha256.json"
"""Written last: the checksums of the files beside it."""

_log = logging.getLogger(__name__)


def cache_folder() -> Path | None:
    """MTLBENCH_CACHE, else XDG_CACHE_HOME/mtlbench, else ~/.cache/mtlbench; None for a user without a home."""
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "mtlbench"
    try:
        return Path.home() / ".cache" / "mtlbench"
    except RuntimeError:
        return None


def kept(name: str, what: str, make: Callable[[Path], None]) -> Path:
    """The folder of that name in the cache, made by this process alone, or by another one that is waited for.

    Where the cache cannot be written, a warning is given and the folder is a temporary one of this process.

    Args:
        name: of the folder; it holds a hash of everything that the content depends on.
        what: what it is, for people: `the encoder`.
        make: writes the files, without folders, into the empty folder that it is given.
    """
    cache = cache_folder()
    try:
        if cache is None:
            raise FileNotFoundError(None, "there is no home folder")
        folder = cache / name
        if not _whole(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with _alone(folder, what):
                if not _whole(folder):
                    _fill(folder, make)
        return folder
    except OSError as error:
        warnings.warn(
            f"{what.capitalize()} will not be kept, and will be made again by every cell: {cache} cannot be written "
            f"({error.strerror}). {ENVIRONMENT}=DIR names another folder.",
            stacklevel=3,
        )
    folder = Path(tempfile.mkdtemp(prefix="mtlbench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    make(folder)
    return folder


def _fill(folder: Path, make: Callable[[Path], None]) -> None:
    (folder / DONE).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as made:
        make(Path(made))
        paths = sorted(path for path in Path(made).iterdir() if path.is_file())
        sums = {path.name: _sha256(path) for path in paths}
        for path in paths:
            path.replace(folder / path.name)
    write_atomically(folder / DONE, json.dumps(sums).encode())


@contextlib.contextmanager
def _alone(folder: Path, what: str) -> Iterator[None]:
    """Hold the lock of `folder`, after waiting for it."""
    told = False
    while True:
        with locked(folder) as mine:
            if mine:
                yield
                return
        if not told:
            _log.info("waiting for another process, which makes %s", what)
            told = True
        time.sleep(0.2)


def _whole(folder: Path) -> bool:
    """Whether all files are there as they were written."""
    try:
        sums = json.loads((folder / DONE).read_text())
        return bool(sums) and all(_sha256(folder / name) == digest for name, digest in sums.items())
    except (OSError, ValueError, AttributeError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
