"""A task of an installed package: found through the entry point, with its YAML beside it, like a built-in one."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from mtlbench.catalogue import registry

MODULE = files("mtlbench.cli") / "new_task.template"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with a package of one task and what an installer writes beside it."""
    package, metadata = tmp_path / "clouds_of_points", tmp_path / "clouds_of_points-1.0.dist-info"
    package.mkdir()
    metadata.mkdir()
    code = MODULE.read_text(encoding="utf-8").replace("{{name}}", "clouds").replace("{{class}}", "Clouds")
    (package / "__init__.py").write_text(code, encoding="utf-8")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: clouds-of-points\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[mtlbench.tasks]\nclouds = clouds_of_points:Clouds\n")
    return tmp_path


def mtlbench(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-m", "mtlbench", *words]
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=folder)


def test_a_task_of_an_installed_package_is_listed_shown_and_checked(installed: Path) -> None:
    listed = mtlbench(installed, "list", "tasks")
    assert (listed.returncode, "clouds" in listed.stdout) == (0, True), listed.stderr
    shown = mtlbench(installed, "show", "clouds")
    assert (shown.returncode, "small" in shown.stdout) == (0, True), shown.stderr
    checked = mtlbench(installed, "check", "clouds")
    assert (checked.returncode, checked.stdout.count("  holds  "), "violated" in checked.stdout) == (0, 10, False), (
        checked
    )


def test_an_installed_task_that_ends_the_program_stops_nothing_else(installed: Path) -> None:
    (installed / "clouds_of_points" / "__init__.py").write_text("import os\nos._exit(0)\n")
    listed = mtlbench(installed, "list", "tasks")
    assert listed.returncode == 0, listed.stderr
    assert "multimnist" in listed.stdout
    assert "it ends the program when it is imported, with exit status 0" in listed.stdout + listed.stderr
    used = mtlbench(installed, "run", "method=uniform", "task=clouds")
    assert used.returncode == 2
    assert used.stderr.startswith("error: The task 'clouds' cannot be used: ImportError: it ends the program")


def test_the_group_of_the_entry_points_is_the_one_that_is_documented() -> None:
    assert (registry.methods.package, registry.tasks.package) == ("mtlbench.methods", "mtlbench.tasks")
