"""Many cells: finished ones skipped, interrupted ones resumed, failures kept as such, trials before reruns."""

from __future__ import annotations

import contextlib
import functools
import math
import queue
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtlbench.cells.cell import Cell
from mtlbench.cells.request import Request
from mtlbench.locks import is_locked, locked
from mtlbench.record.reading import Unreadable
from mtlbench.record.schema import CHECKPOINT, RECORD, CellInfo, Record, Status
from mtlbench.record.sent import forget
from mtlbench.running import standing
from mtlbench.running.events import Ended, Event, Outcome, Progressed, Resumed, Sent, Started, Stopped, Waiting, Warned
from mtlbench.running.job import Job
from mtlbench.running.launchers.launcher import Gone, Launcher, Worker
from mtlbench.running.reports import Busy, Caution, End, Progress, Queued, Report
from mtlbench.running.searching import Searches
from mtlbench.running.wish import Wish

GRACE_SECONDS = 30.0
"""A worker that was told to stop has this long to save its checkpoint; one whose time limit is over, or that has told
its end, to be gone."""

_POLL_SECONDS = 0.5


@dataclass
class _Running:
    """A cell in training."""

    cell: Cell
    folder: Path
    worker: Worker
    deadline: float = math.inf
    """When it will have been silent for too long; not before it has loaded its data and begins to train."""
    killed: bool = False
    """Because it was silent for too long."""
    last: Busy | End | None = None
    """What it told of its end."""
    begun: bool = False
    """Whether it is known to train, and waits nowhere."""


