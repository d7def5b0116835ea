"""The contract of every place where workers run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mtlbench.running.job import Job
from mtlbench.running.reports import Report


@dataclass(frozen=True)
class Gone:
    """A worker is no more; what is told last of it, whatever it has reported itself."""

    status: Literal["error", "interrupted"]
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

    @abstractmethod
    def start(self, job: Job, tell: Callable[[Report | Gone], None]) -> Worker:
        """Start a worker.

        Args:
            job: what it shall do; its folder exists.
            tell: called from any thread, with every report of the worker and at last, once, with `Gone`.

        Raises:
            OSError: it cannot be started.
        """
