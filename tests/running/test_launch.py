"""Many cells: each in a process of its own, failures kept as such, nothing finished trained again."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import curves, failures, files

import mtlbench
from mtlbench.cells.request import parse
from mtlbench.errors import UsageError
from mtlbench.locks import locked
from mtlbench.record.reading import Unreadable, load
from mtlbench.record.schema import CHECKPOINT, FAILURE, RECORD, Record
from mtlbench.running import scheduling
from mtlbench.running.events import Ended, Event, Noticed, Progressed, Started, Stopped
from mtlbench.running.launch import run_grid


def test_cells_that_fail_are_rows_with_reasons_and_stop_no_others(
    command: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    words = f"run --plugin {tiny} method=uniform task=tiny/raises,tiny/diverges,tiny/starves,tiny jobs=2"
    result = command(words)
    assert result.code == 1
    assert "3 of 4 cells failed" in result.output
    failed = {r.status: r.reason for r in failures(tmp_path / "runs")}
    assert set(failed) == {"error", "diverged", "oom"}
    assert failed["error"].startswith("RuntimeError: the fifth step")
    assert failed["oom"] == "tried to allocate 7 TiB"
    assert "loss of objective 1 is nan" in failed["diverged"]
    assert [r.cell.variant for r in mtlbench.records(tmp_path / "runs")] == ["plain"]
    table = command("table task=tiny --format md").output
    assert "| uniform | 0/1 |" in table
    assert (
        "- **Warning:** uniform, seed 0: error: RuntimeError: the fifth step fails \\| always (runs/tiny/raises/"
        in table
    )
    (log,) = files(tmp_path / "runs" / "tiny" / "raises", "log.txt")
    assert "Traceback" in log.read_text()

    # Again, with what broke two of them repaired: the diverged one waits for --retry, the finished one is left alone.
    before = {p: p.stat().st_ino for p in files(tmp_path, RECORD)}
    again = command(words, TINY_HEALTHY="1")
    assert again.code == 1
    assert {r.status for r in failures(tmp_path / "runs")} == {"diverged"}
    assert len(mtlbench.records(tmp_path / "runs")) == 3
    assert "skipped" in again.output
    assert {p: p.stat().st_ino for p in before} == before
    retried = command(f"{words} --retry")
    assert "training  uniform on tiny/diverges" in retried.output
    assert "training  uniform on tiny/plain" not in retried.output


def test_jobs_change_nothing_but_the_time(command: Callable[..., Any], tiny: Path, tmp_path: Path) -> None:
    for jobs in (1, 3):
        words = f"run --plugin {tiny} method=uniform,gradvac,gradnorm task=tiny jobs={jobs} results=jobs{jobs}"
        assert command(words).code == 0
    assert len(curves(tmp_path / "jobs1")) == 3
    assert curves(tmp_path / "jobs1") == curves(tmp_path / "jobs3")


def test_what_a_cell_prints_is_in_its_log_and_is_never_taken_for_a_report(
    command: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    # The tiny task prints, and writes a forged report to file descriptor 1.
    result = command(f"run --plugin {tiny} method=uniform task=tiny")
    assert result.code == 0
    assert "evaluating" not in result.output
    assert "forged" not in result.output
    (log,) = files(tmp_path, "log.txt")
    assert log.read_text().count("evaluating val") == 3
    assert log.read_text().count("forged") == 6
    assert len(mtlbench.records(tmp_path / "runs")) == 1


def test_a_wish_to_stop_is_heeded_although_python_drops_its_exception(tiny: Path, tmp_path: Path) -> None:
    """As it does where a signal comes within a hook of fork."""
    before = signal.getsignal(signal.SIGINT)

    def drop(event: Event) -> None:
        if isinstance(event, Started):
            with contextlib.suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(Stopped) as stopped:
        run_grid(f"method=uniform,gradvac,pcgrad task=tiny jobs=1 results={tmp_path}", [tiny], drop)
    assert [outcome.status for outcome in stopped.value.outcomes][1:] == ["interrupted"] * 2
    assert len(files(tmp_path, RECORD)) < 2
    assert signal.getsignal(signal.SIGINT) is before


def test_a_worker_that_hangs_past_its_time_limit_is_killed_and_the_others_go_on(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "GRACE_SECONDS", 3.0)
    words = f"method=uniform task=tiny/hangs,tiny time_limit=2 jobs=2 results={tmp_path}"
    hung, finished = run_grid(words, [tiny])
    assert (hung.status, finished.status) == ("timeout", "finished")
    assert "did not react" in hung.reason
    assert load(hung.folder / FAILURE).status == "timeout"


def test_a_worker_that_has_told_its_end_and_does_not_go_is_killed(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "GRACE_SECONDS", 1.0)
    plugin = tmp_path / "stays.py"
    plugin.write_text(
        "import threading, time, mtlbench\n\n@mtlbench.register_method('stays')\n"
        "class Stays(mtlbench.LossWeighting):\n    def scalarize(self, losses):\n"
        "        threading.Thread(target=time.sleep, args=(1000,)).start()\n        return losses.sum()\n"
    )
    (outcome,) = run_grid(f"method=stays task=tiny results={tmp_path / 'runs'}", [tiny, plugin])
    assert outcome.status == "finished"
    assert load(outcome.folder / RECORD).status == "finished"


def test_a_worker_that_dies_is_an_error_on_disk_too(tiny: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "dies.py"
    plugin.write_text(
        "import os, signal, mtlbench\n\n@mtlbench.register_method('dies')\nclass Dies(mtlbench.LossWeighting):\n"
        "    def scalarize(self, losses):\n        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    outcomes = run_grid(f"method=dies task=tiny results={tmp_path / 'runs'}", [tiny, plugin])
    assert [o.status for o in outcomes] == ["error"]
    (failed,) = failures(tmp_path / "runs")
    assert "was killed" in failed.reason


def test_the_events_of_a_grid_tell_its_whole_story(tiny: Path, tmp_path: Path) -> None:
    seen: list[Event] = []
    outcomes = run_grid(["method=uniform", "task=tiny", f"results={tmp_path}"], [tiny], seen.append)
    assert [o.status for o in outcomes] == ["finished"]
    assert [type(e) for e in seen[:2]] == [Noticed, Started]
    assert seen[0] == Noticed(seen[0].cell, "tiny/plain: its data are random numbers")
    assert seen[-1] == Ended(outcomes[0])
    told = [e.progress for e in seen if isinstance(e, Progressed)]
    assert len(told) == len(seen) - 3
    steps = [progress.step for progress in told]
    assert steps == sorted(steps)
    assert (steps[0], steps[-1]) == (0, 24)
    assert {progress.total_steps for progress in told} == {24}
    assert set(told[-1].scores) == {"a", "b"}
    seen.clear()
    again = run_grid(["method=uniform", "task=tiny", f"results={tmp_path}"], [tiny], seen.append)
    assert [o.status for o in again] == ["skipped"]
    assert seen == [Ended(again[0])]


def test_run_trains_one_cell_in_this_process_and_reads_it_the_next_time(tiny: Path, tmp_path: Path) -> None:
    words = f"method=gradvac task=tiny seed=1 results={tmp_path}"
    first = mtlbench.run(words)
    assert first.status == "finished"
    (file,) = files(tmp_path, RECORD)
    inode = file.stat().st_ino
    assert mtlbench.run(words) == first
    assert file.stat().st_ino == inode
    assert files(tmp_path, CHECKPOINT) == []
    assert mtlbench.records(tmp_path) == [first]


def test_run_in_this_process_equals_the_command(command: Callable[..., Any], tiny: Path, tmp_path: Path) -> None:
    words = "method=gradvac,single_task task=tiny"
    assert command(f"run --plugin {tiny} {words}").code == 0
    for cell in words.split()[0].partition("=")[2].split(","):
        mtlbench.run(f"method={cell} task=tiny results={tmp_path / 'here'}")
    assert curves(tmp_path / "here") == curves(tmp_path / "runs")


def test_run_sets_a_broken_record_aside(tiny: Path, tmp_path: Path) -> None:
    words = f"method=uniform task=tiny results={tmp_path}"
    first = mtlbench.run(words)
    (file,) = files(tmp_path, RECORD)
    file.write_text("{")
    with pytest.raises(Unreadable):
        load(file)
    with pytest.warns(UserWarning, match=r"record\.json\.corrupt1"):
        assert mtlbench.run(words).evaluations == first.evaluations


def test_run_refuses_what_is_not_one_free_cell(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2"):
        mtlbench.run(f"method=uniform,gradvac task=tiny results={tmp_path}")
    with pytest.raises(UsageError, match="3 numbers for 2 objectives"):
        mtlbench.run(f"method=scalarization method.weights=[1,2,3] task=tiny results={tmp_path}")
    assert list(tmp_path.iterdir()) == []
    (cell,) = parse(["method=uniform", "task=tiny"]).cells
    folder = cell.folder(tmp_path)
    folder.mkdir(parents=True)
    with locked(folder), pytest.raises(UsageError, match="another process"):
        mtlbench.run(f"method=uniform task=tiny results={tmp_path}")


def test_run_tells_why_a_cell_failed_and_keeps_the_reason(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"diverged: .*objective 1"):
        mtlbench.run(f"method=uniform task=tiny/diverges results={tmp_path}")
    (failed,) = failures(tmp_path)
    assert isinstance(failed, Record)
    assert failed.status == "diverged"
