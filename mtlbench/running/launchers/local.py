"""A worker on this machine: a process for one cell."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path

from mtlbench.catalogue import data
from mtlbench.cells.cell import Cell
from mtlbench.cells.request import Request
from mtlbench.running.reports import Busy, End, Report, from_json

GRACE_SECONDS = 30.0
"""A worker that was told to stop has this long to save its checkpoint; one whose time limit is over, to say so."""


class Worker:
    """A cell in training, as its launcher sees it."""

    def __init__(
        self, cell: Cell, folder: Path, request: Request, reports: queue.Queue[tuple[Worker, Report | None]]
    ) -> None:
        self.cell = cell
        self.folder = folder
        self.ended: Busy | End | None = None
        self.hung = False
        root = data.data_root(request.data_root)
        job = {
            "folder": str(folder),
            "cell": cell.to_data(),
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
            [sys.executable, "-m", "mtlbench.running.worker"],
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
        self._patience = float("inf") if request.time_limit is None else request.time_limit + GRACE_SECONDS
        self.deadline = float("inf")  # until it has loaded its data and begins to train
        threading.Thread(target=self._read, args=(reports,), daemon=True).start()

    def heard_from(self) -> None:
        """A worker that says nothing for longer than its time limit hangs."""
        self.deadline = time.monotonic() + self._patience

    def _read(self, reports: queue.Queue[tuple[Worker, Report | None]]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            try:
                reports.put((self, from_json(line)))
            except ValueError:
                continue
        self.process.wait()
        reports.put((self, None))

    def close(self) -> None:
        """Close the pipes."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
