"""From `key=value` words to validated cells: grids, defaults, identity."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mtlbench.errors import UsageError, unknown
from mtlbench.protocol import Protocol, protocol_folder, resolve
from mtlbench.registry import methods, tasks
from mtlbench.search import Space, Tuning

JACOBIAN_DTYPES = ("float32", "bfloat16")
CELL_KEYS = ("method", "method.KEY", "task", "protocol", "protocol.KEY", "seed", "granularity", "jacobian_dtype")
RUN_KEYS = ("tune", "results", "jobs", "data_root", "device", "time_limit", "checkpoint_steps")
LARGEST_GRID = 10_000


@dataclass(frozen=True)
class Cell:
    """One (method and its parameters, task/variant, protocol, seed): what is trained, and nothing else."""

    method: str
    parameters: dict[str, Any]
    task: str
    variant: str
    protocol: Protocol
    seed: int = 0
    granularity: str | None = None
    """None for methods that see no gradients, to which it means nothing."""
    jacobian_dtype: str | None = None
    """None for the parameters' own."""
    tuning: Tuning | None = None
    """None in the fixed regime."""

    def canonical(self) -> dict[str, Any]:
        """The configuration that the identity is made of: no paths, hosts, commits or descriptions."""
        content = {
            "method": self.method,
            "parameters": self.parameters,
            "task": self.task,
            "variant": self.variant,
            "protocol": self.protocol.model_dump(mode="json", exclude={"description", "variants"}),
            "seed": self.seed,
            "granularity": self.granularity,
            "jacobian_dtype": self.jacobian_dtype,
        }
        return content | {"tuning": self.tuning.model_dump(mode="json")} if self.tuning else content

    @property
    def id(self) -> str:
        """The first 12 hex digits of the SHA-256 of the canonical configuration."""
        return identity(self.canonical())

    @property
    def setting(self) -> str:
        """What seeds, trials and reruns of one setting have in common; see `setting`."""
        return setting(self.canonical())

    @property
    def name(self) -> str:
        """For people: `gradvac(beta=0.1) on multimnist/digits, seed 0`."""
        if self.tuning is None:
            return f"{self.setting_name}, seed {self.seed}"
        if self.tuning.is_trial:
            return f"{self.setting_name}, trial {self.tuning.trial}"
        return f"{self.setting_name}, tuned on {self.tuning.budget} trials, seed {self.seed}"

    @property
    def setting_name(self) -> str:
        """For people: `gradvac(beta=0.1) on multimnist/digits`."""
        label = method_label(self.method, self.parameters, self.granularity, self.jacobian_dtype, self.tuning)
        return f"{label} on {self.task}/{self.variant}"

    def folder(self, results: Path) -> Path:
        """Where the cell's record stands under `results`."""
        p = self.protocol
        protocol = protocol_folder(p.name, p.version, p.modified, self.tuning is not None)
        return results / self.task / self.variant / protocol / self.method / f"seed{self.seed}-{self.id}"


def identity(canonical: Mapping[str, Any]) -> str:
    """The identity of a canonical configuration."""
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def setting(canonical: Mapping[str, Any]) -> str:
    """The identity of a canonical configuration without seed, trial, budget and the values that were searched."""
    return identity({key: value for key, value in unsearched(canonical).items() if key != "seed"})


def unsearched(canonical: Mapping[str, Any]) -> dict[str, Any]:
    """A canonical configuration without trial, budget and the values that were searched."""
    content = dict(canonical)
    if tuning := content.get("tuning"):
        content = copy.deepcopy(content)
        content["tuning"] = [*tuning["space"].items()]
        for key in tuning["space"]:
            room, *path, last = key.split(".")
            place = content["parameters" if room == "method" else "protocol"]
            for part in path:
                place = place.get(part, {})
            place.pop(last, None)
    return content


def method_label(
    method: str,
    parameters: Mapping[str, Any],
    granularity: str | None,
    jacobian_dtype: str | None,
    tuning: Tuning | None = None,
) -> str:
    """The method with what differs from its defaults: `gradvac(beta=0.1, all_layer)`.

    In the tuned regime, what was searched is left out and what was fixed instead of searched is told.
    """
    defaults = default_parameters(method)
    if tuning is not None:
        parameters = {k: v for k, v in parameters.items() if f"method.{k}" not in tuning.space}
        defaults = {k: v for k, v in defaults.items() if f"method.{k}" not in tuning.fixed}
    changed = [f"{k}={_short(v)}" for k, v in parameters.items() if k not in defaults or defaults[k] != _plain(v)]
    changed += [word for word in (granularity, jacobian_dtype) if word not in (None, "whole_model")]
    return f"{method}({', '.join(changed)})" if changed else method


_defaults: dict[str, dict[str, Any]] = {}


