"""Image files as arrays, and arrays at another size."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlbench.errors import UsageError

from ..geometry import Size
from .arrays import unusable

GREY = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "F")
COLOURED = ("RGB", "RGBA", "L")
DAMAGED = (OSError, SyntaxError, ValueError, EOFError, zlib.error, struct.error)
"""What Pillow raises for files that are cut short or otherwise broken."""


def pillow() -> ModuleType:
    """The module `PIL.Image`; raises `UsageError` where Pillow is not installed."""
    try:
        from PIL import Image
    except ImportError as error:
        raise UsageError('The images of nyuv2 need Pillow: pip install "mtlbench[vision]".') from error
    return Image


def coloured(content: bytes, path: Path) -> NDArray[np.uint8]:
    """(H, W, 3): the image in a file's `content`; raises `UsageError` that names `path` for anything else."""
    picture: NDArray[np.uint8] = _read(content, path, lambda image: image.convert("RGB"), COLOURED, "colour")
    return picture


def single(content: bytes, path: Path) -> NDArray[Any]:
    """(H, W): the one channel of an image, of a palette its numbers; raises `UsageError` that names `path`."""
    return _read(content, path, lambda image: image, GREY, "one channel")


def resized(image: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """(3, height, width): an (H, W, 3) image, each pixel a mean over what it covers."""
    picture = pillow().fromarray(image).resize((size[1], size[0]), pillow().Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))


def _read(content: bytes, path: Path, of: Callable[[Any], Any], modes: tuple[str, ...], wanted: str) -> NDArray[Any]:
    module = pillow()
    try:
        with module.open(io.BytesIO(content)) as image:
            if image.mode not in modes:
                raise unusable(path, f"it is an image of the kind {image.mode}, and not one of {wanted}")
            return np.asarray(of(image))
    except module.UnidentifiedImageError as error:
        raise unusable(path, "it is no image") from error
    except UsageError:
        raise
    except (*DAMAGED, module.DecompressionBombError) as error:
        raise unusable(path, f"it is damaged ({_short(error)})") from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
