"""The embedded variant: views of rooms that are ray-cast from boxes, with exact labels, depth and normals."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._cache import kept
from ..views import Source, Views
from .rendering import View, camera, view

__all__ = ["COUNTS", "camera", "load"]

VERSION = 2
"""Raised with every change of what is rendered."""
COUNTS: Mapping[str, int] = {"train": 400, "val": 100, "test": 200}
TELL_SECONDS = 1.0

_log = logging.getLogger(__name__)


def load(size: tuple[int, int] = (96, 128), counts: Mapping[str, int] = COUNTS, seed: int = 0) -> Source:
    """The rooms, rendered once and kept in the cache (`MTLBENCH_CACHE`), mapped from its files.

    A view depends on the seed, its split and its number alone: more views of a split leave those before them as they
    are. All numbers are drawn from streams that NumPy has frozen, so that the scenes are the same everywhere; the last
    bits of an image may differ between processors and versions of NumPy.

    Args:
        size: height and width, pixels.
        counts: for each split, how many views.
        seed: of all scenes, not negative.
    """
    of = {"version": VERSION, "size": list(size), "counts": dict(counts), "seed": seed, "numpy": np.__version__}
    digest = hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()
    folder = kept(f"rooms-{digest}", "the rooms", partial(_make, size=size, counts=counts, seed=seed))
    splits = {split: Views(*_mapped(folder, split)) for split in counts}
    return Source(splits, facts={"rooms": of})


def _mapped(folder: Path, split: str) -> Iterator[Any]:
    for name in View._fields:
        yield np.load(folder / f"{split}-{name}.npy", mmap_mode="r", allow_pickle=False)


def _make(folder: Path, size: tuple[int, int], counts: Mapping[str, int], seed: int) -> None:
    total = sum(counts.values())
    done, told = 0, time.monotonic()
    _log.info("rendering the rooms: %d of %d", done, total, extra={"progress": (done, total)})
    for split, count in counts.items():
        columns: list[NDArray[Any]] = [np.zeros((count, *shape), kind) for shape, kind in _columns(size)]
        for index in range(count):
            for column, array in zip(columns, view(seed, split, index, size), strict=True):
                column[index] = array
            done += 1
            if time.monotonic() - told > TELL_SECONDS or done == total:
                _log.info("rendering the rooms: %d of %d", done, total, extra={"progress": (done, total)})
                told = time.monotonic()
        for name, column in zip(View._fields, columns, strict=True):
            np.save(folder / f"{split}-{name}.npy", column, allow_pickle=False)


def _columns(size: tuple[int, int]) -> list[tuple[tuple[int, ...], type]]:
    """The shape and the type of each field of `View`."""
    return [((3, *size), np.uint8), (size, np.int8), (size, np.float32), ((3, *size), np.float32)]
