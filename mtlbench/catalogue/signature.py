"""Hyper-parameters from constructor signatures: names, types, defaults, allowed values, and their validation."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtlbench.catalogue.search import Choice, Range
from mtlbench.errors import UsageError, unknown


@dataclass(frozen=True)
class Parameter:
    """One hyper-parameter of a method, as its constructor declares it."""

    name: str
    annotation: Any
    default: Any
    required: bool

    @property
    def allowed(self) -> str:
        """The type and range in words, such as `float in (0, 1]` or `one of none, l2`."""
        return _words(self.annotation)

    @property
    def search(self) -> Range | Choice | None:
        """Where the tuned regime searches it; None for one that keeps its default."""
        return _search(self.annotation)


def parameters(cls: type) -> dict[str, Parameter]:
    """The hyper-parameters of `cls`: every keyword of its constructor."""
    constructor = inspect.getattr_static(cls, "__init__")
    hints = typing.get_type_hints(constructor, include_extras=True)
    found = {}
    for name, parameter in list(inspect.signature(constructor).parameters.items())[1:]:
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        required = parameter.default is parameter.empty
        found[name] = Parameter(name, hints.get(name, Any), None if required else parameter.default, required)
    return found


def validated(name: str, cls: type, given: Mapping[str, Any], word: str = "method") -> dict[str, Any]:
    """All hyper-parameters of `cls`, `given` ones coerced to their declared type, the others at their default.

    Strings are read as the declared type, so `1e-3` and `no` arrive as meant wherever they came from. `word` is what
    parameters are typed behind: `method.KEY`.

    Raises:
        UsageError: an unknown or missing name, a wrong type, a value out of range.
    """
    import pydantic

    from mtlbench.strict import shown

    declared = parameters(cls)
    for key in given:
        if key not in declared:
            hint = "" if declared else f"{name} has no parameters."
            raise unknown(f"parameter of {name}:", key, declared, hint)
    values: dict[str, Any] = {}
    for key, parameter in declared.items():
        if key not in given:
            if parameter.required:
                raise UsageError(f"{name} needs {word}.{key}=...: {parameter.allowed}.")
            values[key] = parameter.default
            continue
        value = given[key]
        if isinstance(value, str) and value.lower() in ("none", "null") and _optional(parameter.annotation):
            value = None
        try:
            values[key] = pydantic.TypeAdapter(parameter.annotation).validate_python(value)
        except pydantic.ValidationError as error:
            raise UsageError(
                f"{name}: {key}={shown(given[key])} is not allowed; it takes {parameter.allowed}."
            ) from error
    return values


def _search(annotation: Any) -> Range | Choice | None:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        inner, *metadata = args
        return next((m for m in metadata if isinstance(m, Range | Choice)), None) or _search(inner)
    if origin in (typing.Union, types.UnionType):
        return next((found for arg in args if (found := _search(arg))), None)
    return None


def _optional(annotation: Any) -> bool:
    return type(None) in typing.get_args(annotation)


def _words(annotation: Any) -> str:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return f"{_words(args[0])}{_range(args[1:])}"
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, args))
    if origin in (typing.Union, types.UnionType):
        return " or ".join([_words(a) for a in args if a is not type(None)] + ["none"] * (type(None) in args))
    if origin in (tuple, list):
        return f"[{_words(args[0])}, ...]"
    return getattr(annotation, "__name__", str(annotation))


def _range(constraints: tuple[Any, ...]) -> str:
    low = high = ""
    for bound in constraints:
        low = next((f"{mark}{getattr(bound, a)}" for a, mark in (("gt", "("), ("ge", "[")) if _has(bound, a)), low)
        high = next((f"{getattr(bound, a)}{mark}" for a, mark in (("lt", ")"), ("le", "]")) if _has(bound, a)), high)
    return f" in {low or '(-inf'}, {high or 'inf)'}" if low or high else ""


def _has(bound: Any, attribute: str) -> bool:
    return getattr(bound, attribute, None) is not None
