"""Under torchrun all processes train every cell together: those of processes=N to the bit, and no hang without one."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Commands, Started, curves, failures, files
from test_processes import children
from torch import distributed

import mtlbench
from mtlbench.cells.request import parse
from mtlbench.errors import UsageError
from mtlbench.running import ranks, team, torchrun
from mtlbench.running.board import Board
from mtlbench.running.job import Job, Meeting

pytestmark = [
    pytest.mark.skipif(
        not (distributed.is_available() and distributed.is_gloo_available()), reason="torch without gloo"
    ),
    pytest.mark.timeout(600),
]

GRID = "method=uniform,gradvac task=tiny seed=0 against=none"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def variables(rank: int, size: int, port: int, local_size: int | None = None) -> dict[str, str]:
    """What torchrun tells a process; without an agent that keeps the store, the first process does."""
    local_size = local_size or size
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank % local_size),
        "LOCAL_WORLD_SIZE": str(local_size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def started(commands: Commands, words: str, folder: Path, **environment: str) -> list[Started]:
    """Two processes that run the same command, as torchrun starts them."""
    port = free_port()
    return [commands.start(words, folder, variables(rank, 2, port) | environment) for rank in range(2)]


@pytest.fixture(scope="module")
def on_two_processes(commands: Commands, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The curves of the grid with processes=2."""
    folder = tmp_path_factory.mktemp("processes")
    ended = commands.start(f"run --plugin {tiny} {GRID} processes=2", folder).wait()
    assert ended.code == 0, ended.output
    return curves(folder / "runs")


def test_cells_are_those_of_processes_to_the_bit_and_the_first_process_alone_tells(
    commands: Commands, tiny: Path, tmp_path: Path, on_two_processes: dict[str, Any]
) -> None:
    first, second = (one.wait() for one in started(commands, f"run --plugin {tiny} {GRID}", tmp_path))
    assert (first.code, second.code) == (0, 0), first.output + second.output
    assert second.output == ""
    assert "gradvac" in first.output
    assert curves(tmp_path / "runs") == on_two_processes
    assert {record.provenance.processes for record in mtlbench.records(tmp_path / "runs")} == {"2"}


def test_two_agents_of_torchrun_with_caches_of_their_own_train_into_one_results_folder(
    tiny: Path, tmp_path: Path, on_two_processes: dict[str, Any]
) -> None:
    port, agents = free_port(), []
    for host in range(2):
        folder = tmp_path / f"host{host}"
        folder.mkdir()
        own = {"MTLBENCH_CACHE": str(folder / "cache"), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
        agent = f"--nnodes=2 --nproc-per-node=1 --rdzv-backend=c10d --rdzv-endpoint=127.0.0.1:{port}"
        words = GRID.replace("uniform,", "")
        command = f"-m torch.distributed.run {agent} --local-addr=127.0.0.1 -m mtlbench run --plugin {tiny} {words}"
        agents.append(
            subprocess.Popen(
                [sys.executable, *command.split(), f"results={tmp_path / 'results'}"],
                cwd=folder,
                env={**os.environ, **own},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    told = [agent.communicate(timeout=240)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], told
    assert sorted("Records: " in one for one in told) == [False, True]
    ((cell, found),) = curves(tmp_path / "results").items()
    assert found == on_two_processes[cell]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_process_that_is_killed_fails_its_cell_with_the_reason_and_the_next_cell_is_trained(
    commands: Commands, tiny: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    words = f"run --plugin {tiny} {GRID} checkpoint_steps=3"
    first, second = started(commands, words, tmp_path, TINY_GATE=f"0 {gate} {tmp_path}")
    try:
        while not files(tmp_path, "checkpoint.pt"):
            assert first.runs()
            time.sleep(0.05)
        os.kill(children(second.pid)[0], signal.SIGKILL)
        killed = time.monotonic()
        while not files(tmp_path, "failure.json"):
            assert time.monotonic() - killed < 60
            time.sleep(0.05)
    finally:
        gate.touch()
    assert (first.wait().code, second.wait().code) == (1, 0)
    (failure,) = failures(tmp_path / "runs")
    assert failure.reason == "process 1 of 2 is gone: it was ended by SIGKILL"
    assert len(files(tmp_path, "record.json")) == 1


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_signal_to_all_saves_a_checkpoint_and_the_same_command_goes_on_on_one_process(
    commands: Commands, tiny: Path, tmp_path: Path
) -> None:
    words = f"run --plugin {tiny} method=gradvac task=tiny against=none protocol.options.dropout=0"
    both = started(commands, words, tmp_path, TINY_PAUSE="0.3")
    while not any("begun" in path.read_text() or path.stat().st_size for path in files(tmp_path, "log.txt")):
        assert both[0].runs()
        time.sleep(0.05)
    for one in reversed(both):
        one.kill_group(signal.SIGTERM)
    ended = [one.wait() for one in both]
    assert [one.code for one in ended] == [130, 130], [one.output for one in ended]
    assert "interrupted" in ended[0].output
    assert not files(tmp_path, "failure.json") + files(tmp_path, "record.json")
    assert len(files(tmp_path, "checkpoint.pt")) == 1
    assert commands.start(words, tmp_path).wait().code == 0
    (record,) = mtlbench.records(tmp_path / "runs")
    assert record.provenance.processes == "2 then 1"


def test_a_word_that_is_wrong_ends_all_processes_and_only_the_first_one_says_so(
    commands: Commands, tiny: Path, tmp_path: Path
) -> None:
    first, second = (one.wait() for one in started(commands, f"run --plugin {tiny} method=no task=tiny", tmp_path))
    assert (first.code, second.code) == (2, 0)
    assert "no" in first.output
    assert second.output == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("processes=3", "processes=3 is not allowed: torchrun has started 2 processes"),
        ("processes=1", "processes=1 is not allowed"),
        ("jobs=2", "jobs=2 is not allowed under torchrun"),
        ("on=slurm", "on=slurm is not allowed under torchrun"),
        ("on=ray", "on=ray is not allowed under torchrun"),
        ("device=cuda:0", "device=cuda:0 is not allowed under torchrun"),
    ],
)
def test_words_that_mean_something_else_are_refused(tiny: Path, words: str, said: str) -> None:
    position = torchrun.position(variables(0, 2, 1))
    assert position is not None
    leader = torchrun.Leader(position, distributed.HashStore(), "run")
    with pytest.raises(UsageError, match=said):
        leader.spread(parse(f"method=uniform task=tiny {words}".split()))
    assert leader.spread(parse(["method=uniform", "task=tiny", "jobs=1"])).processes == 2


def test_variables_of_torchrun_are_needed_all_and_must_be_numbers_that_fit() -> None:
    whole = variables(3, 4, 29500, local_size=2)
    position = torchrun.position(whole)
    assert position is not None
    assert (position.rank, position.local_rank, position.keeps_store) == (3, 1, False)
    assert not position.meeting("x").one_host
    for name in whole:
        assert torchrun.position({key: value for key, value in whole.items() if key != name}) is None
    for wrong in ({"RANK": "4"}, {"RANK": "x"}, {"LOCAL_WORLD_SIZE": "1"}):
        with pytest.raises(UsageError, match="Unset them"):
            torchrun.position(whole | wrong)


@pytest.fixture
def meeting() -> Iterator[Meeting]:
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=60))
    yield Meeting("127.0.0.1", store.port, "run/0", one_host=True)
    del store


