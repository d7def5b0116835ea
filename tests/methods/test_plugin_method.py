"""A new method is one file, anywhere: it runs on every variant and stands in the table beside the built-in ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mtlbench

MTLBENCH = Path(sys.executable).with_name("mtlbench")

METHOD = '''\
"""Every objective gets the weight of its gradient's length: the longer the gradient, the more it counts."""

from typing import Annotated

import torch
from annotated_types import Gt

import mtlbench


@mtlbench.register_method("by_length", paper="unpublished")
class ByLength(mtlbench.GramianWeighting):
    """Weights in proportion to the norms of the rows, to the power of `power`, with sum K."""

    def __init__(self, power: Annotated[float, Gt(0)] = 1.0) -> None:
        super().__init__()
        self.power = power

    def weigh(self, gramian: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
        norms = gramian.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt() ** self.power
        return norms.shape[-1] * norms / norms.sum(-1, keepdim=True)
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    file = tmp_path / "by_length.py"
    file.write_text(METHOD)
    return file


def test_a_method_in_one_file_runs_on_embedded_data_and_appears_in_the_table(plugin: Path, tmp_path: Path) -> None:
    words = ["method=by_length,uniform", "task=multimnist/digits", "protocol.epochs=1", "method.power=0.5", "seed=0"]
    ran = subprocess.run(
        [MTLBENCH, "run", "--plugin", plugin, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "by_length(power=0.5)" in ran.stdout
    assert {r.cell.method for r in mtlbench.records(tmp_path / "runs")} == {"by_length", "uniform"}
    # The table needs the records alone; the plug-in only tells which parameters differ from their defaults.
    table = subprocess.run(
        [MTLBENCH, "table", "--format", "md"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    row = next(line for line in table.stdout.splitlines() if line.startswith("| by_length"))
    left, right = (float(cell.strip(" *")) for cell in row.split("|")[3:5])
    assert left > 15  # a tenth would be chance
    assert right > 15


@pytest.mark.skipif(not os.environ.get("MTLBENCH_DATA"), reason="MTLBENCH_DATA does not say where MNIST is")
def test_a_method_in_one_file_runs_on_real_data_and_appears_in_the_table(
    plugin: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    words = "method=by_length task=multimnist/mnist protocol.epochs=1"
    ran = command(f"run --plugin {plugin} {words}", MTLBENCH_DATA=os.environ["MTLBENCH_DATA"])
    assert ran.code == 0, ran.output
    (record,) = mtlbench.records(tmp_path / "runs")
    assert record.evaluations[-1].scores["test"]["left"]["accuracy"] > 50
    assert "by_length" in command(f"table --plugin {plugin} task=multimnist/mnist").output


def test_a_plug_in_is_listed_and_described_like_any_other(plugin: Path, command: Callable[..., Any]) -> None:
    listed = command(f"list methods --plugin {plugin}")
    assert listed.code == 0
    assert "Every objective gets the weight of its gradient's length" in listed.output
    shown = command(f"show by_length --plugin {plugin}")
    assert "float in (0, inf)" in shown.output
    assert "unpublished" in shown.output


def test_a_plug_in_and_a_plug_in_task_work_together(
    plugin: Path, tiny: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    words = "method=by_length,uncertainty task=tiny,tiny/sampled protocol=long granularity=all_layer"
    ran = command(f"run --plugin {plugin} --plugin {tiny} {words}")
    assert ran.code == 0, ran.output
    assert "tiny/sampled, protocol long@2" in ran.output
    assert len(mtlbench.records(tmp_path / "runs")) == 4
