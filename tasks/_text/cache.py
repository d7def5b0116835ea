"""Where what is learnt once from text is kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

ENVIRONMENT = "MTLBENCH_CACHE"
"""The environment variable that names the cache folder."""


def cache_folder() -> Path | None:
    """MTLBENCH_CACHE, else XDG_CACHE_HOME/mtlbench, else ~/.cache/mtlbench; None for a user without a home."""
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "mtlbench"
    try:
        return Path.home() / ".cache" / "mtlbench"
    except RuntimeError:
        return None
