"""A grid on a real Slurm of one node: preempted, its launcher killed, and the same to the bit as on this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm_node
from conftest import Commands, Started, curves, files
from test_survival import undisturbed, until

import mtlbench
from mtlbench.record.sent import REPORTS, SENT
from mtlbench.running.launchers import arrays

GRID = "method=uniform,gradvac,single_task task=tiny,tiny/sampled seed=0,1"
SECONDS = 240
"""Until what must happen has happened, on a machine that has other things to do."""

submitit = pytest.importorskip("submitit", reason="needs submitit")
pytestmark = [pytest.mark.skipif(bool(slurm_node.missing()), reason=slurm_node.missing()), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    """The variables of a node with three cores."""
    folder = Path(tempfile.mkdtemp(prefix="slurm"))  # sockets have short names
    try:
        with slurm_node.node(folder, cpus=3) as variables:
            yield variables
    finally:
        shutil.rmtree(folder)


def asked(slurm: dict[str, str], *command: str) -> str:
    done = subprocess.run(command, env={**os.environ, **slurm}, capture_output=True, text=True, check=True)
    return done.stdout


def queued(slurm: dict[str, str], *states: str) -> list[str]:
    """The numbers of the jobs in some states."""
    option = f"--states={','.join(states) or 'PENDING,RUNNING,COMPLETING'}"
    return asked(slurm, "squeue", "--noheader", "--array", option, "--format=%i").split()


def said(started: Started, text: str) -> bool:
    """Whether a command has printed it; one that has just been started has no file of what it prints yet."""
    return started.output_file.exists() and text in started.output_file.read_text()


def count(status: str, told: str) -> int:
    """How many cells `mtlbench status` says to be so."""
    return sum(int(number) for number in re.findall(rf"(\d+) {status}\b", told))


def trains(results: Path) -> list[Path]:
    """What is reported of the cells that have begun to train."""
    return [path for path in files(results, REPORTS) if '"progress"' in path.read_text()]


def test_a_grid_preempted_and_left_alone_ends_like_an_undisturbed_one(
    slurm: dict[str, str], commands: Commands, tiny: Path, tmp_path: Path
) -> None:
    results, gate = tmp_path / "results", tmp_path / "gate"
    words = f"run --plugin {tiny} {GRID} results={results} against=none on=slurm slurm.poll=0.5 slurm.partition=all"
    environment = {**slurm, "TINY_GATE": f"0 {gate} {results}"}

    first = commands.start(words, tmp_path, environment)
    until(lambda: len(trains(results)) == 3, SECONDS)
    first.kill()
    first.wait()
    told = commands.start(f"status results={results}", tmp_path, slurm).wait().output
    assert (count("running", told), count("queued", told)) == (3, 9), told

    second = commands.start(words, tmp_path, environment)
    until(lambda: said(second, "training"), SECONDS)
    assert len(queued(slurm)) == 12
    victim = queued(slurm, "RUNNING")[0]
    subprocess.run(["scancel", "--signal=TERM", "--full", victim], env={**os.environ, **slurm}, check=False)
    gate.touch()
    ended = second.wait()
    assert ended.code == 0, ended.output
    assert f"job {victim} of Slurm" in ended.output
    assert "once more" in ended.output
    assert len([*(results / arrays.FOLDER).iterdir()]) == 1
    assert curves(results) == undisturbed(GRID, tmp_path / "undisturbed")
    assert sum(record.provenance.resumed for record in mtlbench.records(results) if record.provenance) == 1
    assert not files(results, SENT) + files(results, REPORTS)


def test_a_cancelled_job_saves_its_checkpoint_and_does_not_come_back(
    slurm: dict[str, str], commands: Commands, tiny: Path, tmp_path: Path
) -> None:
    results, gate = tmp_path / "results", tmp_path / "gate"
    words = f"run --plugin {tiny} method=uniform task=tiny results={results} on=slurm slurm.poll=0.5"
    started = commands.start(words, tmp_path, {**slurm, "TINY_GATE": f"0 {gate} {results}"})
    until(lambda: trains(results), SECONDS)
    asked(slurm, "scancel", *queued(slurm, "RUNNING"))
    gate.touch()
    ended = started.wait()
    assert ended.code == 1, ended.output
    assert "interrupted uniform on tiny/plain" in ended.output
    assert len(files(results, "checkpoint.pt")) == 1
    until(lambda: not queued(slurm), SECONDS)


def test_a_partition_that_is_not_there_is_told_and_nothing_is_trained(
    slurm: dict[str, str], commands: Commands, tiny: Path, tmp_path: Path
) -> None:
    words = f"run --plugin {tiny} method=uniform task=tiny results={tmp_path / 'results'} on=slurm slurm.partition=none"
    ended = commands.start(words, tmp_path, slurm).wait()
    assert ended.code == 2
    assert "invalid partition" in ended.output
    assert "Traceback" not in ended.output
    assert not queued(slurm)
