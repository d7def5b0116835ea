"""`mtlbench reproduce`: a cell trained again here is the same to the bit, and a drift is told with its size."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Commands, Finished, files
from handmade import record, save

from mtlbench.cli.main import main
from mtlbench.cli.processors import page, slug
from mtlbench.record.drift import Drift, Place, cell_of, drift, read_report, siblings
from mtlbench.record.reading import cells, load
from mtlbench.record.schema import Record

TRAINED = "method=single_task,uniform task=tiny seed=0,1 against=none results=committed"


@pytest.fixture(scope="module")
def trained(tiny: Path, commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cells of the tiny task."""
    folder = tmp_path_factory.mktemp("trained")
    assert commands.start(f"run {TRAINED} --plugin {tiny} --quiet", folder).wait().code == 0
    return folder / "committed"


@pytest.fixture
def committed(trained: Path, tiny: Path, command: Callable[..., Finished], tmp_path: Path) -> Callable[..., Finished]:
    """These cells under `committed`, and the command on the first of `uniform` or another method."""
    shutil.copytree(trained, tmp_path / "committed")

    def reproduce(*words: str, method: str = "uniform", **environment: str) -> Finished:
        (folder,) = (tmp_path / "committed").glob(f"tiny/plain/short@1/{method}/seed0-*")
        return command(["reproduce", str(folder), *words, "--plugin", str(tiny)], **environment)

    return reproduce


def moved(path: Path, by: float) -> None:
    """Move one score of a record, as code of another processor would."""
    content = json.loads(path.read_text())
    content["evaluations"][1]["scores"]["test"]["a"]["mse"] += by
    path.write_text(json.dumps(content))


def test_a_cell_trained_again_here_is_the_same_to_the_bit_and_leaves_nothing(
    committed: Callable[..., Finished], tmp_path: Path
) -> None:
    before = files(tmp_path / "committed")
    for method in ("uniform", "single_task"):
        told = committed("--out", "out.json", method=method, TMPDIR=str(tmp_path))
        assert told.code == 0
        assert f"{method} on tiny/plain, seed 0 (short@1): the same to the bit" in told.output
        (found,) = read_report(tmp_path / "out.json").drifts
        assert found.is_equal
        assert found.first is None
        assert {c.name for c in found.curves} >= {"train a loss", "val a mse", "test b mse"}
        assert all(c.before == c.now for c in found.curves)
    assert files(tmp_path / "committed") == before
    assert not (tmp_path / "runs").exists()
    assert not [*tmp_path.glob("mtlbench-*")]


def test_a_drift_is_told_with_its_first_evaluation_its_size_and_the_noise_of_seeds(
    committed: Callable[..., Finished], tmp_path: Path
) -> None:
    (path,) = (tmp_path / "committed").glob("tiny/plain/short@1/uniform/seed0-*/record.json")
    moved(path, 0.25)
    told = committed("results=again", "--out", "out.json")
    assert told.code == 1
    assert "differs from the evaluation after epoch 2 on" in told.output
    (found,) = read_report(tmp_path / "out.json").drifts
    (curve,) = [c for c in found.curves if c.first is not None]
    assert (found.first, curve.name, found.seeds) == (2, "test a mse", (0, 1))
    assert curve.differences == pytest.approx((0, -0.25, 0))
    ends = [s.record.evaluations[-1].scores["test"]["a"]["mse"] for s in cells(path.parents[1]) if s.record]
    assert curve.noise == pytest.approx(abs(ends[0] - ends[1]) / 2**0.5)
    assert len(files(tmp_path / "again", "record.json")) == 1
    again = committed("results=again")  # what is finished there is compared as it stands
    assert "skipped" in again.output or "finished" in again.output
    assert again.code == 1


def test_a_cell_that_fails_here_is_told_with_a_log_that_is_there(
    tiny: Path, command: Callable[..., Finished], tmp_path: Path
) -> None:
    words = f"method=uniform task=tiny/raises results=committed --plugin {tiny} --quiet"
    assert command(f"run {words}", TINY_HEALTHY="1").code == 0
    (folder,) = (tmp_path / "committed").glob("tiny/raises/*/*/seed0-*")
    told = command(f"reproduce {folder} --plugin {tiny} --quiet --out out.json", TMPDIR=str(tmp_path))
    assert told.code == 1
    assert "RuntimeError: the fifth step" in told.output
    assert len([*tmp_path.glob("mtlbench-*/tiny/raises/*/*/seed0-*/log.txt")]) == 1
    assert "same to the bit" not in told.output
    assert not (tmp_path / "out.json").exists()


