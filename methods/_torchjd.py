"""TorchJD's aggregators and weightings behind the contract, as `torchjd.NAME`, where TorchJD is installed.

What takes a Gramian sees that of each group in float64 on the CPU, as methods here do; everything else sees the rows
themselves. Every group has an object of TorchJD's of its own, so that those with a state keep one for each group. Their
definitions are TorchJD's: means where it takes means, and its regularisation. Heads are trained by their own losses.

Parameters are those of TorchJD's constructor that are numbers, words, yes or no, or vectors (as lists); others keep
their default. What needs one that cannot be typed, or gradients from several batches, is refused. `version` is the
version that is installed, and part of the identity of a cell. What TorchJD draws from torch's global generator comes
from the method's own here.

What has a state needs all objectives in every step and the same groups throughout. It is in checkpoints where it is
numbers; NashMTL's is not, so that an interrupted cell of it begins again.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

import mtlbench
from mtlbench.errors import UsageError, unknown

SEVERAL_BATCHES = ("MoDoWeighting", "SDMGradWeighting")
"""What takes inner products of gradients from independent batches, by their documentation."""
DEFINITION = "TorchJD's definition is not this suite's to promise"
OF_DEFINITIONS = (
    *("alone", "order", "common_scale", "single_scale"),
    *("plain_sum", "descent", "bounded", "groups", "float32"),
)
"""What a class promises or not by its definition."""
OF_STATE = {
    "saved_state": "what TorchJD keeps is in checkpoints where it is numbers",
    "refresh": "what TorchJD keeps is in checkpoints where it is numbers",
    "absent": "it keeps a state of all objectives, which every step must hold",
    "treated": "it keeps a state of all objectives, which every step must treat",
}
"""What a class with a state does not promise."""
_BARE = {*vars(nn.Module())}


class Adapter(mtlbench.Method):
    """An object of TorchJD's for each group, and their state."""

    theirs: ClassVar[type]
    packages = ("torchjd",)

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, Any] = {}
        self.parts: dict[int, Any] = {}
        self.stored: Mapping[int, Any] = {}

    def take(self, values: Mapping[str, Any]) -> None:
        """Keep the arguments, and see that TorchJD takes them; raises `UsageError` where it lacks a package."""
        self.values = {name: value for name, value in values.items() if name != "version"}
        self._made(torch.empty(0, dtype=torch.float64))

    def part(self, group: int, like: Tensor) -> Any:
        """The object of a group, made when it is first asked for, with vectors of the device and dtype of `like`."""
        if group not in self.parts:
            self.parts[group] = self._made(like)
            _restore(self.parts[group], self.stored.get(group, []))
        return self.parts[group]

    @contextmanager
    def drawing(self, device: torch.device) -> Iterator[None]:
        """While open, torch's global generator draws what follows from the method's own."""
        if self._has_state and len(self.present) != self.objectives:
            raise UsageError(
                f"{self.name} keeps a state of all objectives: every step must hold and treat all of them."
            )
        seed = int(torch.randint(2**62, (), generator=self.generator))
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield

    def regroup(self, origin: Sequence[int | None]) -> None:
        """Refused for what has a state; see `Method.regroup`."""
        if self._has_state and self.parts:
            raise UsageError(f"{self.name} keeps a state for each group: freeze and unfreeze layers before training.")
        super().regroup(origin)
        self.parts = {}

    def get_extra_state(self) -> dict[str, Any]:
        """With the state of TorchJD's objects; None for what cannot be kept."""
        kept = {group: self._kept(part) for group, part in self.parts.items()} if self._has_state else {}
        return {**super().get_extra_state(), "theirs": None if None in kept.values() else kept}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """What `get_extra_state` returned; raises `ValueError` if it could not keep all."""
        if state["theirs"] is None:
            raise ValueError(f"the state of {self.name} cannot be kept")
        super().set_extra_state(state)
        self.stored, self.parts = state["theirs"], {}

    @property
    def _has_state(self) -> bool:
        return hasattr(self.theirs, "reset")

    def _made(self, like: Tensor) -> Any:
        def vector(value: Any) -> Any:
            return (
                torch.tensor(value, dtype=like.dtype, device=like.device) if isinstance(value, list | tuple) else value
            )

        try:
            return self.theirs(**{name: vector(value) for name, value in self.values.items()})
        except ImportError as error:
            raise UsageError(f"{self.name} needs more of TorchJD: {error}. `torchjd[full]` has all of it.") from error

    def _kept(self, part: nn.Module) -> list[dict[str, Any]] | None:
        """The values of each of a part's modules; None where one came to be since that is no number."""
        found = []
        for module, fresh in zip(part.modules(), self._made(torch.empty(0)).modules(), strict=True):
            values, before = _values(module), _values(fresh)
            if any(not _is_plain(v) and type(v) is not type(before.get(k)) for k, v in values.items()):
                return None
            found.append({name: value for name, value in values.items() if _is_plain(value)})
        return found


class OnGramian(Adapter, mtlbench.GramianWeighting):
    """What TorchJD finds weights for in a Gramian."""

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """TorchJD's weights, group by group."""
        with self.drawing(gramian.device):
            parts = [self.part(group, gramian) for group in range(len(gramian))]
            found = [getattr(p, "gramian_weighting", p)(g) for p, g in zip(parts, gramian, strict=True)]
        return torch.stack(found).to(gramian.dtype)


