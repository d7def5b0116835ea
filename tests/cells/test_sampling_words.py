"""`sampling=NAME` and `sampling.KEY=VALUE`: a grid of strategies, identities, labels, commands, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mtlbench.cells.cell import Cell, identity
from mtlbench.cells.request import parse
from mtlbench.errors import UsageError
from mtlbench.record.schema import CellInfo
from mtlbench.tables.commands import commands

TASK = "task=nmt/families"


def cells(words: str) -> list[Cell]:
    return parse([TASK, "against=none", *words.split()]).cells


def test_the_way_of_the_protocol_leaves_identities_as_they_were() -> None:
    (plain,), (said,) = cells("method=gradvac"), cells("method=gradvac sampling=temperature")
    (none,) = cells("method=gradvac sampling=temperature sampling.temperature=none")
    assert plain.id == said.id == none.id
    assert "sampling" not in plain.canonical()
    assert plain.axes["sampling"] is None
    assert plain.label == "gradvac"


def test_a_grid_has_every_strategy_with_its_own_parameters_alone() -> None:
    found = cells(
        "method=uniform,single_task sampling=temperature,unimax,chi2_dro,order sampling.repeats=2,4 sampling.switch=0.5"
    )
    assert [cell.label for cell in found] == [
        "uniform",
        "uniform(sampling=unimax(repeats=2))",
        "uniform(sampling=unimax(repeats=4))",
        "uniform(sampling=chi2_dro)",
        "uniform(sampling=order(switch=0.5))",
        "single_task",  # its models have steps of their own
    ]
    assert len({cell.id for cell in found}) == len({cell.setting_id for cell in found}) == 6
    assert found[3].canonical()["sampling"] == {
        "name": "chi2_dro",
        "parameters": {"rho": 0.05, "least": 0.2, "ema": 0.1, "temperature": 1.0, "baselines": []},
    }


def test_parameters_without_a_name_are_those_of_the_temperature() -> None:
    both = cells("method=gradvac granularity=all_layer sampling.temperature=1,none")
    assert [cell.label for cell in both] == [
        "gradvac(all_layer, sampling=temperature(temperature=1))",
        "gradvac(all_layer)",
    ]


def test_a_yaml_file_says_the_same(tmp_path: Path) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text("method: uniform\ntask: nmt/families\nsampling: [unimax, order]\n")
    words = ["sampling.repeats=3", "sampling.switch=0.5", "against=none"]
    found = parse([str(file), *words]).cells
    assert [cell.id for cell in found] == [
        c.id for c in cells(f"method=uniform sampling=unimax,order {words[0]} {words[1]}")
    ]


def test_jobs_records_and_commands_hold_the_strategy_with_its_parameters() -> None:
    words = "method=uniform sampling=unimax,order,chi2_dro sampling.repeats=2.5 sampling.switch=0.25 sampling.rho=1e-05"
    for cell in cells(words):
        again = Cell.from_data(json.loads(json.dumps(cell.to_data())))
        assert (again.id, again.label) == (cell.id, cell.label)
        info = CellInfo(**json.loads(CellInfo(**cell.canonical()).model_dump_json()))
        assert identity(info.canonical()) == cell.id
        assert info.axes["sampling"] == cell.axes["sampling"]
        (command,) = commands([info], [0])
        assert [c.id for c in parse([*command.split()[2:], "against=none"]).cells] == [cell.id]
    for name in ("unimax", "order", "chi2_dro"):
        assert f"sampling={name}" in "".join(commands([CellInfo(**c.canonical()) for c in cells(words)], [0]))


def test_a_record_with_a_strange_key_beside_name_and_parameters_is_refused() -> None:
    (cell,) = cells("method=uniform sampling=chi2_dro")
    data = cell.canonical()
    with pytest.raises(ValueError, match="more"):
        CellInfo(**{**data, "sampling": {**data["sampling"], "more": 1}})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("sampling=unimx", r"Unknown sampling 'unimx'. Did you mean 'unimax'\?"),
        ("sampling=unimax", r"unimax needs sampling\.repeats="),
        ("sampling=unimax sampling.repeats=0", r"unimax: repeats=0 is not allowed; it takes float in \(0, inf\)"),
        ("sampling=unimax sampling.repeats=inf", r"repeats=inf is not allowed"),
        ("sampling=chi2_dro sampling.rh=1", r"'sampling\.rh'. Did you mean 'sampling\.rho'\?"),
        ("sampling.switch=0.5", r"Unknown parameter of temperature: 'sampling\.switch'"),
        ("sampling=chi2_dro protocol.epochs=0", "nothing is trained"),
        ("task=multimnist sampling=chi2_dro", "objectives of multimnist share their input"),
    ],
)
def test_what_a_strategy_does_not_take_is_refused_before_anything_is_written(words: str, message: str) -> None:
    given = ["method=uniform", "against=none", *words.split()]
    with pytest.raises(UsageError, match=message):
        parse(given if "task=" in words else [TASK, *given])


def test_the_way_of_the_protocol_may_be_said_for_every_task() -> None:
    assert len(parse(["method=uniform", "task=multimnist,nmt", "sampling=temperature", "against=none"]).cells) == 2


def test_a_grid_of_strategies_is_counted_before_it_is_made() -> None:
    with pytest.raises(UsageError, match="The grid has 40000 cells"):
        cells("method=uniform sampling=unimax sampling.repeats=1..400 seed=0..99")
