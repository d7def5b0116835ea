"""From `key=value` words to a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mtlbench.bench.combining import combination
from mtlbench.bench.result import Bench, Progress
from mtlbench.bench.stepping import steps
from mtlbench.bench.tabulating import tables
from mtlbench.config import read_words
from mtlbench.errors import UsageError

_BOTH = {
    "method": "methods",
    "device": "device",
    "repeats": "repeats",
    "memory": "measure_memory",
    "torchjd": "compare",
}
_KEYS = {
    "combination": {**_BOTH, "K": "objectives", "P": "parameters", "layout": "layouts", "dtype": "dtype"},
    "steps": {
        **_BOTH,
        "K": "objectives",
        "shape": "shapes",
        "granularity": "granularity",
        "task": "task",
        "protocol": "protocol",
        "data_root": "data_root",
    },
    "tables": {"records": "records", "repeats": "repeats"},
}
"""The words of each benchmark and the arguments that they set."""

_NUMBERS = {"objectives", "parameters", "repeats", "records"}
_SWITCHES = {"measure_memory", "compare"}
_LISTS = {"objectives", "parameters", "records", "methods", "layouts", "shapes"}


def run_bench(words: Sequence[str], plugins: Sequence[str] = (), progress: Progress | None = None) -> Bench:
    """Run the benchmark that the words ask for: `combination` (the default), `steps` or `tables`, then `key=value`.

    Raises:
        UsageError: an unknown word or a bad value; nothing has been measured.
    """
    named = bool(words) and words[0] in _KEYS
    what = words[0] if named else "combination"
    keys = _KEYS[what]
    axes = read_words(words[named:], [*keys, "threads"])
    threads = axes.pop("threads", None)
    arguments = {keys[key]: _argument(key, keys[key], values) for key, values in axes.items()}
    if what == "steps":
        _split_task(arguments)
    before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(int(_argument("threads", "repeats", threads)))
        if what == "tables":
            return tables(**arguments, progress=progress)
        benchmark = combination if what == "combination" else steps
        return benchmark(**arguments, plugins=list(plugins), progress=progress)
    finally:
        torch.set_num_threads(before)


def _split_task(arguments: dict[str, Any]) -> None:
    """A task takes the place of the built-in workloads, unless these are asked for too."""
    if "task" in arguments:
        arguments["task"], _, variant = arguments["task"].partition("/")
        arguments["variant"] = variant or None
        arguments.setdefault("shapes", ())


def _argument(key: str, argument: str, values: Sequence[Any]) -> Any:
    read = _number if argument in _NUMBERS else _switch if argument in _SWITCHES else lambda _, value: str(value)
    found = [read(key, value) for value in values]
    if argument in _LISTS:
        return found
    if len(found) != 1:
        raise UsageError(f"{key} takes one value, not {len(found)}.")
    return found[0]


def _number(key: str, value: Any) -> int:
    try:
        number = float(value)
    except ValueError:
        number = 0.5
    if number < 1 or number != int(number):
        raise UsageError(f"{key}={value} is not allowed: it is a whole number, at least 1, such as 8 or 1e6.")
    return int(number)


def _switch(key: str, value: Any) -> bool:
    known: Mapping[str, bool] = {"yes": True, "true": True, "no": False, "false": False}
    if str(value).lower() not in known:
        raise UsageError(f"{key}={value} is not allowed: it is yes or no.")
    return known[str(value).lower()]
