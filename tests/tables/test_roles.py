"""Tables and figures know the roles that methods declare, and no method by its name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from conftest import ROOT
from handmade import constant, record

from mtlbench.catalogue import registry
from mtlbench.cells.cell import identity
from mtlbench.record.runs import Collection, Run
from mtlbench.record.schema import CellInfo, Record
from mtlbench.tables import drawn
from mtlbench.tables.leaderboard import Leaderboard, report
from mtlbench.tables.making import narrow

SCORES = [(80.0, 50.0), (82.0, 52.0)]


def renamed(made: Record, method: str) -> Record:
    """The same record of another method."""
    cell = {**made.cell.canonical(), "method": method}
    return made.model_copy(update={"cell": CellInfo(**cell), "id": identity(cell)})


def collection(records: list[Record]) -> Collection:
    return Collection([Run.of(r, Path(f"{r.id}.json")) for r in records])


def board(records: list[Record]) -> Leaderboard:
    (made,) = report(collection(records)).boards
    return made


def roles(records: list[Record]) -> dict[str, str]:
    return {row.label: row.role for row in board(records).table.rows}


ELSEWHERE = [
    *(renamed(r, "apart") for r in constant("uniform", SCORES, separate=True)),
    *constant("uniform", SCORES),
]
"""Records of separate models that were made with a method which is not installed here."""


def test_separate_models_of_a_method_that_is_not_installed_are_the_reference() -> None:
    assert roles(ELSEWHERE) == {"apart": "reference", "uniform": "method"}
    assert board(ELSEWHERE).table.facts["delta_m base row"].startswith("apart, ")
    kept = narrow(collection(ELSEWHERE), {"method": ["uniform"]})
    assert len(kept.runs) == len(ELSEWHERE)


def test_the_declared_role_counts_where_the_method_is_installed() -> None:
    assert roles([*constant("pcgrad", SCORES, separate=True), *constant("uniform", SCORES)])["pcgrad"] == "method"


def test_the_declared_reference_is_the_base_row_beside_another() -> None:
    given = [*(r for r in ELSEWHERE if r.cell.method == "apart"), *constant("single_task", SCORES)]
    assert board([*given, *constant("uniform", SCORES)]).table.facts["delta_m base row"].startswith("single_task, ")


def test_the_static_front_is_of_methods_that_declare_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = board([record("scalarization", words="method.weights=[0.5,1.5]"), record()])
    assert [e.label for e in drawn.static(made)] == ["scalarization(weights=[0.5,1.5])"]
    monkeypatch.setattr(registry.methods.entries()["scalarization"], "role", "method")
    assert drawn.static(made) == []


def test_no_method_is_known_by_name() -> None:
    names = {*registry.methods.names()}
    for path in sorted((ROOT / "mtlbench" / "tables").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            said = node.value if isinstance(node, ast.Constant) else None
            assert said not in names, f"{path.name}:{getattr(node, 'lineno', 0)} knows {said} by name"
