"""What a lone method is compared with: trained too, at the same seeds, where the variant or the words say so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY

import mtlbench
from mtlbench.catalogue import registry
from mtlbench.cells.request import Request, parse
from mtlbench.errors import UsageError
from mtlbench.record.schema import CellInfo, Record
from mtlbench.tables.commands import commands

LONE = """
import sys

import mtlbench
from mtlbench.catalogue import building

tiny = building.task_class("tiny")
module = sys.modules[tiny.__module__]
short = {**module.PROTOCOL, "variants": ["plain", "free"], "search": module.SEARCH}
plain = {"description": "compared with the plain sum", "protocol": "short", "against": "uniform"}
free = {"description": "compared with nothing", "protocol": "short"}


@mtlbench.register_task("lone", protocols={"variants": {"plain": plain, "free": free}, "protocols": {"short": short}})
class Lone(tiny):
    '''The tiny task with a variant that names what its methods are compared with.'''
"""


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plug-in file of the `lone` task, which needs the one of the tiny task before it."""
    file = tmp_path_factory.mktemp("plugins") / "lone.py"
    file.write_text(LONE)
    registry.load_plugin(TINY)
    registry.load_plugin(file)
    return file


def asked(words: str) -> Request:
    return parse(words.split())


def told(request: Request) -> list[tuple[str, int]]:
    return [(cell.label, cell.seed) for cell in request.cells]


def test_a_lone_method_is_joined_by_what_the_variant_compares_with_at_the_same_seeds(lone: Path) -> None:
    request = asked("method=gradvac task=lone granularity=all_layer treated=a seed=3,1 protocol.epochs=2")
    assert told(request) == [
        ("gradvac(all_layer, treated=a)", 3),
        ("uniform", 3),
        ("gradvac(all_layer, treated=a)", 1),
        ("uniform", 1),
    ]
    assert [cell.method for cell in request.added] == ["uniform", "uniform"]
    assert {cell.protocol.label for cell in request.cells} == {"short@1+epochs=2"}
    assert request.against == "uniform"
    assert [cell.id for cell in request.added] == [
        cell.id for cell in asked("method=uniform task=lone seed=3,1 protocol.epochs=2").cells
    ]


@pytest.mark.parametrize(
    "words",
    [
        "method=gradvac task=lone against=none",
        "method=gradvac,pcgrad task=lone against=none",
        "method=uniform task=lone",
        "method=uniform,gradvac task=lone",
        "method=gradvac task=lone/free",
        "method=gradvac task=multimnist",
        "method=pcgrad method.shuffle=false task=lone against=pcgrad",
    ],
)
def test_nothing_is_added_where_nothing_is_asked_for_or_it_is_there(lone: Path, words: str) -> None:
    request = asked(words)
    assert request.added == []
    assert {cell.method for cell in request.cells} == set(words.split()[0].removeprefix("method=").split(","))


def test_words_override_the_variant_and_the_added_method_has_its_defaults(lone: Path) -> None:
    request = asked("method=gradvac method.shuffle=false granularity=all_layer task=lone,lone/free against=pcgrad")
    assert {(cell.variant, cell.label) for cell in request.added} == {("plain", "pcgrad"), ("free", "pcgrad")}
    assert len(request.cells) == 4
    assert request.against == "pcgrad"


def test_only_the_variants_that_name_a_method_get_it(lone: Path) -> None:
    request = asked("method=gradvac task=lone,lone/free")
    assert [(cell.variant, cell.method) for cell in request.cells] == [
        ("plain", "gradvac"),
        ("plain", "uniform"),
        ("free", "gradvac"),
    ]


def test_a_yaml_file_says_it_too(lone: Path, tmp_path: Path) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text("method: gradvac\ntask: lone\nagainst: pcgrad\n")
    assert [cell.method for cell in parse([str(file)]).cells] == ["gradvac", "pcgrad"]
    assert [cell.method for cell in parse([str(file), "against=none"]).cells] == ["gradvac"]


def test_in_the_tuned_regime_it_gets_as_many_trials(lone: Path) -> None:
    request = asked("method=gradvac task=lone tune=3 seed=0,1")
    assert [cell.method for cell in request.cells] == ["gradvac", "uniform"] * 3
    assert request.total == 2 * (3 + 4 + 2)  # trials, run-off, reruns
    assert asked("method=gradvac task=lone tune=3 seed=0,1 against=none").total == 3 + 4 + 2


