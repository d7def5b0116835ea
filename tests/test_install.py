"""An editable install works from every folder, the one above the clone included, whatever lies there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT, TINY, files

from mtlbench.record.schema import RECORD

CONSOLE = "from mtlbench.cli.main import main; main()"
"""What the installed command does; its folder, and not the working directory, is on the import path."""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of the repository in a folder called `mtlbench`."""
    place = tmp_path_factory.mktemp("parent") / "mtlbench"
    place.mkdir()
    for name in ("mtlbench", "methods", "tasks"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, place / name)
    return place


def python(*arguments: str, clone: Path) -> subprocess.CompletedProcess[str]:
    """Python in the folder above the clone, which is on the import path as its editable install puts it there."""
    environment = {**os.environ, "PYTHONPATH": str(clone)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=clone.parent, env=environment, capture_output=True, text=True, check=False
    )


def test_an_editable_install_is_a_plain_path_entry(clone: Path, tmp_path: Path) -> None:
    setuptools = pytest.importorskip("setuptools", "77")
    code = "import sys; from setuptools.build_meta import build_editable; build_editable(sys.argv[1])"
    built = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=clone, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, (setuptools.__version__, built.stderr)
    (wheel,) = files(tmp_path, "*.whl")
    with zipfile.ZipFile(wheel) as content:
        modules = [name for name in content.namelist() if ".dist-info/" not in name]
        assert [content.read(name).decode().strip() for name in modules] == [str(clone)]
        assert modules[0].endswith(".pth")


def test_a_script_in_the_folder_above_a_clone_imports_it(clone: Path) -> None:
    code = (
        "import json, mtlbench, mtlbench.tasks\n"
        "from mtlbench.catalogue.registry import methods, tasks\n"
        "found = [methods.entry('pcgrad').origin, tasks.names(), mtlbench.method('pcgrad').name]\n"
        "print(json.dumps([mtlbench.__file__, *found]))"
    )
    (clone.parent / "mine.py").write_text(code)
    ended = python("mine.py", clone=clone)
    assert ended.returncode == 0, ended.stderr
    package, origin, tasks, name = json.loads(ended.stdout)
    assert package == str(clone / "mtlbench" / "__init__.py")
    assert origin == str(clone / "methods" / "pcgrad.py")
    assert {"multimnist", "nmt"} <= set(tasks)
    assert name == "pcgrad"


def test_workers_are_of_the_very_package_and_import_nothing_from_the_working_directory(clone: Path) -> None:
    (clone.parent / "random.py").write_text("raise RuntimeError('this is not the standard library')\n")
    plugin = clone.parent / "tells.py"
    plugin.write_text("import mtlbench.methods\n\nprint('from', mtlbench.__file__, *mtlbench.methods.__path__)\n")
    words = ["run", "--plugin", str(TINY), "--plugin", str(plugin), "method=uniform", "task=tiny", "results=runs"]
    ended = python("-P", "-c", CONSOLE, *words, clone=clone)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert len(files(clone.parent / "runs", RECORD)) == 1
    (log,) = files(clone.parent / "runs", "log.txt")
    assert f"from {clone / 'mtlbench' / '__init__.py'} {clone / 'methods'}\n" in log.read_text()
