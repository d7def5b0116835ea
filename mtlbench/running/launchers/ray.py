"""Workers as tasks of Ray: on a cluster that runs, or on one that is started here for the run."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mtlbench.cells.placing import RayWords
from mtlbench.errors import UsageError
from mtlbench.locks import is_locked, locked
from mtlbench.record.sent import read_sent
from mtlbench.running.job import Job
from mtlbench.running.launchers import boot
from mtlbench.running.launchers.arrays import new_name
from mtlbench.running.launchers.far import Far
from mtlbench.running.launchers.launcher import Gone, Launcher, Worker
from mtlbench.running.log import LOG
from mtlbench.running.reports import Busy, Report

FOLDER = ".ray"
"""Below the results: a folder for each run that has sent cells and is still there, which it holds the lock of."""

_READ_SECONDS = 0.5
_CONNECT_SECONDS = 20.0


class Ray(Launcher):
    """A cluster of Ray, whose nodes see the results under the same name.

    Args:
        words: which one, and what a cell takes of it.
        results: the folder that all nodes see under this name.

    Raises:
        UsageError: Ray is missing or cannot be reached.
    """

    queues = True

    def __init__(self, words: RayWords, results: Path) -> None:
        self._ray = _ray()
        self._runs = results.absolute() / FOLDER
        self._words = words
        self._started = _connected(self._ray, words.address)
        self._name = new_name()
        self._train = self._ray.remote(_task())
        self._followed: list[_RayTask] = []
        self._sent = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._open = contextlib.ExitStack()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def start(self, job: Job, tell: Callable[[Report | Gone], None]) -> Worker:
        """See `Launcher.start`."""
        self._show()
        worker = _RayTask(job, tell, self._ray, self._submit)
        worker.note("ray", self._name, self._sent)
        self._sent += 1
        worker.submit("it waits for its turn in Ray")
        with self._lock:
            self._followed.append(worker)
        return worker

    def promised(self, job: Job) -> bool:
        """See `Launcher.promised`; of two that send a cell at once, the first one learns it from its agent."""
        sent = read_sent(job.folder)
        return sent is not None and sent.on == "ray" and sent.name != self._name and is_locked(self._runs / sent.name)

    def close(self) -> None:
        """See `Launcher.close`."""
        self._over.set()
        self._thread.join()
        self._open.close()
        if self._started:
            self._ray.shutdown()

    def _show(self) -> None:
        """Let other runs see that this one is there, for as long as it is; raises `OSError`."""
        folder = self._runs / self._name
        if folder.exists():
            return
        folder.mkdir(parents=True)
        self._open.callback(shutil.rmtree, folder, ignore_errors=True)
        self._open.enter_context(locked(folder))

    def _submit(self, worker: _RayTask) -> Any:
        job, words = worker.job, self._words
        options: dict[str, Any] = {
            "num_cpus": job.cpus if words.cpus is None else words.cpus,
            "num_gpus": job.gpus if words.gpus is None else words.gpus,
            "max_retries": 0,  # a retry is told, and counted, here
            "name": job.cell.name,
        }
        if words.memory is not None:
            options["memory"] = int(words.memory * 2**30)
        command = ["launchers.agent", "tied", str(job.folder), worker.name, str(worker.index)]
        return self._train.options(**options).remote(boot.__file__, command, str(job.folder / LOG))

    def _follow(self) -> None:
        while not self._over.wait(_READ_SECONDS):
            with self._lock:
                followed = list(self._followed)
            for worker in followed:
                if worker.look(self._words.tries):
                    with self._lock:
                        self._followed.remove(worker)


class _RayTask(Far):
    """A worker that is a task of Ray."""

    def __init__(
        self, job: Job, tell: Callable[[Report | Gone], None], ray: Any, submit: Callable[[_RayTask], Any]
    ) -> None:
        super().__init__(job, tell)
        self._ray = ray
        self._submit = submit
        self._task: Any = None
        self._tries = 0
        self._stopping = False

    def submit(self, told: str) -> None:
        """Hand it to Ray, for the first time or once more."""
        self._tries += 1
        self._task = self._submit(self)
        self.waits(told)

    def stop(self) -> None:
        """See `Worker.stop`."""
        self._stopping = True
        self._ray.cancel(self._task)

    def kill(self) -> None:
        """See `Worker.kill`."""
        self._stopping = True
        self._ray.cancel(self._task, force=True)

    def look(self, tries: int) -> bool:
        """Pass on what is new; whether it is gone, and that is told."""
        over, _ = self._ray.wait([self._task], timeout=0)
        self.read()
        if over:
            self._bury(tries)
        return self.ended

    def _bury(self, tries: int) -> None:
        errors = self._ray.exceptions
        try:
            code = self._ray.get(self._task)
        except errors.TaskCancelledError:
            return self.end(Gone("interrupted", "it was cancelled in Ray"))
        except errors.OutOfMemoryError as error:
            return self.end(Gone("oom", f"Ray ended its worker for want of memory: {_first_line(error)}"))
        except errors.RayError as error:
            return self._again(tries, f"its worker was lost: {_first_line(error)}")
        if self.is_taken():
            self._tell(Busy())
            return self.end(Gone("error", "another run has sent it to Ray since"))
        if self.ceased is not None and self.ceased.status == "error":
            return self.end(Gone("error", self.ceased.reason))
        if code == os.EX_TEMPFAIL:
            return self._again(tries, "its node is wanted back")
        return self.end(Gone("error", f"its agent ended with code {code}; see {self.job.folder / LOG}"))

    def _again(self, tries: int, why: str) -> None:
        """Try once more, from its checkpoint."""
        if self._stopping:
            self.end(Gone("interrupted", why))
        elif self._tries >= tries:
            self.end(Gone("error", f"{why} ({self._tries} times; ray.tries= allows more)"))
        else:
            self.submit(f"it waits in Ray, once more: {why}")


def _task() -> Callable[[str, Sequence[str], str], int]:
    """What runs on a node: a function that Ray sends there whole, since it is within another."""

    def train(start: str, words: Sequence[str], log: str) -> int:
        import importlib.util
        import pathlib
        import subprocess
        import sys
        import time

        if not pathlib.Path(start).exists():  # the package lies elsewhere there
            spec = importlib.util.find_spec("mtlbench")
            folders = (spec.submodule_search_locations if spec else None) or []
            start = next((str(pathlib.Path(f) / "running" / "launchers" / "boot.py") for f in folders), start)
        with pathlib.Path(log).open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", start, *words], stdin=subprocess.PIPE, stdout=output, stderr=output
            )
        try:
            while process.poll() is None:  # Ray interrupts between two calls only
                time.sleep(0.1)
        except BaseException:
            process.terminate()
        return process.wait()

    return train


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise UsageError("on=ray needs the package ray: pip install 'mtlbench[ray]'.") from error
    return ray


def _connected(ray: Any, address: str | None) -> bool:
    """Reach the cluster, or start one; whether that was done here and is undone at the end."""
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        options |= {"include_dashboard": False, "num_cpus": os.cpu_count()}
    with _signals_as_before():
        try:
            _require_listener(address)
            ray.init(address=address, **options)
        except Exception as error:  # of many kinds
            where = f"at {address}" if address else "on this machine"
            raise UsageError(f"Ray cannot be reached {where}: {_first_line(error)}") from error
    return True


def _require_listener(address: str | None) -> None:
    """Raise `OSError` where nobody listens, which Ray tries again and again for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()


@contextlib.contextmanager
def _signals_as_before() -> Iterator[None]:
    """Ray takes signals that mean something to the command."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
