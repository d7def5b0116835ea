"""One cell on several processes is the cell on one, goes on from its checkpoint, and ends with any of them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import distributed

import mtlbench
from mtlbench.catalogue.dividing import rows_of
from mtlbench.errors import UsageError
from mtlbench.running.launch import run_grid
from mtlbench.running.team import Team

pytestmark = pytest.mark.skipif(
    not (distributed.is_available() and distributed.is_gloo_available()), reason="torch without gloo"
)

WORDS = "method=gradvac task=tiny protocol.options.dropout=0"


def trained(tiny: Path, results: Path, words: str) -> Any:
    (outcome,) = run_grid(f"{WORDS} results={results} {words}", [tiny])
    assert outcome.status == "finished", outcome.reason
    (record,) = mtlbench.records(results)
    return record


def children(of: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == of:
            found.append(int(path.parent.name))
    return found


def test_a_cell_on_three_processes_with_uneven_shares_is_that_on_one(tiny: Path, tmp_path: Path) -> None:
    alone, together = (trained(tiny, tmp_path / str(n), f"processes={n}") for n in (1, 3))
    assert together.id == alone.id
    assert (alone.provenance.processes, together.provenance.processes) == ("1", "3")
    for one, other in zip(alone.evaluations, together.evaluations, strict=True):
        assert other.losses == pytest.approx(one.losses, rel=1e-5)
        for name in one.losses:
            assert other.scores["test"][name]["mse"] == pytest.approx(one.scores["test"][name]["mse"], rel=1e-4)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_rank_that_is_killed_ends_the_cell_with_the_reason_and_another_number_goes_on(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINY_PAUSE", "0.2")
    killed: list[float] = []

    def kill_a_rank() -> None:
        while not [*tmp_path.rglob("checkpoint.pt")]:
            time.sleep(0.1)
        # This process may have others, such as servers of commands of tests before this one.
        (worker,) = [pid for pid in children(os.getpid()) if b"boot.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        os.kill(children(worker)[0], signal.SIGKILL)
        killed.append(time.monotonic())

    threading.Thread(target=kill_a_rank, daemon=True).start()
    words = f"{WORDS} results={tmp_path} checkpoint_steps=3"
    (outcome,) = run_grid(f"{words} processes=2", [tiny])
    assert outcome.status == "error"
    assert outcome.reason == "process 1 of 2 is gone: it was ended by SIGKILL"
    assert time.monotonic() - killed[0] < 60
    monkeypatch.delenv("TINY_PAUSE")
    (outcome,) = run_grid(words, [tiny])
    (record,) = mtlbench.records(tmp_path)
    assert record.provenance.processes == "2 then 1"
    assert record.provenance.resumed == 1
    whole = trained(tiny, tmp_path / "whole", "")
    for one, other in zip(whole.evaluations, record.evaluations, strict=True):
        assert other.losses == pytest.approx(one.losses, rel=1e-5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("method=db_mtl task=tiny", "processes=2 is not allowed: db_mtl computes with whole rows"),
        (
            "method=uniform task=toy",
            "a batch of the task 'toy' cannot be divided, as it holds something of type int. Train",
        ),
        ("method=uniform task=tiny device=cuda:0", "device=cuda:0 is not allowed with processes=N"),
        ("method=uniform task=tiny processes=0", "processes"),
    ],
)
def test_what_cannot_be_spread_is_refused_before_anything_is_trained(
    tiny: Path, tmp_path: Path, words: str, said: str
) -> None:
    many = "" if "processes=" in words else "processes=2"
    with pytest.raises(UsageError, match=said):
        run_grid(f"{words} {many} results={tmp_path}", [tiny])
    assert not [*tmp_path.rglob("record.json")]


def test_batch_normalisation_is_refused_by_name() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    with pytest.raises(UsageError, match="1 normalises by the statistics of its batch"):
        Team(size=2).require_fit(model, mtlbench.method("uniform"))
    Team().require_fit(model, mtlbench.method("uniform"))


class Named(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor


@pytest.mark.parametrize(
    "make", [lambda x, y: (x, y), lambda x, y: {"x": x, "y": [y]}, Named], ids=["tuple", "mapping", "named"]
)
def test_parts_of_a_batch_hold_every_row_once(make: Callable[..., Any]) -> None:
    x, y = torch.arange(10).view(5, 2), torch.arange(5)
    batch = make(x, y)
    for parts in (1, 2, 3, 7):
        found = [rows_of(batch, part, parts) for part in range(parts)]
        assert sum(rows for _, rows in found) == 5
        assert all(type(part) is type(batch) for part, _ in found)
        firsts = [part["x"] if isinstance(part, dict) else part[0] for part, _ in found]
        assert torch.equal(torch.cat(firsts), x)
    with pytest.raises(UsageError, match="same number in all"):
        rows_of(make(x, y[:4]), 0, 2)
