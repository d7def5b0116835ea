"""From `key=value` words and YAML files to keys with their values: lists, ranges, and the words that tasks add."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mtlbench.catalogue.protocol import flat
from mtlbench.catalogue.registry import methods, tasks
from mtlbench.catalogue.variants import task_data
from mtlbench.cells.axes import AXES
from mtlbench.cells.grid_file import read_grid_file
from mtlbench.cells.parameters import default_parameters
from mtlbench.cells.placing import PLACE_KEYS
from mtlbench.errors import UsageError, unknown

RUN_KEYS = (
    "against",
    "tune",
    "results",
    "jobs",
    "data_root",
    "device",
    "time_limit",
    "checkpoint_steps",
    "processes",
    "predictions",
    "geometry.every",
    "geometry.batches",
    "geometry.examples",
    "geometry.memory",
    *PLACE_KEYS,
)
PATH_KEYS = ("results", "data_root", "predictions")
"""Keys whose value is one path, with whatever commas and brackets it has."""
_WHOLE_KEYS = (*PATH_KEYS, *PLACE_KEYS)
"""Keys whose value is one text."""
RESULTS = Path("runs")
"""Where records go, and are looked for, unless `results=` says otherwise."""
LARGEST_GRID = 10_000

_RANGE = re.compile(r"(-?\d{1,18})\.\.(-?\d{1,18})")
_SIMPLEX = re.compile(r"simplex:(\d{1,9}):(\d{1,9})")


def cell_keys() -> tuple[str, ...]:
    """The keys that make cells; KEY stands for any."""
    return ("method", "method.KEY", "task", "protocol", "protocol.KEY", "seed", *AXES, "sampling.KEY")


def read_words(words: Sequence[str], keys: Iterable[str] | None = None) -> dict[str, list[Any]]:
    """`key=value` words, after at most one YAML file of the same keys, as key -> list of values.

    `a,b` lists and `0..4` ranges give several values, and `simplex:K:N` the lists of K weights that trace a front
    (`simplex`); `[a, b]` is one value that is a list; a path is one value. Where
    `protocol.KEY` is among the keys, a word that every named task has for a key of its protocol counts as that key.

    Args:
        words: as typed; those of a file come first, and a typed word takes the place of the file's.
        keys: which there are, `KEY` standing for any; by default those of a run.

    Raises:
        UsageError: a word without `=`, an unknown key or task, a key that is given twice, no value, a file that cannot
            be read.
    """
    allowed = (*cell_keys(), *RUN_KEYS) if keys is None else tuple(keys)
    typed: list[tuple[str, Any]] = []
    filed: list[tuple[str, Any]] = []
    for position, word in enumerate(words):
        key, equals, value = word.partition("=")
        if equals:
            typed.append((key, value))
        elif position == 0 and word.endswith((".yaml", ".yml")):
            filed += read_grid_file(Path(word)).items()
        else:
            raise UsageError(f"{word!r} is not a key=value word. Keys: {', '.join(allowed)}.")
    named = [*filed, *typed]
    own = _words_of_named_tasks(named) if "protocol.KEY" in allowed else None
    found: dict[str, list[Any]] = {}
    for given in (filed, typed):
        found |= _once((_full_key(key, allowed, own, named), key, value) for key, value in given)
    return found


def _once(given: Iterable[tuple[str, str, Any]]) -> dict[str, list[Any]]:
    """Full key -> values; raises `UsageError` for a key that is given twice, by whichever of its names."""
    found: dict[str, list[Any]] = {}
    names: dict[str, str] = {}
    for full, name, value in given:
        if full in found:
            same = f"{name}= is given twice" if name == names[full] else f"{names[full]}= and {name}= are the same key"
            several = "" if full in _WHOLE_KEYS else f" Several values are one word: {name}=A,B."
            raise UsageError(f"{same}; give it once.{several}")
        found[full], names[full] = _values(full, value), name
    return found


def task_words(task: str) -> dict[str, str]:
    """A task's short words for keys of its protocols: `{"direction": "options.direction"}`.

    Raises:
        UsageError: an unknown task, a malformed file, or a word that is a key of every run.
    """
    words = task_data(task).words
    keys = {key.partition(".")[0] for key in (*cell_keys(), *RUN_KEYS)}
    if taken := sorted(keys & words.keys()):
        raise UsageError(f"The task {task!r} declares the word {taken[0]!r}, which is a key of every run; rename it.")
    return words


def _words_of_named_tasks(given: Sequence[tuple[str, Any]]) -> dict[str, dict[str, str]]:
    """The words of each task that the last `task=` names."""
    value: Any = next((value for key, value in reversed(given) if key == "task"), [])
    names = [str(name).partition("/")[0] for name in _values("task", value)]
    return {name: task_words(name) for name in names}


def _full_key(
    key: str, allowed: Sequence[str], own: dict[str, dict[str, str]] | None, given: Sequence[tuple[str, Any]]
) -> str:
    """A known key as it is, and a word that all named tasks have as the key that it stands for.

    Args:
        key: what was typed.
        allowed: the keys, `KEY` standing for any.
        own: the words of each named task; None where tasks' words are not allowed.
        given: all keys and values.
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
        if longer := sorted(name for name in _longer_keys(given) if name.rpartition(".")[2] == key):
            raise UsageError(f"Unknown key {key!r}. Did you mean {longer[0]!r}?")
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


