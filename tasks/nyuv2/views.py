"""Views of rooms: an image with its labels, its depth and its surface normals, and how they are held."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CLASSES = (
    "bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa", "table", "tv", "wall",
    "window",
)  # fmt: skip
"""The 13 classes in the order of the official mapping; a label is an index into them."""
NAMES = ("segmentation", "depth", "normal")
"""The objectives, in their order."""
IGNORED = -1
"""The label of pixels that are neither trained on nor scored."""


class Batch(NamedTuple):
    """Some views as tensors."""

    images: Tensor
    """(N, 3, H, W) float32, 0 to 1."""
    labels: Tensor
    """(N, H, W) int64; `IGNORED` where there is none."""
    depths: Tensor
    """(N, H, W) float32, metres along the optical axis; 0 where it was not measured."""
    normals: Tensor
    """(N, 3, H, W) float32 of unit length: x to the right, y up, z towards the camera; 0 where they are not known."""

    @property
    def truths(self) -> dict[str, Tensor]:
        """What each objective is to predict, by its name."""
        return dict(zip(NAMES, (self.labels, self.depths, self.normals), strict=True))


class View(NamedTuple):
    """One view; shapes and conventions are those of `Views`."""

    image: NDArray[np.uint8]
    label: NDArray[np.int8]
    depth: NDArray[np.float32]
    normal: NDArray[np.float32]


@dataclass(frozen=True)
class Views:
    """N views of one size. Each field is an array, in memory or mapped from a file, or a sequence that reads files."""

    images: Sequence[NDArray[Any]]
    """N times (3, H, W): uint8, or float32 from 0 to 1."""
    labels: Sequence[NDArray[np.int8]]
    """N times (H, W)."""
    depths: Sequence[NDArray[np.float32]]
    """N times (H, W), metres."""
    normals: Sequence[NDArray[np.float32]]
    """N times (3, H, W)."""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.labels[0].shape
        return height, width

    def batch(self, chosen: Sequence[int]) -> Batch:
        """The views at these places, as tensors on the CPU."""
        images = torch.from_numpy(np.stack([self.images[n] for n in chosen]))
        labels = torch.from_numpy(np.stack([self.labels[n] for n in chosen]))
        return Batch(
            images.float().div_(255) if images.dtype == torch.uint8 else images,
            labels.long(),
            torch.from_numpy(np.stack([self.depths[n] for n in chosen])),
            torch.from_numpy(np.stack([self.normals[n] for n in chosen])),
        )

    def part(self, chosen: Sequence[int]) -> Views:
        """The views at these places, in this order."""
        columns = (self.images, self.labels, self.depths, self.normals)
        return Views(*(Chosen(column, tuple(chosen)) for column in columns))

    def digest(self) -> str:
        """SHA-256 (hex) over the bytes of all arrays, view by view."""
        total = hashlib.sha256()
        for view in zip(self.images, self.labels, self.depths, self.normals, strict=True):
            for array in view:
                total.update(np.ascontiguousarray(array).data)
        return total.hexdigest()


class Chosen(Sequence[Any]):
    """Some entries of a sequence, looked up when they are asked for."""

    def __init__(self, column: Sequence[Any], chosen: tuple[int, ...]) -> None:
        self.column, self.chosen = column, chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: Any) -> Any:
        return self.column[self.chosen[index]]


@dataclass(frozen=True)
class Source:
    """What a variant reads."""

    splits: Mapping[str, Views]
    """`train`, `val` and `test`; or `train` and `test`, with `scenes` to carve validation views out of train."""
    scenes: Sequence[int] | None = None
    """Of each training view the number of its scene, where a validation split is still to be carved out of `train`."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the record tells of the data: counts, repairs, where the normals come from."""
    notices: Sequence[str] = ()
    """What people should be told before training."""
    caveats: Sequence[str] = ()
    """Sentences that every table over these data carries as a note."""
