"""What training and scoring use, made once: the composites of every split, and their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mtlbench.catalogue import data
from mtlbench.errors import unknown

from .compose import Composites, compose
from .options import Options
from .sources import SPLITS, Sources, digits, idx_sources, official_split

SOURCES = {
    "digits": ("digits", "digits"),
    "mnist": ("mnist", "mnist"),
    "fashion": ("fashion", "fashion"),
    "fashion_and_mnist": ("fashion", "mnist"),
}
"""Where each variant takes its top-left and its bottom-right images from."""


class Split(NamedTuple):
    """The composites of one split where the task runs: (N, 28, 28) uint8, and their classes, (N, 2) int64."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Prepared:
    """All that the task holds in memory."""

    splits: Mapping[str, Split]
    digest: str
    """SHA-256 (hex) over all composites and their classes."""


def prepare(variant: str, options: Options, data_root: Path | None, device: torch.device) -> Prepared:
    """Read, compose and place what `variant` trains on and is scored on.

    Raises:
        DataMissing: a file of the variant's data sets is not below `data_root`.
        UsageError: there is no such variant, or a file is damaged.
    """
    composites = composed(variant, options, data_root)
    splits = {
        name: Split(torch.from_numpy(c.images).to(device), torch.from_numpy(c.labels).to(device))
        for name, c in composites.items()
    }
    return Prepared(splits, _digest(composites))


def composed(variant: str, options: Options, data_root: Path | None) -> dict[str, Composites]:
    """The composites of every split of `variant`; both images of one come from the same split.

    Raises:
        DataMissing: a file of the variant's data sets is not below `data_root`.
        UsageError: there is no such variant, or a file is damaged.
    """
    if variant not in SOURCES:
        raise unknown("variant of multimnist:", variant, SOURCES)
    left_name, right_name = SOURCES[variant]
    left = _sources(left_name, variant, options, data_root)
    right = left if right_name == left_name else _sources(right_name, variant, options, data_root)
    seeds = {split: [options.composition_seed, index] for index, split in enumerate(SPLITS)}
    return {
        split: compose(
            left[split],
            right[split],
            options.composites_per_image[split],
            # Frozen by NumPy (NEP 19): the same composites under every version.
            np.random.RandomState(seeds[split]),
        )
        for split in SPLITS
    }


def _sources(name: str, variant: str, options: Options, data_root: Path | None) -> dict[str, Sources]:
    if name == "digits":
        return digits(options.composition_seed)
    dataset = data.datasets("multimnist")[name]

    def pair(part: str) -> Sources:
        files = (f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz")
        return idx_sources(*(data.locate(dataset, f, data_root, f"multimnist/{variant}") for f in files))

    return official_split(pair("train"), pair("t10k"))


def _digest(composites: Mapping[str, Composites]) -> str:
    digest = hashlib.sha256()
    for split, (images, labels) in composites.items():
        digest.update(f"{split}{images.shape}".encode())
        digest.update(images.tobytes())
        digest.update(labels.astype("<i8").tobytes())
    return digest.hexdigest()
