"""YAML files of plain data: what people wrote, whole and once, or one error that says where not."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from mtlbench.errors import UsageError
from mtlbench.storage import read_regular

LARGEST = 1 << 20
"""Bytes; the largest file of this kind has some ten thousand."""


class Plain(yaml.SafeLoader):
    """Mappings, lists, text, numbers, booleans and nothing; a date is text, a key that stands twice an error."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (as in yaml)
        start: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for start, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping of `node`; what `<<` merges into it may be said again, what it says itself may not."""
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, loader: type[yaml.SafeLoader] = Plain) -> Any:
    """What the YAML file at `path` says.

    Raises:
        UsageError: it is no regular file, too large, no text in UTF-8, no YAML, nested too deeply, or says a key
            twice; the message names the file and the line.
    """
    try:
        return yaml.load(read_regular(path, LARGEST).decode(), loader)
    except (OSError, yaml.YAMLError, RecursionError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        return f"{error.problem or error.context}{where}"
    if isinstance(error, UnicodeDecodeError):
        return f"it is no text in UTF-8 ({error.reason} at byte {error.start})"
    if isinstance(error, RecursionError):
        return "its brackets or lists are nested too deeply"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if "set_int_max_str_digits" in str(error):
        return "a number in it has thousands of digits"
    return " ".join(str(error).split())  # such as a character that YAML does not allow
