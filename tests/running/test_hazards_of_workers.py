"""Workers that fork, hang, fall silent, write nonsense or go elsewhere: each ends as one row, and nothing is left."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Commands, curves, failures, files

import mtlbench
from mtlbench.catalogue import registry
from mtlbench.cells.request import parse
from mtlbench.locks import is_locked
from mtlbench.record.schema import CHECKPOINT, FAILURE, RECORD
from mtlbench.running.events import Event, Progressed, Resumed, Started
from mtlbench.running.job import Job
from mtlbench.running.launchers.launcher import Gone, Launcher, Worker
from mtlbench.running.log import LOG, open_log, shorten
from mtlbench.running.reports import Busy, Caution, End, Progress, from_json, to_json
from mtlbench.running.scheduling import Scheduler

HEADER = "import os, pathlib, signal, stat, sys, time\nimport mtlbench\n\n"


def method(folder: Path, scalarize: str, module: str = "") -> Path:
    """A plug-in file with the method `odd`, which does something odd in its first step."""
    body = "".join(f"            {line}\n" for line in scalarize.splitlines())
    path = folder / "odd.py"
    path.write_text(
        f"{HEADER}{module}\n\n@mtlbench.register_method('odd')\nclass Odd(mtlbench.LossWeighting):\n"
        "    def scalarize(self, losses):\n        if not getattr(self, 'seen', False):\n"
        f"            self.seen = True\n{body}        return losses.sum()\n"
    )
    return path


def until(condition: Callable[[], Any]) -> Any:
    while not (answer := condition()):
        time.sleep(0.01)
    return answer


def runs(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


FORK = "child = os.fork()\nif not child:\n    time.sleep(1000)\npathlib.Path('child').write_text(str(child))"


def test_a_child_that_a_task_forks_holds_up_nothing_and_goes_with_its_worker(
    command: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    plugin = method(tmp_path, FORK)
    ended = command(f"run --plugin {tiny} --plugin {plugin} method=odd task=tiny")
    assert ended.code == 0, ended.output
    child = int((tmp_path / "child").read_text())
    until(lambda: not runs(child))
    (record,) = files(tmp_path, RECORD)
    assert not is_locked(record.parent)


def test_a_worker_that_is_killed_takes_its_children_along(
    command: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    plugin = method(tmp_path, f"{FORK}\nos.kill(os.getpid(), signal.SIGKILL)")
    ended = command(f"run --plugin {tiny} --plugin {plugin} method=odd task=tiny")
    assert "its process was killed" in ended.output
    until(lambda: not runs(int((tmp_path / "child").read_text())))


def test_a_child_that_outlives_launcher_and_worker_holds_no_lock(
    commands: Commands, tiny: Path, tmp_path: Path
) -> None:
    plugin = method(
        tmp_path,
        "child = os.fork()\nif not child:\n    os.setsid()\n    time.sleep(1000)\n"
        "pathlib.Path('child').write_text(str(child))\npathlib.Path('worker').write_text(str(os.getpid()))\n"
        "time.sleep(1000)",
    )
    started = commands.start(f"run --plugin {tiny} --plugin {plugin} method=odd task=tiny", tmp_path)
    until(lambda: (tmp_path / "worker").exists() and (tmp_path / "worker").read_text())
    (lock,) = files(tmp_path, ".lock")
    assert is_locked(lock.parent)
    started.kill()
    os.kill(int((tmp_path / "worker").read_text()), signal.SIGKILL)
    started.wait()
    child = int((tmp_path / "child").read_text())
    try:
        assert runs(child)
        until(lambda: not is_locked(lock.parent))
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("os._exit(0)", "without a result"),
        ("os._exit(3)", "ended with code 3"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "ended by SIGSEGV"),
    ],
)
def test_a_worker_that_ends_without_a_word_is_an_error_that_says_how(
    command: Callable[..., Any], tiny: Path, tmp_path: Path, deed: str, reason: str
) -> None:
    ended = command(f"run --plugin {tiny} --plugin {method(tmp_path, deed)} method=odd task=tiny")
    assert ended.code == 1
    assert reason in ended.output
    assert "log.txt" not in ended.output  # it is empty
    (failed,) = failures(tmp_path / "runs")
    assert (failed.status, reason in failed.reason) == ("error", True)


@pytest.mark.parametrize("text", ["nonsense", '{"end": {"status": "well"}}', "[" * 100_000, "x" * 2_000_000, "1"])
def test_what_is_no_report_on_the_channel_of_reports_is_an_error(
    command: Callable[..., Any], tiny: Path, tmp_path: Path, text: str
) -> None:
    (tmp_path / "text").write_text(text + "\n")
    deed = (
        "text = pathlib.Path('text').read_bytes()\n"
        "for file in range(3, 64):\n"
        "    try:\n"
        "        if stat.S_ISFIFO(os.fstat(file).st_mode):\n"
        "            os.write(file, text)\n"
        "    except OSError:\n"
        "        pass"
    )
    ended = command(f"run --plugin {tiny} --plugin {method(tmp_path, deed)} method=odd task=tiny")
    assert ended.code == 1
    assert "Traceback" not in ended.output
    (failed,) = failures(tmp_path / "runs")
    assert "no report" in failed.reason


def test_a_record_of_another_cell_is_set_aside_told_and_the_cell_trained(
    command: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    words = f"run --plugin {tiny} method=uniform task=tiny seed=0,1"
    assert command(words).code == 0
    expected = curves(tmp_path / "runs")
    zero, one = files(tmp_path, RECORD)
    zero.write_bytes(one.read_bytes())
    again = command(words)
    assert again.code == 0, again.output
    assert "is of another cell" in again.output
    assert "kept as record.json.corrupt1" in again.output
    assert curves(tmp_path / "runs") == expected
    zero.write_bytes(one.read_bytes())
    with pytest.warns(UserWarning, match=r"another cell.*record\.json\.corrupt2"):
        found = mtlbench.run(f"method=uniform task=tiny seed=0 results={tmp_path / 'runs'}")
    assert found.cell.seed == 0
    # A failure of another cell says nothing of this one either.
    command(f"run --plugin {tiny} method=uniform task=tiny/diverges results=failed")
    (failure,) = files(tmp_path / "failed", FAILURE)
    zero.unlink()
    zero.with_name(FAILURE).write_bytes(failure.read_bytes())
    assert "kept as failure.json.corrupt1" in command(words).output
    assert curves(tmp_path / "runs") == expected


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", [RECORD, FAILURE, LOG])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(
    command: Callable[..., Any], tiny: Path, tmp_path: Path, name: str
) -> None:
    folder = parse(["method=uniform", "task=tiny"]).cells[0].folder(tmp_path / "runs")
    folder.mkdir(parents=True)
    os.mkfifo(folder / name)
    ended = command(f"run --plugin {tiny} method=uniform task=tiny")
    assert ended.code == 0, ended.output
    assert (folder / RECORD).is_file()


@pytest.mark.timeout(120)
def test_a_pipe_in_the_place_of_the_lock_is_one_clear_error(
    command: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    folder = parse(["method=uniform", "task=tiny"]).cells[0].folder(tmp_path / "runs")
    folder.mkdir(parents=True)
    os.mkfifo(folder / ".lock")
    ended = command(f"run --plugin {tiny} method=uniform task=tiny")
    assert ended.code == 1
    assert "it is not a regular file" in ended.output
    assert "Traceback" not in ended.output
    with pytest.raises(mtlbench.UsageError, match="not a regular file"):
        mtlbench.run(f"method=uniform task=tiny results={tmp_path / 'runs'}")


def test_a_results_folder_whose_name_is_too_long_is_refused_in_words(
    command: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    ended = command(f"run --plugin {tiny} method=uniform task=tiny results={'x' * 300}")
    assert ended.code == 2
    assert "File name too long" in ended.output
    assert "Traceback" not in ended.output


def test_a_relative_results_folder_survives_a_task_that_goes_elsewhere(
    command: Callable[..., Any], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "away").mkdir()
    plugin = method(tmp_path, "os.chdir('away')")
    with plugin.open("a") as file:
        file.write(
            "\nbuilt = sys.modules['mtlbench_plugin_tiny'].Tiny.model\n"
            "def go(self):\n    os.chdir('/')\n    return built(self)\n"
            "sys.modules['mtlbench_plugin_tiny'].Tiny.model = go\n"
        )
    ended = command(f"run --plugin {tiny} --plugin {plugin} method=uniform task=tiny results=here")
    assert ended.code == 0, ended.output
    assert len(files(tmp_path / "here", RECORD)) == 1
    monkeypatch.chdir(tmp_path)
    task = registry.tasks.load("tiny")
    model = task.model
    monkeypatch.setattr(task, "model", lambda self: os.chdir("/") or model(self))
    assert mtlbench.run("method=uniform task=tiny seed=5 results=here").status == "finished"
    assert Path.cwd() == tmp_path
    assert len(files(tmp_path / "here", RECORD)) == 2


def test_a_log_keeps_what_was_written_last_and_has_an_end(
    command: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    handle = open_log(tmp_path)
    try:
        os.write(handle, b"0123456789")
        shorten(handle, most=10, kept=3)
        assert (tmp_path / LOG).read_text() == "0123456789"
        os.write(handle, b"ab")
        shorten(handle, most=10, kept=3)
        os.write(handle, b"c")
        assert (tmp_path / LOG).read_text() == "(what stood here before was cut)\n9abc"
    finally:
        os.close(handle)
    plugin = method(tmp_path, "for _ in range(40):\n    print('x' * 2**20, flush=True)")
    assert command(f"run --plugin {tiny} --plugin {plugin} method=odd task=tiny").code == 0
    (log,) = files(tmp_path / "runs", LOG)
    assert log.stat().st_size <= 16 * 2**20
    assert log.read_text().endswith('"forged"}\n')


def test_ctrl_c_while_a_worker_loads_waits_for_nothing(commands: Commands, tiny: Path, tmp_path: Path) -> None:
    plugin = method(
        tmp_path,
        "pass",
        "if any(pathlib.Path('runs').rglob('log.txt')):\n    pathlib.Path('loads').touch()\n    time.sleep(1000)\n",
    )
    words = f"run --plugin {tiny} --plugin {plugin} method=odd task=tiny"
    started = commands.start(words, tmp_path, new_workers=True)  # a forked one has loaded the plug-in already
    until((tmp_path / "loads").exists)
    started.kill_group(signal.SIGINT)
    ended = started.wait()
    assert ended.code == 130
    assert "0 of 1 cells are finished" in ended.output
    assert "had no time" not in ended.output


def test_a_second_ctrl_c_ends_the_wait_and_says_what_it_cost(commands: Commands, tiny: Path, tmp_path: Path) -> None:
    plugin = method(tmp_path, "pathlib.Path('hangs').touch()\ntime.sleep(1000)")
    started = commands.start(f"run --plugin {tiny} --plugin {plugin} method=odd task=tiny", tmp_path)
    until((tmp_path / "hangs").exists)
    started.kill_group(signal.SIGINT)
    time.sleep(0.5)
    started.kill_group(signal.SIGINT)
    ended = started.wait()
    assert ended.code == 130
    assert "0 of 1 cells are finished" in ended.output
    assert "1 had no time to save a checkpoint" in ended.output
    assert "Traceback" not in ended.output


@pytest.mark.parametrize("sent", [signal.SIGHUP, signal.SIGTERM])
def test_a_closed_terminal_and_a_batch_system_save_a_checkpoint(
    commands: Commands, tiny: Path, tmp_path: Path, sent: signal.Signals
) -> None:
    words = f"run --plugin {tiny} method=uniform task=tiny"
    gate, trace = tmp_path / "gate", tmp_path / "trace"
    environment = {"TINY_GATE": f"0 {gate} {tmp_path / 'runs'}", "TINY_TRACE": str(trace)}
    started = commands.start(words, tmp_path, environment)  # held up before the first checkpoint of its own
    until(lambda: trace.exists() and "batch" in trace.read_text())
    os.kill(started.pid, sent)
    gate.touch()
    ended = started.wait()
    assert ended.code == 130
    assert len(files(tmp_path, CHECKPOINT)) == 1
    assert "resuming" in command_of(commands, words, tmp_path)


def command_of(commands: Commands, words: str, folder: Path) -> str:
    """The output of a command that ends well."""
    ended = commands.start(words, folder).wait()
    assert ended.code == 0, ended.output
    return ended.output


def test_a_job_is_what_it_was_when_it_has_been_to_json(tiny: Path) -> None:
    words = "method=gradvac,uniform task=tiny,tiny/sampled treated=a tune=2 granularity=all_layer data_root=data"
    request = parse([*words.split(), "time_limit=5", "checkpoint_steps=3"], [Path("plugin.py")])
    for cell in request.cells:
        job = Job.of(cell, request)
        back = Job.from_json(job.to_json())
        assert back.cell.canonical() == cell.canonical()  # where its protocol searches is no matter of the cell
        assert dataclasses.replace(back, cell=cell) == job
        assert "\n" not in job.to_json()
        assert all(path.is_absolute() for path in (job.folder, job.data_root, *job.plugins) if path)


@pytest.mark.parametrize(
    "report",
    [Progress(3, 8, 1, {"a": 0.5}), Caution("the disk\nis slow"), Busy(), End("diverged", "nan"), End("finished")],
)
def test_a_report_is_what_it_was_when_it_has_been_to_json(report: Progress | Caution | Busy | End) -> None:
    assert "\n" not in to_json(report)
    assert from_json(to_json(report)) == report


@pytest.mark.parametrize(
    "line",
    [
        *("", "x", "null", "[]", "{}", "[" * 99999),
        *('{"end": {}}', '{"end": 5}', '{"fin": {}}', '{"end": {"status": "skipped"}}', '{"busy": {}, "end": {}}'),
        *('{"progress": {"step": -1}}', '{"progress": {"step": "1", "total_steps": 1, "epoch": 0}}'),
    ],
)
def test_what_is_no_report_is_no_report(line: str) -> None:
    with pytest.raises(ValueError):
        from_json(line)


class Scripted(Launcher, Worker):
    """A place without processes: every worker tells what is written down."""

    def __init__(self, *told: Any) -> None:
        self.told = told
        self.jobs: list[Job] = []

    def start(self, job: Job, tell: Callable[..., None]) -> Worker:
        self.jobs.append(job)
        for report in self.told:
            tell(report)
        tell(Gone("error", "it fell over"))
        return self

    def stop(self) -> None: ...

    def kill(self) -> None: ...


@pytest.mark.parametrize(
    ("told", "status", "reason"),
    [
        ([End("timeout", "too slow")], "timeout", "too slow"),
        ([End("finished")], "error", "its process said that it had finished, and left no record"),
        ([], "error", "it fell over"),
    ],
)
def test_scheduling_needs_no_process(tiny: Path, tmp_path: Path, told: list[Any], status: str, reason: str) -> None:
    request = parse(f"method=uniform task=tiny results={tmp_path}".split())
    seen: list[Event] = []
    progress = Progress(1, 24, 0)
    launcher = Scripted(progress, *told)
    (outcome,) = Scheduler(request, launcher, seen.append, retry=False).run()
    assert (outcome.status, outcome.reason) == (status, reason)
    assert [type(event) for event in seen[:2]] == [Started, Progressed]
    assert launcher.jobs == [Job.of(outcome.cell, request)]
    (outcome.folder / CHECKPOINT).touch()
    seen.clear()
    Scheduler(request, launcher, seen.append, retry=False).run()
    assert isinstance(seen[0], Resumed)
