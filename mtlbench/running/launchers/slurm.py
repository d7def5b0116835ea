"""Workers as jobs of Slurm, which go on when the run ends that has sent them, and are taken up by the next one."""

from __future__ import annotations

import contextlib
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mtlbench.cells.placing import SlurmWords
from mtlbench.errors import UsageError
from mtlbench.record.sent import read_sent
from mtlbench.running.job import Job
from mtlbench.running.launchers import arrays, boot
from mtlbench.running.launchers.arrays import Silent, State
from mtlbench.running.launchers.far import Far
from mtlbench.running.launchers.launcher import Gone, Launcher, Worker
from mtlbench.running.reports import Caution, Report

_READ_SECONDS = 1.0
"""Between looks at what running jobs report."""
_SETTLE_SECONDS = 10.0
"""A job that is over may have written what is not to be seen here yet, on a network file system."""


class Slurm(Launcher):
    """The cluster whose commands are on PATH.

    Args:
        words: how jobs are sent.
        results: the folder that all nodes see under this name.

    Raises:
        UsageError: submitit or the commands of Slurm are missing, or Slurm does not answer.
    """

    queues = True
    outlives = True

    def __init__(self, words: SlurmWords, results: Path) -> None:
        self._submitit = _submitit()
        arrays.require()
        self._words = words
        self._results = results.absolute()
        self._new: list[_SlurmJob] = []
        self._followed: dict[tuple[str, int], _SlurmJob] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        threading.Thread(target=self._follow, daemon=True).start()

    def start(self, job: Job, tell: Callable[[Report | Gone], None]) -> Worker:
        """See `Launcher.start`; the worker is sent off by `send`."""
        worker = _SlurmJob(job, tell)
        self._new.append(worker)
        return worker

    def holds(self, job: Job) -> bool:
        """See `Launcher.holds`."""
        sent = read_sent(job.folder)
        if sent is None or sent.on != "slurm":
            return False
        with contextlib.suppress(Silent):
            state = arrays.states([sent.name]).get((sent.name, sent.index))
            return state is not None and not state.over
        return False

    def send(self) -> None:
        """See `Launcher.send`: what an earlier run has sent is taken up, the rest becomes arrays of jobs."""
        if not self._new:
            return
        sent = {id(worker): read_sent(worker.job.folder) for worker in self._new}
        try:
            states = arrays.states(one.name for one in sent.values() if one and one.on == "slurm")
        except Silent:  # whether they are there already is not known: the next call asks again
            return
        fresh: list[_SlurmJob] = []
        for worker in self._new:
            one = sent[id(worker)]
            state = states.get((one.name, one.index)) if one else None
            if one is None or state is None or state.over:
                fresh.append(worker)
                continue
            worker.take_up(one)
            self._watch(worker, state)
        self._new.clear()
        for chunk in _alike(fresh):
            self._submit(chunk)

    def close(self) -> None:
        """See `Launcher.close`."""
        self._over.set()

    def _watch(self, worker: _SlurmJob, state: State) -> None:
        worker.state = state
        if state.waits:
            worker.waits(_where(state))
        with self._lock:
            self._followed[worker.name, worker.index] = worker

    def _submit(self, workers: Sequence[_SlurmJob]) -> None:
        """Send off jobs that need the same, as one array."""
        name = arrays.new_name()
        folder = self._results / arrays.FOLDER / name
        try:
            arrays.write(folder, [worker.job.folder for worker in workers])
            for index, worker in enumerate(workers):  # before Slurm has it: who dies in between has sent nothing twice
                worker.note("slurm", name, index)
            number = self._sbatch(name, folder, workers[0].job, len(workers))
        except OSError as error:
            raise UsageError(f"{folder} cannot be written: {error.strerror or error}.") from error
        for index, worker in enumerate(workers):
            self._watch(worker, State(f"{number}_{index}", "PENDING"))

    def _sbatch(self, name: str, folder: Path, job: Job, count: int) -> str:
        """Have submitit write and submit the script; the number of the array."""
        executor = self._submitit.SlurmExecutor(folder)
        executor.update_parameters(
            job_name=name,
            time=None,  # the partition's own, unless `slurm.time` says it
            wckey=None,
            stderr_to_stdout=True,
            use_srun=False,
            array_parallelism=count,
            setup=[self._words.setup] if self._words.setup else None,
            additional_parameters={
                "requeue": True,
                "signal": f"B:USR1@{self._words.grace}",
                **_needs(job, self._words),
            },
        )
        executor.parameters["map_count"] = count
        command = shlex.join([sys.executable, "-P", boot.__file__, "launchers.agent", "slurm", str(folder)])
        try:
            # No function is handed over, since the job would unpickle it: the command alone, which reads JSON
            submitted = executor._submit_command(f"exec {command}")
        except Exception as error:  # of submitit's own kinds, with what sbatch says
            raise UsageError(f"Slurm does not take the cells: {str(error).strip() or type(error).__name__}") from error
        return str(submitted.job_id)

    def _follow(self) -> None:
        """Read what jobs report, and ask Slurm now and then how they stand."""
        asked = -self._words.poll
        while not self._over.wait(_READ_SECONDS if self._words.poll > _READ_SECONDS else self._words.poll):
            with self._lock:
                followed = dict(self._followed)
            due = time.monotonic() - asked >= self._words.poll
            if due and followed:
                asked = time.monotonic()
                self._ask(followed)
            for key, worker in followed.items():
                if worker.look():
                    with self._lock:
                        del self._followed[key]

    def _ask(self, followed: dict[tuple[str, int], _SlurmJob]) -> None:
        try:
            states = arrays.states(name for name, _ in followed)
        except Silent as error:
            for worker in followed.values():
                worker.unknown(str(error))
                break  # it is the same for all
            return
        for key, worker in followed.items():
            worker.stands(states.get(key))


