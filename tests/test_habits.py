"""Scripts, versions, hooks and templates: what keeps the repository in order works and says the same everywhere."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

import mtlbench

SCRIPTS = sorted(p for p in (ROOT / "scripts").iterdir() if not p.suffix and p.is_file())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOWEST = runpy.run_path(str(ROOT / "scripts" / "lowest_versions.py"))


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def pinned() -> dict[str, str]:
    """Package -> version, as `constraints.txt` has them."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {name.lower(): version for name, version in pairs}


@pytest.mark.parametrize("script", [*SCRIPTS, ROOT / ".ci" / "run"], ids=lambda path: path.name)
def test_scripts_can_be_run_and_stop_at_the_first_error(script: Path) -> None:
    if script.parent.name == "scripts":
        assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "\nset -euo pipefail\n" in text


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_explain_themselves_from_any_folder(script: Path, tmp_path: Path) -> None:
    done = subprocess.run([str(script), "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert f"Usage: scripts/{script.name}" in done.stdout
    assert not done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", ["check --nonsense", "install a b", "lowest everything", "smoke fast", "wheel a b"])
def test_scripts_refuse_what_they_do_not_know(words: str, tmp_path: Path) -> None:
    script, *arguments = words.split()
    command = [str(ROOT / "scripts" / script), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--help explains" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_failing_tool_fails_the_script(tmp_path: Path) -> None:
    false = shutil.which("false")
    assert false is not None
    for script in ("check", "test"):
        done = subprocess.run(
            [str(ROOT / "scripts" / script)], cwd=tmp_path, env={**os.environ, "PYTHON": false}, check=False
        )
        assert done.returncode == 1


def test_the_main_job_calls_every_script() -> None:
    text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert all(f"\nscripts/{script.name}" in text for script in SCRIPTS)
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "checks.yml").read_text(encoding="utf-8"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    called = {step["run"].split()[0] for step in steps if "run" in step}
    assert called == {f"scripts/{script.name}" for script in SCRIPTS}


def test_every_hook_calls_the_tool_that_it_is_named_after(tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert [hook["name"] for hook in hooks] == ["ruff check", "ruff format", "mypy"]
    echo = tmp_path / "python"
    echo.write_text('#!/bin/sh\necho "$@"\n', encoding="utf-8")
    echo.chmod(0o755)
    for hook in hooks:
        script, *words = hook["entry"].split()
        command = [str(ROOT / script), *words]
        done = subprocess.run(
            command, env={**os.environ, "PYTHON": str(echo)}, capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith(f"-m {hook['name']} ")
        assert len(done.stdout.splitlines()) == 1


def test_the_version_stands_in_one_place_and_the_citation_repeats_it() -> None:
    assert "version" not in PROJECT["project"]
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "mtlbench.__version__"}
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == mtlbench.__version__


def test_the_package_is_the_command(tmp_path: Path) -> None:
    for word, expected in (("--version", f"mtlbench {mtlbench.__version__}\n"), ("--help", "usage: mtlbench ")):
        done = subprocess.run(
            [sys.executable, "-m", "mtlbench", word], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith(expected)


def test_every_dependency_has_a_lower_bound_that_the_pinned_version_meets() -> None:
    bounds = LOWEST["lowest"](ROOT / "pyproject.toml")
    assert {"torch", "numpy", "pytest", "sacrebleu"} <= {*bounds}
    below = [name for name, bound in bounds.items() if numbers(pinned()[name.lower()]) < numbers(bound)]
    assert not below


@pytest.mark.parametrize("line", ["numpy", "numpy<3", "numpy>=2.0,<3"])
def test_a_dependency_without_a_plain_lower_bound_is_refused(line: str, tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text(f'[project]\nname = "it"\ndependencies = ["{line}"]\n', encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(repr(line))):
        LOWEST["lowest"](file, extras=())


def test_lowest_versions_become_exact_and_one_can_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    LOWEST["main"](["-torch"])
    lines = capsys.readouterr().out.splitlines()
    assert "numpy==2.0" in lines
    assert not [line for line in lines if line.startswith("torch==")]


@pytest.mark.parametrize("template", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.md")), ids=lambda p: p.stem)
def test_issue_templates_can_be_chosen(template: Path) -> None:
    _, head, body = template.read_text(encoding="utf-8").split("---\n", 2)
    assert {"name", "about", "labels"} <= {*yaml.safe_load(head)}
    assert body.strip()


def test_the_changelog_has_a_place_for_what_changes_a_number() -> None:
    headings = re.findall(r"^##+ .*", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert headings[0].startswith("## ")
    assert "### Changes a number" in headings
    assert "### Breaks a plug-in" in headings
