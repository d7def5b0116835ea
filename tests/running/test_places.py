"""Places: devices shared out, jobs sent to a Slurm that is written down, agents, and what is missing told."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_server import ForkedWorker
from conftest import curves, files
from test_survival import undisturbed, until

from mtlbench.cells.placing import SlurmWords
from mtlbench.cells.request import Request, parse
from mtlbench.errors import UsageError
from mtlbench.record.reading import cell_state
from mtlbench.record.sent import REPORTS, SENT, Sent, read_sent
from mtlbench.running.job import Job
from mtlbench.running.launchers import agent, arrays, places, slurm
from mtlbench.running.launchers.launcher import Gone, Worker
from mtlbench.running.launchers.local import Local
from mtlbench.running.reports import Begun, Ceased, End, Progress, Queued, line_from_json, to_json
from mtlbench.running.scheduling import Scheduler

GRID = "method=uniform,gradvac task=tiny seed=0,1"


def jobs_of(request: Request) -> list[Job]:
    jobs = [Job.of(cell, request) for cell in request.cells]
    for job in jobs:
        job.folder.mkdir(parents=True, exist_ok=True)
    return jobs


class OnDevices(Local):
    """The place of devices, with workers that end when they are told to."""

    def __init__(self, devices: tuple[str, ...]) -> None:
        super().__init__(devices)
        self.seen: list[str] = []
        self.running: list[Callable[..., None]] = []
        self.most = 0
        self.at_once = False

    def _started(self, job: Job, tell: Callable[..., None]) -> Worker:
        self.seen.append(job.device)
        self.running.append(tell)
        self.most = max(self.most, len(self.running))
        if self.at_once and len(self.running) == 2:
            self.end(1)
            self.end(0)
        return Nobody()

    def end(self, number: int) -> None:
        self.running.pop(number)(Gone("interrupted", ""))


class Nobody(Worker):
    def stop(self) -> None: ...

    def kill(self) -> None: ...


def test_each_device_trains_one_cell_and_the_next_gets_the_one_that_is_free(tiny: Path, tmp_path: Path) -> None:
    request = parse(f"{GRID} device=cuda:0,cuda:1 results={tmp_path}".split())
    place = OnDevices(request.devices)
    assert place.capacity(request) == 2
    jobs = jobs_of(request)
    for job in jobs[:3]:
        place.start(job, lambda _: None)
    assert place.seen == ["cuda:0", "cuda:1", "cuda:0"]
    place.end(1)
    place.start(jobs[3], lambda _: None)
    assert place.seen[3] == "cuda:1"


def test_a_grid_on_two_devices_has_two_cells_at_a_time(tiny: Path, tmp_path: Path) -> None:
    request = parse(f"{GRID} device=cuda:0,cuda:1 results={tmp_path}".split())
    place = OnDevices(request.devices)
    place.at_once = True
    Scheduler(request, place, lambda _: None, retry=False).run()
    assert place.most == 2
    assert sorted(place.seen) == ["cuda:0", "cuda:0", "cuda:1", "cuda:1"]


@pytest.mark.parametrize(("on", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_place_without_its_package_says_what_to_install(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, on: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf"on={on} needs the package {package}: pip install 'mtlbench\[{on}\]'"):
        places.launcher(parse(f"method=uniform task=tiny on={on}".split()))


def test_slurm_without_its_commands_says_where_to_start(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"sbatch is not on PATH\. Start the run on a login node"):
        places.launcher(parse(["method=uniform", "task=tiny", "on=slurm"]))


class WrittenSlurm:
    """Commands of Slurm that answer what is written down, and write down what they are asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.states: dict[str, str] = {}
        self.program("sbatch", 'grep -- --job-name "$1" >> sbatch.log; echo "Submitted batch job 7"')
        self.program("squeue", "cat squeue.txt")
        for name in ("scontrol", "scancel", "srun"):
            self.program(name, f'echo "$@" >> {name}.log')
        self.say()

    def program(self, name: str, body: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\ncd {self.folder} && {body}\n")
        path.chmod(0o755)

    def say(self, *lines: str) -> None:
        (self.folder / "squeue.txt").write_text("".join(f"{line}\n" for line in lines))

    def log(self, name: str) -> list[str]:
        path = self.folder / f"{name}.log"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WrittenSlurm:
    pytest.importorskip("submitit")
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(slurm, "_SETTLE_SECONDS", 0.1)
    return WrittenSlurm(tmp_path / "bin")


def launcher(request: Request) -> slurm.Slurm:
    return slurm.Slurm(SlurmWords(poll=0.1, options={"partition": "p"}), request.results)


def started(place: slurm.Slurm, jobs: list[Job]) -> list[list[Any]]:
    """Start jobs and send them; what is told of each."""
    told: list[list[Any]] = [[] for _ in jobs]
    for job, heard in zip(jobs, told, strict=True):
        place.start(job, heard.append)
    place.send()
    return told


def test_cells_are_one_array_and_a_second_run_takes_them_up(tiny: Path, tmp_path: Path, written: WrittenSlurm) -> None:
    request = parse(f"{GRID} results={tmp_path / 'runs'}".split())
    jobs = jobs_of(request)
    told = started(place := launcher(request), jobs)
    assert len(written.log("sbatch")) == 1
    assert [heard[0] for heard in told] == [Queued(f"job 7_{index} of Slurm") for index in range(4)]
    sent = [read_sent(job.folder) for job in jobs]
    assert [one.index for one in sent if one] == [0, 1, 2, 3]
    assert sent[0] is not None
    assert sent[0].job == json.loads(jobs[0].to_json())
    place.close()
    name = sent[0].name
    written.say(*(f"{name}|{index}|7_{index}|PENDING|Priority" for index in range(3)))  # of the last nothing is known
    second = launcher(request)
    assert [second.holds(job) for job in jobs] == [True, True, True, False]
    told = started(second, jobs)
    assert len(written.log("sbatch")) == 2
    assert told[0] == [Queued("job 7_0 of Slurm, Priority")]
    found = read_sent(jobs[3].folder)
    assert found is not None
    assert found.name != name
    second.close()


def test_while_slurm_does_not_answer_nothing_is_sent_twice(tiny: Path, tmp_path: Path, written: WrittenSlurm) -> None:
    request = parse(f"{GRID} results={tmp_path / 'runs'}".split())
    jobs = jobs_of(request)
    first = launcher(request)
    started(first, jobs)
    first.close()
    second = launcher(request)
    written.program("squeue", "echo down >&2; exit 1")
    started(second, jobs)
    assert len(written.log("sbatch")) == 1
    written.program("squeue", "cat squeue.txt")
    second.send()
    assert len(written.log("sbatch")) == 2
    second.close()
    written.program("squeue", "echo it is down >&2; exit 1")
    with pytest.raises(UsageError, match="Slurm does not answer: squeue: it is down"):
        launcher(request)


def test_what_slurm_refuses_is_told_in_its_words(tiny: Path, tmp_path: Path, written: WrittenSlurm) -> None:
    request = parse(f"{GRID} results={tmp_path / 'runs'}".split())
    written.program("sbatch", "echo 'sbatch: error: invalid partition specified: p' >&2; exit 1")
    with pytest.raises(UsageError, match=r"Slurm does not take the cells: .*invalid partition"):
        started(launcher(request), jobs_of(request))


def one_job(tmp_path: Path) -> tuple[Any, Any, list[Any], Any]:
    """A place, a job that was sent there, what is told of it, and what stands in its folder."""
    request = parse(f"method=uniform task=tiny results={tmp_path / 'runs'}".split())
    (job,) = jobs_of(request)
    place = launcher(request)
    (told,) = started(place, [job])
    sent = read_sent(job.folder)
    assert sent is not None
    return place, job, told, sent


@pytest.mark.parametrize(
    ("word", "status", "reason"),
    [
        ("CANCELLED", "interrupted", "taken away"),
        ("OUT_OF_MEMORY", "oom", "slurm.mem="),
        ("TIMEOUT", "error", "slurm.grace="),
        ("NODE_FAIL", "error", "node_fail"),
        (None, "error", "nothing is known of its end"),
    ],
)
def test_a_job_that_is_over_without_a_word_of_its_end_is_gone(
    tiny: Path, tmp_path: Path, written: WrittenSlurm, word: str | None, status: str, reason: str
) -> None:
    place, job, told, sent = one_job(tmp_path)
    written.say(*([f"{sent.name}|0|7_0|{word}|None"] if word else []))
    gone = until(lambda: told[-1] if isinstance(told[-1], Gone) else None, 20)
    assert gone.status == status
    assert reason in gone.reason
    assert not (job.folder / SENT).exists()
    place.close()


def test_what_a_job_reports_is_passed_on_and_a_job_that_is_put_back_waits(
    tiny: Path, tmp_path: Path, written: WrittenSlurm
) -> None:
    place, job, told, sent = one_job(tmp_path)

    def report(*lines: Any) -> None:
        with (job.folder / REPORTS).open("a") as file:
            file.writelines(f"{to_json(line)}\n" for line in lines)

    written.say(f"{sent.name}|0|7_0|RUNNING|None")
    report(Begun("node", 1), Progress(10, 24, 1))
    until(lambda: told[-1] == Progress(10, 24, 1), 20)
    report(Ceased("interrupted", "it was wanted back"))
    written.say(f"{sent.name}|0|7_0|PENDING|BeginTime")
    until(lambda: told[-1] == Queued("job 7_0 of Slurm, BeginTime, once more: it was wanted back"), 20)
    assert cell_state(job.folder).status == "requeued"
    written.say(f"{sent.name}|0|7_0|RUNNING|None")
    report(Begun("other", 1), Progress(24, 24, 3), End("finished"), Ceased("error", "it ended"))
    until(lambda: isinstance(told[-1], Gone), 20)
    assert told[-3:-1] == [Progress(24, 24, 3), End("finished")]
    place.close()


@pytest.mark.parametrize(("word", "requeued"), [("RUNNING", True), ("COMPLETING", False), ("CANCELLED", False)])
def test_a_job_goes_back_to_the_queue_unless_it_was_cancelled(
    written: WrittenSlurm, monkeypatch: pytest.MonkeyPatch, word: str, requeued: bool
) -> None:
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    written.say(f"mtlbench-{'0' * 12}|3|7_3|{word}|None")
    arrays.requeue()
    assert written.log("scontrol") == (["requeue 7_3"] if requeued else [])


def sent_job(tiny: Path, folder: Path, words: str = "method=uniform task=tiny") -> Job:
    """A job that is noted as sent."""
    (job,) = jobs_of(parse(f"{words} results={folder}".split(), [tiny]))
    Sent(on="ray", name=arrays.new_name(), index=0, job=json.loads(job.to_json())).save(job.folder)
    return job


def lines(job: Job) -> list[Any]:
    return [line_from_json(line) for line in (job.folder / REPORTS).read_text().splitlines()]


@pytest.fixture
def signals() -> Iterator[None]:
    """What signals mean to this process is afterwards as before."""
    before = {number: signal.getsignal(number) for number in agent.WISHES}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_an_agent_gives_its_cell_back_and_another_goes_on(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: None
) -> None:
    expected = undisturbed("method=uniform task=tiny", tmp_path / "undisturbed")
    job = sent_job(tiny, tmp_path / "runs")
    sent = read_sent(job.folder)
    assert sent is not None
    back: list[int] = []
    monkeypatch.setattr(Local, "popen", ForkedWorker)
    monkeypatch.setattr(sys, "stdout", os.fdopen(1, "w", closefd=False))  # that of pytest ends with the fork
    gate = tmp_path / "gate"
    monkeypatch.setenv("TINY_GATE", f"0 {gate} {tmp_path}")

    def attempt(name: str) -> int:
        return agent.Agent(job.folder, name, 0, lambda: back.append(1)).run()

    def want_it_back() -> None:
        until(lambda: (job.folder / REPORTS).exists() and any(isinstance(line, Progress) for line in lines(job)))
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.5)
        gate.touch()

    wanting = threading.Thread(target=want_it_back)
    wanting.start()
    assert attempt(sent.name) == os.EX_TEMPFAIL
    wanting.join()
    assert back == [1]
    ceased = lines(job)[-1]
    assert isinstance(ceased, Ceased)
    assert (ceased.status, ceased.advanced) == ("interrupted", True)
    assert attempt(arrays.new_name()) == 0  # which is not what was sent
    assert not files(tmp_path / "runs", "record.json")
    assert attempt(sent.name) == 0
    assert curves(tmp_path / "runs") == expected
    assert not (job.folder / SENT).exists()


def test_a_cell_that_never_comes_to_a_step_is_given_up(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = sent_job(tiny, tmp_path)
    sent = read_sent(job.folder)
    assert sent is not None
    monkeypatch.setattr(agent.signal, "signal", lambda *_: None)
    monkeypatch.setattr(agent.Agent, "_trained", lambda *_: (None, Gone("interrupted", "wanted back")))
    back: list[int] = []
    codes = [agent.Agent(job.folder, sent.name, 0, lambda: back.append(1)).run() for _ in range(agent.FRUITLESS)]
    assert codes == [os.EX_TEMPFAIL] * (agent.FRUITLESS - 1) + [0]
    assert len(back) == agent.FRUITLESS - 1
    last = lines(job)[-1]
    assert isinstance(last, Ceased)
    assert last.status == "error"
    assert "give it more time" in last.reason
