"""The commands that make the cells of a leaderboard, written down from its records."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from mtlbench.catalogue.variants import compared_with
from mtlbench.cells.axes import AXES, told
from mtlbench.cells.parameters import default_parameters
from mtlbench.errors import UsageError
from mtlbench.record.schema import CellInfo
from mtlbench.tables.wording import spans


def commands(cells: Iterable[CellInfo], seeds: Sequence[int]) -> list[str]:
    """`mtlbench run` with words that make these settings on these seeds, as few commands as they fit in.

    Args:
        cells: one of each setting, all of one grid; their seeds mean nothing.
        seeds: of all of them.
    """
    by_words: dict[tuple[tuple[str, str], ...], list[str]] = {}
    cells = list(cells)
    against = _against(cells)
    for cell in cells:
        by_words.setdefault(tuple(_words(cell).items()), []).append(cell.method)
    merged: dict[tuple[Any, ...], tuple[dict[str, list[str]], list[str]]] = {}
    for words, methods in by_words.items():
        # Settings of the same methods that differ in one word only are one command: a list of its values.
        varied = [key for key, _ in words if key.startswith("method.")]
        key = (tuple(methods), tuple(item for item in words if item[0] not in varied[:1]), tuple(varied))
        values, _ = merged.setdefault(key, ({name: [] for name, _ in words}, methods))
        for name, value in words:
            if value not in values[name]:
                values[name].append(value)
    return [
        shlex.join(
            ["mtlbench", "run", f"method={','.join(methods)}"]
            + [f"{name}={','.join(found)}" for name, found in values.items()]
            + (["against=none"] if against not in (None, *methods) else [])
            + [f"seed={spans(seeds)}"]
        )
        for values, methods in merged.values()
    ]


def _against(cells: Sequence[CellInfo]) -> str | None:
    """The method whose cells the commands would add though the leaderboard lacks them; None where there is none."""
    try:
        against = compared_with(cells[0].task, cells[0].variant)
    except (UsageError, KeyError):  # the task is not installed here, or has no such variant any more
        return None
    rooms = [{key.partition(".")[0] for key in _words(cell)} for cell in cells if cell.method == against]
    there = any(keys <= {"task", "protocol", "tune"} for keys in rooms)  # with its defaults, as they would add it
    return None if there else against


def _words(cell: CellInfo) -> dict[str, str]:
    """What must be said beside method and seeds."""
    words = {"task": f"{cell.task}/{cell.variant}", "protocol": str(cell.protocol["name"])}
    words |= {f"protocol.{key}": _text(value) for key, value in sorted(cell.protocol["modified"].items())}
    searched = cell.tuning.space if cell.tuning else {}
    fixed = cell.tuning.fixed if cell.tuning else ()
    defaults = default_parameters(cell.method)
    for name, value in cell.parameters.items():
        key = f"method.{name}"
        if key not in searched and (key in fixed or name not in defaults or defaults[name] != value):
            words[key] = _text(value)
    for name, value in told(cell.axes).items():
        words |= AXES[name].words(name, value)
    if cell.tuning is not None and cell.tuning.budget is not None:
        words["tune"] = str(cell.tuning.budget)
    return words


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_text, value))}]"
    return "none" if value is None else str(value)
