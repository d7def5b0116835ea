"""The source images of the composites: official idx files, and scikit-learn's handwritten digits."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtlbench.errors import UsageError

SIDE = 28
SPLITS = ("train", "val", "test")
LARGEST = 1 << 28
"""Bytes; a header that announces more is damaged (the largest official file holds 47 million)."""


class Sources(NamedTuple):
    """Source images of one split: (N, 28, 28) uint8, with their classes, (N,) int64 from 0 to 9."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array in an idx file of unsigned bytes, plain or `.gz`.

    Format (http://yann.lecun.com/exdb/mnist/): two zero bytes, the type code 8, the number of dimensions,
    each dimension as a big-endian 32-bit number, then the bytes in C order.

    Args:
        path: the file.
        dimensions: how many the array must have, 3 for images and 1 for labels.

    Raises:
        UsageError: it is no such file, or is cut short or too long; the message names the file.
    """
    header = 4 * (1 + dimensions)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            start = stream.read(header)
            if len(start) < header or start[:4] != bytes((0, 0, 8, dimensions)):
                raise _unreadable(path, f"it does not start like an idx file of {dimensions}-dimensional bytes")
            shape = struct.unpack(f">{dimensions}I", start[4:])
            expected = int(np.prod(shape, dtype=object))
            if expected > LARGEST:
                raise _unreadable(path, f"its header announces {expected} bytes, more than any such file holds")
            content = stream.read(expected + 1)  # never more than the header announces, whatever is packed
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _unreadable(path, f"it cannot be unpacked ({error})") from error
    if len(content) != expected:
        found = f"only {len(content)}" if len(content) < expected else "more"
        raise _unreadable(path, f"its header announces {expected} bytes and {found} follow")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def idx_sources(images: Path, labels: Path) -> Sources:
    """The images and classes of one official pair of idx files.

    Raises:
        UsageError: a file is unreadable, the images are not 28 x 28, a class is above 9, or the two files do
            not hold equally many.
    """
    pixels, classes = read_idx(images, 3), read_idx(labels, 1)
    if pixels.shape[1:] != (SIDE, SIDE):
        raise _unreadable(images, f"its images are {pixels.shape[1]} x {pixels.shape[2]} and not 28 x 28")
    if len(pixels) != len(classes):
        raise _unreadable(labels, f"it has {len(classes)} labels for the {len(pixels)} images of {images.name}")
    if classes.max(initial=0) > 9:
        raise _unreadable(labels, f"it holds the label {classes.max()}; labels are 0 to 9")
    return Sources(pixels, classes.astype(np.int64))


def official_split(train: Sources, test: Sources) -> dict[str, Sources]:
    """The official training images but their last sixth, that sixth for validation, the official test images.

    60,000 and 10,000 become 50,000 / 10,000 / 10,000 (Kurin et al., arXiv:2201.04122).
    """
    held = len(train.images) // 6
    cut = len(train.images) - held
    return {
        "train": Sources(train.images[:cut], train.labels[:cut]),
        "val": Sources(train.images[cut:], train.labels[cut:]),
        "test": test,
    }


def digits(seed: int) -> dict[str, Sources]:
    """scikit-learn's 1,797 handwritten digits, enlarged to 28 x 28: 1,197 / 300 / 300 disjoint images.

    The split is stratified: the images are shuffled by `seed` and sorted by class, and of every six in turn
    the first goes to validation and the second to test.
    """
    from sklearn.datasets import load_digits

    loaded = load_digits()
    images = enlarge(loaded.images.astype(np.int64), SIDE)
    labels = loaded.target.astype(np.int64)
    # RandomState's streams are frozen by NumPy (NEP 19), so that the data are the same under every version.
    order = np.random.RandomState(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    turn = np.arange(len(order)) % 6
    chosen = {"train": order[turn > 1], "val": order[turn == 0], "test": order[turn == 1]}
    return {split: Sources(images[index], labels[index]) for split, index in chosen.items()}


def enlarge(images: NDArray[np.int64], side: int) -> NDArray[np.uint8]:
    """Bilinear enlargement of (N, 8, 8) images with values 0 to 16 to (N, side, side) uint8.

    In whole numbers throughout, so that the bytes are the same on every machine.
    """
    # Pixel centres: target i lies at ((2 i + 1) * 8 - side) / (2 * side) on the source's axis.
    unit = 2 * side
    position = np.clip((2 * np.arange(side) + 1) * 8 - side, 0, 7 * unit)
    low, fraction = position // unit, position % unit
    weights = np.zeros((side, 8), dtype=np.int64)
    weights[np.arange(side), low] += unit - fraction
    weights[np.arange(side), np.minimum(low + 1, 7)] += fraction
    scaled = weights @ images @ weights.T * 255
    whole = 16 * unit * unit
    return ((scaled + whole // 2) // whole).astype(np.uint8)


def _unreadable(path: Path, reason: str) -> UsageError:
    return UsageError(
        f"{path} is not usable: {reason}. `mtlbench data verify` checks every file, "
        "`mtlbench data fetch` replaces the damaged ones."
    )
