"""The axes along which cells of one method, task and protocol can differ, each described once.

Words, validation, identity, label, record, job and the commands under a table read them from here. A new axis is an
entry of `AXES` and its use where training happens.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, Literal

from mtlbench.cells import sampling
from mtlbench.cells.sampling import Strategy
from mtlbench.errors import UsageError, unknown

EVERY = ("Method",)
GRADIENTS = ("GramianWeighting", "JacobianAggregator")
"""Kinds of method that an axis means something to, by their names in `engine.kinds`."""
GRAMIANS = ("GramianWeighting",)


def _text(value: Any) -> str:
    return str(value)


def _nothing(value: Any) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One axis: a word, a key of the identity and of the record, and a value of each cell.

    None is the value for methods to which the axis means nothing, and the default where no other is stated.
    """

    takes: str
    """What the word takes, for help: `all|GROUP|NAME`."""
    about: str = ""
    """One line of help; empty where `takes` says it all."""
    type: Any
    """Of the values that a cell holds, None included; lists are tuples."""
    read: Callable[[Any], Any]
    """From what was typed to what a cell holds; raises `UsageError` for what is not allowed."""
    default: Any = None
    """What a cell holds where nothing was typed."""
    kinds: tuple[str, ...] = EVERY
    """The kinds of method that it means something to."""
    word: Callable[[Any], str] = _text
    """The value to type for a value that is not the default."""
    inner: Callable[[Any], Mapping[str, str]] = _nothing
    """The values to type for parameters of such a value: `KEY` of the word `AXIS.KEY` -> value."""
    apart: bool = True
    """Whether it means something to methods that train a model for each objective."""
    label: Callable[[Any], str] = _text
    """How a value that is not the default reads in a label."""
    note: str = ""
    """What a table says below rows that have a value that is not the default; one sentence, or nothing."""
    always: bool = False
    """Whether identities and records hold it even at its default, as those of the first version do."""

    def means_something_to(self, method: type) -> bool:
        """Whether cells of this method can differ in it."""
        from mtlbench.engine import kinds

        if not self.apart and getattr(method, "separate_models", False):
            return False
        return any(issubclass(method, getattr(kinds, kind)) for kind in self.kinds)

    def is_told(self, value: Any) -> bool:
        """Whether a cell's value must be said in words and labels."""
        return value is not None and value != self.default

    def words(self, name: str, value: Any) -> dict[str, str]:
        """The words to type for a value that is not the default, by key; `name` is the axis's."""
        return {name: self.word(value), **{f"{name}.{key}": word for key, word in self.inner(value).items()}}

    def checked(self, value: Any) -> Any:
        """A value as a file holds it, as a cell holds it; raises `pydantic.ValidationError`."""
        return _adapter(self.type).validate_python(value)


@functools.cache
def _adapter(of: Any) -> Any:
    import pydantic

    return pydantic.TypeAdapter(of)


def _granularity(value: Any) -> str:
    from mtlbench.engine.grouping import GRANULARITIES

    if value not in GRANULARITIES:
        raise unknown("granularity", str(value), GRANULARITIES)
    return str(value)


JACOBIAN_DTYPES = ("float32", "bfloat16")


def _jacobian_dtype(value: Any) -> str | None:
    if value in ("none", "float32"):
        return None
    if value not in JACOBIAN_DTYPES:
        raise unknown("jacobian_dtype", str(value), JACOBIAN_DTYPES)
    return str(value)


def _treated(value: Any) -> tuple[str, ...] | None:
    """Names of objectives and of groups of them, in an order of their own; None for all objectives."""
    names = sorted({str(name) for name in (value if isinstance(value, list) else [value])})
    if not names:
        raise UsageError("treated=[] is not allowed: name objectives or groups of them, or leave it out.")
    return None if "all" in names else tuple(names)


LONGEST_REFRESH = 10**6


def _refresh(value: Any) -> int | None:
    """A number of steps; None for every one."""
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) <= 7 and 1 <= int(text) <= LONGEST_REFRESH):
        raise UsageError(f"refresh={value} is not allowed: it is a whole number of steps, 1 to {LONGEST_REFRESH}.")
    return None if int(text) == 1 else int(text)


WRT = ("parameters", "representation")


def _wrt(value: Any) -> str | None:
    """None for the parameters."""
    if value not in WRT:
        raise unknown("wrt", str(value), WRT)
    return None if value == "parameters" else str(value)


