"""A grid on a real Ray of one node, a worker of which is killed: the same to the bit as on this machine."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from conftest import Commands, curves, files
from test_survival import undisturbed, until

import mtlbench
from mtlbench.record.sent import REPORTS, SENT

pytest.importorskip("ray", reason="needs ray")
pytestmark = pytest.mark.timeout(600)

GRID = "method=uniform,gradvac task=tiny,tiny/sampled seed=0"
SECONDS = 240
"""Until what must happen has happened, on a machine that has other things to do."""


def place_of(process: int) -> int:
    """The parent of a process: of an agent, the worker of Ray that has started it."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_cell_whose_worker_is_killed_goes_on_and_ends_like_an_undisturbed_one(
    commands: Commands, tiny: Path, tmp_path: Path
) -> None:
    results, gate = tmp_path / "results", tmp_path / "gate"
    words = f"run --plugin {tiny} {GRID} results={results} against=none on=ray checkpoint_steps=5"
    environment = {"TINY_GATE": f"0 {gate} {results}", "RAY_TMPDIR": os.environ.get("RAY_TMPDIR", "/tmp")}
    started = commands.start(words, tmp_path, environment)
    try:
        until(lambda: files(results, "checkpoint.pt"), SECONDS)
        (checkpoint, *_) = files(results, "checkpoint.pt")
        agent = int(checkpoint.with_name(REPORTS).read_text().split('"process": ')[1].split("}")[0])
        os.kill(place_of(agent), signal.SIGKILL)
        until(lambda: "once more" in started.output_file.read_text(), SECONDS)
    finally:  # without the gate, the command ends by itself
        gate.touch()
    ended = started.wait()
    assert ended.code == 0, ended.output
    assert "once more: its worker was lost" in ended.output
    assert curves(results) == undisturbed(GRID, tmp_path / "undisturbed")
    (again,) = [record for record in mtlbench.records(results) if record.provenance and record.provenance.resumed]
    assert again.id == checkpoint.parent.name.rpartition("-")[2]
    assert not files(results, SENT) + files(results, REPORTS)


def test_a_cluster_that_is_not_there_is_told(commands: Commands, tiny: Path, tmp_path: Path) -> None:
    words = f"run --plugin {tiny} method=uniform task=tiny on=ray ray.address=127.0.0.1:1"
    ended = commands.start(words, tmp_path).wait()
    assert ended.code == 2
    assert "Ray cannot be reached at 127.0.0.1:1" in ended.output
    assert "Traceback" not in ended.output
    assert not files(tmp_path / "runs")
