"""One cell on several processes is the cell on one, goes on from its checkpoint, and ends with any of them."""

from __future__ import annotations

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


def test_a_cell_on_three_processes_with_uneven_shares_is_that_on_one(tiny: Path, tmp_path: Path) -> None:
    alone, together = (trained(tiny, tmp_path / str(n), f"processes={n}") for n in (1, 3))
    assert together.id == alone.id
    assert (alone.provenance.processes, together.provenance.processes) == ("1", "3")
    for one, other in zip(alone.evaluations, together.evaluations, strict=True):
        for name, loss in one.losses.items():
            assert other.losses[name] == pytest.approx(loss, rel=1e-5)
            assert other.scores["test"][name]["mse"] == pytest.approx(one.scores["test"][name]["mse"], rel=1e-4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("method=db_mtl task=tiny", "processes=2 is not allowed: db_mtl computes with whole rows"),
        ("method=uniform task=toy", "a batch of the task 'toy' cannot be divided, as it holds a int"),
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