class OnJacobian(Adapter, mtlbench.JacobianAggregator):
    """What TorchJD computes from the rows."""

    def aggregate(self, jacobian: Tensor) -> Tensor:
        """TorchJD's aggregation, or the rows combined with its weights."""
        part = self.part(self.group, jacobian)
        with self.drawing(jacobian.device):
            answer: Tensor = part(jacobian)
        return answer if self.is_aggregator else answer @ jacobian

    is_aggregator: ClassVar[bool] = True


def adapted(name: str) -> type:
    """The method `torchjd.NAME`.

    Raises:
        UsageError: TorchJD is not installed, has nothing of this name, or only what the contract has no place for.
    """
    aggregation = _aggregation(name)
    kinds = (aggregation.Aggregator, aggregation.Weighting)
    known = {n: c for n in aggregation.__all__ if issubclass(c := getattr(aggregation, n), kinds)}
    usable = [n for n, c in known.items() if not _refusal(n, c)]
    if name not in known:
        raise unknown("aggregator or weighting of TorchJD:", name, usable)
    theirs = known[name]
    if why := _refusal(name, theirs):
        raise UsageError(f"torchjd.{name} cannot be run here: {why}. Usable: {', '.join(usable)}.")
    kind = OnGramian if _takes_gramian(theirs, aggregation) else OnJacobian
    content = {
        "__doc__": inspect.getdoc(theirs),
        "__module__": __name__,
        "__init__": _constructor(kind, _options(theirs)),
        "theirs": theirs,
        "exceptions": {**dict.fromkeys(OF_DEFINITIONS, DEFINITION), **(OF_STATE if hasattr(theirs, "reset") else {})},
        "is_aggregator": issubclass(theirs, aggregation.Aggregator),
    }
    return type(name, (kind,), content)


def _aggregation(name: str) -> ModuleType:
    try:
        return importlib.import_module("torchjd.aggregation")
    except ImportError as error:
        raise UsageError(
            f"torchjd.{name} needs the package torchjd, which is not installed here ({error}): "
            "`pip install 'torchjd[full]'`, into this environment."
        ) from error


def _refusal(name: str, theirs: type) -> str:
    """Why the contract has no place for a class; empty where it has."""
    if inspect.isabstract(theirs):
        return "it is an abstract class"
    if name in SEVERAL_BATCHES:
        return "it needs gradients from several independent batches in every step"
    missing = [p.name for p in _arguments(theirs) if p.default is p.empty and _typed(p.annotation) is None]
    return f"its argument {missing[0]} is nothing that can be typed" if missing else ""


def _arguments(theirs: type) -> list[inspect.Parameter]:
    """The keywords of the constructor, annotations resolved where they can be."""
    constructor: Any = inspect.getattr_static(theirs, "__init__")
    try:
        hints = typing.get_type_hints(constructor)
    except NameError:  # a name that is imported for type checking only
        hints = {}
    found = list(inspect.signature(constructor).parameters.values())[1:]
    return [p.replace(annotation=hints.get(p.name, p.annotation)) for p in found]


def _options(theirs: type) -> dict[str, inspect.Parameter]:
    """The arguments that can be typed, as the registry reads them, and `version`."""
    found = {
        p.name: p.replace(annotation=kind) for p in _arguments(theirs) if (kind := _typed(p.annotation)) is not None
    }
    version = importlib.metadata.version("torchjd")
    keyword = inspect.Parameter.KEYWORD_ONLY
    found = {name: p.replace(kind=keyword) for name, p in found.items()}
    return {**found, "version": inspect.Parameter("version", keyword, default=version, annotation=Literal[version])}


def _typed(annotation: Any) -> Any:
    """The type of what can be typed for an annotation: a vector is a list of numbers; None for no such type."""
    origin = typing.get_origin(annotation)
    if annotation in (int, float, bool, str, type(None)) or origin is Literal:
        return annotation
    if annotation is Tensor:
        return tuple[float, ...]
    if origin in (typing.Union, types.UnionType):
        parts = [kind for arg in typing.get_args(annotation) if (kind := _typed(arg)) is not None]
        return typing.Union[tuple(parts)] if {*parts} - {type(None)} else None  # noqa: UP007 (of a tuple)
    return None


def _takes_gramian(theirs: type, aggregation: ModuleType) -> bool:
    if issubclass(theirs, aggregation.GramianWeightedAggregator):
        return True
    gramian = importlib.import_module("torchjd.linalg").PSDMatrix
    bases = [base for cls in theirs.__mro__ for base in getattr(cls, "__orig_bases__", ())]
    return any(typing.get_origin(base) is aggregation.Weighting and gramian in typing.get_args(base) for base in bases)


def _constructor(kind: type[Adapter], options: Mapping[str, inspect.Parameter]) -> Callable[..., None]:
    """A constructor with TorchJD's arguments as its signature."""

    def __init__(self: Any, **given: Any) -> None:
        kind.__init__(self)
        self.take({name: given.get(name, p.default) for name, p in options.items()})

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    constructor: Any = __init__
    constructor.__signature__ = inspect.Signature([own, *options.values()])
    constructor.__annotations__ = {name: p.annotation for name, p in options.items()}
    return __init__


def _values(module: nn.Module) -> dict[str, Any]:
    """What a module of TorchJD's holds beside what every module does."""
    return {k: v for k, v in {**vars(module), **module._buffers}.items() if k not in _BARE}


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | Tensor | torch.dtype | torch.device)


def _restore(part: nn.Module, stored: Sequence[Mapping[str, Any]]) -> None:
    for module, values in zip(part.modules(), stored, strict=False):
        for name, value in values.items():
            setattr(module, name, value)
