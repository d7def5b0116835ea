"""What the tests share: the tiny task, the command as a user types it, cells trained in this process."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import mtlbench
from mtlbench.catalogue import registry
from mtlbench.cells.request import parse
from mtlbench.record.reading import cells
from mtlbench.record.schema import Record
from mtlbench.running.training import run_cell
from mtlbench.tasks._vision import declare_operators

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
FIXTURES = TESTS / "fixtures"
TINY = TESTS / "plugins" / "tiny.py"

torch.set_num_threads(1)
declare_operators()  # some tests import transformers, which imports torchvision, before they import the task


@pytest.fixture(scope="session")
def tiny() -> Path:
    """The plug-in file of the tiny task and the `uncertainty` method, loaded in this process too."""
    registry.load_plugin(TINY)
    return TINY


@pytest.fixture(autouse=True, scope="module")
def registry_as_before() -> Iterator[None]:
    """What the tests of one file register is gone for the next file; some of it ends the process that uses it."""
    before = {kind: dict(kind.entries()) for kind in (registry.methods, registry.tasks, registry.samplings)}
    yield
    for kind, entries in before.items():
        kept = {name: entry for name, entry in kind.entries().items() if name in entries or entry.origin == str(TINY)}
        kind._entries = kept
    registry._loaded_plugins.intersection_update({TINY})


@pytest.fixture
def train(tiny: Path, tmp_path: Path) -> Callable[..., Record]:
    """Train the one cell of some words in this process; further arguments are those of `run_cell`."""

    def train_cell(words: str, folder: Path | None = None, **options: Any) -> Record:
        (cell,) = parse(words.split()).cells
        folder = folder or tmp_path / "cell"
        folder.mkdir(exist_ok=True)
        return run_cell(cell, folder, **options)

    return train_cell


@dataclass
class Finished:
    """A command that has ended."""

    code: int
    output: str


@dataclass
class Started:
    """A command that runs."""

    pid: int
    commands: Commands
    output_file: Path

    def runs(self) -> bool:
        """Whether it has not ended yet."""
        return Path(f"/proc/{self.pid}/exe").exists()  # a process that has ended has none

    def kill(self) -> None:
        """SIGKILL to the command alone."""
        os.kill(self.pid, signal.SIGKILL)

    def kill_group(self, sent: signal.Signals = signal.SIGKILL) -> None:
        """A signal to the command and its group, as from a terminal; workers lead groups of their own."""
        os.killpg(self.pid, sent)

    def wait(self) -> Finished:
        """Wait for its end."""
        return Finished(self.commands.ask({"wait": self.pid}), self.output_file.read_text())


class Commands:
    """`mtlbench` commands, each in a process of its own; see `command_server`."""

    def __init__(self, folder: Path) -> None:
        self._server = subprocess.Popen(
            [sys.executable, str(TESTS / "command_server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._outputs = (folder / f"output{number}" for number in itertools.count())

    def ask(self, request: Mapping[str, Any]) -> int:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return int(json.loads(self._server.stdout.readline()))

    def start(
        self,
        words: str | Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        new_workers: bool = False,
    ) -> Started:
        """Start a command in `folder`; data sets are not visible unless `environment` says where they are.

        With `new_workers` the cells' processes are new ones as for a typed command, without they are forked.
        """
        inherited = {k: v for k, v in os.environ.items() if k != "MTLBENCH_DATA"}
        output = next(self._outputs)
        request = {
            "words": words.split() if isinstance(words, str) else list(words),
            "folder": str(folder),
            "environment": {**inherited, "COLUMNS": "250", **(environment or {})},
            "output": str(output),
            "new_workers": new_workers,
        }
        return Started(self.ask(request), self, output)

    def close(self) -> None:
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait()


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """Start commands that are killed, interrupted or run beside others."""
    server = Commands(tmp_path_factory.mktemp("outputs"))
    yield server
    server.close()


@pytest.fixture
def command(commands: Commands, tmp_path: Path) -> Callable[..., Finished]:
    """Run a command in `tmp_path` to its end."""

    def run(words: str | Sequence[str], folder: Path = tmp_path, **environment: str) -> Finished:
        return commands.start(words, folder, environment).wait()

    return run


def curves(results: Path) -> dict[str, Any]:
    """What must be equal between two runs of one grid: by cell, its curves and the method's report."""
    return {r.id: (r.label, r.evaluations, r.diagnostics) for r in mtlbench.records(results)}


def failures(results: Path) -> list[Record]:
    """The records of the cells that failed."""
    return [s.record for s in cells(results) if s.record is not None and s.status != "finished"]


def files(folder: Path, pattern: str = "*") -> list[Path]:
    """The files called `pattern` anywhere below `folder`."""
    return sorted(path for path in folder.rglob(pattern) if path.is_file())
