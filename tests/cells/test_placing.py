"""Where cells are trained is a word of the run: checked before anything is written, and in no identity."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtlbench.cells.placing import Place, RayWords, SlurmWords
from mtlbench.cells.request import parse
from mtlbench.errors import UsageError

CELL = "method=uniform task=tiny"


def test_places_and_devices_are_in_no_identity(tiny: Path) -> None:
    here = [cell.id for cell in parse(CELL.split()).cells]
    for words in ("on=slurm slurm.partition=gpu slurm.time=1:00", "on=ray ray.cpus=2", "device=cuda:0,cuda:1"):
        assert [cell.id for cell in parse(f"{CELL} {words}".split()).cells] == here


def test_words_of_slurm_are_whole_texts_from_a_file_too(tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text(
        "method: uniform\ntask: tiny\non: slurm\n"
        'slurm: {exclude: "n1,n2", time: 1:30:00, constraint: "a&b", mem: 8G, grace: 30, setup: "module load x, y"}\n'
    )
    options = {"exclude": "n1,n2", "time": "1:30:00", "constraint": "a&b", "mem": "8G"}
    expected = Place("slurm", slurm=SlurmWords(options=options, setup="module load x, y", grace=30))
    assert parse([str(file)]).place == expected


def test_words_of_ray(tiny: Path) -> None:
    found = parse(f"{CELL} on=ray ray.address=h:1 ray.gpus=0.5 ray.memory=2 ray.tries=3".split()).place
    assert found == Place("ray", ray=RayWords(address="h:1", gpus=0.5, memory=2.0, tries=3))


def test_several_gpus_are_devices_from_a_file_too(tiny: Path, tmp_path: Path) -> None:
    assert parse(CELL.split()).devices == ("cpu",)
    assert parse(f"{CELL} device=cuda:0,cuda:1".split()).devices == ("cuda:0", "cuda:1")
    file = tmp_path / "grid.yaml"
    file.write_text("method: uniform\ntask: tiny\ndevice: [cuda:0, cuda:1]\n")
    assert parse([str(file)]).devices == ("cuda:0", "cuda:1")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("on=cloud", "on=cloud is not allowed: it is one of local, slurm, ray"),
        ("slurm.time=5", r"slurm.time= means nothing with on=local; say on=slurm"),
        ("on=ray slurm.time=5", "slurm.time= means nothing with on=ray"),
        ("on=slurm slurm.partitoin=gpu", "Did you mean 'slurm.partition'"),
        ("on=slurm slurm.grace=-1", "slurm.grace=-1 is not allowed"),
        ("on=slurm slurm.grace=70000", "at most 65535"),
        ("on=slurm slurm.poll=nan", "slurm.poll=nan is not allowed"),
        ("on=ray ray.gpus=inf", "ray.gpus=inf is not allowed"),
        ("on=ray ray.tries=0", "ray.tries=0 is not allowed"),
        ("device=cuda:0,cuda:0", "several are GPUs by their numbers"),
        ("device=cuda,cuda:1", "several are GPUs by their numbers"),
        ("device=cpu,cpu", "several are GPUs by their numbers"),
        ("device=cuda:0,gpu", "device=gpu is not allowed"),
        ("on=slurm device=cuda:0,cuda:1", "on=slurm gives each cell a GPU of its own: say device=cuda"),
    ],
)
def test_words_that_mean_nothing_are_refused(tiny: Path, words: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        parse(f"{CELL} {words}".split())


def test_a_line_of_setup_is_one_line(tiny: Path) -> None:
    with pytest.raises(UsageError, match="more than one line"):
        parse([*CELL.split(), "on=slurm", "slurm.comment=a\n#SBATCH --uid=0"])
