"""Who may import whom, as data: every arrow goes from a room to one below it, nothing goes round in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ROOT

GROUND = "errors strict statistics storage locks"
DIRECT = "registry building"
"""Modules of the catalogue that a method or a task may see beside the public names."""

MAY_IMPORT = {
    # ground modules
    "errors": "",
    "strict": "errors",
    "statistics": "",
    "storage": "errors statistics",
    "locks": "storage",
    # rooms, from the bottom
    "engine": "errors",
    "rendering": "errors statistics storage",
    "catalogue": "errors strict storage",
    "cells": f"{GROUND} engine catalogue",
    "record": f"{GROUND} catalogue cells",
    "running": f"{GROUND} engine catalogue cells record",
    "tables": f"{GROUND} rendering catalogue cells record",
    "geometry": f"{GROUND} rendering catalogue cells record",
    "bench": f"{GROUND} engine catalogue cells record running tables rendering",
    "cli": f"mtlbench {GROUND} engine catalogue cells record running tables geometry rendering bench",
    # what people add
    "methods": "mtlbench engine errors",
    "tasks": "mtlbench catalogue errors strict storage locks statistics",
    "tasks.bench": "mtlbench catalogue errors strict storage locks statistics bench cells.words",
    "tasks.figures": "mtlbench catalogue errors strict storage locks statistics rendering record.runs",
    # the public names: on first use, all of them
    "mtlbench": f"{GROUND} engine catalogue cells record running tables",
    "mtlbench.__main__": "cli",
}
"""Room -> the rooms and modules that its modules may import; within a room they may import each other."""

MAY_KNOW = {"catalogue": "engine"}
"""Room -> what it may import for type checking alone."""

TORCH = {"engine", "running", "bench", "methods", "tasks", "tasks.bench"}
"""Rooms that may import torch when they are imported; the others do so within functions, or not at all."""

NEVER_TORCH = {"record", "tables", "geometry", "rendering"}
"""Rooms that work without torch altogether."""

LAZY = {"geometry"}
"""Rooms whose face gives names to users too, on first use."""

LONGEST = 400
"""Lines of a module."""


class Import(NamedTuple):
    """One import statement, or one name of it."""

    module: str
    """The module it is in, such as `mtlbench.engine.backward`."""
    target: str
    """What is imported."""
    typing: bool
    """Whether it is under TYPE_CHECKING."""
    top: bool
    """Whether it runs when the module is imported."""
    line: int


def modules() -> dict[str, Path]:
    """Every module of the product by its dotted name."""
    found = {}
    for folder, package in (("mtlbench", "mtlbench"), ("methods", "mtlbench.methods"), ("tasks", "mtlbench.tasks")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            name = ".".join((package, *(part for part in parts if part != "__init__")))
            found[name] = path
    return found


MODULES = modules()


def absolute(name: str, node: ast.ImportFrom) -> str:
    """The module that `from X import` or `from .X import` in the module `name` speaks of."""
    if not node.level:
        return str(node.module)
    package = name.split(".") if MODULES[name].name == "__init__.py" else name.split(".")[:-1]
    return ".".join([*package[: len(package) + 1 - node.level], *([node.module] if node.module else [])])


def imports(name: str, text: str) -> Iterator[Import]:
    """Every import of a module, those within functions and under TYPE_CHECKING included."""

    def walk(node: ast.AST, typing: bool, top: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(name, alias.name, typing, top, child.lineno)
            elif isinstance(child, ast.ImportFrom):
                source = absolute(name, child)
                for alias in child.names:
                    whole = f"{source}.{alias.name}"
                    yield Import(name, whole if whole in MODULES else source, typing, top, child.lineno)
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                yield from walk(child, True, top)
            else:
                inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from walk(child, typing, top and not inside)

    yield from walk(ast.parse(text), False, True)


EVERY = [found for name, path in MODULES.items() for found in imports(name, path.read_text(encoding="utf-8"))]


def room(module: str) -> str:
    """The room of a module; a ground module and the package itself are rooms of their own."""
    parts = module.split(".")[1:]
    if not parts:
        return "mtlbench"
    if parts == ["__main__"]:
        return "mtlbench.__main__"
    if parts[0] == "tasks" and parts[-1] in ("bench", "figures"):
        return f"tasks.{parts[-1]}"
    return parts[0]


def owner(module: str) -> str:
    """The method or task that a module of `methods/` or `tasks/` belongs to; empty for the framework."""
    parts = module.split(".")
    return ".".join(parts[1:3]) if parts[1:2] in (["methods"], ["tasks"]) and len(parts) > 2 else ""


def is_allowed(found: Import) -> bool:
    """Whether the tables let this import stand."""
    here, there = room(found.module), room(found.target)
    if owner(found.target) and owner(found.target) != owner(found.module):
        return owner(found.target).startswith("tasks._") and owner(found.module).startswith("tasks.")
    if here == there or (here in ("tasks.bench", "tasks.figures") and owner(found.target) == owner(found.module)):
        return True
    allowed = MAY_IMPORT[here].split() + (MAY_KNOW.get(here, "").split() if found.typing else [])
    return there in allowed or found.target.removeprefix("mtlbench.") in allowed


def told(found: Import) -> str:
    return f"{MODULES[found.module].relative_to(ROOT)}:{found.line} imports {found.target}"


def test_every_arrow_is_in_the_table() -> None:
    wrong = [told(i) for i in EVERY if i.target.split(".")[0] == "mtlbench" and not is_allowed(i)]
    assert not wrong, "\n".join(wrong)


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """A circle among the arrows, if there is one."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_needs_itself_on_any_way() -> None:
    arrows: dict[str, set[str]] = {}
    for found in EVERY:
        # the public names are imported on first use, so that for the framework they are no arrow
        if found.target.split(".")[0] == "mtlbench" and found.module != "mtlbench" and found.target != "mtlbench":
            arrows.setdefault(found.module, set()).add(found.target)
    assert not circle(arrows)


