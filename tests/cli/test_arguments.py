"""What may be typed: options anywhere, help for those who type nothing, the nearest name for those who mistype."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from mtlbench.cli.arguments import parse
from mtlbench.cli.examples import EXAMPLES
from mtlbench.errors import UsageError

COMMANDS = [name for name in EXAMPLES if name]


@pytest.mark.parametrize("words", ["", "list", "--help", "--version", *(f"{name} --help" for name in COMMANDS)])
def test_list_and_help_answer_without_importing_torch_or_yaml(words: str) -> None:
    code = (
        "import sys; import mtlbench.cli.main\n"
        f"try:\n    mtlbench.cli.main.main({words.split()!r})\n"
        "finally:\n    print([m for m in ('torch', 'numpy', 'yaml', 'pydantic') if m in sys.modules], file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr.splitlines()[-1] == "[]"
    assert result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_teaches_by_example(command: Callable[..., Any], name: str) -> None:
    assert f"  mtlbench {name}" in command(f"{name} --help").output.split("examples")[1]


@pytest.mark.parametrize("name", EXAMPLES)
def test_help_fits_a_terminal_of_80_columns(command: Callable[..., Any], name: str) -> None:
    assert max(map(len, command(f"{name} --help", COLUMNS="80").output.splitlines())) <= 80


def test_bare_mtlbench_shows_the_help(command: Callable[..., Any]) -> None:
    bare = command("")
    assert bare.code == 0
    assert bare.output == command("--help").output


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "run method=a --quiet task=b --plugin p.py seed=0",
            {"words": ["method=a", "task=b", "seed=0"], "quiet": True},
        ),
        ("run --retry method=a --plugin p.py task=b", {"words": ["method=a", "task=b"], "plugin": ["p.py"]}),
        ("--quiet run method=a task=b", {"words": ["method=a", "task=b"], "quiet": True}),
        ("table task=a --against b method=c --all-metrics", {"words": ["task=a", "method=c"], "against": "b"}),
        ("data --files status nmt data_root=d", {"words": ["nmt", "data_root=d"], "action": "status", "files": True}),
        ("data status nmt -v data_root=d", {"words": ["nmt", "data_root=d"], "action": "status", "files": True}),
        ("list --plugin p.py tasks", {"what": "tasks", "plugin": ["p.py"]}),
        ("list", {"what": None, "plugin": []}),
        ("show --plugin p.py nmt", {"name": "nmt"}),
        ("bench steps --out f.json K=4 --plugin p.py method=a", {"words": ["steps", "K=4", "method=a"]}),
        ("status", {"words": []}),
    ],
)
def test_options_may_stand_between_words_and_before_the_command(words: str, expected: dict[str, Any]) -> None:
    options = vars(parse(words.split()))
    assert {key: options[key] for key in expected} == expected


def test_a_command_that_there_is_not_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"Unknown command 'staus'\. Did you mean 'status'"):
        parse(["staus", "results=x"])


@pytest.mark.parametrize("words", ["show", "new method", "data", "run --loud", "list metods", "data stat", "--quiet"])
def test_arguments_that_are_missing_or_unknown_end_with_the_usage(words: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse(words.split())
    assert "usage: mtlbench" in capsys.readouterr().err
