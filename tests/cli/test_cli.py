"""The commands as people type them: quick to answer, quiet when asked, plain without a terminal."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import files

from mtlbench.catalogue.data import datasets
from mtlbench.cells.request import parse
from mtlbench.cli.main import main
from mtlbench.record.reading import load
from mtlbench.record.schema import Record

MTLBENCH = str(Path(sys.executable).with_name("mtlbench"))


def test_show_describes_a_method(command: Callable[..., Any]) -> None:
    shown = command("show gradvac")
    assert shown.code == 0
    for text in ("arXiv:2010.05874", "method.beta", "float in (0, 1]", "0.01", "method.target", "GramianWeighting"):
        assert text in shown.output
    assert "It takes no parameters" in command("show uniform").output


def test_show_says_what_a_step_on_the_representation_costs(command: Callable[..., Any]) -> None:
    said = " ".join(command("show mgda").output.split())
    assert "wrt=representation K passes through the heads and 1 through the encoder; an approximation" in said
    assert "wrt=representation no: it measures" in " ".join(command("show gradnorm").output.split())
    assert "wrt=representation no: it multiplies" in " ".join(command("show modo").output.split())
    assert "wrt=" not in command("show uniform").output


def test_show_says_what_a_method_does_not_promise_for_what_its_defaults_build_on(command: Callable[..., Any]) -> None:
    """That of the base of `cr_mogm`, which its class does not know."""
    assert "the shortest gradient has the most weight" in " ".join(command("show cr_mogm").output.split())


def test_show_describes_a_task_and_its_protocols(command: Callable[..., Any], tiny: Path) -> None:
    shown = command("show multimnist")
    assert shown.code == 0
    for text in ("multimnist/digits", "default", "multimnist/mnist", "MNIST", "sener2018@1", "batch_size: 256"):
        assert text in shown.output
    for text in ("optimizer.lr: 0.003", "optimizer.betas: [0.9,0.999]", "clip_norm: none"):  # as they are typed
        assert text in shown.output
    assert "{" not in shown.output
    assert "long@2" in command(f"show tiny --plugin {tiny}").output
    assert "compared with uniform" in command("show nmt").output
    one = command("show multimnist/mnist").output
    assert "sener2018@1" in one
    assert "multimnist/digits" not in one
    assert "digits@1" not in one
    assert "Did you mean 'mnist'" in command("show multimnist/mnst").output


def test_a_broken_plug_in_is_named_with_its_error_and_hides_nothing(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    listed = command("list --plugin broken.py --plugin absent.py")
    assert listed.code == 0
    for text in ("broken.py", "nothing_of_that_name", "absent.py", "no such file", "gradvac", "multimnist"):
        assert text in listed.output
    assert "Traceback" not in listed.output


def test_status_tells_what_is_finished_interrupted_and_failed(
    command: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    assert "No cells under runs" in command("status").output
    command(f"run --plugin {tiny} method=uniform task=tiny,tiny/raises seed=0,1")
    (cell,) = parse(["method=gradvac", "task=tiny"]).cells
    folder = cell.folder(tmp_path / "runs")
    folder.mkdir(parents=True)
    (folder / "checkpoint.pt").touch()
    told = command("status")
    assert told.code == 0
    for text in ("2 finished", "2 error", "1 interrupted", "RuntimeError: the fifth step"):
        assert text in told.output


@pytest.fixture
def two_rows(command: Callable[..., Any], train: Callable[..., Record], tmp_path: Path) -> Path:
    """A results folder with two finished cells of the tiny task."""
    for method in ("uniform", "gradvac"):
        (cell,) = parse([f"method={method}", "task=tiny"]).cells
        folder = cell.folder(tmp_path / "runs")
        folder.mkdir(parents=True)
        train(f"method={method} task=tiny", folder).save(folder)
    return tmp_path / "runs"


def test_a_table_is_written_as_markdown(command: Callable[..., Any], two_rows: Path, tmp_path: Path) -> None:
    printed = command("table task=tiny --format md")
    assert printed.code == 0
    written = command("table task=tiny/plain --format md --out tables/tiny.md")
    assert written.code == 0
    assert (tmp_path / "tables" / "tiny.md").read_text() == printed.output
    assert "| gradvac | 1 |" in printed.output


def test_a_table_holds_what_was_asked_for(command: Callable[..., Any], two_rows: Path) -> None:
    only = command("table method=gradvac --format md").output
    assert "| gradvac |" in only
    assert "| uniform |" not in only
    nothing = command("table protocol=long")
    assert nothing.code == 2
    assert "tiny/plain" in nothing.output


def test_data_status_is_one_line_for_each_data_set_unless_files_are_asked_for(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    told = command("data status nmt")
    assert told.code == 0
    root, *lines = told.output.splitlines()
    assert "MTLBENCH_DATA" in root
    assert [line.split(":")[0] for line in lines] == [*datasets("nmt")]
    assert "multi30k: 22 missing (Multi30k" in told.output
    assert "65 missing (all optional)" in told.output
    folder = tmp_path / datasets("multimnist")["mnist"].folders[0]
    folder.mkdir(parents=True)
    (folder / "train-labels-idx1-ubyte.gz").touch()
    assert "mnist: 1 present, 3 missing" in command(f"data status multimnist/mnist data_root={tmp_path}").output
    for option in ("-v", "--files"):
        assert "missing  train-images-idx3-ubyte.gz" in command(f"data {option} status multimnist/mnist").output
    assert "embedded" in command("data status multimnist/digits").output
    assert command(f"data verify multimnist/mnist data_root={tmp_path}").code == 1


def test_data_without_a_list_of_files_is_told_by_its_folder(command: Callable[..., Any], tmp_path: Path) -> None:
    told = command(f"data verify nmt/opus100 data_root={tmp_path}")
    assert told.code == 1
    assert f"get it by hand into {tmp_path}/opus-100-corpus/v1.0/supervised" in told.output
    (tmp_path / "opus100").mkdir()
    told = command(f"data verify nmt/opus100 data_root={tmp_path}")
    assert told.code == 0  # what else the variant reads, NTREX, is optional
    assert f"opus100: present in {tmp_path}/opus100; no list" in told.output


def test_without_a_terminal_a_run_prints_plain_lines(command: Callable[..., Any], tiny: Path) -> None:
    ran = command(f"run --plugin {tiny} method=uniform,gradvac task=tiny")
    assert ran.code == 0
    assert "\x1b" not in ran.output
    assert "\r" not in ran.output
    lines = ran.output.splitlines()
    assert lines[:2] == ["note      tiny/plain: its data are random numbers", "training  uniform on tiny/plain, seed 0"]
    assert any(line.startswith("finished  gradvac on tiny/plain, seed 0") for line in lines)
    assert "tiny/plain, protocol short@1" in ran.output


def test_quiet_prints_nothing_on_success_and_failures_only(command: Callable[..., Any], tiny: Path) -> None:
    quiet = command(f"run --plugin {tiny} method=uniform task=tiny --quiet")
    assert (quiet.code, quiet.output) == (0, "")
    failed = command(f"run --plugin {tiny} method=uniform task=tiny,tiny/raises --quiet")
    assert failed.code == 1
    assert "the fifth step" in failed.output
    assert "plain" not in failed.output


def test_output_into_a_closed_pipe_is_no_error(two_rows: Path, tmp_path: Path) -> None:
    shell = f"{MTLBENCH} table --format md | head -n 1"
    result = subprocess.run(
        ["bash", "-o", "pipefail", "-c", shell], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in result.stderr
    assert "Exception" not in result.stderr


def test_status_below_the_results_folder_does_not_break(command: Callable[..., Any], two_rows: Path) -> None:
    (file,) = [f for f in files(two_rows, "record.json") if load(f).cell.method == "gradvac"]
    file.rename(file.with_name("checkpoint.pt"))
    told = command("status results=runs/tiny/plain")
    assert told.code == 0, told.output
    assert "Traceback" not in told.output
    (deeper,) = (f.parents[1] for f in files(two_rows, "checkpoint.pt"))
    assert "tiny/plain" in command(f"status results={deeper}").output


def test_ctrl_c_ends_any_command_with_a_word_and_the_code_of_an_interruption(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("mtlbench.cli.catalogue.list_names", interrupted)
    with pytest.raises(SystemExit) as end:
        main(["list"])
    assert end.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"
