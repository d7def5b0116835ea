"""Files that are whole or absent, and what a forked process does not inherit of them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from mtlbench.errors import UsageError

LOCK = ".lock"
"""How the files begin by which a folder is locked; see `locks`."""


def path_of(text: str | Path) -> Path:
    """The path that a person wrote, with `~` and `~user` in full; raises `UsageError` where there is no such user."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{text} is no path: no home folder is known of {Path(text).parts[0]!r}.") from error


def write_atomically(path: Path, write: Callable[[IO[bytes]], object] | bytes) -> None:
    """Write a file so that at every moment the old content or the new one stands, whole.

    Args:
        path: the target; its folder must exist.
        write: the content, or a function that writes it to an open binary file.

    Raises:
        OSError: the disk is full or read-only; the target is as it was and no temporary file is left.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            if isinstance(write, bytes):
                file.write(write)
            else:
                write(file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    _sync_folder(path.parent)


def read_regular(path: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes.

    A pipe, a device or a socket of that name is not opened: reading one may never end.

    Raises:
        OSError: there is no such file, it cannot be read, it is no regular file or it is larger; `strerror` says so.
    """
    with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
        if os.fstat(file.fileno()).st_size > most or len(content := file.read(most + 1)) > most:
            raise OSError(errno.EFBIG, f"it is larger than {most} bytes", str(path))
    return content


def open_regular(path: Path, flags: int) -> int:
    """`os.open` for regular files only, links to them included; raises `OSError` for anything else."""
    with contextlib.suppress(FileNotFoundError):
        _require_regular(path.stat().st_mode, path)  # before it is opened, which alone may do something to a device
    handle = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)  # a pipe put there meanwhile does not block
    try:
        _require_regular(os.fstat(handle).st_mode, path)
    except OSError:
        os.close(handle)
        raise
    return handle


def _require_regular(mode: int, path: Path) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of a process that was killed while writing; call with the folder's lock held."""
    for leftover in folder.glob(".*"):
        if leftover.is_file() and not leftover.name.startswith(LOCK):
            leftover.unlink(missing_ok=True)


def set_aside(path: Path) -> Path:
    """Rename an unreadable file so that it is kept but no longer read; returns its new name."""
    number = 1
    while (kept := path.with_name(f"{path.name}.corrupt{number}")).exists():
        number += 1
    path.replace(kept)
    return kept


def require_writable(folder: Path) -> None:
    """Make `folder`, try to write in it and to lock a file there; raises `UsageError` if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".writable.") as file:
            try:
                try_flock(file.fileno())
            except OSError as error:
                raise UsageError(
                    f"Results cannot be kept in {folder}: files there cannot be locked (flock: {error.strerror}), so "
                    "that two runs might train one cell at once. Name a folder on another file system: results=DIR."
                ) from error
    except OSError as error:
        raise UsageError(
            f"Results cannot be written to {folder}: {error.strerror}. Name another folder: results=DIR."
        ) from error


def try_flock(handle: int) -> bool:
    """Lock an open file against all other processes of this host; False if one of them has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


_own: set[int] = set()
"""Open files that a child forked from this process must not hold."""


@contextlib.contextmanager
def kept_from_children(handle: int) -> Iterator[None]:
    """While open, processes that are forked from this one get an empty file in place of `handle`.

    Started programs get neither, since Python closes what they would inherit.
    """
    _own.add(handle)
    try:
        yield
    finally:
        _own.discard(handle)


def _let_go() -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for handle in _own:
        os.dup2(nothing, handle, inheritable=False)
    os.close(nothing)


os.register_at_fork(after_in_child=_let_go)


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system lets a folder be synced
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