class _SlurmJob(Far):
    """A worker that is a job of an array."""

    state = State("", "PENDING")
    _over_since: float | None = None
    _silent = False

    def stop(self) -> None:
        """See `Worker.stop`."""
        arrays.cancel(self.state.number)

    def kill(self) -> None:
        """See `Worker.kill`; Slurm kills what has not ended after `KillWait`."""
        arrays.cancel(self.state.number)

    def unknown(self, why: str) -> None:
        """Tell that Slurm does not answer."""
        if not self._silent:
            self._silent = True
            self._tell(Caution(f"Slurm does not answer, and is asked again and again: {why}"))

    def stands(self, state: State | None) -> None:
        """Note how Slurm says that it stands; None where Slurm has forgotten it."""
        self._silent = False
        if state is not None and state.waits and not self.state.waits:
            self.read()
            why = self.ceased.reason if self.ceased and self.ceased.reason else "its node was lost"
            self.waits(f"{_where(state)}, once more: {why}")
        self.state = state or State(self.state.number, "")

    def look(self) -> bool:
        """Pass on what is new; whether it is gone, and that is told."""
        if self.state.waits and not self.begun:
            self._over_since = None
            return False
        self.read()
        if self.ceased is not None and self.ceased.status == "error":
            self.end(Gone("error", self.ceased.reason))
        elif self.state.over:
            self._over_since = self._over_since or time.monotonic()
            if time.monotonic() - self._over_since > _SETTLE_SECONDS:
                self.end(self._gone())
        return self.ended

    def _gone(self) -> Gone:
        word, where = self.state.word, f"job {self.state.number} of Slurm"
        if word in ("CANCELLED", "PREEMPTED") or self.ceased is not None:
            return Gone("interrupted", f"{where} was taken away")
        if word == "OUT_OF_MEMORY":
            return Gone("oom", f"{where} needed more memory than it had; slurm.mem= gives it more")
        if word == "TIMEOUT":
            hint = "slurm.grace= gives it longer"
            return Gone("error", f"{where} was killed at its time limit before it had saved a checkpoint; {hint}")
        return Gone("error", f"{where} is over ({word.lower() or 'nothing is known of its end'}) and left no record")


def _where(state: State) -> str:
    return f"job {state.number} of Slurm" + (f", {state.why}" if state.why else "")


def _alike(workers: Sequence[_SlurmJob]) -> Iterator[list[_SlurmJob]]:
    """Those that need the same, as many as an array has at most."""
    groups: dict[tuple[int, int], list[_SlurmJob]] = {}
    for worker in workers:
        groups.setdefault((worker.job.cpus, worker.job.gpus), []).append(worker)
    for group in groups.values():
        for start in range(0, len(group), arrays.LARGEST):
            yield group[start : start + arrays.LARGEST]


def _needs(job: Job, words: SlurmWords) -> dict[str, Any]:
    """What sbatch is asked for: what the job computes with, unless words say it."""
    given = {name.replace("_", "-"): True if value == "true" else value for name, value in words.options.items()}
    needs: dict[str, Any] = {"cpus-per-task": job.cpus}
    if job.gpus and not {"gres", "gpus-per-node"} & given.keys():
        needs["gpus-per-node"] = job.gpus
    return {**needs, **given}


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise UsageError("on=slurm needs the package submitit: pip install 'mtlbench[slurm]'.") from error
    return submitit
