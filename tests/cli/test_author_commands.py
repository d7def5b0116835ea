"""What authors of methods and tasks type: `new`, `check`, `bench`; and the examples that the README gives."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from mtlbench.bench.result import Bench
from mtlbench.bench.words import run_bench
from mtlbench.errors import UsageError

README = ROOT / "README.md"


def test_a_new_method_and_a_new_task_run_together_as_written(command: Callable[..., Any], tmp_path: Path) -> None:
    assert command("new method my_idea").code == 0
    assert command("new task my_task").code == 0
    done = command(
        "run --plugin my_idea.py --plugin my_task.py method=my_idea,uniform,gradvac task=my_task protocol.epochs=1"
    )
    assert done.code == 0, done.output
    assert re.search(r"my_idea +1 ", done.output)


def test_new_never_overwrites_and_refuses_a_name_that_is_taken(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "my_idea.py").write_text("precious")
    refused = command("new method my_idea")
    assert refused.code == 2
    assert (tmp_path / "my_idea.py").read_text() == "precious"
    assert "already" in command("new method gradvac").output
    assert command(["new", "method", "my idea"]).code == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["my_idea.py"]


def test_check_passes_the_skeleton_and_fails_a_method_with_an_absolute_epsilon(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    command("new method my_idea")
    assert command("check my_idea.py").code == 0
    text = (tmp_path / "my_idea.py").read_text()
    (tmp_path / "worse.py").write_text(
        text.replace('"my_idea"', '"worse"').replace("(mean / norms)", "(mean / (norms + 1e-3))")
    )
    failed = command("check worse.py")
    assert failed.code == 1
    assert "violated        multiplying all losses by one number multiplies the update by it: " in failed.output


def test_check_tries_the_tasks_of_a_file_and_fails_one_that_shares_too_little(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    command("new task my_task")
    whole = command("check my_task.py")
    assert whole.code == 0, whole.output
    assert "my_task\n  holds           is built" in whole.output
    assert "violated" not in whole.output
    text = (tmp_path / "my_task.py").read_text()
    shared = 'name.startswith("encoder.")'
    assert shared in text
    (tmp_path / "less.py").write_text(
        text.replace('"my_task"', '"less"').replace(shared, 'name.startswith("encoder.0.")')
    )
    failed = command("check --plugin less.py less/small")
    assert failed.code == 1
    assert "violated        shares the parameters that several objectives reach, and no others: " in failed.output


def test_check_tries_strategies_and_other_parameters(command: Callable[..., Any], tmp_path: Path) -> None:
    assert "error: unimax needs sampling.repeats" in command("check unimax").output
    done = command("check unimax sampling.repeats=2")
    assert done.code == 0, done.output
    assert "holds           permuting the objectives permutes the shares" in done.output
    assert "not applicable  copes with losses of any size, equal ones, and zeros: it sees no losses" in done.output
    done = command(["check", "scalarization", "method.weights=[1,3]"])
    assert done.code == 0, done.output
    assert "the update stays: not promised, every objective has its own weight" in done.output
    for words, message in (
        ("check pcgrad sampling.repeats=2", "no sampling is named here"),
        ("check pcgrad method.shuffle=true,false", "has 2 values"),
        ("check pcgrad method.shufle=true", "shufle"),
        ("check pcgrad treated=0", "Unknown key"),
    ):
        refused = command(words)
        assert refused.code == 2
        assert message in refused.output


def test_check_says_what_is_declared_and_how_to_declare_it(command: Callable[..., Any], tmp_path: Path) -> None:
    command("new method my_idea")
    text = (tmp_path / "my_idea.py").read_text()
    line = '"plain_sum": "gradients are made equally long",'
    assert line in text
    (tmp_path / "hides.py").write_text(text.replace('"my_idea"', '"hides"').replace(line, '"order": "no reason",'))
    failed = command("check hides.py")
    assert failed.code == 1
    assert "the update stays: not promised, no reason; held in every trial" in failed.output
    assert "not promised, a sum of equally long gradients may oppose one of them\n" in failed.output
    assert "exceptions = {'plain_sum': 'why, in a few words'}" in failed.output
    (tmp_path / "wrong.py").write_text(text.replace('"my_idea"', '"wrong"').replace(line, '"plain": "sum",'))
    assert "wrong: exceptions names 'plain', which is none of alone, order" in command("check wrong.py").output


def test_check_names_what_it_does_not_know(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "nothing.py").touch()
    for word, message in (
        ("gradvc", "Did you mean 'gradvac'"),
        ("multimnist/mnst", "Did you mean 'mnist'"),
        ("multimnist/mnist", "mtlbench data fetch multimnist/mnist"),
        ("nothing.py", "registers no method, task or strategy of sampling"),
    ):
        refused = command(f"check {word}")
        assert refused.code == 2
        assert message in refused.output


def test_bench_writes_its_record_and_prints_ratios(command: Callable[..., Any], tmp_path: Path) -> None:
    done = command("bench K=2,3 P=1e3 method=gradvac repeats=2 memory=no --out bench.json")
    assert done.code == 0, done.output
    assert "whole/floor" in done.output
    assert [row.labels["K"] for row in Bench.from_json((tmp_path / "bench.json").read_text()).rows] == [2, 3]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["K=x"], "whole number"),
        (["K=2.5"], "whole number"),
        (["steps", "P=10"], "Unknown key 'P'"),
        (["memory=perhaps"], "yes or no"),
        (["device=cpu,cuda"], "one value"),
        (["method=uniform"], "no weights for a Gramian"),
        (["layout=al_layer"], "all_layer"),
    ],
)
def test_bench_refuses_bad_words(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run_bench(words)


def test_the_training_loop_of_the_readme_and_its_recipes_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(blocks[0], names)
    assert all(p.grad is not None for p in names["parameters"])
    assert 0 <= float(names["gradvac"].corrected) <= float(names["gradvac"].visited) == 2 * 10  # one layer, one group
    for block in blocks[1:]:
        exec(block, names)
    assert float(names["gradvac"].visited) == 2 * (10 + 4 + 1)
    assert [record.id for record in names["finished"]] == [names["record"].id]
    assert len(names["tables"]) == 1
