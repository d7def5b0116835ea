"""Many cells: finished ones skipped, interrupted ones resumed, failures kept as such, trials before reruns."""

from __future__ import annotations

import contextlib
import os
import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from mtlbench.cells.cell import Cell
from mtlbench.cells.request import Request
from mtlbench.cells.trials import reruns
from mtlbench.record.reading import Unreadable, load
from mtlbench.record.runs import Run
from mtlbench.record.schema import CHECKPOINT, FAILURE, RECORD, CellInfo, Record, Status
from mtlbench.record.selection import winner
from mtlbench.running.events import Ended, Event, Outcome, Progressed, Resumed, Started, Stopped, Waiting, Warned
from mtlbench.running.launchers.local import GRACE_SECONDS, Worker
from mtlbench.running.reports import Busy, Caution, End, Progress, Report
from mtlbench.storage import is_locked, locked

_POLL_SECONDS = 0.5
# Trials that ended so would not end otherwise when tried again.
_FINAL = ("finished", "skipped", "diverged", "oom", "timeout")


class Launcher:
    """The cells of a request on their way to their outcomes."""

    def __init__(self, request: Request, on_event: Callable[[Event], None], retry: bool) -> None:
        self.request = request
        self.on_event = on_event
        self.retry = retry
        self.stopping = False
        self.cells: list[Cell] = []
        self.outcomes: dict[str, Outcome] = {}
        self.waiting: deque[Cell] = deque()
        self.elsewhere: dict[str, Cell] = {}
        self.running: list[Worker] = []
        self.reports: queue.Queue[tuple[Worker, Report | None]] = queue.Queue()
        threads = max(cell.protocol.threads for cell in request.cells)
        self.jobs = request.jobs or (max(1, (os.cpu_count() or 1) // threads) if request.device == "cpu" else 1)

    def run(self) -> list[Outcome]:
        """Train what is not done; raises `Stopped` after Ctrl-C."""
        try:
            self._train(self.request.cells)
            if self.request.tune:
                self._train(self._reruns(self.request.tune))
        except KeyboardInterrupt:
            self._stop_all()
            raise Stopped(self._in_order()) from None
        finally:
            for worker in self.running:
                worker.process.kill()
                worker.close()
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

    def _reruns(self, budget: int) -> list[Cell]:
        """The winner of each setting's trials on the seeds of the user; warns where no winner can be told."""
        settings: dict[str, list[Cell]] = {}
        for cell in self.request.cells:
            settings.setdefault(cell.setting_id, []).append(cell)
        made: list[Cell] = []
        for trials in settings.values():
            best, problem = self._best(trials)
            if best is None:
                self.on_event(Warned(trials[0], f"{trials[0].setting_name} is not rerun: {problem}"))
            else:
                made += reruns(best, budget, self.request.seeds)
        return sorted(made, key=lambda cell: self.request.seeds.index(cell.seed))

    def _best(self, trials: Sequence[Cell]) -> tuple[Cell | None, str]:
        """The trial to rerun, or why there is none."""
        runs: list[Run] = []
        undecided: list[str] = []
        for outcome in (self.outcomes[cell.id] for cell in trials):
            if outcome.status not in _FINAL:
                undecided.append(f"{outcome.status}: {outcome.reason}")
            elif outcome.status in ("finished", "skipped"):
                try:
                    runs.append(Run.of(load(outcome.folder / RECORD), outcome.folder / RECORD))
                except Unreadable as error:
                    undecided.append(f"unreadable: {error}")
        if undecided:
            share = f"{len(undecided)} of {len(trials)} trials did not finish"
            return None, f"{share} ({undecided[0]}); the same command tries them again"
        if (best := winner(runs)) is None:
            return None, f"none of its {len(trials)} trials finished"
        return next(cell for cell in trials if cell.id == best.id), ""

    def _is_done(self, cell: Cell) -> bool:
        """Whether the cell needs no training; notes its outcome if so."""
        folder = cell.folder(self.request.results)
        try:
            if (folder / RECORD).exists():
                load(folder / RECORD).remove_obsolete(folder)  # its worker may have been killed before it did
                self._end(Outcome(cell, folder, "skipped"))
                return True
            if (folder / FAILURE).exists() and not self.retry:
                failure = load(folder / FAILURE)
                if failure.status == "diverged":
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
                if is_locked(folder):
                    self._wait_for(cell)
                    continue
                self.running.append(Worker(cell, folder, self.request, self.reports))
            except OSError as error:
                self._end(Outcome(cell, folder, "error", f"{error.strerror or error} ({folder})"))
                continue
            self.on_event(Resumed(cell) if (folder / CHECKPOINT).exists() else Started(cell))

    def _listen(self) -> None:
        """Take up what the workers report, for at most one polling interval."""
        try:
            worker, report = self.reports.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            return
        worker.heard_from()
        match report:
            case None:
                self._bury(worker)
            case Progress():
                self.on_event(Progressed(worker.cell, report))
            case Caution():
                self.on_event(Warned(worker.cell, report.message))
            case Busy() | End():
                worker.ended = report

    def _bury(self, worker: Worker) -> None:
        """Note how a worker's cell ended, now that its process has."""
        self.running.remove(worker)
        worker.close()
        cell, folder, end = worker.cell, worker.folder, worker.ended
        if end is None and self.stopping:
            self._end(Outcome(cell, folder, "interrupted"))
        elif end is None and worker.hung:
            reason = f"it did not react to its time limit of {self.request.time_limit:g} s and was killed"
            self._keep_failure(cell, folder, "timeout", reason)
        elif end is None:
            code = worker.process.returncode
            reason = f"its process ended with code {code}; see {folder / 'log.txt'}"
            if code == -9:
                reason = f"its process was killed (out of memory?); see {folder / 'log.txt'}"
            self._keep_failure(cell, folder, "error", reason)
        elif isinstance(end, Busy):
            self._wait_for(cell)
        else:
            self._end(Outcome(cell, folder, end.status, end.reason))

    def _keep_failure(self, cell: Cell, folder: Path, status: Status, reason: str) -> None:
        """Note an end that the worker could not note itself, on disk too."""
        failure = Record(id=cell.id, status=status, reason=reason, cell=CellInfo(**cell.canonical()))
        with contextlib.suppress(OSError), locked(folder) as mine:
            if mine and not (folder / RECORD).exists():
                failure.save(folder)
        self._end(Outcome(cell, folder, status, reason))

    def _wait_for(self, cell: Cell) -> None:
        if cell.id not in self.elsewhere:
            self.elsewhere[cell.id] = cell
            self.on_event(Waiting(cell))

    def _look_elsewhere(self) -> None:
        """Take over, or note as done, what another runner has let go of."""
        for cell in list(self.elsewhere.values()):
            if not is_locked(cell.folder(self.request.results)):
                del self.elsewhere[cell.id]
                if not self._is_done(cell):
                    self.waiting.append(cell)

    def _kill_overdue(self) -> None:
        for worker in self.running:
            if time.monotonic() > worker.deadline:
                worker.hung = True
                worker.process.kill()

    def _stop_all(self) -> None:
        """Ask every worker to save a checkpoint, and wait for that."""
        self.stopping = True
        for worker in self.running:
            worker.process.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        while self.running and time.monotonic() < deadline:
            self._listen()
        for cell in [*self.waiting, *self.elsewhere.values(), *(w.cell for w in self.running)]:
            self.outcomes.setdefault(cell.id, Outcome(cell, cell.folder(self.request.results), "interrupted"))

    def _end(self, outcome: Outcome) -> None:
        self.outcomes[outcome.cell.id] = outcome
        self.on_event(Ended(outcome))

    def _in_order(self) -> list[Outcome]:
        return [self.outcomes[cell.id] for cell in self.cells if cell.id in self.outcomes]
