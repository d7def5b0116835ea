"""From `key=value` words to a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch

from mtlbench.bench.combining import combination
from mtlbench.bench.recording import geometry
from mtlbench.bench.result import Bench, Progress
from mtlbench.bench.spreading import processes
from mtlbench.bench.stepping import steps
from mtlbench.bench.tabulating import tables
from mtlbench.bench.weighing import weights
from mtlbench.catalogue import building, registry
from mtlbench.cells.words import read_words
from mtlbench.errors import UsageError, unknown

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
        "refresh": "refresh",
        "wrt": "wrt",
        "task": "task",
        "protocol": "protocol",
        "protocol.KEY": "overrides",
        "data_root": "data_root",
    },
    "tables": {"records": "records", "repeats": "repeats"},
    "weights": {"method": "methods", "K": "objectives", "groups": "groups", "repeats": "repeats"},
    "processes": {
        "method": "methods",
        "K": "objectives",
        "P": "parameters",
        "processes": "count",
        "repeats": "repeats",
    },
    "geometry": {
        "K": "objectives",
        "method": "methods",
        "every": "every",
        "batches": "batches",
        "examples": "examples",
        "task": "task",
        "protocol": "protocol",
        "protocol.KEY": "overrides",
        "data_root": "data_root",
        "device": "device",
        "repeats": "repeats",
    },
}
"""The words of each benchmark and the arguments that they set."""

_NUMBERS = {"objectives", "groups", "refresh", "parameters", "repeats", "records", "batches", "examples", "count"}
_SWITCHES = {"measure_memory", "compare"}
_LISTS = {"objectives", "groups", "parameters", "records", "methods", "layouts", "shapes"}


def run_bench(words: Sequence[str], plugins: Sequence[str] = (), progress: Progress | None = None) -> Bench:
    """Run the benchmark that the words ask for: its name, then `key=value`.

    The name is `combination` (the default), `steps`, `tables`, `weights`, `processes`, `geometry`, or that of a task
    whose package has a module `bench`: then its function `bench(words, progress) -> Bench` gets the other words, but
    for `threads=N`.

    Raises:
        UsageError: an unknown word or a bad value; nothing has been measured.
    """
    named = bool(words) and "=" not in words[0] and not words[0].endswith((".yaml", ".yml"))
    what, rest = (words[0], words[1:]) if named else ("combination", words)
    if what not in (*_KEYS, *registry.tasks.entries()):
        raise unknown("benchmark", what, [*_KEYS, *registry.tasks.names()])
    run: Callable[[], Bench]
    if what in _KEYS:
        axes = read_words(rest, [*_KEYS[what], "threads"])
        threads = axes.pop("threads", None)
        run = partial(_built_in, what, axes, plugins, progress)
    else:
        own = [word for word in rest if not word.startswith("threads=")]
        threads = read_words([word for word in rest if word not in own], ["threads"]).get("threads")
        run = partial(_of_task, what, own, progress)
    before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(int(_argument("threads", "repeats", threads)))
        return run()
    finally:
        torch.set_num_threads(before)


def _built_in(what: str, axes: Mapping[str, Sequence[Any]], plugins: Sequence[str], progress: Progress | None) -> Bench:
    keys = _KEYS[what]
    own = {key: values for key, values in axes.items() if not key.startswith("protocol.")}
    arguments = {keys[key]: _argument(key, keys[key], values) for key, values in own.items()}
    if what == "processes":
        return processes(**{k: _first(k, v) for k, v in arguments.items()}, progress=progress)
    if what in ("tables", "weights"):
        alone = tables if what == "tables" else weights
        return alone(**arguments, progress=progress)
    if what != "combination":
        _split_task(arguments, {key: _single(key, values) for key, values in axes.items() if key not in own})
    if what == "geometry":
        if "task" not in arguments:
            raise UsageError(
                "Which task? Say task=NAME[/VARIANT], such as `mtlbench bench geometry task=nmt/families`."
            )
        return geometry(**arguments, progress=progress)
    if what == "steps" and "task" in arguments:  # takes the place of the built-in workloads, unless asked for too
        arguments.setdefault("shapes", ())
    benchmark = combination if what == "combination" else steps
    return benchmark(**arguments, plugins=list(plugins), progress=progress)


def _first(argument: str, value: Any) -> Any:
    """One number of what other benchmarks take several of."""
    return value if argument == "methods" or not isinstance(value, list) else _single(argument, value)


def _of_task(name: str, words: Sequence[str], progress: Progress | None) -> Bench:
    module = registry.module_beside(building.task_class(name), "bench")
    if module is None:
        raise UsageError(
            f"The task {name!r} has no benchmark of its own. `mtlbench bench steps task={name}` times its training."
        )
    return cast("Bench", module.bench(words, progress))


def _split_task(arguments: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    """The task's variant and what is overridden in its protocol."""
    if "task" in arguments:
        arguments["task"], _, variant = arguments["task"].partition("/")
        arguments["variant"] = variant or None
        arguments["overrides"] = {key.removeprefix("protocol."): value for key, value in overrides.items()}
    elif overrides:
        raise UsageError(f"{next(iter(overrides))} is a key of a task's protocol: say task=NAME[/VARIANT] as well.")


def _argument(key: str, argument: str, values: Sequence[Any]) -> Any:
    read = _number if argument in _NUMBERS else _switch if argument in _SWITCHES else lambda _, value: str(value)
    found = [read(key, value) for value in values]
    return found if argument in _LISTS else _single(key, found)


def _single(key: str, values: Sequence[Any]) -> Any:
    if len(values) != 1:
        raise UsageError(f"{key} takes one value, not {len(values)}.")
    return values[0]


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
