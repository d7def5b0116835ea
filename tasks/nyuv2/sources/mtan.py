"""The variant `mtan`: NYUv2 as preprocessed by Liu et al. (CVPR 2019), .npy files read when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlbench.errors import UsageError

from ..geometry import Floats, Size
from ..views import CLASSES, IGNORED, Source, Views
from .arrays import mapped, unusable
from .places import folder_with

FOLDERS = {"train": "train", "test": "val"}
"""Split -> folder. Their `val` is the official test set."""
SCENE = 10
"""So many consecutive training views are taken for a scene."""
FLOOR = CLASSES.index("floor")
LOOKED_AT = 40
"""Training views from which the direction of their normals is told."""


def find(root: Path | None, wanted_by: str) -> Path:
    """The folder of `train` and `val` below the data root; raises `DataMissing` if there is none."""
    return folder_with(("train/image",), "mtan", root, wanted_by)


def load(root: Path) -> Source:
    """The views in `root`/train and `root`/val: `image|label|depth|normal`/N.npy, N from 0.

    Shapes are (H, W, 3), (H, W), (H, W, 1) and (H, W, 3). What the headers say is checked now, the values of a file
    whenever it is read. Nothing is executed that a file holds.

    The files do not tell scenes. Their order follows that of the recordings, so blocks of `SCENE` consecutive training
    views stand for them.

    Raises:
        UsageError: a file is missing, damaged, or holds something else; the message names it.
    """
    splits = {split: _views(root / folder) for split, folder in FOLDERS.items()}
    sizes = {split: views.size for split, views in splits.items()}
    if len(set(sizes.values())) > 1:
        raise UsageError(f"The views in {root} are of different sizes: {sizes['train']} and, in val, {sizes['test']}.")
    facts = {
        "title": "the preprocessed NYUv2 of MTAN",
        "normals": "read from files, brought to unit length",
        "floor_normal": _floor_normal(splits["train"]),
        "scenes": f"blocks of {SCENE} consecutive training views",
    }
    return Source(splits, [n // SCENE for n in range(len(splits["train"]))], facts)


class _Files(Sequence[Any]):
    """Arrays that are read when they are asked for."""

    def __init__(self, paths: Sequence[Path], read: Callable[[NDArray[Any], Path], NDArray[Any]]) -> None:
        self.paths, self.read = paths, read

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        path = self.paths[index]
        return self.read(mapped(path), path)


def _views(folder: Path) -> Views:
    columns = {kind: _numbered(folder / kind) for kind in READERS}
    for kind, paths in columns.items():
        if len(paths) != len(columns["image"]):
            raise UsageError(
                f"{folder / kind} has {len(paths)} views and {folder / 'image'} has {len(columns['image'])}: each view "
                "needs its file in both."
            )
    size: Size | None = None
    for kind, paths in columns.items():
        for path in paths:
            found = mapped(path)
            size = size or found.shape[:2]
            wanted = (*size, *LAST[kind])
            if found.ndim < 2 or found.shape != wanted:
                raise unusable(path, f"it is of shape {found.shape} and not {wanted}")
            if kind != "label" and found.dtype.kind != "f":
                raise unusable(path, f"its numbers are of the type {found.dtype}, and not floating-point ones")
    return Views(*(_Files(columns[kind], READERS[kind]) for kind in READERS))


def _numbered(folder: Path) -> list[Path]:
    """The files 0.npy, 1.npy and so on of a folder; raises `UsageError` where one is missing."""
    try:
        count = sum(path.suffix == ".npy" and not path.name.startswith(".") for path in folder.iterdir())
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be read: {error.strerror}. It is to hold the files 0.npy, 1.npy ..."
        ) from error
    paths = [folder / f"{n}.npy" for n in range(count)]
    missing = next((path for path in paths if not path.is_file()), None)
    if missing or not paths:
        raise UsageError(
            f"{missing or folder / '0.npy'} is missing: {count} .npy files in a folder are numbered from 0."
        )
    return paths


def _image(values: NDArray[Any], path: Path) -> Floats:
    """(3, H, W), 0 to 1."""
    if not (values.min() >= 0 and values.max() <= 1):
        raise unusable(path, "it holds values that are not from 0 to 1")
    return np.ascontiguousarray(values.transpose(2, 0, 1), dtype=np.float32)


def _label(values: NDArray[Any], path: Path) -> NDArray[np.int8]:
    wrong = values[~np.isin(values, range(IGNORED, len(CLASSES)))]
    if wrong.size:
        raise unusable(
            path, f"it holds the label {wrong[0]}; labels are 0 to {len(CLASSES) - 1}, and {IGNORED} ignored"
        )
    return values.astype(np.int8)


def _depth(values: NDArray[Any], path: Path) -> Floats:
    if not (np.isfinite(values).all() and values.min() >= 0):
        raise unusable(path, "it holds depths that are negative or no finite numbers")
    return np.ascontiguousarray(values[..., 0], dtype=np.float32)


def _normal(values: NDArray[Any], path: Path) -> Floats:
    """(3, H, W) of unit length, or 0."""
    if not np.isfinite(values).all():
        raise unusable(path, "it holds normals that are no finite numbers")
    vectors = np.ascontiguousarray(values.transpose(2, 0, 1), dtype=np.float32)
    length = np.sqrt(np.square(vectors).sum(0))
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


READERS: dict[str, Callable[[NDArray[Any], Path], NDArray[Any]]] = {
    "image": _image,
    "label": _label,
    "depth": _depth,
    "normal": _normal,
}
LAST: dict[str, tuple[int, ...]] = {"image": (3,), "label": (), "depth": (1,), "normal": (3,)}
"""What follows height and width in the shape of a file."""


def _floor_normal(views: Views) -> list[float] | None:
    """The mean normal over floor, from which the direction of the axes can be told; None where no floor is seen."""
    total = np.zeros(3)
    for n in range(min(len(views), LOOKED_AT)):
        total += views.normals[n][:, views.labels[n] == FLOOR].sum(1)
    length = float(np.linalg.norm(total))
    return [round(float(x), 2) for x in total / length] if length else None
