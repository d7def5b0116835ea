"""The contract of every place where workers run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from mtlbench.cells.request import Request
from mtlbench.running.job import Job
from mtlbench.running.reports import Report


@dataclass(frozen=True)
class Gone:
    """A worker is no more; what is told last of it, whatever it has reported itself."""

    status: Literal["error", "oom", "interrupted"]
    """`interrupted` if it was told to stop from outside."""
    reason: str
    """How it ended, in words."""


class Worker(ABC):
    """A cell in training, as its scheduler sees it."""

    @abstractmethod
    def stop(self) -> None:
        """Ask it to save a checkpoint and to end; returns at once."""

    @abstractmethod
    def kill(self) -> None:
        """End it now, with every process that it has started; returns at once."""


class Launcher(ABC):
    """A place where workers run."""

    queues: ClassVar[bool] = False
    """Whether workers wait for their turn there before they begin, so that `start` does not say that they have."""
    outlives: ClassVar[bool] = False
    """Whether workers go on when the run ends that has started them; `start` then takes up those of an earlier run."""

    def capacity(self, request: Request) -> int | None:
        """How many cells of a request are there at a time unless it says so itself; None for any number."""
        return None

    @abstractmethod
    def start(self, job: Job, tell: Callable[[Report | Gone], None]) -> Worker:
        """Start a worker, or take up the one that an earlier run has started.

        Args:
            job: what it shall do, and what it needs for it; its folder exists.
            tell: called from any thread, with every report of the worker and at last, once, with `Gone`.

        Raises:
            OSError: it cannot be started.
        """

    def send(self) -> None:
        """Send off what was started since the last call, together where that is how the place likes it.

        Raises:
            UsageError: the place does not take it.
        """
        return

    def holds(self, job: Job) -> bool:
        """Whether a worker of an earlier run has the job, so that a lock of its folder is that worker's."""
        return False

    def promised(self, job: Job) -> bool:
        """Whether another run, which is still there, has sent the job and waits for its turn."""
        return False

    def close(self) -> None:
        """The run is over."""
        return
