"""Arrays of jobs in Slurm: what they are called, which cell each job of one has, and how Slurm says they stand.

It needs the commands of Slurm alone, as the nodes have them, and no accounting database.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtlbench.errors import UsageError
from mtlbench.record.sent import NAME
from mtlbench.storage import read_regular, write_atomically

FOLDER = ".slurm"
"""Below the results: a folder for each array, with its script, its cells and what its jobs print."""
LARGEST = 1000
"""Jobs of an array, as many as Slurm allows unless it is told otherwise."""

_CELLS = "cells.json"
_LARGEST_FILE = 64 * 2**20
_SECONDS = 60
"""That a command of Slurm may take."""

_WAITING = frozenset(
    [
        "PENDING",
        "CONFIGURING",
        "REQUEUED",
        "REQUEUE_HOLD",
        "REQUEUE_FED",
        "RESV_DEL_HOLD",
        "SPECIAL_EXIT",
        "STOPPED",
        "SUSPENDED",
    ]
)
_RUNNING = frozenset(["RUNNING", "COMPLETING", "RESIZING", "SIGNALING", "STAGE_OUT"])


@dataclass(frozen=True)
class State:
    """How Slurm says that a job stands."""

    number: str
    """Of the job, such as `17_3`."""
    word: str
    """Slurm's, such as `PENDING`."""
    why: str = ""
    """Why it waits."""

    @property
    def waits(self) -> bool:
        """Whether it is still to run."""
        return self.word in _WAITING

    @property
    def runs(self) -> bool:
        """Whether it runs, or is about to end."""
        return self.word in _RUNNING

    @property
    def over(self) -> bool:
        """Whether it will never run again."""
        return not (self.waits or self.runs)


class Silent(Exception):
    """Slurm does not answer, for now; says why."""


def new_name() -> str:
    """A name that no array has."""
    return f"mtlbench-{uuid.uuid4().hex[:12]}"


def write(folder: Path, cells: Sequence[Path]) -> None:
    """Write the folder of an array, with the folders of its cells."""
    folder.mkdir(parents=True)
    write_atomically(folder / _CELLS, json.dumps([str(cell) for cell in cells]).encode())


def member(folder: Path) -> tuple[Path, str, int]:
    """In a job of an array: the folder of its cell, the name of the array and the index in it."""
    index = int(os.environ["SLURM_ARRAY_TASK_ID"])
    return Path(json.loads(read_regular(folder / _CELLS, _LARGEST_FILE))[index]), folder.name, index


def requeue() -> None:
    """In a job: put it back into the queue, unless it was cancelled or is put back anyhow."""
    number = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    for _ in range(5):
        with contextlib.suppress(Silent):
            states = ask(["--job", number])
            if all(state.word == "RUNNING" for state in states.values()):
                _called("scontrol", "requeue", number)
                print(f"{number} goes back to the queue", flush=True)
            return
        time.sleep(2)


def cancel(number: str) -> None:
    """Have a job end: it gets SIGTERM, and what is left of it is killed after a while."""
    with contextlib.suppress(Silent):
        _called("scancel", number)


def states(names: Iterable[str]) -> dict[tuple[str, int], State]:
    """How the jobs of some arrays stand; those that ended long ago, or were never there, are missing.

    Raises:
        Silent: Slurm does not answer.
    """
    known = [name for name in dict.fromkeys(names) if re.fullmatch(NAME, name)]
    found: dict[tuple[str, int], State] = {}
    for start in range(0, len(known), 500):  # a command line has an end
        found |= ask([f"--name={','.join(known[start : start + 500])}"])
    return found


def ask(which: Sequence[str]) -> dict[tuple[str, int], State]:
    """Array and index -> state of the jobs that options of squeue name; raises `Silent`."""
    command = ["squeue", "--noheader", "--array", "--states=all", "--format=%j|%K|%i|%T|%r", *which]
    found = {}
    for line in _called(*command).splitlines():
        name, index, number, word, why = (part.strip() for part in line.split("|", 4))
        if index.isdigit():
            found[name, int(index)] = State(number, word, "" if why == "None" else why)
    return found


def require() -> None:
    """Raise `UsageError` where Slurm is not there or does not answer."""
    for program in ("sbatch", "squeue", "scontrol", "scancel", "srun"):
        if shutil.which(program) is None:
            raise UsageError(
                f"on=slurm needs the commands of Slurm, and {program} is not on PATH. Start the run on a login node "
                "of the cluster, or leave on= out to train on this machine."
            )
    try:
        _called("squeue", "--noheader", "--states=RUNNING", "--name=mtlbench")
    except Silent as error:
        raise UsageError(f"Slurm does not answer: {error}") from error


def _called(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Silent(f"{command[0]}: {error}") from error
    if done.returncode:
        raise Silent(f"{command[0]}: {done.stderr.strip() or f'it ended with code {done.returncode}'}")
    return done.stdout