@pytest.fixture
def job(tiny: Path, tmp_path: Path, meeting: Meeting) -> Job:
    request = parse(["method=uniform", "task=tiny", f"results={tmp_path}", "processes=2"])
    return replace(Job.of(request.cells[0], request), meeting=meeting)


def test_a_job_goes_to_other_processes_as_text_and_back(job: Job) -> None:
    back = Job.from_json(job.to_json())
    assert (back.cell.id, back.folder, back.processes, back.meeting) == (job.cell.id, job.folder, 2, job.meeting)


def test_a_host_that_does_not_see_the_results_says_so_and_the_cell_ends(
    job: Job, meeting: Meeting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "PATIENCE_SECONDS", 0.1)
    lost: list[tuple[str, str]] = []
    ended = threading.Event()
    watched = ranks._Elsewhere(job, meeting, lambda *how: (lost.append(how), ended.set()))
    position, cell = torchrun.position(variables(1, 2, meeting.port)), Board.at(meeting)
    assert position is not None
    follower = threading.Thread(target=torchrun._attend, args=(position, cell, job.to_json()))
    follower.start()  # the folder of the cell is not there
    assert ended.wait(30)
    Board.at(meeting).tell("over")
    follower.join(30)
    watched.kill()
    ((status, reason),) = lost
    assert status == "error"
    assert reason.startswith("process 1 of 2 cannot start on ")
    assert str(job.folder) in reason


def test_a_process_of_which_nothing_is_heard_ends_the_cell_and_one_that_is_heard_does_not(
    job: Job, meeting: Meeting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "SILENCE_SECONDS", 1.5)
    monkeypatch.setattr(ranks, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(ranks, "POLL_SECONDS", 0.02)
    ended = threading.Event()
    lost: list[tuple[str, str]] = []
    watched = ranks._Elsewhere(job, meeting, lambda *how: (lost.append(how), ended.set()))
    board = Board.at(meeting)
    for _ in range(20):
        board.count("beat 1", 1)
        assert not ended.wait(0.1)
    assert ended.wait(30)
    watched.kill()
    ((status, reason),) = lost
    assert status == "error"
    assert re.fullmatch(r"process 1 of 2 is gone: nothing was heard of it for \d+ s", reason)


def test_when_a_step_fails_who_is_not_heard_any_more_is_named(
    job: Job, meeting: Meeting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "PATIENCE_SECONDS", 6.0)
    monkeypatch.setattr(ranks, "POLL_SECONDS", 0.02)
    watched, board = ranks._Elsewhere(job, meeting, lambda *_: None), Board.at(meeting)
    for _ in range(10):
        board.count("beat 1", 1)
        time.sleep(0.1)
    assert watched.suspected() is None
    time.sleep(2.0)
    status, reason = watched.suspected() or ("", "")
    assert status == "error"
    assert re.fullmatch(r"process 1 of 2 is gone: nothing was heard of it for \d+ s", reason)
    watched.kill()


def test_processes_with_other_data_do_not_train_together(monkeypatch: pytest.MonkeyPatch) -> None:
    class Exchange:
        def __init__(self, *_: object) -> None: ...

        def gathered(self, numbers: list[int]) -> torch.Tensor:
            return torch.tensor([numbers, [numbers[0], numbers[1] + 1]])

    monkeypatch.setattr(team, "Collectives", Exchange)
    with pytest.raises(UsageError, match="the data of process 1 are not those of the first one"):
        team.Team(0, 2).require_alike(3, torch.device("cpu"), "digest")
