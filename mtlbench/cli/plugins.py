"""The plug-in files that `--plugin` names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from mtlbench.catalogue import registry
from mtlbench.errors import UsageError


def load(files: Sequence[str]) -> None:
    """Load plug-in files; raises `UsageError` for the first that cannot be used."""
    for file in files:
        registry.load_plugin(file)


def load_what_works(files: Sequence[str]) -> Mapping[str, str]:
    """Load plug-in files; answers those that cannot be used, with the reason."""
    for file in files:
        with suppress(UsageError):  # it is in broken_plugins now
            registry.load_plugin(file)
    return registry.broken_plugins
