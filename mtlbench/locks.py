"""Locks of folders, which a killed process lets go of, within one host and between hosts.

Within a host `flock` excludes, and ends with the process. On some network file systems no other host sees it, so that
beside it stands a file that names who holds the lock, and that the holder touches again and again: its heartbeat. Who
finds that file on another host takes the lock over when the heartbeat has been silent for as long as the holder itself
has stated. What that guarantees is told in docs/clusters.md.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from mtlbench.storage import LOCK, kept_from_children, open_regular, read_regular, try_flock

SILENCE_SECONDS = 120.0
"""Without a heartbeat, after which another host takes a lock over."""

BEATS = 8
"""Heartbeats in that time."""

_OWNER = re.compile(re.escape(LOCK) + r"\.(\d{1,9})")
_LARGEST_FILE = 4096


@dataclass(frozen=True)
class Host:
    """A machine since its last start, as far as locks tell hosts apart."""

    name: str
    boot: str = ""
    """What is new with every start of the machine."""


@functools.cache
def this_host() -> Host:
    """The machine that this process runs on."""
    boot = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return Host(socket.gethostname(), boot)


@dataclass(frozen=True)
class Owner:
    """Who holds a lock."""

    host: Host
    process: int
    start: float
    """When it took the lock, in seconds since 1970."""
    silence: float
    """Seconds without a heartbeat after which others may take the lock over."""


@contextlib.contextmanager
def locked(
    folder: Path, on_lost: Callable[[], None] = lambda: None, host: Host | None = None, silence: float | None = None
) -> Iterator[bool]:
    """Hold the lock of `folder` while open; yields False, without waiting for it, if another process holds it.

    The lock goes with this process: what it starts or forks does not hold it.

    Args:
        folder: what is locked; it exists.
        on_lost: called, in a thread of its own, if another host has taken the lock over, since this process was
            stopped, or could not reach the file system, for longer than `silence`.
        host: the one that this process runs on.
        silence: seconds without a heartbeat after which other hosts may take the lock over.

    Raises:
        OSError: `.lock` is no regular file or cannot be written, or the file system has no locks.
    """
    host, silence = host or this_host(), silence or SILENCE_SECONDS
    handle = open_regular(folder / LOCK, os.O_RDWR | os.O_CREAT)
    owner: Path | None = None
    try:
        with kept_from_children(handle):
            mine = try_flock(handle)
            for _ in range(5):  # `is_locked` in another process holds the lock for an instant
                if not mine:
                    time.sleep(0.02)
                    mine = try_flock(handle)
            if mine:
                owner = _taken(folder, Owner(host, os.getpid(), time.time(), silence))
            with _heart(owner, silence, on_lost):
                yield owner is not None
    finally:
        if owner is not None:
            with contextlib.suppress(OSError):  # another's by now
                owner.unlink()
        os.close(handle)


def is_locked(folder: Path, host: Host | None = None) -> bool:
    """Whether a process holds the lock of `folder` now, as far as it can be told; False where no process could."""
    try:
        handle = _open_lock(folder / LOCK)
    except OSError:
        return False
    try:
        held = not try_flock(handle)
    except OSError:
        return False
    finally:
        os.close(handle)  # at once: who wants the lock now must not miss it for this
    with contextlib.suppress(OSError):
        return held or not all(_is_free(path, host or this_host()) for path in _owners(folder))
    return held


def holder(folder: Path) -> Owner | None:
    """Who has taken the lock of `folder`, whether or not it is still there; None where nobody has."""
    owners = _owners(folder)
    return _read(max(owners, key=_number)) if owners else None


def _open_lock(path: Path) -> int:
    try:
        return open_regular(path, os.O_RDWR)  # network file systems lock only what is open for writing
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        return open_regular(path, os.O_RDONLY)  # another user's


def _taken(folder: Path, owner: Owner) -> Path | None:
    """The file that says that the lock is `owner`'s now; None if it is another's.

    Of two that take over at once, one creates the file, since both know it by the same number. Of two that know it by
    different ones, as who comes late does, each looks around once its own file stands, so that at least the later one
    finds the other's and draws back. Both may, but never do both stay.
    """
    before = _owners(folder)
    if not all(_is_free(path, owner.host) for path in before):
        return None
    path = folder / f"{LOCK}.{max(map(_number, before), default=0) + 1}"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(owner), file)
    except OSError:  # such as a full disk: nobody may wait for a lock that nobody has
        path.unlink(missing_ok=True)
        raise
    others = [other for other in _owners(folder) if other != path]
    if not all(_is_free(other, owner.host) for other in others):
        path.unlink(missing_ok=True)
        return None
    for stale in others:
        stale.unlink(missing_ok=True)
    return path


def _owners(folder: Path) -> list[Path]:
    return [Path(entry.path) for entry in os.scandir(folder) if _OWNER.fullmatch(entry.name)]


def _number(path: Path) -> int:
    return int(path.name.rpartition(".")[2])


def _read(path: Path) -> Owner | None:
    """What the file says; None where it is gone, or is not written yet."""
    try:
        content = json.loads(read_regular(path, _LARGEST_FILE))
        host = Host(str(content["host"]["name"]), str(content["host"]["boot"]))
        return Owner(host, int(content["process"]), float(content["start"]), float(content["silence"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _is_free(path: Path, host: Host) -> bool:
    """Whether the owner whose file this is holds the lock no more; asked by `host`, which has its `flock`."""
    owner = _read(path)  # opening a file makes network file systems ask for its times
    if owner is not None and owner.host == host:
        return True  # where `flock` excludes, which this process has
    try:
        beat = path.stat().st_mtime
    except FileNotFoundError:
        return True
    return _now(path.parent) - beat > (owner.silence if owner else SILENCE_SECONDS)


def _now(folder: Path) -> float:
    """The time of the machine that has the file system, so that the clocks of hosts need not agree."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".now.") as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:  # it may not be written to
        return time.time()


@contextlib.contextmanager
def _heart(path: Path | None, silence: float, on_lost: Callable[[], None]) -> Iterator[None]:
    """Touch the file again and again while open."""
    if path is None:
        yield
        return
    over = threading.Event()

    def beat() -> None:
        while not over.wait(silence / BEATS):
            try:
                os.utime(path)  # without a time, so that it is that of the file system
            except FileNotFoundError:
                if not over.is_set():
                    on_lost()
                return
            except OSError:  # it may come back in time
                continue

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
