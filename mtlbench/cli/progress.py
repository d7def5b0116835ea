"""What the terminal shows while cells train, and how tables look there."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from mtlbench.running.events import Event


_LINE_SECONDS = 30.0
"""Between two lines on one cell that tell scores, where there is no terminal."""
_QUIET_SECONDS = 300.0
"""Until a line tells how far a cell is that has no new scores."""


class Reporter:
    """Turns the events of a run into progress bars, or into plain lines where there is no terminal."""

    def __init__(self, console: Console, cells: int, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet
        self._cells = cells
        self._done = 0
        self._steps: dict[str, tuple[int, int]] = {}
        self._bars: dict[str, TaskID] = {}
        self._last_line: dict[str, float] = {}
        self._progress: Progress | None = None
        if console.is_terminal and not quiet:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[scores]}", style="cyan"),
                console=console,
                transient=True,
            )
            self._all = self._progress.add_task("all cells", total=cells, scores="")

    def __enter__(self) -> Self:
        if self._progress:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress:
            self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Take up one event of the launcher."""
        name = escape(event.cell.name)
        if event.kind == "end":
            self._end(event, name)
        elif event.kind == "warning":
            self._console.print(f"[yellow]warning[/]: {escape(event.message)}", highlight=False)
        elif event.kind == "notice":
            self._line(f"[dim]note      {escape(event.message)}[/]")
        elif event.kind == "progress":
            self._advance(event, name)
        elif event.kind == "waiting":
            self._line(f"waiting   {name}: {event.message}")
        elif event.kind == "resume" or not self._progress:
            self._line(f"{'resuming' if event.kind == 'resume' else 'training':9} {name}")

    def _end(self, event: Event, name: str) -> None:
        assert event.outcome is not None
        self._done += 1
        status, reason = event.outcome.status, escape(event.outcome.reason)
        colour = {"finished": "green", "skipped": "dim", "interrupted": "yellow"}.get(status, "red")
        text = f"[{colour}]{status:9}[/] {name}{f': {reason}' if reason else ''} [dim]({self._done}/{self._cells})[/]"
        if status not in ("finished", "skipped", "interrupted") and self._quiet:
            self._console.print(text, highlight=False, soft_wrap=True)
        self._line(text)
        if self._progress:
            bar = self._bars.pop(event.cell.id, None)
            if bar is not None:
                self._progress.remove_task(bar)
            self._steps.pop(event.cell.id, None)
            self._progress.update(self._all, completed=self._done)

    def _advance(self, event: Event, name: str) -> None:
        scores = "  ".join(f"{escape(k)} {v:.2f}" for k, v in event.scores.items())
        if self._progress:
            if event.cell.id not in self._bars:
                self._bars[event.cell.id] = self._progress.add_task(name, total=event.total_steps, scores="")
            bar = self._bars[event.cell.id]
            self._progress.update(bar, completed=event.step)
            if scores:
                self._progress.update(bar, scores=f"val {scores}")
            self._steps[event.cell.id] = (event.step, event.total_steps)
            partial = sum(step / total for step, total in self._steps.values())
            self._progress.update(self._all, completed=self._done + partial)
            return
        now = time.monotonic()
        silence = now - self._last_line.setdefault(event.cell.id, now)
        if silence > (_LINE_SECONDS if scores else _QUIET_SECONDS):
            self._last_line[event.cell.id] = now
            told = f", val {scores}" if scores else ""
            self._line(f"          {name}: step {event.step} of {event.total_steps}{told}")

    def _line(self, text: str) -> None:
        if not self._quiet:
            self._console.print(text, highlight=False, soft_wrap=True)
