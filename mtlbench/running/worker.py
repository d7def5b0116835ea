"""The process of one cell: takes its job from standard input, reports on standard output, leaves a record.

The launcher keeps standard input open; when it closes, the launcher is gone and so is this process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mtlbench.catalogue import registry
from mtlbench.cells.cell import Cell
from mtlbench.errors import UsageError
from mtlbench.record.reading import Unreadable, load
from mtlbench.record.schema import RECORD, CellInfo, Record, Status
from mtlbench.running.reports import Busy, Caution, End, Report, to_json
from mtlbench.storage import locked, remove_leftovers, set_aside

Emit = Callable[[Report], None]


def main() -> None:
    """Run the job that standard input holds."""
    job = json.loads(sys.stdin.readline())
    folder = Path(job["folder"])
    emit = _take_standard_output(folder)
    threading.Thread(target=_die_with_launcher, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the launcher decides
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        with locked(folder) as mine:
            if not mine:
                emit(Busy())
                return
            remove_leftovers(folder)
            _run(job, folder, emit, stop)
    except OSError as error:
        emit(End("error", _of_disk(error)))


def _run(job: dict[str, Any], folder: Path, emit: Emit, stop: threading.Event) -> None:
    if (folder / RECORD).exists():
        try:
            load(folder / RECORD)
        except Unreadable as error:
            kept = set_aside(folder / RECORD)
            emit(Caution(f"{error}; kept as {kept.name}, running the cell again"))
        else:
            emit(End("finished"))
            return
    cell = Cell.from_data(job["cell"])

    from mtlbench.running.training import OUT_OF_MEMORY, Interrupted, run_cell

    try:
        for plugin in job["plugins"]:
            registry.load_plugin(plugin)
        record = run_cell(
            cell,
            folder,
            on_progress=emit,
            on_warning=lambda message: emit(Caution(message)),
            should_stop=stop.is_set,
            **_options(job["options"]),
        )
    except Interrupted:
        emit(End("interrupted"))
        return
    except Exception as error:
        traceback.print_exc()
        reason = _of_disk(error) if isinstance(error, OSError) else _in_words(error)
        status: Status = "oom" if isinstance(error, OUT_OF_MEMORY) else "error"
        record = Record(id=cell.id, status=status, reason=reason, cell=CellInfo(**cell.canonical()))
    record.save(folder)
    emit(End(record.status, record.reason))


def _options(options: dict[str, Any]) -> dict[str, Any]:
    root = options["data_root"]
    return {**options, "data_root": Path(root) if root else None}


def _take_standard_output(folder: Path) -> Emit:
    """Keep standard output for reports; everything that is printed goes to the cell's log."""
    reports = os.fdopen(os.dup(1), "w", buffering=1)
    with contextlib.suppress(OSError):  # a full disk is found again, and told, where it matters
        log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
    lock = threading.Lock()

    def emit(report: Report) -> None:
        with lock, contextlib.suppress(BrokenPipeError):
            reports.write(to_json(report) + "\n")

    return emit


def _die_with_launcher() -> None:
    while os.read(0, 1):  # not sys.stdin: a lock of its buffer would hold up the interpreter's end
        pass
    os._exit(1)


def _of_disk(error: OSError) -> str:
    file = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or error}{file}; the same command goes on from the last checkpoint"


def _in_words(error: Exception) -> str:
    return str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
