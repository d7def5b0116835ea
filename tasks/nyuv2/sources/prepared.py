"""Views that are read, resized and given normals once, and kept as arrays that are mapped into memory."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..._cache import kept
from ..geometry import Floats, Size
from ..views import CLASSES, IGNORED, Views
from .arrays import mapped
from .images import pillow

FORM = 1
"""Of what is kept; raised whenever the same files would give other arrays."""
FACTS = "facts.json"
TELL_SECONDS = 1.0

_log = logging.getLogger(__name__)


class View(NamedTuple):
    """One view, as in `Views`."""

    image: NDArray[np.uint8]
    """(3, H, W)."""
    label: NDArray[np.int8]
    """(H, W)."""
    depth: Floats
    """(H, W), metres."""
    normal: Floats
    """(3, H, W)."""


def prepared(
    of: str, counts: Mapping[str, int], size: Size, view: Callable[[str, int], View]
) -> tuple[dict[str, Views], dict[str, Any]]:
    """The views of each split, from the cache if they were made before, and what is to be told of them.

    Args:
        of: all that the views depend on, but for their size: the checksums of files, and how they are read.
        counts: split -> how many views it has.
        size: of the views.
        view: makes the n-th view of a split.
    """
    pillow()
    key = hashlib.sha256(f"{FORM} {_pillow_version()} {size} {of}".encode()).hexdigest()
    folder = kept(f"nyuv2-{key}", "the views", lambda place: _make(place, counts, size, view))
    splits = {}
    for split in counts:
        columns: list[Any] = [mapped(_file(folder, split, field)) for field in View._fields]
        splits[split] = Views(*columns)
    return splits, json.loads((folder / FACTS).read_text())


def _pillow_version() -> str:
    """Versions may decode a JPEG to other values."""
    try:
        return version("pillow")
    except PackageNotFoundError:  # a build of it under another name
        return ""


def _make(folder: Path, counts: Mapping[str, int], size: Size, view: Callable[[str, int], View]) -> None:
    total, done = sum(counts.values()), 0
    began = told = time.monotonic()
    tallies = {}
    for split, count in counts.items():
        shapes = {"image": (3, *size), "label": size, "depth": size, "normal": (3, *size)}
        types = {"image": "u1", "label": "i1", "depth": "<f4", "normal": "<f4"}
        arrays = [
            np.lib.format.open_memmap(_file(folder, split, field), "w+", types[field], (count, *shapes[field]))
            for field in View._fields
        ]
        tallies[split] = tally = _Tally()
        for n in range(count):
            made = view(split, n)
            for array, part in zip(arrays, made, strict=True):
                array[n] = part
            tally.add(made)
            done += 1
            now = time.monotonic()
            if now - told > TELL_SECONDS or done == total:
                left = (now - began) / done * (total - done)
                _log.info(
                    "preparing the views: %d of %d, %.0f s left", done, total, left, extra={"progress": (done, total)}
                )
                told = now
        for array in arrays:
            array.flush()
    facts = {split: tally.facts() for split, tally in tallies.items()}
    by_fact = {fact: {split: facts[split][fact] for split in facts} for fact in next(iter(facts.values()))}
    (folder / FACTS).write_text(json.dumps(by_fact))


def _file(folder: Path, split: str, field: str) -> Path:
    return folder / f"{split}-{field}.npy"


class _Tally:
    """Counts over the views of a split."""

    def __init__(self) -> None:
        self.pixels = self.unmeasured = self.unoriented = 0
        self.labels = np.zeros(1 + len(CLASSES), np.int64)

    def add(self, view: View) -> None:
        self.pixels += view.label.size
        self.unmeasured += int((view.depth == 0).sum())
        self.unoriented += int((~view.normal.any(0)).sum())
        self.labels += np.bincount(view.label.ravel().astype(np.int64) - IGNORED, minlength=len(self.labels))

    def facts(self) -> dict[str, Any]:
        shares = self.labels / max(1, self.pixels)
        return {
            "depth_missing": round(self.unmeasured / max(1, self.pixels), 4),
            "normals_missing": round(self.unoriented / max(1, self.pixels), 4),
            "labels_ignored": round(float(shares[0]), 4),
            "class_shares": {name: round(float(share), 4) for name, share in zip(CLASSES, shares[1:], strict=True)},
        }
