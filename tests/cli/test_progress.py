"""What is shown while cells train: whole at 80 columns, never silent; in a pipe a line for every long epoch."""

from __future__ import annotations

import io
import logging
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import files
from rich.console import Console

from mtlbench.cells.cell import Cell
from mtlbench.cells.request import parse
from mtlbench.cli import progress
from mtlbench.cli.preparation import preparation_told
from mtlbench.cli.progress import Reporter
from mtlbench.running.events import Ended, Outcome, Progressed, Resumed, Started, Warned
from mtlbench.running.reports import Progress

MTLBENCH = str(Path(sys.executable).with_name("mtlbench"))


@pytest.fixture
def cell(tiny: Path) -> Cell:
    """Three epochs of eight steps."""
    (cell,) = parse(["method=gradvac", "task=tiny", "method.beta=0.123", "granularity=all_layer", "seed=12"]).cells
    return cell


class Screen:
    """A reporter on a terminal of so many columns."""

    def __init__(self, columns: int = 80) -> None:
        self.console = Console(file=io.StringIO(), force_terminal=True, width=columns)
        self.reporter = Reporter(self.console, 2, quiet=False)

    def lines(self) -> list[str]:
        """What stands there now."""
        assert self.reporter._bars
        with self.console.capture() as shown:
            for part in self.reporter._bars.progress.get_renderables():
                self.console.print(part)
        return re.sub(r"\x1b\[[\d;]*m", "", shown.get()).splitlines()


