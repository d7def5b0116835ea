"""From the words of a run to validated cells: grids, defaults, what is compared with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtlbench.catalogue.protocol import Protocol
from mtlbench.catalogue.registry import holder, methods, tasks
from mtlbench.catalogue.variants import compared_with, resolve
from mtlbench.cells.axes import AXES, values_for
from mtlbench.cells.cell import Cell
from mtlbench.cells.parameters import check_finite, checked_parameters
from mtlbench.cells.placing import PLACE_KEYS, Place, devices, place
from mtlbench.cells.recording import Recording
from mtlbench.cells.sampling import count, require_shared_out, strategies
from mtlbench.cells.words import LARGEST_GRID, PATH_KEYS, RESULTS, RUN_KEYS, read_words
from mtlbench.errors import UsageError, unknown
from mtlbench.storage import path_of

LARGEST_NUMBER = 2**63 - 1
"""Of seeds, jobs, seconds and the like."""


@dataclass
class Request:
    """What the words of `mtlbench run` ask for."""

    cells: list[Cell]
    """In the tuned regime, the trials; which run-offs and reruns follow is known when they are finished."""
    added: list[Cell] = field(default_factory=list)
    """Those of `cells` that only `against` asks for."""
    against: str | None = None
    """The method that the others are compared with; None where there is none, or several for several variants."""
    tune: int | None = None
    """Trials of each setting; None in the fixed regime."""
    seeds: list[int] = field(default_factory=list)
    """Of the reruns in the tuned regime."""
    results: Path = RESULTS
    jobs: int | None = None
    data_root: Path | None = None
    devices: tuple[str, ...] = ("cpu",)
    """Each trains one cell at a time, where there are several."""
    place: Place = field(default_factory=Place)
    """Where the cells are trained."""
    time_limit: float | None = None
    """Seconds of training a cell may take, over all its resumptions."""
    checkpoint_steps: int | None = None
    """Steps between checkpoints, besides the one at every evaluation."""
    processes: int | None = None
    """On which each cell is trained; None where no word says it: one, or those of torchrun."""
    predictions: Path | None = None
    """Where predictions on the test split go; None for none."""
    geometry: Recording | None = None
    """What is recorded of the gradients' geometry; None for nothing."""
    plugins: list[Path] = field(default_factory=list)

    @property
    def processes_each(self) -> int:
        """On how many each cell is trained."""
        return self.processes or 1

    @property
    def total(self) -> int:
        """How many cells will be trained, run-offs and reruns included."""
        from mtlbench.cells.trials import after

        return len(self.cells) + (len(self.cells) // self.tune * after(self.seeds) if self.tune else 0)


def parse(words: Sequence[str], plugins: Sequence[Path] = ()) -> Request:
    """Validate the words of a run and expand them to cells, ordered by task, seed and method.

    Raises:
        UsageError: an unknown key or name, a bad value, a grid without cells; nothing has been written.
    """
    axes = read_words(words)
    if "method" not in axes:
        raise UsageError(f"Which method? Say method=NAME; known: {', '.join(methods.names())}.")
    if "task" not in axes:
        raise UsageError(f"Which task? Say task=NAME or task=NAME/VARIANT; known: {', '.join(tasks.names())}.")
    options = _run_options(axes)
    word = options.pop("against", None)
    cells, seeds = _trials(axes, word, options["tune"]) if "tune" in options else (_expand(axes, word), [])
    asked = {str(name) for name in axes["method"]}
    baselines = {compared_with(cell.task, cell.variant, word) for cell in cells} - {None}
    return Request(
        cells=cells,
        added=[cell for cell in cells if cell.method not in asked],
        against=baselines.pop() if len(baselines) == 1 else None,
        seeds=seeds,
        plugins=list(plugins),
        **options,
    )


def _expand(axes: Mapping[str, list[Any]], against: str | None) -> list[Cell]:
    """The cells of a grid, and those of the method that they are compared with if it is not among them."""
    chosen = list(dict.fromkeys(str(name) for name in axes["method"]))
    for name in chosen:
        methods.load(name)
    method_axes = {key.removeprefix("method."): v for key, v in axes.items() if key.startswith("method.")}
    protocol_axes = {key.removeprefix("protocol."): v for key, v in axes.items() if key.startswith("protocol.")}
    _check_parameters(chosen, method_axes)
    _check_size(chosen, axes)
    cells: dict[str, Cell] = {}
    for word in axes["task"]:
        task, _, variant = str(word).partition("/")
        tasks.entry(task)
        for protocol_name in axes.get("protocol", [None]):
            if not isinstance(protocol_name, str | None):
                raise UsageError(f"protocol={protocol_name} is not allowed: it is a name; values go in protocol.KEY.")
            for overrides in _product(protocol_axes):
                variant_name, protocol = resolve(task, variant or None, protocol_name, overrides)
                check_finite("protocol", protocol.model_dump())
                require_shared_out(task, axes, protocol.trains)
                if not protocol.trains:
                    _require_one(f"{task}/{variant_name}", protocol, chosen, axes)
                settings = [cell for name in chosen for cell in _method_cells(name, method_axes, axes)]
                baseline = compared_with(task, variant_name, against)
                if baseline is not None and baseline not in chosen and protocol.trains:
                    settings += _method_cells(baseline, {}, {})
                for seed, setting in itertools.product(axes.get("seed", [0]), settings):
                    cell = Cell(task=task, variant=variant_name, protocol=protocol, seed=_seed(seed), **setting)
                    cells[cell.id] = cell
    return list(cells.values())


def _require_one(name: str, protocol: Protocol, chosen: Sequence[str], axes: Mapping[str, list[Any]]) -> None:
    """Refuse what would score one model several times, where nothing is trained."""
    baseline = holder("baseline")
    what = name if protocol.is_of_a_fixed_model else f"{name} with protocol.epochs=0"
    if [*chosen] != [baseline]:
        raise UsageError(
            f"{what} trains nothing, so that all methods are the same: ask for method={baseline} and no other."
        )
    if "tune" in axes:
        raise UsageError(f"{what} trains nothing, so that there is nothing to tune: leave tune={axes['tune'][0]} out.")
    if protocol.is_of_a_fixed_model and len(seeds := {_seed(seed) for seed in axes.get("seed", [0])}) > 1:
        raise UsageError(
            f"{what} trains nothing, so that all seeds are the same: ask for one seed, not {len(seeds)} of them."
        )


def _trials(axes: Mapping[str, list[Any]], against: str | None, count: int) -> tuple[list[Cell], list[int]]:
    """The trials of every setting in the grid, and the seeds of the reruns."""
    from mtlbench.cells.trials import TRIAL_SEEDS, after, trials

    seeds = list(dict.fromkeys(_seed(seed) for seed in axes.get("seed", [0])))
    if max(seeds) >= TRIAL_SEEDS:
        raise UsageError(
            f"seed={max(seeds)} is not allowed: with tune=N seeds are below {TRIAL_SEEDS}, where those of trials begin."
        )
    settings = _expand({**axes, "seed": [0]}, against)
    _check_count(len(settings) * (count + after(seeds)))
    return trials(settings, axes, count), seeds


def _check_size(chosen: Sequence[str], axes: Mapping[str, list[Any]]) -> None:
    """Count the grid before it is made."""
    from mtlbench.catalogue.signature import parameters

    each = {key: len(dict.fromkeys(map(str, values))) for key, values in axes.items()}
    per_method = 0
    for name in chosen:
        cls = methods.load(name)
        own = [f"method.{key}" for key in parameters(cls)]
        own += [key for key, axis in AXES.items() if key != "sampling" and axis.means_something_to(cls)]
        shared_out = count(axes) if AXES["sampling"].means_something_to(cls) else 1
        per_method += shared_out * math.prod(each.get(key, 1) for key in own)
    common = [key for key in each if key in ("task", "protocol", "seed") or key.startswith("protocol.")]
    _check_count(per_method * math.prod(each[key] for key in common))


def _check_count(cells: int) -> None:
    if cells > LARGEST_GRID:
        raise UsageError(f"The grid has {_short(cells)} cells; the most is {LARGEST_GRID}. Ask for it in parts.")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _check_parameters(chosen: Sequence[str], given: Mapping[str, Any]) -> None:
    """Every `method.KEY` must be a parameter of at least one of the chosen methods."""
    from mtlbench.catalogue.signature import parameters

    known = {name: list(parameters(methods.load(name))) for name in chosen}
    for key in given:
        if not any(key in names for names in known.values()):
            allowed = [f"method.{p}" for names in known.values() for p in names]
            hint = "" if allowed else f"{', '.join(chosen)} take no parameters."
            raise unknown(f"parameter of {', '.join(chosen)}:", f"method.{key}", set(allowed), hint)


def _method_cells(name: str, given: Mapping[str, list[Any]], axes: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """The distinct settings of one method in the grid."""
    from mtlbench.catalogue.signature import parameters

    cls = methods.load(name)
    own = {key: values for key, values in given.items() if key in parameters(cls)}
    typed = {key: values for key, values in axes.items() if key in AXES}
    if shared_out := strategies(axes):
        typed["sampling"] = shared_out
    return [
        {"method": name, "parameters": settings, "axes": values_for(cls, values)}
        for settings in (checked_parameters(name, values) for values in _product(own))
        for values in _product(typed)
    ]


def _product(axes: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def _seed(value: Any) -> int:
    return int(_number("seed", value, whole=True, least=0))


def _number(key: str, value: Any, whole: bool, least: float) -> float:
    """A number between `least` and `LARGEST_NUMBER`."""
    kind = "a whole number" if whole else "a number"
    try:
        number = int(str(value)) if whole else float(str(value))
    except ValueError:  # of too many digits too
        number = float("nan")
    if not least <= number <= LARGEST_NUMBER:
        bounds = f"at least {least:g}" if not number > LARGEST_NUMBER else f"at most {LARGEST_NUMBER}"
        raise UsageError(f"{key}={_short(value)} is not allowed: {key} is {kind}, {bounds}.")
    return number


def _run_options(axes: Mapping[str, list[Any]]) -> dict[str, Any]:
    single: dict[str, Any] = {}
    for key in RUN_KEYS:
        if key in axes and key != "device":
            if len(axes[key]) != 1:
                raise UsageError(f"{key} takes one value, not {len(axes[key])}.")
            single[key] = axes[key][0]
    for key in ("jobs", "checkpoint_steps", "processes"):
        if key in single:
            single[key] = int(_number(key, single[key], whole=True, least=1))
    if "tune" in single:
        single["tune"] = int(_number("tune", single["tune"], whole=True, least=2))
    if "time_limit" in single:
        single["time_limit"] = _number("time_limit", single["time_limit"], whole=False, least=1e-9)
    if "against" in single:
        single["against"] = str(single["against"])
    for key in PATH_KEYS:
        if key in single:
            single[key] = path_of(str(single[key]))
    own = {key: single.pop(key) for key in list(single) if key.startswith("geometry.")}
    if own:
        single["geometry"] = _recording(own)
    single["devices"] = devices([str(name) for name in axes.get("device", ["cpu"])])
    single["place"] = place({key: single.pop(key) for key in list(single) if key in PLACE_KEYS})
    if len(single["devices"]) > 1 and (on := single["place"].on) != "local":
        raise UsageError(f"on={on} gives each cell a GPU of its own: say device=cuda, and not which.")
    if single.get("processes", 1) > 1 and single["devices"] not in (("cpu",), ("cuda",)):
        shown = ",".join(single["devices"])
        raise UsageError(f"device={shown} is not allowed with processes=N: it is cpu, or cuda for a GPU each.")
    return single


def _recording(given: Mapping[str, Any]) -> Recording:
    """What `geometry.every` and its companions ask for."""
    if "geometry.every" not in given:
        raise UsageError(f"{next(iter(given))}= means nothing without geometry.every=auto|epoch|STEPS; add it.")
    found: dict[str, Any] = {}
    for key, value in given.items():
        name = key.removeprefix("geometry.")
        if name == "every" and str(value) in ("auto", "epoch"):
            found[name] = str(value)
        elif name == "memory":
            found[name] = _number(key, value, whole=False, least=2**-10)
        else:
            found[name] = int(_number(key, value, whole=True, least=2 if name == "batches" else 1))
    return Recording(**found)