@pytest.mark.parametrize("words", ["against=unifrom", "against=uniform,pcgrad", "against="])
def test_a_word_that_is_no_method_is_refused(lone: Path, words: str) -> None:
    with pytest.raises(UsageError, match=r"'unifrom'. Did you mean 'uniform'|against takes one value|no value"):
        asked(f"method=gradvac task=lone {words}")


@pytest.mark.parametrize(
    "words",
    [
        "method=gradvac seed=0..2",
        "method=gradvac seed=0..2 against=none",
        "method=gradvac,mgda granularity=all_layer",
        "method=gradvac,mgda granularity=all_layer treated=all,b against=pcgrad",
        "method=gradvac against=none protocol.epochs=2",
        "method=mgda tune=2",
        "method=pcgrad method.shuffle=false granularity=all_layer against=none",
    ],
)
def test_the_commands_of_a_table_make_exactly_its_cells(lone: Path, words: str) -> None:
    request = asked(f"{words} task=lone")
    settings = {cell.setting_id: CellInfo(**cell.canonical()) for cell in request.cells}
    if request.tune:
        settings = {
            key: info.model_copy(update={"tuning": info.tuning.model_copy(update={"budget": request.tune})})
            for key, info in settings.items()
            if info.tuning
        }
    seeds = request.seeds or sorted({cell.seed for cell in request.cells})
    found = [parse(command.split()[2:]) for command in commands(settings.values(), seeds)]
    assert {cell.id for again in found for cell in again.cells} == {cell.id for cell in request.cells}


def test_the_commands_of_a_task_that_is_not_installed_are_written_all_the_same(lone: Path) -> None:
    (cell,) = asked("method=gradvac task=lone/free").cells
    info = CellInfo(**{**cell.canonical(), "task": "elsewhere"})
    assert commands([info], [0]) == ["mtlbench run method=gradvac task=elsewhere/free protocol=short seed=0"]


def test_one_command_ends_with_a_table_that_holds_both(command: Callable[..., Any], lone: Path, tmp_path: Path) -> None:
    words = f"run --plugin {TINY} --plugin {lone} method=gradvac task=lone seed=0..1"
    ran = command(words)
    assert ran.code == 0, ran.output
    assert ran.output.startswith("Compared with uniform, which is trained too; against=none leaves it out.\n")
    assert "finished  uniform on lone/plain, seed 1" in ran.output
    table = ran.output[ran.output.index("lone/plain, protocol short@1") :]
    assert any(line.split()[:2] == ["gradvac", "2"] for line in table.splitlines())
    assert any(line.split()[:2] == ["uniform", "2"] for line in table.splitlines())
    assert len(mtlbench.records(tmp_path / "runs")) == 4

    alone = command(f"{words} against=none results=alone")
    assert "Compared" not in alone.output
    assert "uniform on" not in alone.output
    assert len(mtlbench.records(tmp_path / "alone")) == 2


def test_the_table_of_a_run_compares_with_the_method_that_was_named(
    command: Callable[..., Any], lone: Path, tmp_path: Path
) -> None:
    ran = command(f"run --plugin {TINY} --plugin {lone} method=gradvac,uniform task=lone seed=0,1 against=pcgrad")
    assert ran.code == 0, ran.output
    assert ran.output.startswith("Compared with pcgrad, ")
    assert "vs pcgrad" in " ".join(ran.output.split())
    assert "Compared" not in command(f"run --plugin {TINY} --plugin {lone} --quiet method=gradvac task=lone").output


def test_run_in_this_process_trains_the_one_cell_that_was_asked_for(lone: Path, tmp_path: Path) -> None:
    record = mtlbench.run(f"method=gradvac task=lone results={tmp_path}")
    assert isinstance(record, Record)
    assert record.cell.method == "gradvac"
    assert mtlbench.records(tmp_path) == [record]


def test_help_tells_how_to_compare_and_who_is_treated(command: Callable[..., Any]) -> None:
    text = command("run --help").output
    assert "against=METHOD|none" in text
    assert "treated=all|GROUP|NAME|[NAME,NAME]" in text
