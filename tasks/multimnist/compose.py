"""The construction of MultiMNIST: two source images overlaid, one label for each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .sources import SIDE, Sources

CANVAS = 36
SHIFT = 6
"""Rows and columns by which the bottom-right image is moved; 22 of its 28 overlap the top-left one."""

KEPT = ((2 * np.arange(SIDE) + 1) * CANVAS) // (2 * SIDE)
"""(28,) the rows and columns of the canvas that nearest-neighbour resizing keeps, by pixel centres."""


class Composites(NamedTuple):
    """Overlaid images, (N, 28, 28) uint8, with the classes (left, right), (N, 2) int64."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def overlay(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The maximum of `left` at the top left and `right` at the bottom right of a 36 x 36 canvas, at 28 x 28.

    Args:
        left: (N, 28, 28) uint8.
        right: (N, 28, 28) uint8.

    Returns:
        (N, 28, 28) uint8, resized by nearest neighbour. Sener and Koltun, NeurIPS 2018 (their MNIST loader).
    """
    canvas = np.zeros((len(left), CANVAS, CANVAS), dtype=np.uint8)
    canvas[:, :SIDE, :SIDE] = left
    moved = canvas[:, SHIFT : SHIFT + SIDE, SHIFT : SHIFT + SIDE]
    np.maximum(moved, right, out=moved)
    return canvas[:, KEPT[:, None], KEPT]


def compose(left: Sources, right: Sources, per_image: int, generator: np.random.RandomState) -> Composites:
    """`per_image` composites of every image of `left`, each with an image drawn uniformly from `right`.

    Where both are the same split, an image may meet itself, as in the published loader.

    Returns:
        `per_image * len(left.images)` composites, those of one left image next to each other.
    """
    first = np.repeat(np.arange(len(left.images)), per_image)
    second = generator.randint(len(right.images), size=len(first))
    images = np.empty((len(first), SIDE, SIDE), dtype=np.uint8)
    for start in range(0, len(first), 4096):  # a few megabytes of canvas at a time
        part = slice(start, start + 4096)
        images[part] = overlay(left.images[first[part]], right.images[second[part]])
    return Composites(images, np.stack([left.labels[first], right.labels[second]], axis=1))
