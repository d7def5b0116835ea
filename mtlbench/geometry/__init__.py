"""Gradient geometry: how similar the objectives' gradients are while a model trains, and what that similarity follows.

`load(run)` gives the labelled arrays of one run, `Geometry` and `Labelled` are what it answers with.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtlbench.geometry.labelled import Labelled
    from mtlbench.geometry.loading import Geometry, load

# Resolved on first use, as in `mtlbench/__init__.py`: help imports this face and must not wait for scipy.
_HOME = {"Geometry": "loading", "Labelled": "labelled", "load": "loading"}

__all__ = ["Geometry", "Labelled", "load"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
