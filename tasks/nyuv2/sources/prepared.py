"""Views of real images: read, resized and given normals once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..geometry import Size
from ..keeping import kept_views
from ..views import View, Views
from .images import pillow

FORM = 1
"""Of what is kept; raised whenever the same files would give other arrays."""


def prepared(
    of: str, counts: Mapping[str, int], size: Size, view: Callable[[str, int], View]
) -> tuple[dict[str, Views], dict[str, Any]]:
    """`kept_views` of all that they depend on beside their size: the checksums of files, and how they are read."""
    pillow()
    key = hashlib.sha256(f"{FORM} {_pillow_version()} {size} {of}".encode()).hexdigest()
    return kept_views(f"nyuv2-{key}", "the views", "preparing the views", counts, size, view)


def _pillow_version() -> str:
    """Versions may decode a JPEG to other values."""
    try:
        return version("pillow")
    except PackageNotFoundError:  # a build of it under another name
        return ""
