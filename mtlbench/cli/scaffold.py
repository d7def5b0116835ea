"""Skeletons of a new method and a new task, ready to run as plug-ins."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from mtlbench.catalogue.registry import methods, tasks
from mtlbench.errors import UsageError
from mtlbench.storage import write_atomically


def scaffold(what: str, name: str, folder: Path) -> Path:
    """Write `name.py` in `folder` and return its path.

    Args:
        what: `method` or `task`.
        name: the registry name; letters, digits and underscores.
        folder: where the file goes.

    Raises:
        UsageError: the name is no identifier or is taken, or the file exists.
    """
    if not name.isidentifier() or name.startswith("_"):
        raise UsageError(f"{name!r} is no name for a {what}: use letters, digits and underscores, such as my_{what}.")
    registry = methods if what == "method" else tasks
    if name in registry.entries():
        raise UsageError(f"There is a {what} called {name!r} already, in {registry.entry(name).origin}.")
    path = folder / f"{name}.py"
    if path.exists():
        raise UsageError(f"{path} exists already; it was left as it is.")
    template = files("mtlbench.cli").joinpath(f"new_{what}.template").read_text(encoding="utf-8")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    text = template.replace("{{name}}", name).replace("{{class}}", class_name)
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from error
    return path
