"""TorchJD, where it is installed: the same work done by another library."""

from __future__ import annotations

import importlib
import importlib.metadata
import warnings
from types import ModuleType
from typing import Any

# Our method to TorchJD's aggregator and the parameters that make both the same definition.
_AGGREGATORS: dict[str, tuple[str, dict[str, Any]]] = {
    "gradvac": ("GradVac", {"beta": 0.01}),
    "pcgrad": ("PCGrad", {}),
    "mgda": ("MGDA", {}),
}


def version() -> str | None:
    """TorchJD's version; None if it cannot be imported."""
    if _module("torchjd.aggregation") is None:
        return None
    return importlib.metadata.version("torchjd")


def aggregator(method: str) -> Any:
    """TorchJD's aggregator for one of our methods, (K, P) -> (P,); None if it has none or is not installed."""
    module = _module("torchjd.aggregation")
    name, parameters = _AGGREGATORS.get(method, ("", {}))
    cls = getattr(module, name, None) if module and name else None
    return cls(**parameters) if cls else None


def autojac() -> Any:
    """The module with `backward`, `mtl_backward` and `jac_to_grad`; None if not installed or too old."""
    module = _module("torchjd.autojac")
    return module if module is not None and hasattr(module, "jac_to_grad") else None


def _module(name: str) -> ModuleType | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError:
            return None
