"""The lower bounds of `pyproject.toml` as constraints for pip, one a line: `numpy>=2.0` becomes `numpy==2.0`."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

EXTRAS = ("nlp", "test")
"""What the tests need beside the dependencies proper."""


def lowest(pyproject: Path, extras: Sequence[str] = EXTRAS) -> dict[str, str]:
    """Package -> its lower bound, of the dependencies and of some extras.

    Raises:
        ValueError: a dependency that has no lower bound, and no other bound beside it.
    """
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    bounds = {}
    for line in wanted:
        if line.startswith(f"{project['name']}["):  # an extra of its own
            continue
        match = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[a-z0-9,_-]+\])?>=([0-9.]+)", line)
        if match is None:
            raise ValueError(f"{line!r} in {pyproject} is not PACKAGE>=VERSION")
        bounds[match[1]] = match[2]
    return bounds


def main(words: Sequence[str]) -> None:
    """Print them all but those that are named with a minus sign before them, such as `-torch`."""
    for name, version in lowest(ROOT / "pyproject.toml").items():
        if f"-{name}" not in words:
            print(f"{name}=={version}")


if __name__ == "__main__":
    main(sys.argv[1:])