class Scheduler:
    """The cells of a request on their way to their outcomes."""

    def __init__(self, request: Request, launcher: Launcher, on_event: Callable[[Event], None], retry: bool) -> None:
        self.request = request
        self.launcher = launcher
        self.on_event = on_event
        self.retry = retry
        self.stopping = False
        self.wish = Wish()
        self.cells: list[Cell] = []
        self.outcomes: dict[str, Outcome] = {}
        self.waiting: deque[Cell] = deque()
        self.elsewhere: dict[str, Cell] = {}
        self.running: dict[str, _Running] = {}
        self.reports: queue.Queue[tuple[str, Report | Gone]] = queue.Queue()
        self.jobs = request.jobs or launcher.capacity(request) or sys.maxsize

    def run(self) -> list[Outcome]:
        """Train what is not done; raises `Stopped` after Ctrl-C."""
        try:
            with self.wish:
                self._train(self.request.cells)
                if self.request.tune:
                    searches = Searches(self.request, self.outcomes, self._tell)
                    self._train(searches.runoffs())
                    self._train(searches.reruns())
        except KeyboardInterrupt:
            left = self._stop_all()
            outlives = self.launcher.outlives
            raise Stopped(self._in_order(), 0 if outlives else left, left if outlives else 0) from None
        except BaseException:  # whoever listens failed, such as a terminal that is gone: what is trained is kept
            self._stop_all()
            raise
        finally:
            for one in self.running.values() if not self.launcher.outlives else ():
                one.worker.kill()
        return self._in_order()

    def _train(self, cells: Sequence[Cell]) -> None:
        self.cells += cells
        for cell in cells:
            if not self._is_done(cell):
                self.waiting.append(cell)
        while self.waiting or self.running or self.elsewhere:
            self._start()
            self._listen()
            self._kill_overdue()
            self._look_elsewhere()
            self.wish.heed()

    def _is_done(self, cell: Cell) -> bool:
        """Whether the cell needs no training; notes its outcome if so."""
        folder = cell.folder(self.request.results)
        try:
            if record := standing.finished(cell, folder):
                forget(folder)
                record.remove_obsolete(folder)  # its worker may have been killed before it did
                self._end(Outcome(cell, folder, "skipped"))
                return True
            if not self.retry and (failure := standing.failed(cell, folder)) and failure.status == "diverged":
                self._end(Outcome(cell, folder, "diverged", failure.reason))
                return True
        except Unreadable:
            return False  # the worker keeps the file under another name and says so
        return False

    def _start(self) -> None:
        while self.waiting and len(self.running) < self.jobs:
            cell = self.waiting.popleft()
            folder = cell.folder(self.request.results)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                job = Job.of(cell, self.request)
                if self._is_elsewhere(job):
                    self._wait_for(cell)
                    continue
                resumes = (folder / CHECKPOINT).exists()
                worker = self.launcher.start(job, functools.partial(self._note, cell.id))
            except OSError as error:
                self._end(Outcome(cell, folder, "error", f"{error.strerror or error} ({folder})"))
                continue
            self.running[cell.id] = one = _Running(cell, folder, worker)
            if not self.launcher.queues:
                self._announce(one, resumes)
        self.launcher.send()

    def _announce(self, one: _Running, resumes: bool) -> None:
        one.begun = True
        self._tell(Resumed(one.cell) if resumes else Started(one.cell))

    def _note(self, cell: str, report: Report | Gone) -> None:
        self.reports.put((cell, report))

    def _listen(self) -> None:
        """Take up what the workers report, for at most one polling interval."""
        try:
            cell, report = self.reports.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            return
        one = self.running[cell]
        match report:
            case Progress():
                if not one.begun:
                    self._announce(one, resumes=report.step > 0)
                self._tell(Progressed(one.cell, report))
            case Queued():
                one.begun = False
                self._tell(Sent(one.cell, report))
            case Caution():
                self._tell(Warned(one.cell, report.message))
            case Busy() | End():
                one.last = report
            case Gone():
                del self.running[cell]
                self._bury(one, report)
        one.deadline = time.monotonic() + self._patience(one)

    def _patience(self, one: _Running) -> float:
        """Seconds that a worker may be silent for: its time limit; once it has told its end, until it is gone."""
        if one.last is not None:
            return GRACE_SECONDS
        return math.inf if self.request.time_limit is None or not one.begun else self.request.time_limit + GRACE_SECONDS

    def _bury(self, one: _Running, gone: Gone) -> None:
        """Note how a cell ended, now that its worker is no more."""
        cell, folder = one.cell, one.folder
        match one.last:
            case Busy():
                self._wait_for(cell)
            case End("finished") if not self._has_record(one):
                self._keep_failure(one, "error", "its process said that it had finished, and left no record")
            case End(status, reason):
                self._end(Outcome(cell, folder, status, reason))
            case None if self._has_record(one):  # which is the truth, whatever the place says of its worker
                self._end(Outcome(cell, folder, "finished"))
            case None if self.stopping or gone.status == "interrupted":
                self._end(Outcome(cell, folder, "interrupted"))
            case None if one.killed:
                limit = f"its time limit of {self.request.time_limit:g} s"
                self._keep_failure(one, "timeout", f"it did not react to {limit} and was killed")
            case None:
                self._keep_failure(one, "oom" if gone.status == "oom" else "error", gone.reason)

    def _has_record(self, one: _Running) -> bool:
        with contextlib.suppress(Unreadable):
            return standing.finished(one.cell, one.folder) is not None
        return False

    def _keep_failure(self, one: _Running, status: Status, reason: str) -> None:
        """Note an end that the worker could not note itself, on disk too."""
        cell, folder = one.cell, one.folder
        failure = Record(id=cell.id, status=status, reason=reason, cell=CellInfo(**cell.canonical()))
        with contextlib.suppress(OSError), locked(folder) as mine:
            if mine and not (folder / RECORD).exists():
                failure.save(folder)
        self._end(Outcome(cell, folder, status, reason))

    def _wait_for(self, cell: Cell) -> None:
        if cell.id not in self.elsewhere:
            self.elsewhere[cell.id] = cell
            self._tell(Waiting(cell))

    def _is_elsewhere(self, job: Job) -> bool:
        return (is_locked(job.folder) and not self.launcher.holds(job)) or self.launcher.promised(job)

    def _look_elsewhere(self) -> None:
        """Take over, or note as done, what another runner has let go of."""
        for cell in list(self.elsewhere.values()):
            if not self._is_elsewhere(Job.of(cell, self.request)):
                del self.elsewhere[cell.id]
                if not self._is_done(cell):
                    self.waiting.append(cell)

    def _kill_overdue(self) -> None:
        for one in self.running.values():
            if time.monotonic() > one.deadline:
                one.killed = True
                one.deadline = math.inf
                one.worker.kill()

    def _stop_all(self) -> int:
        """Ask every worker to save a checkpoint and wait for that; returns how many are still there.

        Where workers outlive the run they are left alone.
        """
        self.stopping = True
        with contextlib.suppress(KeyboardInterrupt):  # once more: no more patience
            for one in self.running.values() if not self.launcher.outlives else ():
                one.worker.stop()
            deadline = time.monotonic() + (0 if self.launcher.outlives else GRACE_SECONDS)
            while self.running and time.monotonic() < deadline:
                self._listen()
        for cell in [*self.waiting, *self.elsewhere.values(), *(one.cell for one in self.running.values())]:
            self.outcomes.setdefault(cell.id, Outcome(cell, cell.folder(self.request.results), "interrupted"))
        return len(self.running)

    def _end(self, outcome: Outcome) -> None:
        self.outcomes[outcome.cell.id] = outcome
        self._tell(Ended(outcome))

    def _tell(self, event: Event) -> None:
        if not self.stopping:
            self.on_event(event)
            return
        with contextlib.suppress(Exception):  # the terminal may be gone, and checkpoints must be waited for
            self.on_event(event)

    def _in_order(self) -> list[Outcome]:
        return [self.outcomes[cell.id] for cell in self.cells if cell.id in self.outcomes]