def _longer_keys(given: Sequence[tuple[str, Any]]) -> Iterator[str]:
    """The keys of the named tasks' protocols and methods' parameters in full: `protocol.optimizer.lr`."""
    named: dict[str, list[str]] = {"task": [], "method": []}
    for key, value in given:
        if key in named:
            named[key] = [str(name).partition("/")[0] for name in _values(key, value)]
    for task in named["task"]:
        for protocol in task_data(task).protocols.values():
            yield from (f"protocol.{key}" for key in flat(protocol.model_dump()))
    for method in named["method"]:
        if method in methods.names():
            yield from (f"method.{name}" for name in default_parameters(method))


def _values(key: str, given: Any) -> list[Any]:
    """What was typed, or read from a file, as the values of a grid."""
    items = given if isinstance(given, list) else [given]
    if key in _WHOLE_KEYS:
        return items if items != [""] else _none(key)
    values: list[Any] = []
    for item in items:
        values += _split(key, item) if isinstance(item, str) else [item]
        if len(values) > LARGEST_GRID:
            raise UsageError(f"{key}= has more than {LARGEST_GRID} values.")
    return values


def _split(key: str, text: str) -> list[Any]:
    values: list[Any] = []
    for part in _parts(key, text):
        if bounds := _RANGE.fullmatch(part):
            low, high = int(bounds[1]), int(bounds[2])
            if high < low:
                raise UsageError(f"{key}={part} is an empty range: the grid would have no cells.")
            if len(values) + high - low >= LARGEST_GRID:
                raise UsageError(f"{key}={part} has more than {LARGEST_GRID} values.")
            values.extend(range(low, high + 1))
        elif shape := _SIMPLEX.fullmatch(part):
            values.extend(simplex(int(shape[1]), int(shape[2])))
        elif part.startswith(("simplex:", "simplex=")):
            raise UsageError(f"{key}={part[:80]} is not allowed: say simplex:K:N, for K objectives in N steps.")
        elif part.startswith("["):
            values.append([item.strip() for item in part[1:-1].split(",") if item.strip()])
        elif part:
            values.append(part)
    return values or _none(key)


def simplex(objectives: int, steps: int) -> list[list[float]]:
    """All weights of so many objectives that are multiples of K/N and sum to K, N the number of steps from 0 to K.

    They sum to K so that the equal ones, where they are among them, are the plain sum.

    Raises:
        UsageError: fewer than two objectives, no step, or more weights than a grid may have.
    """
    word = f"simplex:{objectives}:{steps}"
    if objectives < 2 or steps < 1:
        raise UsageError(f"{word} is not allowed: simplex:K:N is for K objectives, at least 2, in N steps, at least 1.")
    most = max(objectives, steps)
    if most > LARGEST_GRID or math.comb(steps + objectives - 1, objectives - 1) > LARGEST_GRID:
        raise UsageError(f"{word} stands for more than {LARGEST_GRID} lists of weights.")
    places = itertools.combinations(range(steps + objectives - 1), objectives - 1)
    return [
        [objectives * (b - a - 1) / steps for a, b in itertools.pairwise((-1, *bars, steps + objectives - 1))]
        for bars in places
    ]


def _parts(key: str, text: str) -> Iterator[str]:
    """What commas outside brackets separate."""
    start, inside = 0, False
    for place, character in enumerate(text):
        if character == "[" and not inside and not text[start:place].strip():
            inside = True
        elif character == "]" and inside:
            inside = False
        elif character == "," and not inside:
            yield text[start:place].strip()
            start = place + 1
    if inside:
        raise UsageError(f"{key}={text[:80]} has a [ without its ].")
    yield text[start:].strip()


def _none(key: str) -> list[Any]:
    raise UsageError(f"{key}= has no value: the grid would have no cells.")
