"""Many cells: one process each, finished ones skipped, interrupted ones resumed, failures kept as such."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtlbench import data, registry
from mtlbench.cell import Cell
from mtlbench.config import Request, parse
from mtlbench.errors import UsageError
from mtlbench.record import CHECKPOINT, FAILURE, RECORD, CellInfo, Record, Status, Unreadable, load
from mtlbench.runs import Run
from mtlbench.storage import is_locked, locked, remove_leftovers, require_writable, set_aside
from mtlbench.tuning import reruns, winner

# A worker that was told to stop has this long to save its checkpoint; one whose time limit is over, to say so.
_GRACE_SECONDS = 30.0
_POLL_SECONDS = 0.5
# Trials that ended so would not end otherwise when tried again.
_FINAL = ("finished", "skipped", "diverged", "oom", "timeout")


@dataclass
class Outcome:
    """How one cell of a run ended."""

    cell: Cell
    folder: Path
    status: str
    """`finished`, `skipped` (was finished before), `diverged`, `oom`, `timeout`, `error` or `interrupted`."""
    reason: str = ""


@dataclass
class Event:
    """Something that happened to a cell: `notice`, `start`, `resume`, `progress`, `waiting`, `warning` or `end`."""

    kind: str
    cell: Cell
    message: str = ""
    step: int = 0
    total_steps: int = 0
    epoch: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    outcome: Outcome | None = None


class Stopped(KeyboardInterrupt):
    """Ctrl-C was pressed; the cells in training have saved their checkpoints."""

    def __init__(self, outcomes: list[Outcome]) -> None:
        super().__init__()
        self.outcomes = outcomes


def run(words: str | Sequence[str]) -> Record:
    """Run one cell in this process and return its record; a cell that is finished already is only read.

    Args:
        words: as on the command line, such as `"method=gradvac task=multimnist seed=0"`. What the method is compared
            with is not trained: `against` means nothing here.

    Raises:
        UsageError: bad words, more than one cell, missing data, or a cell that failed (with its reason).
    """
    from mtlbench.training import run_cell

    request = parse([*_split(words), "against=none"])
    if request.tune:
        raise UsageError(f"run() is for one cell and tune={request.tune} makes {request.total}; use run_grid().")
    if len(request.cells) != 1:
        raise UsageError(f"run() is for one cell and these words make {len(request.cells)}; use run_grid().")
    cell = request.cells[0]
    folder = cell.folder(request.results)
    _check(request)
    require_writable(folder)
    with locked(folder) as mine:
        if not mine:
            raise UsageError(f"{cell.name} is being trained by another process ({folder}).")
        remove_leftovers(folder)
        try:
            if (folder / RECORD).exists():
                return load(folder / RECORD)
        except Unreadable as error:
            warnings.warn(f"{error}; kept as {set_aside(folder / RECORD).name}, running again", stacklevel=2)
        record = run_cell(
            cell,
            folder,
            device=request.device,
            data_root=data.data_root(request.data_root),
            time_limit=request.time_limit,
            checkpoint_steps=request.checkpoint_steps,
        )
        record.save(folder)
        if record.status != "finished":
            raise UsageError(f"{cell.name} {record.status}: {record.reason}")
        return record


def run_grid(
    words: str | Sequence[str],
    plugins: Sequence[str | Path] = (),
    on_event: Callable[[Event], None] = lambda _: None,
    retry: bool = False,
) -> list[Outcome]:
    """Run all cells of a grid, one process each.

    Args:
        words: as on the command line.
        plugins: files that register methods or tasks.
        on_event: told what happens, in this thread.
        retry: also run cells again that diverged.

    Raises:
        UsageError: bad words or a results folder that cannot be written; nothing has been trained.
        Stopped: Ctrl-C.
    """
    for plugin in plugins:
        registry.load_plugin(plugin)
    request = parse(_split(words), [Path(p).resolve() for p in plugins])
    return launch(request, on_event, retry)


def launch(request: Request, on_event: Callable[[Event], None] = lambda _: None, retry: bool = False) -> list[Outcome]:
    """Run the cells of a request; see `run_grid`."""
    notices = _check(request)
    require_writable(request.results)
    for cell, notice in notices:
        on_event(Event("notice", cell, notice))
    return _Launcher(request, on_event, retry).run()


def check_data(request: Request) -> None:
    """Raise `DataMissing` if files that a cell needs are not under the data root."""
    root = data.data_root(request.data_root)
    for task, variant in dict.fromkeys((cell.task, cell.variant) for cell in request.cells):
        for dataset in data.needed(task, variant):
            for file in (file for file in dataset.files if not file.optional):
                data.locate(dataset, file.name, root, f"{task}/{variant}")


def _check(request: Request) -> list[tuple[Cell, str]]:
    """The notices of what would be trained; raises `UsageError` if it could not start. Nothing is written."""
    from mtlbench.training import check

    check_data(request)
    waiting = [cell for cell in request.cells if not (cell.folder(request.results) / RECORD).exists()]
    return check(waiting, request.device, data.data_root(request.data_root))


class _Worker:
    """A cell in training, as its launcher sees it."""

    def __init__(self, cell: Cell, folder: Path, request: Request, reports: queue.Queue[tuple[_Worker, Any]]) -> None:
        self.cell = cell
        self.folder = folder
        self.ended: dict[str, Any] | None = None
        self.hung = False
        root = data.data_root(request.data_root)
        job = {
            "folder": str(folder),
            "cell": {
                **{k: getattr(cell, k) for k in ("method", "parameters", "task", "variant", "seed")},
                **{k: getattr(cell, k) for k in ("granularity", "jacobian_dtype", "treated")},
                "protocol": cell.protocol.model_dump(mode="json"),
                "tuning": cell.tuning.model_dump(mode="json") if cell.tuning else None,
            },
            "plugins": [str(p) for p in request.plugins],
            "options": {
                "device": request.device,
                "data_root": str(root) if root else None,
                "time_limit": request.time_limit,
                "checkpoint_steps": request.checkpoint_steps,
            },
        }
        environment = {**os.environ, "OMP_NUM_THREADS": str(cell.protocol.threads)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mtlbench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died at once; its end is reported below
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
        self._patience = float("inf") if request.time_limit is None else request.time_limit + _GRACE_SECONDS
        self.deadline = float("inf")  # until it has loaded its data and begins to train
        threading.Thread(target=self._read, args=(reports,), daemon=True).start()

    def heard_from(self) -> None:
        """A worker that says nothing for longer than its time limit hangs."""
        self.deadline = time.monotonic() + self._patience

    def _read(self, reports: queue.Queue[tuple[_Worker, Any]]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                reports.put((self, json.loads(line)))
            except json.JSONDecodeError:
                continue
        self.process.wait()
        reports.put((self, None))

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


class _Launcher:
    def __init__(self, request: Request, on_event: Callable[[Event], None], retry: bool) -> None:
        self.request = request
        self.on_event = on_event
        self.retry = retry
        self.stopping = False
        self.cells: list[Cell] = []
        self.outcomes: dict[str, Outcome] = {}
        self.waiting: deque[Cell] = deque()
        self.elsewhere: dict[str, Cell] = {}
        self.running: list[_Worker] = []
        self.reports: queue.Queue[tuple[_Worker, Any]] = queue.Queue()
        threads = max(cell.protocol.threads for cell in request.cells)
        self.jobs = request.jobs or (max(1, (os.cpu_count() or 1) // threads) if request.device == "cpu" else 1)

    def run(self) -> list[Outcome]:
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
            settings.setdefault(cell.setting, []).append(cell)
        made: list[Cell] = []
        for trials in settings.values():
            best, problem = self._best(trials)
            if best is None:
                self.on_event(Event("warning", trials[0], f"{trials[0].setting_name} is not rerun: {problem}"))
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
                self.running.append(_Worker(cell, folder, self.request, self.reports))
            except OSError as error:
                self._end(Outcome(cell, folder, "error", f"{error.strerror or error} ({folder})"))
                continue
            self.on_event(Event("resume" if (folder / CHECKPOINT).exists() else "start", cell))

    def _listen(self) -> None:
        """Take up what the workers report, for at most one polling interval."""
        try:
            worker, report = self.reports.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            return
        worker.heard_from()
        if report is None:
            self._bury(worker)
        elif report["event"] == "progress":
            del report["event"]
            self.on_event(Event("progress", worker.cell, **report))
        elif report["event"] == "warning":
            self.on_event(Event("warning", worker.cell, report["message"]))
        else:
            worker.ended = report

    def _bury(self, worker: _Worker) -> None:
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
        elif end["event"] == "busy":
            self._wait_for(cell)
        else:
            self._end(Outcome(cell, folder, end["status"], end["reason"]))

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
            self.on_event(Event("waiting", cell, "another process is training it"))

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
        deadline = time.monotonic() + _GRACE_SECONDS
        while self.running and time.monotonic() < deadline:
            self._listen()
        for cell in [*self.waiting, *self.elsewhere.values(), *(w.cell for w in self.running)]:
            self.outcomes.setdefault(cell.id, Outcome(cell, cell.folder(self.request.results), "interrupted"))

    def _end(self, outcome: Outcome) -> None:
        self.outcomes[outcome.cell.id] = outcome
        self.on_event(Event("end", outcome.cell, outcome=outcome))

    def _in_order(self) -> list[Outcome]:
        return [self.outcomes[cell.id] for cell in self.cells if cell.id in self.outcomes]


def _split(words: str | Sequence[str]) -> list[str]:
    return words.split() if isinstance(words, str) else list(words)
