"""`mtlbench analyze` as a user types it: which runs it takes, what it writes and says, what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mtlbench.cli import main as cli
from mtlbench.cli.analyze import chosen
from mtlbench.errors import UsageError
from mtlbench.geometry import followed
from tests.geometry.synthetic_runs import OBJECTIVES, run, trajectory


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(2):
        run(folder, seed, recorded=trajectory(seed, steps=(0, 40)))
    run(folder, 0, "uniform", geometry=False)
    return folder


def analyze(*words: str) -> int:
    """The exit code of the command."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["analyze", *words])
    return int(ended.value.code or 0)


def seeds(words: list[str]) -> list[tuple[str, int]]:
    return sorted((run.cell.method, run.cell.seed) for run in chosen(words).runs)


def test_runs_are_named_by_folders_of_cells_and_of_results_and_by_the_words_of_tables(results: Path) -> None:
    both = [("gradvac", 0), ("gradvac", 1), ("uniform", 0)]
    assert seeds([str(results)]) == both
    assert seeds([f"results={results}"]) == both
    assert seeds([str(results), f"results={results}"]) == both
    assert seeds([str(results), "method=gradvac", "seed=1"]) == [("gradvac", 1)]
    (cell,) = results.glob("*/*/*/gradvac/seed1-*")
    for name in ("", "record.json", "geometry.npz"):
        assert seeds([str(cell / name)]) == [("gradvac", 1)]


def test_a_path_with_an_equals_sign_is_a_path(results: Path, tmp_path: Path) -> None:
    odd = tmp_path / "task=x"
    shutil.copytree(results, odd)
    assert len(seeds([str(odd)])) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "nowhere is not there"),
        (["metod=gradvac"], "metod"),
        (["method=pcgrad"], "No finished run"),
        (["task=multimnist", "seed=7"], "multimnist/digits"),
    ],
)
def test_what_fits_nothing_is_refused_in_words(
    words: list[str], said: str, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(results, tmp_path / "runs")
    with pytest.raises(UsageError, match=said):
        chosen(words)


def test_a_run_without_geometry_is_refused_with_the_word_that_records_it(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert analyze(str(results), "method=uniform", "--out", str(tmp_path / "out")) == 2
    assert "geometry.every=epoch" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options", [["--step", "never"], ["--step", "41"], ["--granularity", "rooms"], ["--kind", "true"]]
)
def test_choices_that_there_are_not_are_refused(options: list[str], results: Path, tmp_path: Path) -> None:
    assert analyze(str(results), "--out", str(tmp_path / "out"), *options) == 2
    assert not (tmp_path / "out").exists()


def test_a_file_is_no_folder_for_a_report(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "report.html").write_text("")
    assert analyze(str(results), "--out", str(tmp_path / "report.html")) == 2
    assert "is a file" in capsys.readouterr().err


def test_the_command_shows_key_numbers_and_writes_a_report_of_the_seeds(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed, "PERMUTATIONS", 99)
    assert analyze(str(results), "--step", "last", "--out", str(tmp_path / "out")) == 0
    output = capsys.readouterr().out
    assert "gradvac" in output
    assert "untrained model" in output
    assert "no geometry.npz" in output
    assert str(tmp_path / "out" / "index.html") in output.replace("\n", "")
    written = {path.suffix for path in (tmp_path / "out").rglob("*.*")}
    assert {".html", ".md", ".csv", ".svg", ".png"} <= written
    assert all(name in (tmp_path / "out" / "index.html").read_text() for name in OBJECTIVES)
