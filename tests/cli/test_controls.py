"""`mtlbench controls`: what it says, its exit code, its page; cells that are finished are judged as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from handmade import record

from mtlbench.cells.request import parse
from mtlbench.cli.main import main
from mtlbench.record.schema import Record

NOISE = (0.1, -0.4, 0.3, 0.0)
OTHER = (-0.2, 0.1, -0.1, 0.3)


def finished(results: Path, method: str, scores: Sequence[float]) -> None:
    """Cells of controls/twin, one for each seed."""
    for seed, score in enumerate(scores):
        (cell,) = parse([f"method={method}", "task=controls/twin", f"seed={seed}", "against=none"]).cells
        curve = {"left": score - 1.0, "right": score + 1.0}
        folder = cell.folder(results)
        folder.mkdir(parents=True)
        record(cell=cell, curves=[(curve, curve)]).save(folder)


@pytest.fixture
def judged(tmp_path: Path, capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str]]:
    """The command on finished cells in which twin is better by some points: exit code and output."""

    def run(gain: float, *words: str) -> tuple[int, str]:
        results = tmp_path / f"by {gain}"
        finished(results, "uniform", [90 + noise for noise in NOISE])
        finished(results, "twin", [90 + gain + noise for noise in OTHER])
        with pytest.raises(SystemExit) as ended:
            main(["controls", "twin", "seed=0..3", f"results={results}", *words])
        return int(ended.value.code or 0), capsys.readouterr().out

    return run


def test_what_holds_is_told_with_its_numbers_below_the_tables(judged: Callable[..., tuple[int, str]]) -> None:
    code, output = judged(0.0)
    assert code == 0
    assert output.index("controls/twin, protocol twin@1") < output.index("holds  twin is not told apart from uniform: ")
    assert "holds  uniform is not told apart from itself under other seeds: " in output
    assert "2 of 2 expectations hold." in output


def test_what_does_not_hold_fails_the_command(judged: Callable[..., tuple[int, str]]) -> None:
    code, output = judged(9.0, "--quiet")
    assert code == 1
    assert "fails  twin is not told apart from uniform: +9" in output
    assert "1 of 2 expectations hold." in output
    assert "protocol twin@1" not in output  # no tables where they are not wanted


def test_the_page_has_why_what_was_found_and_the_tables(judged: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    judged(9.0, "--quiet", f"--out={tmp_path}/page/README.md")
    page = (tmp_path / "page" / "README.md").read_text()
    assert page.startswith("# Standing controls\n")
    for text in ("## controls/twin", "has grown from rounding", "| **fails** |", "| holds |", "| twin | 4 |"):
        assert text in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["twni"], "Did you mean 'twin'"),
        (["controls/large"], "Unknown control 'controls/large'"),
        (["twin", "method=uniform"], "Unknown key 'method'"),
        (["twin", "seed=x"], "seed=x is not allowed"),
        (["twin", "--out=page.html"], "page.html is no Markdown file"),
    ],
)
def test_what_is_no_control_and_no_word_of_it_is_refused_before_anything_is_trained(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        main(["controls", *words])
    assert message in " ".join(capsys.readouterr().err.split())
    assert not [*tmp_path.iterdir()]


def test_cells_that_are_not_there_are_trained(
    command: Callable[..., Any], tmp_path: Path, train: Callable[..., Record]
) -> None:
    """Two seeds of the shortest control, without its rows that are there."""
    for method in ("pcgrad", "gradvac", "mgda"):
        for seed in range(2):
            words = f"method={method} task=controls/surgery seed={seed} against=none"
            (cell,) = parse(words.split()).cells
            folder = cell.folder(tmp_path / "runs")
            folder.mkdir(parents=True)
            scores = {"loud": 0.2, **{f"quiet_{k}": 0.2 + seed / 100 for k in range(1, 5)}}
            made = record(cell=cell, curves=[(scores, scores)] * 3)
            made.save(folder)
    told = command("controls surgery seed=0,1 jobs=1 --quiet")
    assert told.code == 1
    assert "of 3 expectations hold" in told.output
    assert len([*(tmp_path / "runs").rglob("uniform/*/record.json")]) == 2
