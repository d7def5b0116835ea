"""The hyper-parameters of a cell: checked, with their defaults, as JSON keeps them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mtlbench.catalogue.registry import Registry, methods
from mtlbench.catalogue.search import Space
from mtlbench.errors import UsageError


def searchable(method: str) -> Space:
    """The search space that a method declares beside its signature."""
    from mtlbench.catalogue.signature import parameters

    return {name: p.search for name, p in parameters(methods.load(method)).items() if p.search is not None}


def checked_parameters(method: str, given: Mapping[str, Any], names: Registry = methods) -> dict[str, Any]:
    """All hyper-parameters of a method, or of what else is registered by name, as a cell holds them.

    Those that it added later are left out at their default, so that cells from before keep their identity. Raises
    `UsageError` for what it does not allow.
    """
    from mtlbench.catalogue.signature import parameters, validated

    cls = names.load(method)
    values = validated(method, cls, given, names.kind)
    settings = {key: plain(value) for key, value in values.items()}
    check_finite(names.kind, settings)
    try:
        cls(**values)
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"{method}: {error}") from error
    declared = parameters(cls)
    unsaid = {key for key in getattr(cls, "added_later", ()) if values[key] == declared[key].default}
    return {key: value for key, value in settings.items() if key not in unsaid}


def check_finite(key: str, value: Any) -> None:
    """Infinities and NaN have no place in a configuration: JSON has no word for them."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            check_finite(f"{key}.{name}", item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            check_finite(key, item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{key}={value} is not allowed: it must be a finite number.")


_defaults: dict[tuple[str, str], dict[str, Any]] = {}


def default_parameters(method: str, names: Registry = methods) -> dict[str, Any]:
    """The default hyper-parameters of a method, or of what else has a name; none for one that is not installed here.

    They are read from its file where that tells them, so that tables of records need not import torch.
    """
    if (key := (names.kind, method)) not in _defaults:
        entry = names.entries().get(method)
        declared = entry.defaults if entry else {}
        if declared is None:
            from mtlbench.catalogue.signature import parameters

            try:
                declared = {name: p.default for name, p in parameters(names.load(method)).items() if not p.required}
            except UsageError:
                declared = {}
        _defaults[key] = {name: plain(default) for name, default in declared.items()}
    return _defaults[key]


def plain(value: Any) -> Any:
    """A hyper-parameter as JSON keeps it."""
    return [plain(v) for v in value] if isinstance(value, (tuple, list)) else value
