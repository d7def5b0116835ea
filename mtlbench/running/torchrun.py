"""`mtlbench run` under torchrun: its processes train every cell together, one cell after the other.

The first process schedules, as without torchrun, and puts the job of each cell where the others look. There, as on its
own side, a process is started for this cell alone, so that whatever ends it ends the cell and no other. The others know
no words, write no records and print nothing: they watch over that process, tell how it ended, and that they live.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from torch import distributed

from mtlbench.cells.request import Request
from mtlbench.errors import UsageError
from mtlbench.running.board import TIMEOUT, Board
from mtlbench.running.job import Job, Meeting
from mtlbench.running.launchers.launcher import Gone, Worker
from mtlbench.running.launchers.local import Local
from mtlbench.running.log import open_log
from mtlbench.running.ranks import POLL_SECONDS, Other
from mtlbench.running.reports import Report
from mtlbench.running.wish import WISHES

FAREWELL_SECONDS = 10.0
"""The first process, where it keeps the store, waits so long for the others to have read that all is over."""

_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")


@dataclass(frozen=True)
class Position:
    """Where torchrun has put this process."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    host: str
    """Where the store is kept: the host of the first process."""
    port: int
    attempt: str
    """How often torchrun has started the processes anew."""
    keeps_store: bool
    """Whether it is this process that keeps the store, and not torchrun."""

    def meeting(self, name: str) -> Meeting:
        """Where all processes meet, under a name."""
        return Meeting(self.host, self.port, name, one_host=self.local_size == self.size)


def position(environment: Mapping[str, str] = os.environ) -> Position | None:
    """Where torchrun has put this process; None where it was not started by torchrun.

    Raises:
        UsageError: variables of torchrun that are none.
    """
    if "MASTER_ADDR" not in environment or any(name not in environment for name in _NUMBERS):
        return None
    try:
        rank, size, local_rank, local_size, port = (int(environment[name]) for name in _NUMBERS)
        if not (0 <= local_rank <= rank < size and local_rank < local_size <= size):
            raise ValueError
    except ValueError:
        given = ", ".join(f"{name}={environment[name]}" for name in _NUMBERS)
        raise UsageError(f"The variables of torchrun are none: {given}. Unset them, or call torchrun.") from None
    return Position(
        rank,
        size,
        local_rank,
        local_size,
        environment["MASTER_ADDR"],
        port,
        environment.get("TORCHELASTIC_RESTART_COUNT", "0"),
        keeps_store=rank == 0 and environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
    )


class Leader:
    """The first of the processes of torchrun.

    Args:
        position: its own.
        store: where they meet.
        name: of the run there.
    """

    def __init__(self, position: Position, store: distributed.Store, name: str) -> None:
        self.position = position
        self._store = store
        self._name = name

    def spread(self, request: Request) -> Request:
        """The request with as many processes as torchrun has started.

        Raises:
            UsageError: another number of them, several cells at a time, or another place is asked for.
        """
        size = self.position.size
        started = f"torchrun has started {size} process{'es' * (size > 1)}"
        if size > 1:
            self._require_together(request, started)
        if request.processes not in (None, size):
            raise UsageError(
                f"processes={request.processes} is not allowed: {started}, which train every cell together. Leave "
                "processes= out, or change --nproc-per-node."
            )
        return replace(request, processes=size)

    def _require_together(self, request: Request, started: str) -> None:
        if (on := request.place.on) != "local":
            raise UsageError(
                f"on={on} is not allowed under torchrun: {started} to train on. Leave on= out, or call mtlbench "
                "without torchrun, with processes=N for several processes of a cell in one job."
            )
        if (request.jobs or 1) > 1:
            raise UsageError(
                f"jobs={request.jobs} is not allowed under torchrun, whose processes train one cell after the other: "
                "leave jobs= out."
            )
        if request.devices not in (("cpu",), ("cuda",)):
            shown = ",".join(request.devices)
            raise UsageError(f"device={shown} is not allowed under torchrun: it is cpu, or cuda for a GPU each.")

    def offer(self, number: int, job: Job) -> Job:
        """Have the others start a process for a job too; the job with the place where these meet."""
        offered = replace(job, meeting=self.position.meeting(f"{self._name}/{number}"))
        Board(self._store, self._name).tell(f"job {number}", {"job": offered.to_json()})
        return offered

    def over(self, number: int) -> None:
        """Have the others end those processes."""
        with contextlib.suppress(distributed.DistError):  # torchrun may have gone before
            Board(self._store, f"{self._name}/{number}").tell("over")


