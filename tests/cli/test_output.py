"""What reaches the screen: foreign text does nothing to it, no encoding and no path ends a command in a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

import mtlbench.cli.main
from mtlbench.cells.request import parse
from mtlbench.cli import console
from mtlbench.cli.table import destination
from mtlbench.errors import UsageError
from mtlbench.record.schema import CellInfo, Record

MTLBENCH = str(Path(sys.executable).with_name("mtlbench"))
HALF = "\ud800"
HOSTILE = "\x1b]0;title\x07 \x1b[31mred\x9b2J \u202etxet\u2066 a\rb\tc [bold]loud[/] \\[x] [/nothing]"


def assert_harmless(output: str) -> None:
    """No control character but the line's end, nothing that turns the direction of writing, brackets as written."""
    assert not [c for c in output.replace("\n", "") if not c.isprintable()]
    assert "[bold]loud[/]" in output


def test_foreign_text_is_shown_as_it_reads_and_does_nothing(capsys: pytest.CaptureFixture) -> None:
    console.error(f"{HOSTILE}{HALF}\n  a second line")
    output = capsys.readouterr().err
    assert_harmless(output)
    assert "\n  a second line" in output
    assert "\\[x]" in output
    console.warn(console.console_of(), [f"{HOSTILE}\na second line"])
    (line,) = capsys.readouterr().out.splitlines()
    assert_harmless(line)
    assert "a b c" in line


def test_the_reason_in_somebody_elses_record_does_nothing_to_the_terminal(
    command: Callable[..., Any], tmp_path: Path, tiny: Path
) -> None:
    (cell,) = parse(["method=uniform", "task=tiny"]).cells
    folder = cell.folder(tmp_path / "runs")
    folder.mkdir(parents=True)
    Record(id=cell.id, status="error", reason=HOSTILE, cell=CellInfo(**cell.canonical())).save(folder)
    for words in ("status", "table"):
        told = command(words)
        assert "Traceback" not in told.output
        assert_harmless(told.output)


