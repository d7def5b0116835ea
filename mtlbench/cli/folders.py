"""The folder of results that `status` and `table` read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtlbench.cells.words import RESULTS
from mtlbench.errors import UsageError
from mtlbench.record.reading import cells
from mtlbench.storage import path_of

COMMITTED = Path("results")
"""Where a repository keeps results of its own, apart from those that runs write."""


def results_folder(axes: Mapping[str, Sequence[Any]]) -> Path:
    """The folder that `results=` names, or the one that runs write to.

    Raises:
        UsageError: it names several folders, or the home folder of a user that there is not.
    """
    named = axes.get("results", [RESULTS])
    if len(named) != 1:
        raise UsageError(f"results takes one folder, not {len(named)}.")
    return path_of(str(named[0]))


def nothing_under(results: Path) -> str:
    """Says that there are no cells under `results`, and where the nearest are or how to make one."""
    if results == RESULTS and any(True for _ in cells(COMMITTED)):
        return f"No cells under {results}; there are some under {COMMITTED}: add results={COMMITTED}."
    return f"No cells under {results}. `mtlbench run method=gradvac task=multimnist` makes one."