def test_no_room_needs_itself_on_any_way() -> None:
    framework = [i for i in EVERY if i.target.split(".")[0] == "mtlbench" and room(i.module) != "mtlbench"]
    arrows: dict[str, set[str]] = {}
    for found in framework:
        here, there = room(found.module), room(found.target)
        if here != there and not found.typing and not owner(found.module):
            arrows.setdefault(here, set()).add(there)
    assert not circle(arrows)


def test_torch_is_imported_early_only_where_it_is_needed() -> None:
    torches = [i for i in EVERY if i.target.split(".")[0] in ("torch", "torchvision") and not i.typing]
    early = [told(i) for i in torches if i.top and room(i.module) not in TORCH]
    never = [told(i) for i in torches if room(i.module) in NEVER_TORCH]
    assert not early + never, "\n".join(early + never)


def test_only_the_public_names_are_imported_from_the_package_itself() -> None:
    """`from mtlbench import registry` would be a private arrow in the guise of a public one."""
    import mtlbench

    public = {*mtlbench.__all__, "__version__"}
    wrong = []
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "mtlbench":
                ground = set(GROUND.split()) if room(name) not in ("methods",) else {"errors"}
                wrong += [f"{name}: {a.name}" for a in node.names if a.name not in public | ground]
    assert not wrong


def test_the_faces_of_rooms_hold_a_docstring_only_or_names_that_wait_for_their_use() -> None:
    """Help and lists import a room's face and must not wait for what it would load."""
    for path in (ROOT / "mtlbench").glob("*/**/__init__.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        assert isinstance(body[0], ast.Expr), path
        if path.parent.name in LAZY:
            early = [i.target for i in EVERY if i.module == f"mtlbench.{path.parent.name}" and i.top and not i.typing]
            assert {*early} == {"__future__", "importlib", "typing"}, path
        else:
            assert len(body) == 1, path


def test_the_house_is_small_from_outside_and_modules_are_short() -> None:
    top = ROOT / "mtlbench"
    rooms = [p.name for p in top.iterdir() if p.is_dir() and (p / "__init__.py").exists()]
    ground = {p.stem for p in top.glob("*.py")} - {"__init__", "__main__"}
    assert len(rooms) <= 10
    assert ground == set(GROUND.split())
    long = {name: n for name, p in MODULES.items() if (n := len(p.read_text(encoding="utf-8").splitlines())) > LONGEST}
    assert not long


@pytest.mark.parametrize(
    ("module", "text", "allowed"),
    [
        ("mtlbench.engine.backward", "from mtlbench.catalogue import registry", False),
        ("mtlbench.engine.backward", "import mtlbench.errors", True),
        ("mtlbench.engine.backward", "def f():\n    from mtlbench.running.training import run_cell", False),
        ("mtlbench.catalogue.task", "from mtlbench.engine.kinds import Method", False),
        ("mtlbench.catalogue.task", "if TYPE_CHECKING:\n    from mtlbench.engine.kinds import Method", True),
        ("mtlbench.tables.costs", "from mtlbench.running import launch", False),
        ("mtlbench.geometry.loading", "from mtlbench.record import trajectory", True),
        ("mtlbench.geometry.loading", "from mtlbench.tables import figures", False),
        ("mtlbench.running.training", "from mtlbench.geometry import loading", False),
        ("mtlbench.methods.mgda", "from mtlbench.methods.pcgrad import PCGrad", False),
        ("mtlbench.methods.mgda", "from mtlbench.tasks.nmt import Nmt", False),
        ("mtlbench.tasks.nmt", "from mtlbench.tasks.multimnist import model", False),
        ("mtlbench.tasks.nmt", "from mtlbench.tasks._families.tree import Tree", True),
        ("mtlbench.tasks.nmt.bench", "from mtlbench.cells.words import read_words", True),
        ("mtlbench.tasks.nmt.model", "from mtlbench.cells.words import read_words", False),
    ],
)
def test_the_table_is_read_as_it_is_meant(module: str, text: str, allowed: bool) -> None:
    (found,) = imports(module, text)
    assert is_allowed(found) is allowed


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})
    assert not circle({"a": {"b", "c"}, "b": {"c"}})
