"""What the terminal shows while cells train, and how tables look there."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table as RichTable
from rich.text import Text

from mtlbench.rendering.plain import heading_lines, one_line
from mtlbench.table import Role, Table

if TYPE_CHECKING:
    from mtlbench.bench.result import Bench
    from mtlbench.launch import Event

_LINE_SECONDS = 30.0
"""Between two lines on one cell that tell scores, where there is no terminal."""
_QUIET_SECONDS = 300.0
"""Until a line tells how far a cell is that has no new scores."""
_GAP = 2
"""Columns of a table stand this far apart."""
_SHORTEST_LABEL = 24
_ROW_STYLES: Mapping[Role, str] = {"reference": "cyan", "method": "", "published": "italic dim"}


def show_table(console: Console, table: Table) -> None:
    """A table with its notes below; what does not fit beside the labels goes into a further block of columns."""
    console.print(Text(one_line(table.heading), style="bold"))
    cells = [[one_line(text) for text in table.cells(row)] for row in table.rows]
    widest = [max([1, *(len(row[index]) for row in cells)]) for index in range(len(table.header()))]
    header = [heading_lines(title, width) for title, width in zip(table.header(), widest, strict=True)]
    widths = [max(width, *map(len, lines)) for width, lines in zip(widest, header, strict=True)]
    left = console.width - sum(width + _GAP for width in widths[1:])  # for the labels, if all is to stand side by side
    widths[0] = min(widths[0], left if left >= _SHORTEST_LABEL else max(_SHORTEST_LABEL, console.width // 3))
    for number, columns in enumerate(_blocks(widths, console.width)):
        if number:
            console.print()
        console.print(_grid(table, columns, ["\n".join(header[i]) for i in columns], [widths[i] for i in columns]))
    console.print()
    for note in table.notes:
        text = Text(one_line(f"{note.mark} {note.text}"), style="yellow" if note.kind == "warning" else "dim")
        console.print(Padding(text, (0, 0, 0, 2), expand=False))
    facts = "; ".join(f"{key}: {value}" for key, value in table.facts.items())
    console.print(Padding(Text(one_line(facts), style="dim"), (0, 0, 1, 2), expand=False))


def _blocks(widths: Sequence[int], available: int) -> list[list[int]]:
    """The columns that stand side by side; every block begins with the labels."""
    blocks, used = [[0]], widths[0]
    for column, width in enumerate(widths[1:], 1):
        if used + _GAP + width > available and len(blocks[-1]) > 1:
            blocks.append([0])
            used = widths[0]
        blocks[-1].append(column)
        used += _GAP + width
    return blocks


def _grid(table: Table, columns: Sequence[int], header: Sequence[str], widths: Sequence[int]) -> RichTable:
    grid = RichTable(box=box.HORIZONTALS, border_style="dim", show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for index, title, width in zip(columns, header, widths, strict=True):
        side: Literal["left", "right"] = "left" if index == 0 else "right"
        grid.add_column(Text(title), justify=side, header_style="bold", overflow="fold", width=width)
    for section in table.sections():
        grid.add_section()
        if section.role == "published":
            grid.add_row(Text(section.title, style="dim"))
        for row in section.rows:
            bold = [False, False, *(table.is_bold(row, column) for column in table.columns)]
            texts = [
                Text(one_line(text), style="bold" if strong else "")
                for text, strong in zip(table.cells(row), bold, strict=True)
            ]
            grid.add_row(*(texts[index] for index in columns), style=_ROW_STYLES[section.role])
    return grid


def show_bench(console: Console, bench: Bench) -> None:
    """A benchmark's measurements, ratios first, and where they were taken."""
    labels = len(bench.rows[0].labels) if bench.rows else 0
    grid = RichTable(box=box.SIMPLE_HEAD)
    for index, name in enumerate(bench.columns):
        grid.add_column(escape(name), justify="left" if index < labels else "right")
    for cells in bench.table():
        grid.add_row(*map(escape, cells))
    console.print(grid)
    e = bench.environment
    peer = f", TorchJD {e.torchjd_version}" if e.torchjd_version else ""
    where = f"torch {e.torch_version}{peer}, {e.threads} threads on {e.device} ({e.processor}), {e.date}"
    console.print(f"  {escape(where)}; {bench.disturbed:.0%} of samples disturbed by other processes", style="dim")


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
