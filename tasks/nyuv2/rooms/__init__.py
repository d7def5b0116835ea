"""The embedded variant: views of rooms that are ray-cast from boxes, with exact labels, depth and normals."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import partial

import numpy as np

from ..keeping import kept_views
from ..views import Source, View
from .rendering import camera, view

__all__ = ["COUNTS", "camera", "load"]

VERSION = 2
"""Raised with every change of what is rendered."""
COUNTS: Mapping[str, int] = {"train": 400, "val": 100, "test": 200}


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
    name, made = f"nyuv2-rooms-{digest}", partial(_scene, seed=seed, size=size)
    splits, told = kept_views(name, "the rooms", "rendering the rooms", counts, size, made)
    return Source(splits, facts={"rooms": of, **told})


def _scene(split: str, index: int, seed: int, size: tuple[int, int]) -> View:
    return view(seed, split, index, size)