def default_parameters(method: str) -> dict[str, Any]:
    """The default hyper-parameters of a method; none for one that is not installed here.

    They are read from the method's file where it tells them, so that tables of records need not import torch.
    """
    if method not in _defaults:
        entry = methods.entries().get(method)
        declared = entry.defaults if entry else {}
        if declared is None:
            from mtlbench.signature import parameters

            try:
                declared = {name: p.default for name, p in parameters(methods.load(method)).items() if not p.required}
            except UsageError:
                declared = {}
        _defaults[method] = {name: _plain(default) for name, default in declared.items()}
    return _defaults[method]


def searchable(method: str) -> Space:
    """The search space that a method declares beside its signature."""
    from mtlbench.signature import parameters

    return {name: p.search for name, p in parameters(methods.load(method)).items() if p.search is not None}


@dataclass
class Request:
    """What the words of `mtlbench run` ask for."""

    cells: list[Cell]
    """In the tuned regime, the trials; which reruns follow is known when they are finished."""
    tune: int | None = None
    """Trials of each setting; None in the fixed regime."""
    seeds: list[int] = field(default_factory=list)
    """Of the reruns in the tuned regime."""
    results: Path = Path("results")
    jobs: int | None = None
    data_root: Path | None = None
    device: str = "cpu"
    time_limit: float | None = None
    """Seconds of training a cell may take, over all its resumptions."""
    checkpoint_steps: int | None = None
    """Steps between checkpoints, besides the one at every evaluation."""
    plugins: list[Path] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many cells will be trained, reruns included."""
        return len(self.cells) + (len(self.cells) // self.tune * len(self.seeds) if self.tune else 0)


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
    cells, seeds = _trials(axes, options["tune"]) if "tune" in options else (_expand(axes), [])
    return Request(cells=cells, seeds=seeds, plugins=list(plugins), **options)


def read_words(words: Sequence[str], keys: Iterable[str] = (*CELL_KEYS, *RUN_KEYS)) -> dict[str, list[Any]]:
    """`key=value` words, after at most one YAML file of the same keys, as key -> list of values.

    `a,b` lists and `0..4` ranges give several values; `[a, b]` is one value that is a list.
    """
    allowed = tuple(keys)
    axes: dict[str, list[Any]] = {}
    for position, word in enumerate(words):
        key, equals, value = word.partition("=")
        if not equals:
            if position == 0 and word.endswith((".yaml", ".yml")):
                axes.update(_read_file(Path(word), allowed))
                continue
            raise UsageError(f"{word!r} is not a key=value word. Keys: {', '.join(allowed)}.")
        _check_key(key, allowed)
        axes[key] = _values(key, value)
    return axes


def _check_key(key: str, allowed: Sequence[str]) -> None:
    if key not in allowed and f"{key.split('.')[0]}.KEY" not in allowed:
        raise unknown("key", key, allowed)


def _read_file(path: Path, allowed: Sequence[str]) -> dict[str, list[Any]]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} must map keys to values, such as `method: [gradvac, uniform]`.")
    axes: dict[str, list[Any]] = {}
    for key, value in content.items():
        _check_key(str(key), allowed)
        items = value if isinstance(value, list) else [value]
        axes[key] = [v for item in items for v in (_values(key, item) if isinstance(item, str) else [item])]
        if not axes[key]:
            raise UsageError(f"{path}: {key} is an empty list: the grid would have no cells.")
    return axes


def _values(key: str, text: str) -> list[Any]:
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


def _expand(axes: Mapping[str, list[Any]]) -> list[Cell]:
    chosen = [str(name) for name in axes["method"]]
    for name in chosen:
        methods.load(name)
    method_axes = {key.removeprefix("method."): v for key, v in axes.items() if key.startswith("method.")}
    protocol_axes = {key.removeprefix("protocol."): v for key, v in axes.items() if key.startswith("protocol.")}
    _check_parameters(chosen, method_axes)
    cells: dict[str, Cell] = {}
    for word in axes["task"]:
        task, _, variant = str(word).partition("/")
        tasks.entry(task)
        for protocol_name in axes.get("protocol", [None]):
            if not isinstance(protocol_name, str | None):
                raise UsageError(f"protocol={protocol_name} is not allowed: it is a name; values go in protocol.KEY.")
            for overrides in _product(protocol_axes):
                variant_name, protocol = resolve(task, variant or None, protocol_name, overrides)
                _check_finite("protocol", protocol.model_dump())
                for seed, name in itertools.product(axes.get("seed", [0]), chosen):
                    for cell in _method_cells(name, method_axes, axes):
                        full = Cell(task=task, variant=variant_name, protocol=protocol, seed=_seed(seed), **cell)
                        cells[full.id] = full
                        if len(cells) > LARGEST_GRID:
                            raise UsageError(f"The grid has more than {LARGEST_GRID} cells.")
    return list(cells.values())


def _trials(axes: Mapping[str, list[Any]], count: int) -> tuple[list[Cell], list[int]]:
    """The trials of every setting in the grid, and the seeds of the reruns."""
    from mtlbench.tuning import TRIAL_SEEDS, trials

    seeds = list(dict.fromkeys(_seed(seed) for seed in axes.get("seed", [0])))
    if max(seeds) >= TRIAL_SEEDS:
        raise UsageError(
            f"seed={max(seeds)} is not allowed: with tune=N seeds are below {TRIAL_SEEDS}, where those of trials begin."
        )
    settings = _expand({**axes, "seed": [0]})
    if len(settings) * (count + len(seeds)) > LARGEST_GRID:
        raise UsageError(f"The grid has more than {LARGEST_GRID} cells.")
    return trials(settings, axes, count), seeds


def _check_parameters(chosen: Sequence[str], given: Mapping[str, Any]) -> None:
    """Every `method.KEY` must be a parameter of at least one of the chosen methods."""
    from mtlbench.signature import parameters

    known = {name: list(parameters(methods.load(name))) for name in chosen}
    for key in given:
        if not any(key in names for names in known.values()):
            allowed = [f"method.{p}" for names in known.values() for p in names]
            hint = "" if allowed else f"{', '.join(chosen)} take no parameters."
            raise unknown(f"parameter of {', '.join(chosen)}:", f"method.{key}", set(allowed), hint)


def _method_cells(name: str, given: Mapping[str, list[Any]], axes: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """The distinct settings of one method in the grid."""
    from mtlbench.grouping import GRANULARITIES
    from mtlbench.kinds import LossWeighting
    from mtlbench.signature import parameters

    cls = methods.load(name)
    own = {key: values for key, values in given.items() if key in parameters(cls)}
    gradients = not issubclass(cls, LossWeighting)
    cells = []
    for values in _product(own):
        settings = checked_parameters(name, values)
        for granularity, dtype in itertools.product(
            axes.get("granularity", ["whole_model"]), axes.get("jacobian_dtype", [None])
        ):
            if granularity not in GRANULARITIES:
                raise unknown("granularity", str(granularity), GRANULARITIES)
            if dtype not in (None, "none", *JACOBIAN_DTYPES):
                raise unknown("jacobian_dtype", str(dtype), JACOBIAN_DTYPES)
            cells.append(
                {
                    "method": name,
                    "parameters": settings,
                    "granularity": granularity if gradients else None,
                    "jacobian_dtype": dtype if gradients and dtype not in ("none", "float32") else None,
                }
            )
    return cells


def checked_parameters(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All hyper-parameters of a method as a cell holds them; raises `UsageError` for what it does not allow."""
    from mtlbench.signature import validated

    cls = methods.load(method)
    values = validated(method, cls, given)
    settings = {key: _plain(value) for key, value in values.items()}
    _check_finite("method", settings)
    try:
        cls(**values)
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"{method}: {error}") from error
    return settings