class Together(Local):
    """All machines on which torchrun has started processes, for one cell after the other."""

    def __init__(self, leader: Leader) -> None:
        super().__init__()
        self._leader = leader
        self._count = 0

    def capacity(self, request: Request) -> int:
        """One."""
        return 1

    def start(self, job: Job, tell: Callable[[Report | Gone], None]) -> Worker:
        """See `Launcher.start`."""
        number = self._count
        self._count += 1

        def let_go(report: Report | Gone) -> None:
            if isinstance(report, Gone):
                self._leader.over(number)
            tell(report)

        try:
            return super().start(self._leader.offer(number, job), let_go)
        except BaseException:
            self._leader.over(number)
            raise


@contextlib.contextmanager
def leading(position: Position) -> Iterator[Leader]:
    """Lead the other processes while open; then they end."""
    store, name = _store(position)
    board = Board(store, name)
    try:
        yield Leader(position, store, name)
    finally:
        with contextlib.suppress(distributed.DistError):
            board.tell("end")
            deadline = time.monotonic() + (FAREWELL_SECONDS if position.keeps_store else 0)
            while board.count("left") < position.size - 1 and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS / 5)


def follow(position: Position) -> int:
    """Train along with the first process until it ends, or a signal says so; the code to end with.

    A signal waits for the cell that is trained: the first process has the same signal, and saves a checkpoint.

    Raises:
        UsageError: the first process is gone.
    """
    wanted = threading.Event()
    for wish in WISHES:
        signal.signal(wish, lambda *_: wanted.set())
    try:
        store, name = _store(position)
        board = Board(store, name)
        number = 0
        while board.told("end") is None and not wanted.is_set():
            if (offered := board.told(f"job {number}")) is None:
                time.sleep(POLL_SECONDS / 5)
                continue
            _attend(position, Board(store, f"{name}/{number}"), str(offered["job"]))
            number += 1
        board.count("left", 1)
    except distributed.DistError as error:
        raise UsageError(
            f"Process {position.rank} of {position.size} hears nothing of the first one any more."
        ) from error
    return 130 if wanted.is_set() else 0


def _store(position: Position) -> tuple[distributed.Store, str]:
    """Where the processes meet, and the name of this run there.

    Torchrun may keep the store for several runs, such as the lines of a script; each process counts its own.
    """
    store = distributed.TCPStore(
        position.host, position.port, is_master=position.keeps_store, wait_for_workers=False, timeout=TIMEOUT
    )
    attempt = f"mtlbench/{position.attempt}"
    return store, f"{attempt}/{Board(store, attempt).count(f'runs of {position.rank}', 1)}"


def _attend(position: Position, cell: Board, job: str) -> None:
    """Have a process of this host train a cell until the first process says that it is over."""
    child: Other | None = None
    lost: tuple[str, str] | None = None
    told = False
    try:
        child = _started(position, Job.from_json(job))
    except Exception as error:  # such as results that this host does not see, or another version of mtlbench
        told_of = f"{error.strerror} ({error.filename})" if isinstance(error, OSError) else str(error)
        lost = "error", f"process {position.rank} of {position.size} cannot start on {socket.gethostname()}: {told_of}"
    try:
        while cell.told("over") is None:
            cell.count(f"beat {position.rank}", 1)
            lost = lost or (child.lost if child else None)
            if lost and not told:
                cell.tell(f"lost {position.rank}", {"status": lost[0], "reason": lost[1]})
                told = True
            time.sleep(POLL_SECONDS)
    finally:
        if child:
            child.kill()


def _started(position: Position, job: Job) -> Other:
    log = open_log(job.folder)
    try:
        return Other(position.rank, job, place=position.local_rank, log=log, apart=True)
    finally:
        os.close(log)