def test_every_moment_of_a_cell_says_what_it_does(cell: Cell) -> None:
    screen = Screen()
    assert "checking that they can be trained" in screen.lines()[0]
    screen.reporter(Started(cell))
    assert screen.lines()[0].rstrip().endswith("all cells")
    assert "loading torch, data and model" in screen.lines()[-1]
    for step, scores, told in (
        (0, {}, "first steps"),
        (4, {}, "4/24"),
        (8, {}, "evaluating"),
        (8, {"left": 91.234}, "val left 91.23"),
        (10, {}, "val left 91.23"),
        (24, {}, "evaluating  val left 91.23"),
    ):
        screen.reporter(Progressed(cell, Progress(step, 24, step // 8, scores)))
        assert told in screen.lines()[-1]
        assert f"{step}/24" in screen.lines()[-1]
    screen.reporter(Ended(Outcome(cell, Path(), "finished")))
    (line,) = screen.lines()
    assert "1/2" in line


def test_a_cell_that_goes_on_at_the_end_of_an_epoch_is_not_said_to_evaluate(cell: Cell) -> None:
    screen = Screen()
    screen.reporter(Resumed(cell))
    screen.reporter(Progressed(cell, Progress(8, 24, 1)))
    assert "first steps" in screen.lines()[-1]


@pytest.mark.parametrize("columns", [80, 200])
def test_neither_names_nor_scores_are_cut(cell: Cell, columns: int) -> None:
    screen = Screen(columns)
    scores = {f"objective{number}": 10.0 * number for number in range(6)}
    screen.reporter(Started(cell))
    screen.reporter(Progressed(cell, Progress(1_000_000, 3_000_000, 1, scores)))
    shown = screen.lines()
    assert max(map(len, shown)) <= columns
    text = " ".join(line.strip() for line in shown)
    assert "…" not in text
    assert cell.name in text
    assert "1000000/3000000" in text
    for name, value in scores.items():
        assert name in text
        assert f"{value:.2f}" in text


def test_in_a_pipe_a_long_cell_gets_a_line_for_every_epoch_and_a_short_one_none(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lines(seconds_per_step: float) -> list[str]:
        now = 0.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: now)
        file = io.StringIO()
        reporter = Reporter(Console(file=file, width=200), 1, quiet=False)
        reporter(Started(cell))
        for step in range(25):
            now = step * seconds_per_step
            reporter(Progressed(cell, Progress(step, 24, step // 8)))
            if step and step % 8 == 0:
                reporter(Progressed(cell, Progress(step, 24, step // 8, {"left": 1.0})))
        return [line.removeprefix(f"          {cell.name}: ") for line in file.getvalue().splitlines()[1:]]

    assert lines(0.5) == []
    assert lines(5) == [f"epoch {epoch} of 3, val left 1.00" for epoch in (1, 2, 3)]
    within = lines(100)
    assert within[0] == "step 4 of 24"
    assert [line for line in within if "epoch" in line] == [f"epoch {e} of 3, val left 1.00" for e in (1, 2, 3)]


def test_an_epoch_without_evaluation_is_told_too(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cell,) = parse(["method=uniform", "task=tiny", "protocol.evaluate_every=2"]).cells
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    file = io.StringIO()
    reporter = Reporter(Console(file=file, width=200), 1, quiet=False)
    for step in range(0, 17, 4):
        now = step * 10.0
        reporter(Progressed(cell, Progress(step, 24, step // 8)))
    assert [line.split(": ")[1] for line in file.getvalue().splitlines()] == ["epoch 1 of 3"]


def test_what_a_worker_says_has_no_markup_and_failures_are_told_when_quiet(cell: Cell) -> None:
    file = io.StringIO()
    reporter = Reporter(Console(file=file, width=200), 1, quiet=True)
    reporter(Started(cell))
    reporter(Warned(cell, "a [bold]warning[/]\x1b[2J"))
    reporter(Ended(Outcome(cell, Path(), "skipped")))
    reporter(Ended(Outcome(cell, Path(), "error", "a [red]reason[/]\r")))
    warning, failure = file.getvalue().splitlines()
    assert warning == "warning: a [bold]warning[/][2J"
    assert failure == f"error     {cell.name}: a [red]reason[/] (2/1)"


def on_terminal(words: list[Any], folder: Path, **environment: str) -> str:
    """What a command that ends well sends to its terminal."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [MTLBENCH, *words],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        cwd=folder,
        env={**os.environ, "TERM": "xterm-256color", "LINES": "40", **environment},
    )
    os.close(terminal)
    seen = b""
    while True:
        try:
            part = os.read(controller, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not part:
            break
        seen += part
    os.close(controller)
    assert process.wait() == 0, seen
    return seen.decode()


def test_on_a_terminal_a_run_shows_bars_with_time_left(tiny: Path, tmp_path: Path) -> None:
    words = ["run", "--plugin", tiny, "method=uniform", "task=tiny"]
    text = on_terminal(words, tmp_path, COLUMNS="80", TINY_PAUSE="0.03")
    assert "━" in text  # the bar
    assert "/24" in text  # steps
    assert "all cells" in text
    assert "loading torch, data and model" in text
    assert "00:0" in text  # time left
    assert len(files(tmp_path, "record.json")) == 1


def told(reporter: Reporter, *steps: int) -> None:
    with preparation_told(reporter, quiet=False):
        logger = logging.getLogger("mtlbench.tasks.xtreme")
        logger.info("waiting for another process")
        for step in steps:
            logger.info("step %d of 40", step, extra={"progress": (step, 40)})


def test_what_comes_before_training_has_a_bar_on_a_terminal_until_it_is_done() -> None:
    screen = Screen()
    told(screen.reporter, 10, 30)
    bar = next(line for line in screen.lines() if "step 30 of 40" in line)
    assert "30/40" in bar
    told(screen.reporter, 40)
    assert not any("of 40" in line for line in screen.lines())
    assert "waiting for another process" in screen.console.file.getvalue()  # type: ignore[attr-defined]


def test_what_comes_before_training_is_told_in_few_lines_in_a_pipe() -> None:
    console = Console(file=io.StringIO(), width=100)
    told(Reporter(console, 2, quiet=False), 1, 2, 3, 40)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines == [f"preparing {text}" for text in ("waiting for another process", "step 1 of 40", "step 40 of 40")]
