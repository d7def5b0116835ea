"""Arrays of numbers in .npy files. Python objects in them are refused, never unpickled."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlbench.errors import UsageError


def mapped(path: Path) -> NDArray[Any]:
    """The array of a file, mapped into memory.

    Raises:
        UsageError: it is no whole .npy file, or holds something else than numbers; the message names it.
    """
    return _numbers(path, lambda: np.lib.format.open_memmap(path, "r"))


def unpacked(content: bytes, path: Path) -> NDArray[Any]:
    """The array in a file's content; raises `UsageError` as `mapped` does."""
    return _numbers(path, lambda: np.lib.format.read_array(io.BytesIO(content), allow_pickle=False))


def unusable(path: Path, reason: str) -> UsageError:
    """The error for a file that cannot be used as it is."""
    return UsageError(f"{path} is not usable: {reason}.")


def _numbers(path: Path, read: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    try:
        found = read()
    except (OSError, ValueError, EOFError) as error:
        raise unusable(path, f"it is no whole .npy file of numbers ({error})") from error
    if found.dtype.kind not in "iuf":
        raise unusable(path, f"it holds {found.dtype} and no real numbers")
    return found
