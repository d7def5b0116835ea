"""What the documents name exists: paths, modules, commands, words of the code, the stable surface of plug-ins."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

import mtlbench
from mtlbench.catalogue.registry import samplings
from mtlbench.cli.main import _COMMANDS

DOCUMENTS = [
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md")),
]
EXAMPLE = re.compile(r"my_|[A-Z]{2,}|\.\.\.|[*<{]")
"""Spans that stand for many things: `methods/my_idea.py`, `results/TASK/...`."""
SUFFIXES = {".py", ".md", ".toml", ".txt", ".cff", ".sh", ".template", ".html", ".css", ".js"}
"""Of files that the repository holds; what a run leaves on disk ends in .json, .pt or .log."""
FOREIGN = {"no_sync", "chromium", "chromedriver", "pdflatex", "pre-commit", "flock", "build", "nyuv2/utils.py"}
"""Names of other programs and libraries, and of their files."""


def spans(document: str) -> Iterator[str]:
    """What stands between backticks, code blocks aside."""
    text = (ROOT / document).read_text(encoding="utf-8")
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def blocks(document: str) -> Iterator[str]:
    """The lines of code blocks."""
    for block in re.findall(r"```\w*\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), flags=re.DOTALL):
        yield from block.splitlines()


@functools.cache
def tracked() -> list[Path]:
    """The files of the repository, or an empty list where git does not know it."""
    if not (ROOT / ".git").exists():
        return []
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]


@functools.cache
def words_of_the_code() -> set[str]:
    """Every word of code, data and configuration, documents aside."""
    files = [p for room in ("mtlbench", "methods", "tasks", "scripts", "tests") for p in (ROOT / room).rglob("*")]
    files += [ROOT / "pyproject.toml", ROOT / "constraints.txt", ROOT / ".ci" / "run"]
    known = {".py", ".yaml", ".toml", ".txt", ".sh", "", ".template", ".html", ".css", ".js"}
    texts = (
        p.read_text(encoding="utf-8")
        for p in files
        if p.is_file() and p.suffix in known and "__pycache__" not in p.parts and p != Path(__file__)
    )
    return set(re.findall(r"[A-Za-z_]\w*", "\n".join(texts)))


def is_path(span: str) -> bool:
    """Whether a span names a file or folder of the repository."""
    if EXAMPLE.search(span) or " " in span or "://" in span or span.startswith("../"):
        return False
    first = span.split("/")[0]
    return (
        ("/" in span and (ROOT / first).exists())
        or Path(span).suffix in SUFFIXES
        or (ROOT / "mtlbench" / first).is_dir()
    )


def exists(span: str) -> bool:
    """Whether it is there: from the top, from the package, or, for a bare file name, anywhere in the product."""
    if (ROOT / span).exists() or (ROOT / "mtlbench" / span).exists():
        return True
    return "/" not in span and any(ROOT.glob(f"{room}/**/{span}") for room in ("mtlbench", "methods", "tasks", "tests"))


def resolves(dotted: str) -> bool:
    """Whether `mtlbench.room.module.Name.attribute` is a module or something within one."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part, None)
        return found is not None
    return False


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_in_a_document_is_there(document: str) -> None:
    paths = [span.rstrip("/") for span in spans(document) if is_path(span.rstrip("/"))]
    missing = [path for path in paths if path not in FOREIGN and not exists(path)]
    text = (ROOT / document).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)\)", text)
    missing += [link for link in links if "://" not in link and not ((ROOT / document).parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_module_and_public_name_in_a_document_is_there(document: str) -> None:
    dotted = {match for span in spans(document) for match in re.findall(r"\bmtlbench(?:\.\w+)+", span)}
    assert not [name for name in sorted(dotted) if name != samplings.group and not resolves(name)]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_in_a_document_is_there(document: str) -> None:
    said = [*spans(document), *blocks(document)]
    commands = {match for text in said for match in re.findall(r"(?:^|\s)mtlbench ([a-z]+)", text)}
    assert commands <= {*_COMMANDS}
    scripts = {match for text in said for match in re.findall(r"scripts/[\w.]+", text)}
    assert not [name for name in scripts if not (ROOT / name).exists()]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_name_in_a_document_is_a_word_of_the_code(document: str) -> None:
    plain = (span.removesuffix("()") for span in spans(document) if not is_path(span))
    names = {span for span in plain if re.fullmatch(r"[A-Za-z_][\w.]*", span)}
    known = words_of_the_code() | FOREIGN
    unknown = [name for name in names for part in name.split(".") if part not in known and not EXAMPLE.search(name)]
    assert not sorted(set(unknown))


def surface() -> dict[str, list[str]]:
    """The table of CONTRIBUTING: what a plug-in sees -> names."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("| surface | names |")[1]
    rows = [line.strip("|").split("|") for line in text.split("\n\n")[0].splitlines() if line.startswith("| ")]
    return {surface.strip(): re.findall(r"`(\w+)`", names) for surface, names in rows if "---" not in surface}


def has(cls: type, name: str) -> bool:
    """Whether instances have it: an attribute, an annotation, a field, or one that the constructor sets."""
    annotated = {key for base in cls.__mro__ for key in getattr(base, "__annotations__", {})}
    set_by_constructor = f"self.{name}" in "".join(
        inspect.getsource(b) for b in cls.__mro__ if b.__module__.startswith("mtlbench")
    )
    return hasattr(cls, name) or name in annotated or set_by_constructor


def test_the_stable_surface_is_there_and_holds_every_public_name() -> None:
    table = surface()
    assert table["public names, from `mtlbench`"] == mtlbench.__all__
    told = {
        mtlbench.Method: [key for key in table if key.startswith("every method")],
        mtlbench.Task: [key for key in table if key.startswith("`Task`")],
    }
    for cls in ("LossWeighting", "GramianWeighting", "JacobianAggregator", "Backward"):
        told[getattr(mtlbench, cls)] = [f"`{cls}`"]
    told[mtlbench.Protocol] = ["`Protocol`: what a task reads"]
    told |= {mtlbench.Sampling: ["`Sampling`"], mtlbench.Supply: ["`Supply`"]}
    for cls, keys in told.items():
        assert all(table[key] for key in keys)
        assert not [name for key in keys for name in table[key] if not has(cls, name)], cls
    for function in ("register_method", "register_sampling", "register_task"):
        assert {*table[f"`{function}`"]} == {*inspect.signature(getattr(mtlbench, function)).parameters} - {"name"}
    task = [name for key in told[mtlbench.Task] for name in table[key]]
    assert {name for name in vars(mtlbench.Task) if not name.startswith("_")} <= {*task}


def test_nothing_names_a_machine_or_a_registry() -> None:
    """A path of one machine means nothing to others, and pip, npm and apt know their registries."""
    hosts = ("py" + "pi.", "python" + "hosted.", "npm" + "js.", "deb." + "debian.", "download.py" + "torch.")
    folders = ("/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/", "/opt/" + "wheels", "/tmp/" + "venv")
    wrong = []
    for path in tracked():
        content = path.read_bytes()
        if b"\0" in content[:8000]:
            continue
        text = content.decode("utf-8", errors="replace")
        wrong += [f"{path.relative_to(ROOT)}: {word}" for word in (*hosts, *folders) if word in text]
    assert not wrong


@pytest.mark.parametrize(
    ("span", "is_there"),
    [("mtlbench/engine/kinds.py", True), ("engine/kinds.py", True), ("kinds.py", True), ("engine/gone.py", False)],
)
def test_a_path_that_is_not_there_is_found(span: str, is_there: bool) -> None:
    assert is_path(span)
    assert exists(span) is is_there
    assert not resolves("mtlbench.engine.gone")
    assert resolves("mtlbench.engine.kinds.Method.present") is False  # an annotation alone


def test_no_file_speaks_of_a_module_that_is_gone() -> None:
    """Docstrings and comments name modules as `mtlbench.room.module`."""
    folders = ("mtlbench", "methods", "tasks", "tests", "scripts")
    files = [p for folder in folders for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".yaml", ".template")]
    wrong = []
    for path in files:
        if path == Path(__file__):
            continue
        dotted = set(re.findall(r"`(mtlbench(?:\.\w+)+)`", path.read_text(encoding="utf-8")))
        wrong += [f"{path.relative_to(ROOT)}: {name}" for name in sorted(dotted) if not resolves(name)]
    assert not wrong
