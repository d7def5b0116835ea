"""Parameters of a method are trained by the run's optimiser, at the protocol's learning rate or at one of their own."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import mtlbench
from mtlbench.record.schema import Record
from mtlbench.running.training import Interrupted

SGD = "protocol.optimizer.name=sgd protocol.optimizer.lr=0.1"


def rates(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[float, int]]]:
    """Filled with, for every step, each group's learning rate and number of parameters."""
    found: list[list[tuple[float, int]]] = []
    step = torch.optim.SGD.step

    def spy(self: torch.optim.SGD, *args: Any) -> Any:
        found.append([(group["lr"], len(group["params"])) for group in self.param_groups])
        return step(self, *args)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    return found


def test_they_follow_the_schedule_at_their_own_rate(
    train: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = rates(monkeypatch)
    train(f"method=uw method.lr=0.5 task=tiny {SGD} protocol.schedule.name=step protocol.schedule.factor=0.1")
    assert [[rate for rate, _ in step] for step in found[::8]] == [
        pytest.approx([0.1, 0.5]),
        pytest.approx([0.01, 0.05]),
        pytest.approx([0.001, 0.005]),
    ]
    assert {tuple(count for _, count in step) for step in found} == {(8, 2)}


def test_they_move_by_gradient_descent_on_the_scalar_of_the_model(
    train: Callable[..., Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[float]] = []
    step = mtlbench.Backward.__call__

    def spy(self: mtlbench.Backward, *args: Any) -> Any:
        values = step(self, *args)
        seen.append(values.tolist())
        return values

    monkeypatch.setattr(mtlbench.Backward, "__call__", spy)
    record = train(f"method=uw method.lr=0.5 method.init=-0.3 task=tiny {SGD}")
    s = [-0.3, -0.3]
    for losses in seen:  # d/ds of (e^-s L + s)/2
        s = [v - 0.5 * (1 - math.exp(-v) * loss) / 2 for v, loss in zip(s, losses, strict=True)]
    assert [record.diagnostics[f"log_variance_{k}"] for k in range(2)] == pytest.approx(s, rel=1e-4)


def test_the_protocols_rate_said_explicitly_is_the_same_run(train: Callable[..., Record], tmp_path: Path) -> None:
    default, stated = (
        train(f"method=imtl_l task=tiny {SGD} {more}", tmp_path / f"x{more}") for more in ("", "method.lr=0.1")
    )
    assert default.evaluations == stated.evaluations
    assert default.diagnostics == stated.diagnostics
    assert default.id != stated.id


@pytest.mark.parametrize("method", ["uw", "imtl_l"])
def test_a_run_with_a_rate_of_its_own_resumes_bit_for_bit(
    train: Callable[..., Record], tmp_path: Path, method: str
) -> None:
    words = f"method={method} method.lr=0.2 task=tiny/sampled protocol.schedule.name=cosine"
    whole = train(words, tmp_path / "whole")
    asked = iter(range(10))
    with pytest.raises(Interrupted):
        train(words, tmp_path / "cut", should_stop=lambda: next(asked, None) is None)
    resumed = train(words, tmp_path / "cut")
    assert resumed.provenance is not None
    assert resumed.provenance.resumed == 1
    assert (resumed.evaluations, resumed.diagnostics) == (whole.evaluations, whole.diagnostics)
