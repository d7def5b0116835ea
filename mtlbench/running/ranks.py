"""One cell on several processes: each takes its share of every batch, the first one evaluates, saves and tells."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Literal

import torch
from torch import distributed

from mtlbench.catalogue import registry
from mtlbench.errors import Diverged, UsageError
from mtlbench.running.job import Job
from mtlbench.running.team import Team, device_of

TIMEOUT = timedelta(hours=2)
"""How long ranks wait for each other: the first one evaluates and saves while the others wait."""
PATIENCE_SECONDS = 10.0
"""After a rank is gone the cell ends within so many seconds, by itself or not."""

_BOOT = Path(__file__).parent / "launchers" / "boot.py"

Lost = Callable[[str, str], None]
"""Told the status and the reason of a cell that has lost a rank and does not end by itself."""


class RankLost(RuntimeError):
    """A process of the cell is gone; the message says which and how it ended."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status: Literal["oom", "error"] = "oom" if status == "oom" else "error"


@contextlib.contextmanager
def team(job: Job, on_lost: Lost = lambda status, reason: None) -> Iterator[Team]:
    """While open, the other processes of the job train with this one.

    Args:
        job: of `processes` processes on this host, or on those of `torchrun`.
        on_lost: told that a rank is gone where the cell does not end by itself within `PATIENCE_SECONDS`.

    Raises:
        RankLost: one of them is gone.
        UsageError: a process group is there already.
    """
    if job.processes == 1:
        yield Team()
        return
    if distributed.is_initialized():
        raise UsageError("processes=N starts a process group of its own, and this process has one already.")
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=TIMEOUT)
    others = [_Other(rank, job, store.port, on_lost) for rank in range(1, job.processes)]
    try:
        yield joined(store, 0, job.processes, job.device)
    except (Diverged, UsageError):
        raise
    except Exception as error:
        if lost := _first_lost(others):
            raise RankLost(*lost) from error
        raise
    finally:
        for other in others:
            other.kill()
        _leave()


def joined(store: distributed.Store, rank: int, size: int, device: str) -> Team:
    """Join the `size` processes that meet at the store."""
    if device == "cpu" and sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    backend = "gloo" if device == "cpu" else "nccl"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    return Team(rank, size, distributed.group.WORLD)


def _leave() -> None:
    if distributed.is_initialized():
        with contextlib.suppress(Exception):
            distributed.destroy_process_group()


class _Other:
    """Another process of the cell, started and watched by the first one."""

    def __init__(self, rank: int, job: Job, port: int, on_lost: Lost) -> None:
        self.rank = rank
        self.lost: tuple[str, str] | None = None
        self.over = False
        self._size = job.processes
        self._on_lost = on_lost
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_BOOT), "ranks"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"rank": rank, "port": port}) + "\n" + job.to_json() + "\n")
            self._process.stdin.flush()  # stays open: when it closes, this process is gone
        threading.Thread(target=self._watch, daemon=True).start()

    def kill(self) -> None:
        """End it, and expect its end."""
        self.over = True
        self._process.kill()

    def _watch(self) -> None:
        assert self._process.stdout is not None
        told = self._process.stdout.readline()
        code = self._process.wait()
        if self.over or (code == 0 and not told):
            return
        said = json.loads(told) if told else {"status": "error", "reason": _in_words(code)}
        self.lost = said["status"], f"process {self.rank} of {self._size} is gone: {said['reason']}"
        time.sleep(PATIENCE_SECONDS)
        if not self.over:
            self._on_lost(*self.lost)


def _in_words(code: int) -> str:
    return f"it was ended by {signal.Signals(-code).name}" if code < 0 else f"it ended with code {code}"


def _first_lost(others: Sequence[_Other]) -> tuple[str, str] | None:
    """How the first of them ended, which may be known a little after the others notice."""
    deadline = time.monotonic() + PATIENCE_SECONDS / 2
    while time.monotonic() < deadline:
        if lost := next((other.lost for other in others if other.lost), None):
            return lost
        time.sleep(0.05)
    return None


def main(words: Sequence[str] = ()) -> None:
    """The process of a rank: takes its place and its job from standard input, and trains along."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the first one saves a checkpoint, and ends the others
    place, job = json.loads(sys.stdin.readline()), Job.from_json(sys.stdin.readline())
    reports = os.dup(1)
    os.dup2(2, 1)
    threading.Thread(target=_die_with_first, daemon=True).start()
    status = ""
    try:
        for plugin in job.plugins:
            registry.load_plugin(plugin)
        store = distributed.TCPStore("127.0.0.1", place["port"], is_master=False, timeout=TIMEOUT)
        _train(job, joined(store, place["rank"], job.processes, job.device), place["rank"])
    except Diverged:  # on all of them
        pass
    except Exception as error:
        traceback.print_exc()
        status = "oom" if isinstance(error, torch.OutOfMemoryError | MemoryError) else "error"
        told = str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError):
            os.write(reports, (json.dumps({"status": status, "reason": told}) + "\n").encode())
    sys.stderr.flush()
    os._exit(1 if status else 0)  # what a backend keeps must not hold up the end


def _train(job: Job, here: Team, place: int) -> None:
    from mtlbench.running.training import follow_cell

    device = device_of(job.device, place, here)
    follow_cell(job.cell, job.folder, here, device=device, data_root=job.data_root)


def _die_with_first() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)
