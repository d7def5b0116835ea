"""Workers on this machine: a process for each cell, which leads a group of its own."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mtlbench.cells.request import Request
from mtlbench.running.job import Job
from mtlbench.running.launchers import boot
from mtlbench.running.launchers.launcher import Gone, Launcher, Worker
from mtlbench.running.log import LOG, open_log
from mtlbench.running.reports import Report, from_json

LONGEST_REPORT = 2**20
"""Bytes of a line."""

_POLL_SECONDS = 0.2


class Local(Launcher):
    """The machine that this process runs on.

    Args:
        devices: what cells are spread over, each on the one that has the fewest; without any, each on its own.
    """

    popen: Callable[..., Any] = subprocess.Popen
    """How a process is started."""

    def __init__(self, devices: Sequence[str] = ()) -> None:
        self._on = dict.fromkeys(devices, 0)
        self._counting = threading.Lock()

    def capacity(self, request: Request) -> int:
        """As many as the cores carry; on other devices one each."""
        if request.devices != ("cpu",):
            return len(request.devices)
        threads = max(cell.protocol.threads for cell in request.cells) * request.processes_each
        return max(1, (os.cpu_count() or 1) // threads)

    def start(self, job: Job, tell: Callable[[Report | Gone], None]) -> Worker:
        """See `Launcher.start`."""
        if not self._on:
            return self._started(job, tell)
        with self._counting:
            device = min(self._on, key=self._on.__getitem__)
            self._on[device] += 1

        def let_go(report: Report | Gone) -> None:
            if isinstance(report, Gone):
                with self._counting:
                    self._on[device] -= 1
            tell(report)

        try:
            return self._started(replace(job, device=device), let_go)
        except BaseException:
            self._on[device] -= 1
            raise

    def _started(self, job: Job, tell: Callable[[Report | Gone], None]) -> Worker:
        try:
            log = open_log(job.folder)
        except OSError:  # a full disk is found again, and told, where it matters
            log = os.open(os.devnull, os.O_WRONLY)
        try:
            process = self.popen(
                [sys.executable, "-P", boot.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": str(job.cell.protocol.threads)},
                start_new_session=True,
            )
        finally:
            os.close(log)
        return _Process(process, job, tell)


class _Process(Worker):
    """A worker that is a process; its end counts, and not that of its pipes, which others may hold."""

    def __init__(self, process: Any, job: Job, tell: Callable[[Report | Gone], None]) -> None:
        self._process = process
        self._over = False
        self._killing = threading.Lock()
        threading.Thread(target=self._converse, args=(job, tell), daemon=True).start()

    def stop(self) -> None:
        """See `Worker.stop`; what the worker has started is left to it."""
        self._signal(os.kill, signal.SIGTERM)

    def kill(self) -> None:
        """See `Worker.kill`."""
        self._signal(os.killpg, signal.SIGKILL)

    def _signal(self, send: Callable[[int, int], None], number: int) -> None:
        with self._killing, contextlib.suppress(ProcessLookupError):
            if not self._over:  # its number may belong to another process by now
                send(self._process.pid, number)

    def _converse(self, job: Job, tell: Callable[[Report | Gone], None]) -> None:
        with contextlib.suppress(BrokenPipeError):  # it died at once
            self._process.stdin.write(job.to_json().encode() + b"\n")
            self._process.stdin.flush()
        nonsense = ""
        try:
            for line in self._lines():
                tell(from_json(line))
        except ValueError as error:
            nonsense = f"something in its process wrote what is no report to the launcher ({_first_line(error)})"
            self.kill()
        code = self._process.wait()
        self.kill()  # what it has left running
        with self._killing:
            self._over = True
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        stopped = code == -signal.SIGTERM and not nonsense
        tell(Gone("interrupted" if stopped else "error", (nonsense or _in_words(code)) + _where(job.folder / LOG)))

    def _lines(self) -> Iterator[bytes]:
        handle = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        rest = b""
        while True:
            over = self._process.poll() is not None  # asked first, so that what it wrote last is there
            if poll.poll(0 if over else _POLL_SECONDS * 1000):
                if not (read := os.read(handle, 2**16)):
                    return
                *lines, rest = (rest + read).split(b"\n")
                yield from lines
                if len(rest) > LONGEST_REPORT:
                    raise ValueError(f"a line of more than {LONGEST_REPORT} bytes")
            elif over:
                return


def _first_line(error: ValueError) -> str:
    return str(error).splitlines()[0]


def _in_words(code: int) -> str:
    if code == -signal.SIGKILL:
        return "its process was killed (out of memory?)"
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    if code == 0:
        return "its process ended without a result, as if all were well: something in it called exit() or os._exit()"
    return f"its process ended with code {code}"


def _where(log: Path) -> str:
    """Where to read more, if there is more."""
    if not log.is_file() or not log.stat().st_size:
        return ""
    return f"; see {log.relative_to(here) if log.is_relative_to(here := Path.cwd()) else log}"
