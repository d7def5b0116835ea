"""One cell on several processes: each takes its share of every batch, the first one evaluates, saves and tells.

The first one starts the others, or they are started where torchrun has put them (`running.torchrun`); either way each
is a process for this cell alone, so that whatever ends it ends this cell and no other.
"""

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
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import distributed

from mtlbench.catalogue import registry
from mtlbench.errors import Diverged, UsageError
from mtlbench.running.board import TIMEOUT, Board, connected, of_group
from mtlbench.running.job import Job, Meeting
from mtlbench.running.team import Team, device_of

PATIENCE_SECONDS = 10.0
"""After a rank is known to be gone the cell ends within so many seconds, by itself or not."""
SILENCE_SECONDS = 60.0
"""A rank that another host has started is gone when nothing was heard of it for so long."""
POLL_SECONDS = 0.25

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
    store: distributed.Store
    others: list[Watched]
    if job.meeting is None:
        store = own = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=TIMEOUT)
        job = replace(job, meeting=Meeting("127.0.0.1", own.port, "cell", one_host=True))
        others = [Other(rank, job, on_lost) for rank in range(1, job.processes)]
    else:
        store = connected(job.meeting)
        others = [_Elsewhere(job, job.meeting, on_lost)]
    try:
        yield joined(store, job, 0)
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


def joined(store: distributed.Store, job: Job, rank: int) -> Team:
    """Join the processes of a job, which meet at the store."""
    assert job.meeting is not None
    if job.device == "cpu" and sys.platform == "linux" and job.meeting.one_host:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group(
        "gloo" if job.device == "cpu" else "nccl",
        store=of_group(store, job.meeting.name),
        rank=rank,
        world_size=job.processes,
        timeout=TIMEOUT,
    )
    return Team(rank, job.processes, distributed.group.WORLD)


def _leave() -> None:
    if distributed.is_initialized():
        with contextlib.suppress(Exception):
            distributed.destroy_process_group()


class Watched(ABC):
    """Other processes of a cell, as one sees them that must know when they are gone."""

    lost: tuple[str, str] | None = None
    """The status and the reason of a cell that has lost one of them."""

    @abstractmethod
    def kill(self) -> None:
        """End them, and expect their end."""

    def suspected(self) -> tuple[str, str] | None:
        """The same as `lost` where one of them seems to be gone, after something has failed."""
        return self.lost


class Other(Watched):
    """Another process of the cell, started by this one.

    Args:
        rank: its own.
        job: with the place where they meet.
        on_lost: told that it is gone, `PATIENCE_SECONDS` later, unless it was killed by then.
        place: among the processes of this host, which says on which GPU it trains; its rank by default.
        log: an open file that it prints to; None for where this process does.
        apart: whether signals that are meant for this process and its group must not reach it.
    """

    def __init__(
        self,
        rank: int,
        job: Job,
        on_lost: Lost = lambda status, reason: None,
        place: int | None = None,
        log: int | None = None,
        apart: bool = False,
    ) -> None:
        self._rank = rank
        self._over = False
        self._apart = apart
        self._size = job.processes
        self._on_lost = on_lost
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_BOOT), "ranks"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": str(job.cell.protocol.threads)},
            start_new_session=apart,
            text=True,
        )
        assert self._process.stdin is not None
        where = {"rank": rank, "place": rank if place is None else place}
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(where) + "\n" + job.to_json() + "\n")
            self._process.stdin.flush()  # stays open: when it closes, this process is gone
        threading.Thread(target=self._watch, daemon=True).start()

    def kill(self) -> None:
        """See `Watched.kill`."""
        self._over = True
        if self._apart and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

    def _watch(self) -> None:
        assert self._process.stdout is not None
        told = self._process.stdout.readline()
        code = self._process.wait()
        if self._over or (code == 0 and not told):
            return
        said = json.loads(told) if told else {"status": "error", "reason": _in_words(code)}
        self.lost = said["status"], f"process {self._rank} of {self._size} is gone: {said['reason']}"
        time.sleep(PATIENCE_SECONDS)
        if not self._over:
            self._on_lost(*self.lost)


class _Elsewhere(Watched):
    """The other processes of a cell that others have started, by what those tell of them."""

    def __init__(self, job: Job, meeting: Meeting, on_lost: Lost) -> None:
        self._size = job.processes
        self._on_lost = on_lost
        self._board = Board.at(meeting)
        self._over = threading.Event()
        self._heard = dict.fromkeys(range(1, job.processes), (0, time.monotonic()))
        threading.Thread(target=self._watch, daemon=True).start()

    def kill(self) -> None:
        """See `Watched.kill`; who has started them ends them."""
        self._over.set()

    def suspected(self) -> tuple[str, str] | None:
        """See `Watched.suspected`; who still lives is heard every `POLL_SECONDS`."""
        return self.lost or self._silent(PATIENCE_SECONDS / 4)

    def _watch(self) -> None:
        with contextlib.suppress(distributed.DistError):  # whoever keeps the store is gone, and so is this run
            while not self._over.wait(POLL_SECONDS) and not self.lost:
                self._listen()
        if self.lost and not self._over.wait(PATIENCE_SECONDS):
            self._on_lost(*self.lost)

    def _listen(self) -> None:
        for rank, (count, _) in self._heard.items():
            if (found := self._board.count(f"beat {rank}")) > count:
                self._heard[rank] = found, time.monotonic()
            if said := self._board.told(f"lost {rank}"):
                self.lost = str(said["status"]), str(said["reason"])
                return
        self.lost = self._silent(SILENCE_SECONDS)

    def _silent(self, seconds: float) -> tuple[str, str] | None:
        for rank, (_, since) in self._heard.items():
            if (silence := time.monotonic() - since) > seconds:
                told = f"process {rank} of {self._size} is gone: nothing was heard of it for {silence:.0f} s"
                return "error", told
        return None


def _in_words(code: int) -> str:
    return f"it was ended by {signal.Signals(-code).name}" if code < 0 else f"it ended with code {code}"


def _first_lost(others: Sequence[Watched]) -> tuple[str, str] | None:
    """How the first of them ended, which may be known a little after the others notice."""
    deadline = time.monotonic() + PATIENCE_SECONDS / 2
    while time.monotonic() < deadline:
        if lost := next((other.lost for other in others if other.lost), None):
            return lost
        time.sleep(0.05)
    return next(filter(None, (other.suspected() for other in others)), None)


def main(words: Sequence[str] = ()) -> None:
    """The process of a rank: takes its place and its job from standard input, and trains along."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the first one saves a checkpoint, and ends the others
    where, job = json.loads(sys.stdin.readline()), Job.from_json(sys.stdin.readline())
    reports = os.dup(1)
    os.dup2(2, 1)
    threading.Thread(target=_die_with_first, daemon=True).start()
    status = ""
    try:
        for plugin in job.plugins:
            registry.load_plugin(plugin)
        assert job.meeting is not None
        _train(job, joined(connected(job.meeting), job, where["rank"]), where["place"])
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
