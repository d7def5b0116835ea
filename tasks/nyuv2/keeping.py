"""Views that are made once, one by one, and kept as arrays that are mapped into memory, so that cells share them."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._cache import kept
from .geometry import Size
from .views import CLASSES, IGNORED, View, Views

FACTS = "facts.json"
TELL_SECONDS = 1.0

_log = logging.getLogger(__name__)


def kept_views(
    name: str, what: str, doing: str, counts: Mapping[str, int], size: Size, view: Callable[[str, int], View]
) -> tuple[dict[str, Views], dict[str, Any]]:
    """The views of each split, from the cache if they were made before, and shares of what is missing in them.

    Args:
        name: of the folder in the cache; it holds a hash of all that the views depend on.
        what: what they are, for people: `the rooms`.
        doing: what making them is called: `rendering the rooms`.
        counts: split -> how many views it has.
        size: height and width of the views.
        view: makes the n-th view of a split.
    """
    folder = kept(name, what, lambda place: _make(place, doing, counts, size, view))
    splits = {}
    for split in counts:
        columns: list[Any] = [np.load(_file(folder, split, f), mmap_mode="r", allow_pickle=False) for f in View._fields]
        splits[split] = Views(*columns)
    return splits, json.loads((folder / FACTS).read_text())


def _make(folder: Path, doing: str, counts: Mapping[str, int], size: Size, view: Callable[[str, int], View]) -> None:
    total, done = sum(counts.values()), 0
    began = told = time.monotonic()
    _log.info("%s: %d of %d", doing, done, total, extra={"progress": (done, total)})
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
                _log.info("%s: %d of %d, %.0f s left", doing, done, total, left, extra={"progress": (done, total)})
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
