"""A cell that was sent to another place, as its scheduler sees it: by what its agent writes into the cell's folder."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Callable
from typing import Literal

from mtlbench.record.sent import REPORTS, Sent, forget, read_sent
from mtlbench.running.job import Job
from mtlbench.running.launchers.launcher import Gone, Worker
from mtlbench.running.reports import Begun, Busy, Ceased, End, Progress, Queued, Report, line_from_json
from mtlbench.storage import open_regular

_PIECE = 2**20
"""Bytes that are read at a time."""


class Far(Worker):
    """A worker at another place."""

    def __init__(self, job: Job, tell: Callable[[Report | Gone], None]) -> None:
        self.job = job
        self.name = ""
        self.index = 0
        self.begun = False
        """Whether a worker has begun, and is not known to be gone."""
        self.ceased: Ceased | None = None
        """How the last one went."""
        self.ended = False
        """Whether it is told that it is gone; then nothing else is."""
        self._tell = tell
        self._place = 0
        self._rest = b""

    @abstractmethod
    def stop(self) -> None:
        """See `Worker.stop`."""

    @abstractmethod
    def kill(self) -> None:
        """See `Worker.kill`."""

    def note(self, on: Literal["slurm", "ray"], name: str, index: int) -> None:
        """Write into the cell's folder that it is sent; raises `OSError`."""
        self._follow(name, index)
        Sent(on=on, name=name, index=index, job=json.loads(self.job.to_json())).save(self.job.folder)

    def take_up(self, sent: Sent) -> None:
        """Follow what an earlier run has sent; of what it has reported so far the last is told."""
        self._follow(sent.name, sent.index)
        last: Report | None = None
        while lines := self._lines():
            for line in lines:
                last = self._take(line) or last
        if isinstance(last, Busy | End) or (isinstance(last, Progress) and self.begun):
            self._tell(last)

    def _follow(self, name: str, index: int) -> None:
        self.name, self.index = name, index
        self.begun, self.ceased, self._place, self._rest = False, None, 0, b""

    def read(self) -> None:
        """Pass on what was reported since the last time."""
        while lines := self._lines():
            for line in lines:
                if (told := self._take(line)) is not None:
                    self._tell(told)

    def waits(self, told: str) -> None:
        """Tell that it is in a queue."""
        self.begun = False
        self._tell(Queued(told))

    def end(self, gone: Gone) -> None:
        """Tell that it is gone, and remove what says where it was sent to."""
        if not self.ended:
            self.ended = True
            if not self.is_taken():
                forget(self.job.folder)
            self._tell(gone)

    def is_taken(self) -> bool:
        """Whether another run has sent the cell since."""
        sent = read_sent(self.job.folder)
        return sent is not None and (sent.name, sent.index) != (self.name, self.index)

    def _take(self, text: bytes) -> Report | None:
        """Note what a line says of the worker; the report that is to be passed on."""
        try:
            line = line_from_json(text)
        except ValueError:  # half a line, of a machine that was switched off
            return None
        match line:
            case Begun():
                self.begun, self.ceased = True, None
            case Ceased():
                self.begun, self.ceased = False, line
            case _:
                return line
        return None

    def _lines(self) -> list[bytes]:
        """The whole lines of the next piece of the file."""
        try:
            handle = open_regular(self.job.folder / REPORTS, os.O_RDONLY)
        except OSError:  # nothing is there yet
            return []
        try:
            piece = os.pread(handle, _PIECE, self._place)
        except OSError:
            return []
        finally:
            os.close(handle)
        self._place += len(piece)
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return lines