def test_kernels_that_variables_choose_are_told_as_chosen(committed: Callable[..., Finished], tmp_path: Path) -> None:
    committed("--out", "folder", "--quiet", ATEN_CPU_CAPABILITY="default", MKL_CBWR="COMPATIBLE")
    (report,) = files(tmp_path / "folder", "*.json")
    (found,) = read_report(report).drifts
    assert found.now.variables == {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"}
    assert found.now.kind.endswith("(ATEN_CPU_CAPABILITY=default, MKL_CBWR=COMPATIBLE)")
    assert report.stem == slug(found.now.kind)
    assert "uniform on tiny/plain, seed 0" in (tmp_path / "folder" / "README.md").read_text()


def test_a_folder_keeps_other_cells_and_processors_and_its_page_has_all(
    committed: Callable[..., Finished], tmp_path: Path
) -> None:
    for method in ("uniform", "single_task", "uniform"):
        committed("--out", "folder", "--quiet", "results=again", method=method)
    (report,) = files(tmp_path / "folder", "*.json")
    cells_of = [drift.cell for drift in read_report(report).drifts]
    assert cells_of == ["single_task on tiny/plain, seed 0", "uniform on tiny/plain, seed 0"]
    text = (tmp_path / "folder" / "README.md").read_text()
    assert text.count("## ") == 2
    assert text.count("**same bits**") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Which record?"),
        (["nowhere"], "nowhere cannot be read"),
        (["committed", "tune=3"], "tune=3 is no word of reproduce"),
        (["{folder}", "jobs=0"], "jobs=0 is not allowed"),
        (["{folder}", "--out", "page.html"], "page.html is no report"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (path,) = save([record()], tmp_path / "committed")
    before = files(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["reproduce", *(word.format(folder=path.parent) for word in words)])
    assert ended.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert files(tmp_path) == before


def test_records_that_are_committed_can_be_trained_again_as_the_same_cells() -> None:
    """Whatever keys protocols had when they were made."""
    root = Path(__file__).parents[2] / "results"
    found = [next(folder.glob("seed*/record.json")) for folder in sorted(root.glob("*/*/*@*/*")) if folder.is_dir()]
    assert len(found) > 20
    for path in found:
        made = load(path)
        assert cell_of(made).id == made.id


def place(**changes: Any) -> Place:
    told: dict[str, Any] = {
        "hardware": "Intel(R) Xeon(R) Processor",
        "kernels": {"instructions": "AVX512"},
        "device": "cpu",
        "precision": "float32",
        "packages": {"torch": "2.12"},
        "commit": "c" * 40,
        "dirty": False,
        "data_digest": "d",
    }
    return Place(**{**told, **changes})


def drifted(before: Record, now: Record) -> Drift:
    return drift(before, now, [before])


def test_what_else_was_another_is_told_beside_a_drift() -> None:
    one = drifted(record(), record())
    assert one.causes == []
    both = one.model_copy(
        update={"before": place(), "now": place(packages={"torch": "2.13"}, precision="bfloat16 autocast", dirty=True)}
    )
    assert both.causes == [
        "torch 2.12, now 2.13",
        "precision float32, now bfloat16 autocast",
        "files that differ from the commit",
    ]
    unequal = drifted(record(), record(curves=[({"left": 1.0, "right": 2.0}, {"left": 3.5, "right": 4.0})]))
    drifting = unequal.model_copy(update={"before": place(), "now": place(packages={"torch": "2.13"})})
    told = page([drifting])
    assert "torch 2.12, now 2.13" in told
    harmless = one.model_copy(update={"before": place(), "now": place(packages={"torch": "2.13"})})
    assert "torch 2.12, now 2.13" not in page([drifting, harmless])  # as the bits can be the same under it
    assert "| Intel(R) Xeon(R) Processor, AVX512 | 2.13 | 1 | test left accuracy | 3 | 3.5 | +0.5 | 0.5 | - |" in told


def test_the_page_compares_the_largest_drift_with_the_noise_of_seeds_and_shows_real_processors_first() -> None:
    def made(left: float) -> Record:
        return record(curves=[({"left": 1.0, "right": 2.0}, {"left": left, "right": 4.0})])

    seeds = [record(seed=s, curves=[({"left": 1.0, "right": 2.0}, {"left": s, "right": s})]) for s in (0, 2)]
    found = drift(made(3.0), made(3.5), seeds)
    chosen = found.model_copy(update={"now": place(kernels={"instructions": "AVX2", "MKL_CBWR": "AVX2"})})
    told = page([chosen, found.model_copy(update={"now": place()})])
    size = f"{0.5 / 2**0.5:.2f}"
    assert f"Largest at the last evaluation: {size} standard deviations over seeds (test left accuracy)." in told
    assert told.index("Processor, AVX512 |") < told.index("Processor, AVX2 (MKL_CBWR=AVX2) |")


def test_seeds_beside_a_record_are_of_the_same_setting_alone(tmp_path: Path) -> None:
    paths = save([*(record(seed=s) for s in range(3)), record(words="protocol.epochs=5")], tmp_path)
    assert sorted(r.cell.seed for r in siblings(paths[0], load(paths[0]))) == [0, 1, 2]
    assert [r.id for r in siblings(paths[3], load(paths[3]))] == [load(paths[3]).id]
