"""From `key=value` words and YAML files to keys with their values: lists, ranges, and the words that tasks add."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from mtlbench.catalogue.registry import tasks
from mtlbench.catalogue.variants import task_data
from mtlbench.errors import UsageError, unknown

CELL_KEYS = (
    "method",
    "method.KEY",
    "task",
    "protocol",
    "protocol.KEY",
    "seed",
    "granularity",
    "treated",
    "jacobian_dtype",
)
RUN_KEYS = ("against", "tune", "results", "jobs", "data_root", "device", "time_limit", "checkpoint_steps")
RESULTS = Path("runs")
"""Where records go, and are looked for, unless `results=` says otherwise."""
LARGEST_GRID = 10_000


def read_words(words: Sequence[str], keys: Iterable[str] = (*CELL_KEYS, *RUN_KEYS)) -> dict[str, list[Any]]:
    """`key=value` words, after at most one YAML file of the same keys, as key -> list of values.

    `a,b` lists and `0..4` ranges give several values; `[a, b]` is one value that is a list. Where `protocol.KEY` is
    among the keys, a word that every named task has for a key of its protocol counts as that key.

    Raises:
        UsageError: a word without `=`, an unknown key or task, no value, a file that cannot be read.
    """
    allowed = tuple(keys)
    given: list[tuple[str, Any]] = []
    for position, word in enumerate(words):
        key, equals, value = word.partition("=")
        if equals:
            given.append((key, value))
        elif position == 0 and word.endswith((".yaml", ".yml")):
            given += _read_file(Path(word)).items()
        else:
            raise UsageError(f"{word!r} is not a key=value word. Keys: {', '.join(allowed)}.")
    own = _words_of_named_tasks(given) if "protocol.KEY" in allowed else None
    return {_full_key(key, allowed, own): _values(key, value) for key, value in given}


def task_words(task: str) -> dict[str, str]:
    """A task's short words for keys of its protocols: `{"direction": "options.direction"}`.

    Raises:
        UsageError: an unknown task, a malformed file, or a word that is a key of every run.
    """
    words = task_data(task).words
    keys = {key.partition(".")[0] for key in (*CELL_KEYS, *RUN_KEYS)}
    if taken := sorted(keys & words.keys()):
        raise UsageError(f"The task {task!r} declares the word {taken[0]!r}, which is a key of every run; rename it.")
    return words


def _words_of_named_tasks(given: Sequence[tuple[str, Any]]) -> dict[str, dict[str, str]]:
    """The words of each task that the last `task=` names."""
    value: Any = next((value for key, value in reversed(given) if key == "task"), [])
    names = [str(name).partition("/")[0] for name in _values("task", value)]
    return {name: task_words(name) for name in names}


def _full_key(key: str, allowed: Sequence[str], own: dict[str, dict[str, str]] | None) -> str:
    """A known key as it is, and a word that all named tasks have as the key that it stands for.

    Args:
        key: what was typed.
        allowed: the keys, `KEY` standing for any.
        own: the words of each named task; None where tasks' words are not allowed.
    """
    if key in allowed or f"{key.split('.')[0]}.KEY" in allowed:
        return key
    if own is None:
        raise unknown("key", key, allowed)
    lacking = [task for task, words in own.items() if key not in words]
    meanings = {words[key] for words in own.values() if key in words}
    if lacking or not meanings:
        if known := _tasks_with(key):
            told = f"not of {', '.join(lacking)}" if lacking else "and no task is named here"
            raise UsageError(
                f"{key}= is a word of the task {', '.join(known)}, {told}. All tasks of a run must have the word; "
                "`mtlbench show TASK` lists those of a task."
            )
        raise unknown("key", key, {*allowed, *(word for words in own.values() for word in words)})
    if len(meanings) > 1:
        told = ", ".join(f"protocol.{words[key]} of {task}" for task, words in own.items())
        raise UsageError(f"{key}= does not mean the same for all tasks of this run: {told}. Run them one by one.")
    return f"protocol.{meanings.pop()}"


def _tasks_with(word: str) -> list[str]:
    found = []
    for task in tasks.names():
        with suppress(UsageError):  # of a task that the user did not ask for
            if word in task_words(task):
                found.append(task)
    return found


def _read_file(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} must map keys to values, such as `method: [gradvac, uniform]`.")
    for key, value in content.items():
        if value == []:
            raise UsageError(f"{path}: {key} is an empty list: the grid would have no cells.")
    return {str(key): value for key, value in content.items()}


def _values(key: str, given: Any) -> list[Any]:
    """What was typed, or read from a file, as the values of a grid."""
    items = given if isinstance(given, list) else [given]
    return [value for item in items for value in (_split(key, item) if isinstance(item, str) else [item])]


def _split(key: str, text: str) -> list[Any]:
    values: list[Any] = []
    for part in re.split(r",(?![^\[]*\])", text):
        part = part.strip()
        bounds = re.fullmatch(r"(-?\d+)\.\.(-?\d+)", part)
        if bounds:
            low, high = int(bounds[1]), int(bounds[2])
            if high < low:
                raise UsageError(f"{key}={part} is an empty range: the grid would have no cells.")
            if high - low >= LARGEST_GRID:
                raise UsageError(f"{key}={part} has more than {LARGEST_GRID} values.")
            values.extend(range(low, high + 1))
        elif part.startswith("[") and part.endswith("]"):
            values.append([item.strip() for item in part[1:-1].split(",") if item.strip()])
        elif part:
            values.append(part)
    if not values:
        raise UsageError(f"{key}= has no value: the grid would have no cells.")
    return values
