"""What is shown while cells train: bars with time left, or plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from mtlbench.cells.cell import Cell
from mtlbench.cli.console import safe, warn
from mtlbench.running.events import Ended, Event, Noticed, Outcome, Progressed, Resumed, Sent, Started, Waiting, Warned
from mtlbench.running.reports import Progress as Report

_LONG_SECONDS = 30.0
"""A cell that has trained for so long gets a line for every epoch, where there is no terminal."""
_LINE_SECONDS = 5.0
"""Between two such lines on one cell, at least."""
_QUIET_SECONDS = 300.0
"""Until a line tells how far a cell is within an epoch."""

_COLOURS = {"finished": "green", "skipped": "dim", "interrupted": "yellow"}
"""Of the ends that are no failures."""


class Reporter:
    """Takes up the events of a run and tells of them; of failures alone where `quiet`."""

    def __init__(self, console: Console, cells: int, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet
        self._cells = cells
        self._done = 0
        self._bars = _Bars(console, cells) if console.is_terminal and not quiet else None
        self._lines = _Lines()

    def __enter__(self) -> Self:
        if self._bars:
            self._bars.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars:
            self._bars.progress.stop()

    def __call__(self, event: Event) -> None:
        """Take up one event of the launcher."""
        name = safe(event.cell.name)
        match event:
            case Ended():
                self._end(event.outcome, name)
            case Warned():
                warn(self._console, [event.message])
            case Noticed():
                self.say(f"[dim]note      {safe(event.message)}[/]")
            case Waiting():
                self.say(f"waiting   {name}: another process is training it")
            case Sent():
                self.say(f"queued    {name}: {safe(event.queued.told)}")
                if self._bars:
                    self._bars.wait(event.cell)
            case Started() | Resumed():
                self._start(event, name)
            case Progressed():
                self._advance(event, name)

    def _start(self, event: Started | Resumed, name: str) -> None:
        if isinstance(event, Resumed):
            self.say(f"resuming  {name}")
        elif not self._bars:
            self.say(f"training  {name}")
        if self._bars:
            self._bars.start(event.cell, name)

    def _advance(self, event: Progressed, name: str) -> None:
        if self._bars:
            self._bars.advance(event.cell, event.progress)
        elif told := self._lines.due(event.cell, event.progress):
            self.say(f"          {name}: {told}")

    def _end(self, outcome: Outcome, name: str) -> None:
        self._done += 1
        reason = f": {safe(outcome.reason)}" if outcome.reason else ""
        text = f"[{_COLOURS.get(outcome.status, 'red')}]{outcome.status:9}[/] {name}{reason}"
        self.say(f"{text} [dim]({self._done}/{self._cells})[/]", always=outcome.status not in _COLOURS)
        if self._bars:
            self._bars.end(outcome.cell, self._done)

    def prepare(self, done: int, total: int, told: str) -> bool:
        """Show how far something is that comes before training; False where there are no bars."""
        if self._bars:
            self._bars.prepare(done, total, told)
        return self._bars is not None

    def say(self, text: str, always: bool = False) -> None:
        """A line, with markup; where `quiet`, only one that is always told."""
        if always or not self._quiet:
            self._console.print(text, highlight=False, soft_wrap=True)


class _Bars:
    """A bar for all cells, and one for each that trains."""

    def __init__(self, console: Console, cells: int) -> None:
        self.progress = _Stacked(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[told]}", style="cyan", table_column=Column(overflow="fold")),
            console=console,
            transient=True,
        )
        self._done = 0
        self._all = self.progress.add_task("", total=cells, told="all cells: checking that they can be trained")
        self._bars: dict[str, TaskID] = {}
        self._shares: dict[str, float] = {}
        self._scores: dict[str, str] = {}
        self._preparing: TaskID | None = None

    def prepare(self, done: int, total: int, told: str) -> None:
        if self._preparing is None:
            self._preparing = self.progress.add_task("", total=total, told=told)
        self.progress.update(self._preparing, completed=done, total=total, told=told)
        if done >= total:
            self.progress.remove_task(self._preparing)
            self._preparing = None

    def start(self, cell: Cell, name: str) -> None:
        self._bars[cell.id] = self.progress.add_task(name, total=None, told="loading torch, data and model")
        self._count()

    def wait(self, cell: Cell) -> None:
        """Take its bar away: it trains no more, for now."""
        if (bar := self._bars.pop(cell.id, None)) is not None:
            self.progress.remove_task(bar)

    def advance(self, cell: Cell, report: Report) -> None:
        bar = self._bars[cell.id]
        doing = "" if cell.id in self._shares else "first steps"
        if report.scores:
            self._scores[cell.id] = f"val {_scores(report)}"
        elif not doing and _position(cell, report).evaluates:
            doing = "evaluating"
        told = "  ".join(part for part in (doing, self._scores.get(cell.id, "")) if part)
        self.progress.update(bar, completed=report.step, total=report.total_steps, told=told)
        self._shares[cell.id] = report.step / report.total_steps if report.total_steps else float(bool(report.scores))
        self._count()

    def end(self, cell: Cell, done: int) -> None:
        self._done = done
        if (bar := self._bars.pop(cell.id, None)) is not None:
            self.progress.remove_task(bar)
        self._shares.pop(cell.id, None)
        self._count()

    def _count(self) -> None:
        self.progress.update(self._all, completed=self._done + sum(self._shares.values()), told="all cells")


class _Stacked(Progress):
    """Each bar below the name of what it is of, so that neither is cut at 80 columns."""

    def get_renderables(self) -> Iterator[RenderableType]:
        """The lines, from the top."""
        for task in self.tasks:
            if task.description:
                yield Text.from_markup(task.description)
            yield Padding(self.make_tasks_table([task]), (0, 0, 0, 2 if task.description else 0))


class _Lines:
    """Decides when a cell is worth a further line."""

    def __init__(self) -> None:
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._last_epoch: dict[str, float] = {}

    def due(self, cell: Cell, report: Report) -> str:
        """What to say of the cell now, or nothing."""
        now = time.monotonic()
        first = self._first.setdefault(cell.id, now)
        position = _position(cell, report)
        ended = bool(report.scores) or (position.epoch_ends and not position.evaluates)
        if ended and now - first > _LONG_SECONDS and now - self._last_epoch.get(cell.id, first) > _LINE_SECONDS:
            self._last_epoch[cell.id] = now
            told = f"epoch {position.epoch} of {cell.protocol.epochs}" if cell.protocol.trains else "scored"
            told += f", val {_scores(report)}" if report.scores else ""
        elif now - self._last.get(cell.id, first) > _QUIET_SECONDS:
            told = f"step {report.step} of {report.total_steps}"
        else:
            return ""
        self._last[cell.id] = now
        return told


@dataclass(frozen=True)
class _Position:
    """Where a report stands in the protocol."""

    epoch: int
    """How many are complete."""
    epoch_ends: bool
    """Whether one has just become so."""
    evaluates: bool
    """Whether an evaluation comes now, if it has not been."""


def _position(cell: Cell, report: Report) -> _Position:
    protocol = cell.protocol
    if not protocol.trains:
        return _Position(0, True, True)
    epoch, within = divmod(report.step, max(1, report.total_steps // protocol.epochs))
    ends = not within and epoch > 0
    return _Position(epoch, ends, ends and (epoch % protocol.evaluate_every == 0 or epoch == protocol.epochs))


def _scores(report: Report) -> str:
    return "  ".join(f"{safe(name)} {value:.2f}" for name, value in report.scores.items())
