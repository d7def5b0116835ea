"""Many cells: one process each, finished ones skipped, interrupted ones resumed, failures kept as such."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtlbench.catalogue import data, registry
from mtlbench.cells.cell import Cell
from mtlbench.cells.request import Request, parse
from mtlbench.errors import UsageError
from mtlbench.locks import locked
from mtlbench.record.schema import RECORD, Record
from mtlbench.record.trajectory import GEOMETRY
from mtlbench.running import standing
from mtlbench.running.checking import check_data
from mtlbench.running.events import Event, Noticed, Outcome
from mtlbench.running.job import Job
from mtlbench.running.launchers import places
from mtlbench.running.scheduling import Scheduler
from mtlbench.storage import remove_leftovers, require_writable

if TYPE_CHECKING:
    from mtlbench.running.torchrun import Leader


def run(words: str | Sequence[str]) -> Record:
    """Run one cell in this process and return its record; a cell that is finished already is only read.

    Args:
        words: as on the command line, such as `"method=gradvac task=multimnist seed=0"`. What the method is compared
            with is not trained: `against` means nothing here.

    Raises:
        UsageError: bad words, more than one cell, missing data, or a cell that failed (with its reason).
    """
    from mtlbench.running.ranks import team
    from mtlbench.running.training import run_cell

    request = parse([*_split(words), "against=none"])
    if request.tune:
        raise UsageError(f"run() is for one cell and tune={request.tune} makes {request.total}; use run_grid().")
    if len(request.cells) != 1:
        raise UsageError(f"run() is for one cell and these words make {len(request.cells)}; use run_grid().")
    job = Job.of(request.cells[0], request)
    cell, folder = job.cell, job.folder
    _check(request, job.processes)
    require_writable(folder)
    with _locked(folder) as mine:
        if not mine:
            raise UsageError(f"{cell.name} is being trained by another process ({folder}).")
        remove_leftovers(folder)
        for told in standing.clear(cell, folder):
            warnings.warn(told, stacklevel=2)
        if found := standing.finished(cell, folder):
            return found
        with contextlib.chdir(Path.cwd()), team(job) as together:  # a task may go elsewhere
            record = run_cell(cell, folder, together=together, **job.options)
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


def launch(
    request: Request,
    on_event: Callable[[Event], None] = lambda _: None,
    retry: bool = False,
    leader: Leader | None = None,
) -> list[Outcome]:
    """Run the cells of a request, on the processes of torchrun where this is the first of them; see `run_grid`."""
    here = request.processes_each
    if leader:
        request, here = leader.spread(request), leader.position.local_size
    notices = _check(request, here)
    with contextlib.closing(places.launcher(request, leader)) as launcher:
        require_writable(request.results)
        if request.predictions:
            require_writable(request.predictions)
        for cell, notice in notices:
            on_event(Noticed(cell, notice))
        return Scheduler(request, launcher, on_event, retry).run()


def _check(request: Request, here: int = 1) -> list[tuple[Cell, str]]:
    """The notices of what would be trained; raises `UsageError` if it could not start. Nothing is written.

    `here` is how many processes of a cell this machine has.
    """
    from mtlbench.running.checking import check, check_device
    from mtlbench.running.team import require_devices

    check_data(request)
    waiting = [cell for cell in request.cells if not _stands(cell.folder(request.results) / RECORD)]
    with contextlib.chdir(Path.cwd()):  # a task that is built may go elsewhere
        root = data.data_root(request.data_root)
        devices = request.devices if request.place.on == "local" else ("cpu",)
        for device in devices:
            check_device(device)
        require_devices(devices[0], here)
        predicts, recorded = request.predictions is not None, request.geometry
        notices = check(waiting, devices[0], root, predicts, recorded, request.processes_each)
    finished = [cell for cell in request.cells if cell not in waiting]
    notices += [
        (cell, "finished before, without predictions, which are written while a cell trains: give another results=")
        for cell in finished
        if request.predictions and not cell.folder(request.predictions).exists()
    ]
    return notices + [
        (cell, f"finished before, without {GEOMETRY}, which is recorded while a cell trains: give another results=")
        for cell in finished
        if _records_geometry(request, cell) and not _stands(cell.folder(request.results) / GEOMETRY)
    ]


def _records_geometry(request: Request, cell: Cell) -> bool:
    """Whether a cell of this request leaves a recording when it is trained."""
    apart = getattr(registry.methods.load(cell.method), "separate_models", False)
    return Job.of(cell, request).geometry is not None and cell.protocol.trains and not apart


def _stands(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # such as a name that is too long, which is told where it is written to
        return False


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    with contextlib.ExitStack() as stack:
        try:
            mine = stack.enter_context(locked(folder))
        except OSError as error:
            raise UsageError(f"{folder} cannot be locked: {error.strerror} ({error.filename}).") from error
        yield mine


def _split(words: str | Sequence[str]) -> list[str]:
    return words.split() if isinstance(words, str) else list(words)
