"""Two runs that send cells to Ray from one results folder: neither takes what the other has sent. Ray is played."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mtlbench.cells.placing import RayWords
from mtlbench.cells.request import Request, parse
from mtlbench.record.sent import read_sent
from mtlbench.running.events import Event, Sent, Waiting
from mtlbench.running.job import Job
from mtlbench.running.launchers import ray
from mtlbench.running.launchers.launcher import Gone
from mtlbench.running.reports import Busy
from mtlbench.running.scheduling import Scheduler


class Played:
    """A cluster whose tasks are over, with code 0, when `over` says so."""

    def __init__(self) -> None:
        self.over = False
        errors = ("TaskCancelledError", "OutOfMemoryError", "RayError")
        self.exceptions = SimpleNamespace(**{name: type(name, (Exception,), {}) for name in errors})

    def is_initialized(self) -> bool:
        return True

    def remote(self, _: Callable[..., int]) -> Any:
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda *_: "task"))

    def wait(self, tasks: list[str], timeout: float) -> tuple[list[str], list[str]]:
        return (tasks, []) if self.over else ([], tasks)

    def get(self, task: str) -> int:
        return 0


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Played:
    played = Played()
    monkeypatch.setattr(ray, "_ray", lambda: played)
    monkeypatch.setattr(ray, "_READ_SECONDS", 0.02)
    return played


@pytest.fixture
def request_(tiny: Path, tmp_path: Path) -> Request:
    return parse(["method=uniform", "task=tiny", "against=none", "on=ray", f"results={tmp_path}"])


def job_of(request: Request) -> Job:
    job = Job.of(request.cells[0], request)
    job.folder.mkdir(parents=True, exist_ok=True)
    return job


def test_what_a_run_has_sent_is_left_to_it_while_it_is_there(
    cluster: Played, request_: Request, tmp_path: Path
) -> None:
    first, second, job = ray.Ray(RayWords(), tmp_path), ray.Ray(RayWords(), tmp_path), job_of(request_)
    assert not second.promised(job)
    first.start(job, lambda _: None)
    assert second.promised(job)
    assert not first.promised(job)
    first.close()
    assert not second.promised(job)
    second.close()


def test_a_run_waits_for_the_other_and_sends_the_cell_when_that_is_gone(
    cluster: Played, request_: Request, tmp_path: Path
) -> None:
    first, second = ray.Ray(RayWords(), tmp_path), ray.Ray(RayWords(), tmp_path)
    first.start(job_of(request_), lambda _: None)
    seen: list[type] = []

    def on_event(event: Event) -> None:
        seen.append(type(event))
        if isinstance(event, Waiting):
            first.close()
        if isinstance(event, Sent):
            cluster.over = True

    Scheduler(request_, second, on_event, retry=False).run()
    second.close()
    assert seen[:2] == [Waiting, Sent]


def test_of_two_runs_that_send_a_cell_at_once_one_learns_it_and_leaves_the_other_what_it_has_sent(
    cluster: Played, request_: Request, tmp_path: Path
) -> None:
    first, second, job = ray.Ray(RayWords(), tmp_path), ray.Ray(RayWords(), tmp_path), job_of(request_)
    told: list[Any] = []
    worker = first.start(job, told.append)
    second.start(job, lambda _: None)
    first.close()
    cluster.over = True
    assert worker.look(tries=1)
    assert [type(report) for report in told[-2:]] == [Busy, Gone]
    sent = read_sent(job.folder)
    assert sent is not None
    assert sent.name == second._name
    second.close()
