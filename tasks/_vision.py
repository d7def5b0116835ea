"""torchvision, also where its compiled part does not fit the installed torch.

torchvision's wheel for Linux is built for CUDA. Beside a torch for CPUs its compiled part cannot be loaded, which it
would bear, were it not that on import it describes two of the operators that are missing then: the import ends with
"operator torchvision::nms does not exist". Declared without an implementation, they can be described, and all that is
written in Python works: models, transforms, data sets. Nothing here needs the operators themselves.

transformers imports torchvision where it is installed: `declare_operators` must come before that, too.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch

from mtlbench.errors import UsageError

SCHEMAS = {name: f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for name in ("nms", "qnms")}
"""The operators that torchvision describes whether it has them or not."""

_libraries: list[torch.library.Library] = []
"""Declarations end with the object that made them."""


def declare_operators() -> None:
    """Make `import torchvision` possible; does nothing where it is anyway, and where it is not installed."""
    if "torchvision" in sys.modules:
        return
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None or _compiled_part_loads(Path(found.origin).parent):
        return
    missing = [schema for name, schema in SCHEMAS.items() if not hasattr(torch.ops.torchvision, name)]
    if missing:
        _libraries.append(torch.library.Library("torchvision", "FRAGMENT"))
    for schema in missing:
        _libraries[-1].define(schema)


def torchvision(needed_by: str) -> ModuleType:
    """The package torchvision.

    Args:
        needed_by: what needs it, for the message, such as `trunk=resnet50`.

    Raises:
        UsageError: it is not installed.
    """
    declare_operators()
    try:
        return importlib.import_module("torchvision")
    except ImportError as error:
        raise UsageError(f'{needed_by} needs torchvision: pip install "mtlbench[vision]".') from error


def _compiled_part_loads(folder: Path) -> bool:
    """Whether torch can load torchvision's library, as torchvision tries it; to load it twice changes nothing."""
    names = [f"_C{suffix}" for suffix in importlib.machinery.EXTENSION_SUFFIXES]
    for path in (folder / name for name in names if (folder / name).is_file()):
        try:
            torch.ops.load_library(str(path))
        except OSError:
            return False
        return True
    return False
