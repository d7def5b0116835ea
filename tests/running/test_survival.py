"""Whatever kills, fills or locks: the same command finishes the grid with the results of an undisturbed run."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Commands, Started, curves, files

from mtlbench.cells.request import parse
from mtlbench.record.reading import load
from mtlbench.record.schema import CHECKPOINT, RECORD
from mtlbench.running.training import run_cell
from mtlbench.storage import LOCK

GRID = "method=uniform,gradvac,single_task task=tiny,tiny/sampled seed=0,1"
KILLS = 30


def undisturbed(words: str, folder: Path) -> dict[str, Any]:
    """The results of a grid, trained cell by cell in this process."""
    for cell in parse(words.split()).cells:
        place = cell.folder(folder)
        place.mkdir(parents=True)
        run_cell(cell, place).save(place)
    return curves(folder)


def alive(mark: str) -> list[int]:
    """The processes that carry `mark` in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (folder / "environ").read_bytes() and (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return found


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait for `condition` and return what it answers; fail the test if it never holds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := condition():
            return answer
        time.sleep(0.002)
    raise AssertionError("it never happened")


class Moments:
    """Seeded moments to kill at: in start-up, in training, and while a checkpoint or a record is half written."""

    def __init__(self, folders: list[Path], seed: int) -> None:
        self.folders = folders
        self.random = random.Random(seed)

    def wait(self, number: int, started: Started) -> None:
        if number % 3 == 0:
            time.sleep(self.random.uniform(0.05, 0.8))
            return
        what = self.random.choice([CHECKPOINT, RECORD, f".{CHECKPOINT}.*", f".{RECORD}.*"])
        left = self.random.randint(1, 3)
        before = self.seen(what)
        while left and started.runs():
            time.sleep(0.001)
            now = self.seen(what)
            left -= bool(now - before)
            before = now
        if not what.startswith("."):
            time.sleep(self.random.choice([0, 0.001, 0.01, 0.05]))

    def seen(self, pattern: str) -> set[tuple[Path, int]]:
        found = set()
        for folder in self.folders:
            for path in folder.glob(pattern):
                with contextlib.suppress(OSError):
                    found.add((path, path.stat().st_mtime_ns))
        return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_a_grid_killed_thirty_times_ends_with_the_results_of_an_undisturbed_one(
    commands: Commands, tiny: Path, tmp_path: Path
) -> None:
    expected = undisturbed(GRID, tmp_path / "undisturbed")
    assert len(expected) == 12
    results, mark = tmp_path / "results", f"MTLBENCH_TEST_MARK={tmp_path.name}-{os.getpid()}"
    words = f"run --plugin {tiny} {GRID} results={results} jobs=2 checkpoint_steps=5"
    environment = {"SLOW_DISK": "0.05", mark.partition("=")[0]: mark.partition("=")[2]}
    moments = Moments([c.folder(results) for c in parse(GRID.split()).cells], seed=1)
    done: dict[Path, tuple[int, int]] = {}
    half_written: set[str] = set()
    killed = 0
    for number in range(2 * KILLS):
        if killed == KILLS:
            break
        started = commands.start(words, tmp_path, environment)
        moments.wait(number, started)
        if number % 2:
            started.kill_group()
        else:
            started.kill()  # the workers must notice by themselves
        code = started.wait().code
        assert code in (0, -signal.SIGKILL)
        killed += code != 0  # a grid that was quicker than its kill does not count as killed
        until(lambda: not alive(mark))
        half_written |= {path.name.rsplit(".", 1)[0] for path in files(results, ".*.*") if LOCK not in path.name}
        for path in files(results, RECORD):
            load(path)  # whole, or it would raise
            stat = path.stat()
            assert done.setdefault(path, (stat.st_ino, stat.st_mtime_ns)) == (stat.st_ino, stat.st_mtime_ns)
        if len(done) > 6:
            # So that every kill meets cells in training: take most of what is finished away again.
            for path in moments.random.sample(sorted(done), 5):
                path.unlink()
                del done[path]
    assert killed == KILLS
    assert half_written == {f".{CHECKPOINT}", f".{RECORD}"}
    last = commands.start(words, tmp_path).wait()
    assert last.code == 0, last.output
    assert "cells failed" not in last.output
    assert curves(results) == expected
    for path, (inode, mtime) in done.items():
        assert (path.stat().st_ino, path.stat().st_mtime_ns) == (inode, mtime)
    assert files(results, CHECKPOINT) == []
    assert files(results, ".*.json.*") == files(results, ".checkpoint*") == []
    assert files(results, "*.corrupt*") == files(results, "failure.json") == []


def test_ctrl_c_saves_checkpoints_says_how_to_go_on_and_leaves_no_process(
    commands: Commands, tiny: Path, tmp_path: Path
) -> None:
    grid = "method=gradvac,uniform task=tiny"
    expected = undisturbed(grid, tmp_path / "undisturbed")
    results, mark = tmp_path / "results", f"MTLBENCH_TEST_MARK={tmp_path.name}-{os.getpid()}"
    words = f"run --plugin {tiny} {grid} results={results} jobs=2"
    environment = {"TINY_PAUSE": "0.3", mark.partition("=")[0]: mark.partition("=")[2]}
    started = commands.start(words, tmp_path, environment)
    until(lambda: len(files(results, "log.txt")) == 2)
    until(lambda: files(results, CHECKPOINT))
    started.kill_group(signal.SIGINT)
    ended = started.wait()
    assert ended.code == 130
    assert "0 of 2 cells are finished; the same command goes on from here" in ended.output
    assert "Traceback" not in ended.output
    assert alive(mark) == []
    assert files(results, "failure.json") == files(results, RECORD) == []
    resumed = commands.start(words, tmp_path).wait()
    assert resumed.code == 0, resumed.output
    assert "resuming" in resumed.output
    assert curves(results) == expected


def test_two_runners_on_one_folder_share_the_work(commands: Commands, tiny: Path, tmp_path: Path) -> None:
    grid = "method=uniform,gradvac task=tiny seed=0,1"
    expected = undisturbed(grid, tmp_path / "undisturbed")
    words = f"run --plugin {tiny} {grid} results={tmp_path / 'results'} jobs=1"
    trace = {"TINY_TRACE": str(tmp_path / "trace"), "TINY_PAUSE": "0.01"}
    both = [commands.start(words, tmp_path, trace) for _ in range(2)]
    for ended in [started.wait() for started in both]:
        assert ended.code == 0, ended.output
        assert "gradvac" in ended.output.split("tiny/plain, protocol short@1")[-1]
        assert "failed" not in ended.output
    assert curves(tmp_path / "results") == expected
    steps = [line for line in (tmp_path / "trace").read_text().splitlines() if line.startswith("batch")]
    assert len(steps) == 4 * 24


def test_damaged_files_are_set_aside_and_the_cells_trained_again(
    command: Callable[..., Any], train: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    grid = "method=uniform task=tiny seed=0..2"
    expected = undisturbed(grid, tmp_path / "undisturbed")
    results = tmp_path / "results"
    undisturbed(grid, results)
    one, two, three = files(results, RECORD)
    inode = three.stat().st_ino
    one.write_text(one.read_text()[:500])
    two.rename(two.with_name(CHECKPOINT))
    found = command(f"status results={results}")
    assert found.code == 0
    assert "Traceback" not in found.output
    assert str(one) in found.output
    assert "1 interrupted" in found.output
    table = command(f"table results={results} --format md")
    assert table.code == 0
    assert str(one) in table.output
    again = command(f"run --plugin {tiny} {grid} results={results} jobs=2")
    assert again.code == 0, again.output
    assert "record.json.corrupt1" in again.output
    assert one.with_name("record.json.corrupt1").exists()
    assert two.with_name("checkpoint.pt.corrupt1").exists()
    assert "is damaged" in again.output
    assert curves(results) == expected
    assert three.stat().st_ino == inode


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Write until `leave` bytes are free."""
    ballast = disk / "ballast"
    state = os.statvfs(disk)
    ballast.write_bytes(bytes(state.f_bavail * state.f_frsize - leave))
    return ballast


@pytest.mark.parametrize("free", [0, 8192])
def test_a_full_disk_is_told_leaves_nothing_half_written_and_the_same_command_finishes_later(
    command: Callable[..., Any], tiny: Path, tmp_path: Path, small_disk: Path, free: int
) -> None:
    grid = "method=gradvac task=tiny"
    expected = undisturbed(grid, tmp_path / "undisturbed")
    results = small_disk / "results"
    words = f"run --plugin {tiny} {grid} results={results}"
    ballast = fill(small_disk, free)
    full = command(words)
    assert full.code in (1, 2), full.output
    assert "No space left on device" in full.output
    assert "Traceback" not in full.output
    assert files(results, RECORD) == files(results, ".*.*") == []
    ballast.unlink()
    later = command(words)
    assert later.code == 0, later.output
    assert curves(results) == expected
    assert files(results, "failure.json") == []


def test_a_disk_that_is_full_when_the_record_is_written_costs_no_training(
    command: Callable[..., Any], tiny: Path, tmp_path: Path, small_disk: Path
) -> None:
    grid = "method=uniform task=tiny protocol.evaluate_every=3"
    expected = undisturbed(grid, tmp_path / "undisturbed")
    results = small_disk / "results"
    words = f"run --plugin {tiny} {grid} results={results}"
    (cell,) = parse(grid.split()).cells
    folder = cell.folder(results)
    folder.mkdir(parents=True)
    run_cell(cell, folder)  # ends with a checkpoint after the last step, and no record
    ballast = fill(small_disk, 0)
    full = command(words)
    assert full.code == 1, full.output
    assert "No space left on device" in full.output
    assert files(results, RECORD) == []
    assert (folder / CHECKPOINT).exists()
    ballast.unlink()
    later = command(words, TINY_TRACE=str(tmp_path / "trace"))
    assert later.code == 0, later.output
    assert not (tmp_path / "trace").exists()
    assert curves(results) == expected


def test_a_read_only_results_folder_is_refused_before_training(
    command: Callable[..., Any], tiny: Path, tmp_path: Path, small_disk: Path
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for results in (small_disk, small_disk / "below"):
        refused = command(
            f"run --plugin {tiny} method=uniform task=tiny results={results}", TINY_TRACE=str(tmp_path / "t")
        )
        assert refused.code == 2
        assert "cannot be written" in refused.output
        assert "results=DIR" in refused.output
    assert not (tmp_path / "t").exists()
