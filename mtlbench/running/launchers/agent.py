"""Where a cell was sent to, the process that starts its worker and writes down what that reports.

It takes the job from the cell's folder, which all machines see, and starts a worker as on any machine. When the place
wants the machine back, it has the worker save a checkpoint, and gives the cell back to the queue.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mtlbench.locks import SILENCE_SECONDS, is_locked
from mtlbench.record.sent import REPORTS, read_sent
from mtlbench.running.job import Job
from mtlbench.running.launchers import arrays
from mtlbench.running.launchers.launcher import Gone
from mtlbench.running.launchers.local import Local
from mtlbench.running.reports import Begun, Busy, Ceased, End, Line, Progress, Report, line_from_json, to_json
from mtlbench.storage import open_regular, read_regular

PATIENCE_SECONDS = 600.0
"""A worker that was asked to save a checkpoint has this long; the place may have less patience."""
FRUITLESS = 5
"""A cell that was given back so often in a row without having trained a step is given up."""
WISHES = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""Signals by which a place asks for the machine back."""

_PROGRESS_SECONDS = 1.0
"""Between two lines of progress, unless there is more to say than steps."""
_LARGEST_FILE = 256 * 2**20


def main(words: Sequence[str]) -> int:
    """Train the cell that the words name: `slurm ARRAY`, or `tied FOLDER NAME INDEX`; the code to end with.

    `tied` is for a place that keeps standard input open while it wants the cell: when that closes, the agent is gone.
    """
    kind, *rest = words
    if kind == "slurm":
        folder, name, index = arrays.member(Path(rest[0]))
        return Agent(folder, name, index, arrays.requeue).run()
    threading.Thread(target=_die_with_place, daemon=True).start()
    return Agent(Path(rest[0]), rest[1], int(rest[2]), lambda: None).run()


class Agent:
    """One attempt at a cell.

    Args:
        folder: of the cell.
        name: of what was sent together.
        index: of the cell in it.
        give_back: called when the cell has been interrupted and is to be tried once more.
    """

    def __init__(self, folder: Path, name: str, index: int, give_back: Callable[[], None]) -> None:
        self._folder = folder
        self._sent = (name, index)
        self._give_back = give_back
        self._wanted = threading.Event()
        self._first: int | None = None
        self._last = 0
        self._told = -_PROGRESS_SECONDS

    def run(self) -> int:
        """Train the cell until it has ended or the place wants it no more; 0, or 75 if it was interrupted."""
        for wish in WISHES:
            signal.signal(wish, lambda *_: self._wanted.set())
        sent = read_sent(self._folder)
        if sent is None or (sent.name, sent.index) != self._sent:
            print(f"{self._folder} was sent elsewhere since, or is done: nothing to do", flush=True)
            return 0
        self._wait_for_lock()
        self._write(Begun(socket.gethostname(), os.getpid()))
        end, gone = self._trained(Job.from_json(json.dumps(sent.job)))
        interrupted = end is None and gone.status == "interrupted"
        if not interrupted:
            self._write(Ceased("error", gone.reason))
            return 0
        advanced = self._first is not None and self._last > self._first
        if not advanced and self._fruitless() + 1 >= FRUITLESS:
            self._write(
                Ceased(
                    "error",
                    f"it was interrupted {FRUITLESS} times in a row before it had trained a step: give it more time",
                )
            )
            return 0
        self._write(Ceased("interrupted", gone.reason, advanced))
        self._give_back()
        return os.EX_TEMPFAIL

    def _wait_for_lock(self) -> None:
        """Let a lock grow old that a node has left behind when it was lost; whoever is alive keeps it."""
        deadline = time.monotonic() + 1.25 * SILENCE_SECONDS
        while not self._wanted.is_set() and time.monotonic() < deadline and is_locked(self._folder):
            self._wanted.wait(1.0)

    def _trained(self, job: Job) -> tuple[Busy | End | None, Gone]:
        """What the worker told of its end, interruptions aside, and how it went."""
        reports: queue.Queue[Report | Gone] = queue.Queue()
        worker = Local().start(job, reports.put)
        end: Busy | End | None = None
        interrupted = False
        deadline: float | None = None
        while True:
            if self._wanted.is_set() and deadline is None:
                worker.stop()
                deadline = time.monotonic() + PATIENCE_SECONDS
            if deadline is not None and time.monotonic() > deadline:
                worker.kill()
            try:
                report = reports.get(timeout=0.2)
            except queue.Empty:
                continue
            if isinstance(report, Gone):
                interrupted |= report.status == "interrupted" or (self._wanted.is_set() and end is None)
                return end, Gone("interrupted" if interrupted else "error", report.reason)
            if isinstance(report, End) and report.status == "interrupted":
                interrupted = True
                continue
            if isinstance(report, Busy | End):
                end = report
            self._pass_on(report)

    def _pass_on(self, report: Report) -> None:
        if isinstance(report, Progress):
            self._first = report.step if self._first is None else self._first
            self._last = report.step
            if not report.scores and report.step < report.total_steps:
                if time.monotonic() - self._told < _PROGRESS_SECONDS:
                    return
                self._told = time.monotonic()
        self._write(report)

    def _write(self, line: Line) -> None:
        """Write a line; where the disk does not take it, what stands in the cell's folder tells how it ended."""
        with contextlib.suppress(OSError):
            handle = open_regular(self._folder / REPORTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            try:
                os.write(handle, to_json(line).encode() + b"\n")
            finally:
                os.close(handle)

    def _fruitless(self) -> int:
        """How many attempts before this one ended, one after the other, without a step."""
        count = 0
        with contextlib.suppress(OSError):
            for text in read_regular(self._folder / REPORTS, _LARGEST_FILE).splitlines():
                with contextlib.suppress(ValueError):
                    if isinstance(line := line_from_json(text), Ceased):
                        count = count + 1 if line.status == "interrupted" and not line.advanced else 0
        return count


def _die_with_place() -> None:
    while os.read(0, 1):
        pass
    sys.stdout.flush()
    os._exit(1)  # the worker dies with the pipe to it
