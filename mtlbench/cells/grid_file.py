"""YAML files of the words of a run: every value is what it would be if it had been typed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mtlbench.catalogue.yaml_file import Plain, read_yaml
from mtlbench.errors import UsageError


class AsTyped(Plain):
    """Text, lists and mappings alone, so that `010`, `no`, `1e-3` and `.inf` are read as the type of their key."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 (as in yaml)


def read_grid_file(path: Path) -> dict[str, Any]:
    """The keys of the file with their values: text, lists of text, and lists of these.

    Nested keys are dotted ones: `protocol: {optimizer: {lr: 0.1}}` is `protocol.optimizer.lr: 0.1`.

    Raises:
        UsageError: a file that cannot be read or is no mapping, a key that is there twice, an empty list.
    """
    content = read_yaml(path, AsTyped)
    if not isinstance(content, dict):
        raise UsageError(f"{path} must map keys to values, such as `method: [gradvac, uniform]`.")
    found: dict[str, Any] = {}
    for key, value in _dotted(content):
        if key in found:
            raise UsageError(f"{path}: {key} is there twice, nested and with dots.")
        if value in ([], {}):
            raise UsageError(f"{path}: {key} is empty: the grid would have no cells.")
        if not _is_value(value):
            raise UsageError(f"{path}: {key} must be a value or a list of values.")
        found[key] = value
    return found


def _dotted(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict) and value:
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _is_value(value: Any) -> bool:
    """Whether it is text, or a list of text and of lists of text."""
    items = value if isinstance(value, list) else [value]
    inner = [part for item in items for part in (item if isinstance(item, list) else [item])]
    return all(isinstance(part, str) for part in inner)
