"""The process of one cell: takes its job from standard input, reports on standard output, leaves a record.

The launcher keeps standard input open; when it closes, the launcher is gone and so is this process, with all that it
has started. Standard error is the cell's log.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable

from mtlbench.catalogue import registry
from mtlbench.errors import UsageError
from mtlbench.locks import locked
from mtlbench.record.schema import CellInfo, Record, Status
from mtlbench.running import standing
from mtlbench.running.job import Job
from mtlbench.running.log import keep_short, shorten
from mtlbench.running.reports import Busy, Caution, End, Progress, Report, to_json
from mtlbench.storage import kept_from_children, remove_leftovers

Emit = Callable[[Report], None]


def main() -> None:
    """Run the job that standard input holds."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # until training begins there is nothing to save
    job = Job.from_json(sys.stdin.readline())
    reports = os.dup(1)
    os.dup2(2, 1)  # everything that is printed goes to the cell's log
    keep_short(2)
    threading.Thread(target=_die_with_launcher, daemon=True).start()
    emit = _writer(reports)
    try:
        lost = functools.partial(_die_without_lock, emit)
        with kept_from_children(reports), locked(job.folder, on_lost=lost) as mine:
            if not mine:
                emit(Busy())
                return
            remove_leftovers(job.folder)
            emit(_run(job, emit))
    except OSError as error:
        emit(End("error", _of_disk(error)))
    finally:
        shorten(2)


def _run(job: Job, emit: Emit) -> End:
    """Train the cell, unless it is finished, and leave its record or failure."""
    cell = job.cell
    for told in standing.clear(cell, job.folder):
        emit(Caution(told))
    if standing.finished(cell, job.folder):
        return End("finished")

    from mtlbench.running.ranks import RankLost, team
    from mtlbench.running.training import OUT_OF_MEMORY, Interrupted, run_cell

    stop = threading.Event()

    def tell(progress: Progress) -> None:
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        emit(progress)

    try:
        for plugin in job.plugins:
            registry.load_plugin(plugin)
        with team(job, functools.partial(_end_without, job, emit)) as together:
            record = run_cell(
                cell,
                job.folder,
                on_progress=tell,
                on_warning=lambda message: emit(Caution(message)),
                should_stop=stop.is_set,
                together=together,
                **job.options,
            )
    except Interrupted:
        return End("interrupted")
    except Exception as error:
        traceback.print_exc()
        reason = _of_disk(error) if isinstance(error, OSError) else _in_words(error)
        status: Status = "oom" if isinstance(error, OUT_OF_MEMORY) else "error"
        if isinstance(error, RankLost):
            status, reason = error.status, str(error)
        record = Record(id=cell.id, status=status, reason=reason, cell=CellInfo(**cell.canonical()))
    record.save(job.folder)
    return End(record.status, record.reason)


def _end_without(job: Job, emit: Emit, status: Status, reason: str) -> None:
    """End this process, which waits for one that is gone."""
    record = Record(id=job.cell.id, status=status, reason=reason, cell=CellInfo(**job.cell.canonical()))
    with contextlib.suppress(OSError):
        record.save(job.folder)
    emit(End(status, reason))
    _die()


def _writer(handle: int) -> Emit:
    reports = os.fdopen(handle, "w", buffering=1)
    lock = threading.Lock()

    def emit(report: Report) -> None:
        with lock, contextlib.suppress(BrokenPipeError):
            reports.write(to_json(report) + "\n")

    return emit


def _die_with_launcher() -> None:
    while os.read(0, 1):  # not sys.stdin: a lock of its buffer would hold up the interpreter's end
        pass
    _die()


def _die_without_lock(emit: Emit) -> None:
    print("another host has taken the cell over, since nothing was heard of this process for too long", file=sys.stderr)
    emit(Busy())
    _die()


def _die() -> None:
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _of_disk(error: OSError) -> str:
    file = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or error}{file}; the same command goes on from the last checkpoint"


def _in_words(error: Exception) -> str:
    return str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