def test_what_a_task_raises_does_nothing_to_the_terminal(
    command: Callable[..., Any], tmp_path: Path, tiny: Path
) -> None:
    (tmp_path / "hostile.py").write_text(
        "import mtlbench\n"
        "@mtlbench.register_method('hostile')\n"
        "class Hostile(mtlbench.LossWeighting):\n"
        f"    def scalarize(self, losses): raise RuntimeError({HOSTILE!r})\n"
    )
    for quiet in ("", "--quiet"):
        ran = command(f"run --plugin {tiny} --plugin hostile.py method=hostile task=tiny against=none {quiet}")
        assert ran.code == 1
        assert_harmless(ran.output)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize(
    "words",
    ["table task=multimnist/digits", "table task=multimnist/digits --format md", "table --help", "show gradvac"],
)
def test_what_an_encoding_lacks_is_replaced(tmp_path: Path, encoding: str, words: str) -> None:
    (tmp_path / "runs").symlink_to(ROOT / "results")
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [MTLBENCH, *words.split()]
    ran = subprocess.run(command, capture_output=True, cwd=tmp_path, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr
    assert b"Traceback" not in ran.stderr
    assert ran.stdout.decode(encoding)
    if encoding == "ascii" and "table task" in words:
        assert b"?" in ran.stdout


def test_a_run_on_a_terminal_without_unicode_ends_well(tiny: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [MTLBENCH, "run", "--plugin", tiny, "method=uniform", "task=tiny"]
    ran = subprocess.run(command, capture_output=True, cwd=tmp_path, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr
    assert b"tiny/plain, protocol short@1" in ran.stdout


LONG = "x" * 300


@pytest.mark.parametrize(
    "words",
    [
        f"status results={LONG}",
        "status results=~nosuchuser",
        f"table results={LONG}",
        "table results=~nosuchuser/x",
        f"table results={ROOT}/results --out {LONG}.md",
        f"table results={ROOT}/results task=multimnist/digits --out ~nosuchuser/x.md",
        f"run method=uniform task=multimnist results={LONG}",
        "run method=uniform task=multimnist results=~nosuchuser",
        f"run method=uniform task=multimnist data_root={LONG}",
        f"run method=uniform task=multimnist/mnist data_root={LONG}",
        "run method=uniform task=multimnist data_root=~nosuchuser",
        f"run {LONG}.yaml",
        "run ~nosuchuser/x.yaml",
        "run pipe.yaml",
        "run /dev/zero.yaml",
        f"show gradvac --plugin {LONG}.py",
        "show gradvac --plugin ~nosuchuser.py",
        "show gradvac --plugin pipe.py",
        f"list --plugin {LONG}.py --plugin ~nosuchuser/x.py --plugin pipe.py",
        f"data status data_root={LONG}",
        "data status data_root=~nosuchuser",
        f"data verify multimnist/mnist data_root={LONG}",
        f"data fetch multimnist/mnist data_root={LONG}",
        f"new method {LONG}",
        f"check {LONG}.py",
        "check ~nosuchuser/x.py",
        "check pipe.py",
        f"bench tables records=1 --out {LONG}.json",
        "bench tables records=1 --out ~nosuchuser/x.json",
    ],
)
def test_no_path_ends_a_command_in_a_traceback(command: Callable[..., Any], tmp_path: Path, words: str) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    os.mkfifo(tmp_path / "pipe.py")
    told = command(words)
    assert "Traceback" not in told.output
    assert told.code in (0, 2)
    if told.code == 2:
        assert "error: " in told.output
    assert not (tmp_path / "~nosuchuser").exists()


def test_an_error_of_the_disk_names_the_file_and_a_mistake_of_ours_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    def fail(error: Exception) -> None:
        def command(options: Any) -> int:
            raise error

        monkeypatch.setattr(mtlbench.cli.main, "_command", lambda name: command)
        mtlbench.cli.main.main(["list"])

    with pytest.raises(SystemExit, match="2"):
        fail(PermissionError(13, "Permission denied", str(tmp_path / "file")))
    assert capsys.readouterr().err == f"error: {tmp_path}/file: Permission denied.\n"
    for mistake in (
        FileNotFoundError(2, "No such file or directory", str(Path(console.__file__).with_name("gone.template"))),
        OSError(9, "Bad file descriptor"),
        ValueError("a number"),
    ):
        with pytest.raises(type(mistake)):
            fail(mistake)


def test_where_runs_is_empty_the_committed_results_are_pointed_at(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "results").symlink_to(ROOT / "results")
    hint = "No cells under runs; there are some under results: add results=results."
    assert hint in command("status").output
    refused = command("table")
    assert refused.code == 2
    assert hint in refused.output
    assert "multimnist/digits" in command("status results=results").output


def test_a_folder_of_results_may_have_a_comma(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "a,b").symlink_to(ROOT / "results")
    assert "multimnist/digits" in command("status results=a,b").output
    (tmp_path / "c,d" / "mnist").mkdir(parents=True)
    assert f"data root: {tmp_path}/c,d" in command(f"data status multimnist data_root={tmp_path}/c,d").output


@pytest.mark.parametrize(
    ("out", "stated", "expected"),
    [
        (None, None, ("terminal", None)),
        (None, "latex", ("tex", None)),
        ("t.latex", "latex", ("tex", "t.latex")),
        ("t", "md", ("md", "t")),
        ("t.txt", "csv", ("csv", "t.txt")),
        ("t.MD", None, ("md", "t.MD")),
        ("t.tex", "latex", ("tex", "t.tex")),
        ("tables", None, ("folder", "tables")),
        ("tables.v2/", None, ("folder", "tables.v2")),
        ("there.md", None, ("folder", "there.md")),
    ],
)
def test_a_stated_format_is_a_file_and_a_name_without_ending_is_a_folder(
    out: str | None, stated: str | None, expected: tuple[str, str | None], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.md").mkdir()
    form, path = destination(out, stated)
    assert (form, path and str(path)) == expected


@pytest.mark.parametrize(
    ("out", "stated", "message"),
    [
        ("t.latex", None, r"t\.latex ends in no format.*\.md, \.csv, \.tex, \.html, \.json"),
        ("t.md", "csv", r"ends in \.md and --format says csv"),
        ("there", "md", "is a folder"),
        ("t.txt", "terminal", "for the screen alone"),
    ],
)
def test_an_ending_that_is_no_format_and_contradictions_are_refused(
    out: str, stated: str | None, message: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError, match=message):
        destination(out, stated)


def test_a_table_with_a_stated_format_is_one_file_whatever_its_name(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    written = command(f"table results={ROOT}/results task=multimnist/digits --out t.latex --format latex")
    assert written.code == 0, written.output
    assert r"\begin{tabular}" in (tmp_path / "t.latex").read_text() or "longtable" in (tmp_path / "t.latex").read_text()