def _treated_word(treated: tuple[str, ...]) -> str:
    """`lrl`, or `[de-en,fr-en]`."""
    return treated[0] if len(treated) == 1 else f"[{','.join(treated)}]"


def _typed(value: Any) -> str:
    """A parameter as it is typed."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_typed, value))}]"
    return "none" if value is None else str(value).removesuffix(".0")


def _strategy_label(strategy: Strategy) -> str:
    """`sampling=unimax(repeats=4)`."""
    changed = ", ".join(f"{key}={_typed(value)}" for key, value in strategy.changed.items())
    return f"sampling={strategy.name}({changed})" if changed else f"sampling={strategy.name}"


AXES: dict[str, Axis] = {
    "granularity": Axis(
        takes="whole_model|enc_dec|all_layer|all_matrix",
        type=str | None,
        read=_granularity,
        default="whole_model",
        kinds=GRADIENTS,
        always=True,
    ),
    "jacobian_dtype": Axis(
        takes="bfloat16",
        about="halve the memory of the Jacobian",
        type=str | None,
        read=_jacobian_dtype,
        kinds=GRADIENTS,
        always=True,
    ),
    "treated": Axis(
        takes="all|GROUP|NAME|[NAME,NAME]",
        about="the objectives whose gradients the method corrects; the others enter the update as they are",
        type=tuple[str, ...] | None,
        read=_treated,
        kinds=GRADIENTS,
        word=_treated_word,
        label=lambda treated: f"treated={_treated_word(treated)}",
    ),
    "refresh": Axis(
        takes="N",
        about="weigh gradients in every N-th step and keep the weights in between, where one weighted backward pass "
        "does (at granularities with several groups: K passes)",
        type=int | None,
        read=_refresh,
        kinds=GRAMIANS,
        label=lambda steps: f"refresh={steps}",
    ),
    "wrt": Axis(
        takes="parameters|representation",
        about="the method sees gradients with respect to the parameters, or to what all heads read: an approximation "
        "of those, with one backward pass through the encoder, for tasks with one input for all objectives",
        type=Literal["representation"] | None,
        read=_wrt,
        kinds=GRADIENTS,
        label=lambda wrt: f"wrt={wrt}",
        note="wrt=representation: the method saw gradients with respect to what the heads read, an approximation of "
        "those with respect to the parameters.",
    ),
    "sampling": Axis(
        takes="NAME",
        about="what share of a step each objective gets, for tasks whose objectives have data of their own; "
        "`mtlbench list sampling`. sampling.KEY=VALUE is one of its parameters; `mtlbench show NAME`",
        type=Strategy | None,
        read=sampling.read,
        apart=False,
        word=lambda strategy: str(strategy.name),
        inner=lambda strategy: {key: _typed(value) for key, value in strategy.changed.items()},
        label=_strategy_label,
    ),
}
"""Key -> axis, in the order in which labels and commands tell them."""


def values_for(method: type, typed: Mapping[str, Any]) -> dict[str, Any]:
    """The value of every axis in a cell of `method`.

    Args:
        method: the class; axes that mean nothing to it are None.
        typed: axis -> what was typed; the others have their defaults.

    Raises:
        UsageError: a value that its axis does not allow, whether or not it means something to the method.
    """
    read = {name: axis.read(typed[name]) if name in typed else axis.default for name, axis in AXES.items()}
    return {name: value if AXES[name].means_something_to(method) else None for name, value in read.items()}


def told(values: Mapping[str, Any]) -> dict[str, Any]:
    """The axes of a cell whose values must be said in words and labels."""
    return {name: values[name] for name, axis in AXES.items() if axis.is_told(values.get(name))}


def as_data(values: Mapping[str, Any]) -> dict[str, Any]:
    """The axes of a cell as identities and records hold them: lists for tuples, mappings for strategies.

    Defaults are left out unless `always`.
    """
    found = {name: values.get(name) for name, axis in AXES.items() if axis.always or axis.is_told(values.get(name))}
    return {name: _plain(value) for name, value in found.items()}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return list(value) if isinstance(value, tuple) else value


def from_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """What `as_data` made, back again.

    Raises:
        ValueError: an axis is missing that every cell must state, or has a value of another type.
    """
    if missing := [name for name, axis in AXES.items() if axis.always and name not in data]:
        raise ValueError(f"{missing[0]} is missing")
    return {name: axis.checked(data.get(name, axis.default)) for name, axis in AXES.items()}