def _check_finite(key: str, value: Any) -> None:
    """Infinities and NaN have no place in a configuration: JSON has no word for them."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            _check_finite(f"{key}.{name}", item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_finite(key, item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{key}={value} is not allowed: it must be a finite number.")


def _product(axes: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def _seed(value: Any) -> int:
    return int(_number("seed", value, whole=True, least=0))


def _number(key: str, value: Any, whole: bool, least: float) -> float:
    kind = "a whole number" if whole else "a number"
    try:
        number = int(str(value)) if whole else float(str(value))
    except ValueError:
        number = float("nan")
    if not number >= least:
        raise UsageError(f"{key}={value} is not allowed: {key} is {kind}, at least {least:g}.")
    return number


def _run_options(axes: Mapping[str, list[Any]]) -> dict[str, Any]:
    single: dict[str, Any] = {}
    for key in RUN_KEYS:
        if key in axes:
            if len(axes[key]) != 1:
                raise UsageError(f"{key} takes one value, not {len(axes[key])}.")
            single[key] = axes[key][0]
    for key in ("jobs", "checkpoint_steps"):
        if key in single:
            single[key] = int(_number(key, single[key], whole=True, least=1))
    if "tune" in single:
        single["tune"] = int(_number("tune", single["tune"], whole=True, least=2))
    if "time_limit" in single:
        single["time_limit"] = _number("time_limit", single["time_limit"], whole=False, least=1e-9)
    for key in ("results", "data_root"):
        if key in single:
            single[key] = Path(str(single[key])).expanduser()
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device := str(single.get("device", "cpu"))):
        raise UsageError(f"device={device} is not allowed: it is cpu, cuda, cuda:0 or mps.")
    return single


def _plain(value: Any) -> Any:
    """A hyper-parameter as JSON keeps it."""
    return [_plain(v) for v in value] if isinstance(value, (tuple, list)) else value


def _short(value: Any) -> str:
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value).replace(" ", "")
