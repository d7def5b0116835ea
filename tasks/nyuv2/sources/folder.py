"""The variant `folder`: images with depth and labels that a YAML file describes, such as copies of NYUv2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlbench.storage import path_of

from ..geometry import Floats, Size, nearest, normals
from ..views import Source, View
from .arrays import unpacked, unusable
from .description import DepthFiles, Description, LabelFiles, NormalFiles, SceneColumn, read
from .images import coloured, resized, single
from .listed import Folder, folder
from .places import folder_with
from .prepared import prepared

OWN = "folder.yaml"
"""The description that people put beside their images."""
SUBSET = "subset.csv"
SUBSETS_DESCRIPTION = Path(__file__).with_name("nyuv2-subset.yaml")


def find(root: Path | None, named: str | None, wanted_by: str) -> tuple[Path, Path]:
    """The description, and the folder that its paths are below.

    Args:
        root: the data root.
        named: the description that somebody named; its paths are below its own folder. None for `folder.yaml` below
            the data root, or for the subset of NYUv2 whose list is there.
        wanted_by: the `task/variant`, for the message.

    Raises:
        DataMissing: nothing is named and neither is below the data root.
    """
    if named is not None:
        path = path_of(named)
        return path, path.parent
    base = folder_with((OWN, SUBSET), "images", root, wanted_by)
    return (base / OWN if (base / OWN).exists() else SUBSETS_DESCRIPTION), base


def load(description: Path, size: Size, base: Path | None = None) -> Source:
    """The described views.

    They are prepared once for each content of the files and kept; a change of any file is noticed. Images are averaged
    over what a pixel covers; labels and depth are those of the nearest pixel, so that neither is mixed over an edge;
    normals are derived from the depth of the whole image before that.

    Args:
        description: a YAML file, see `description`.
        size: height and width of the views.
        base: the folder that its paths are below; None for its own.

    Raises:
        UsageError: a file is missing, damaged or of another kind or size than described; the message names it.
    """
    d = read(description)
    listed = folder(base or description.parent, d)
    content = listed.digest()
    counts = {split: len(rows) for split, rows in listed.rows.items()}
    read_as = d.model_dump_json(exclude={"title", "caveats"})
    splits, told = prepared(f"folder {content} {read_as}", counts, size, lambda split, n: _view(listed, split, n, size))
    facts = {"title": d.title, "files_sha256": content, "normals": _origin(d), **told}
    if "val" in splits or d.scene is None:
        return Source(splits, facts=facts, caveats=d.caveats)
    blocks = f"{d.scene.numbers} consecutive numbers of" if d.scene.numbers else "as named by"
    facts["scenes"] = f"{blocks} the column {d.scene.column}"
    return Source(splits, _scenes(listed, d.scene), facts, caveats=d.caveats)


def _view(listed: Folder, split: str, n: int, size: Size) -> View:
    d, row = listed.described, listed.rows[split][n]
    read_: dict[str, NDArray[Any]] = {}
    shape: Size | None = None
    for kind, files in listed.kinds(split).items():
        path = listed.path(files, row)
        found = READERS[kind](listed.read(files, row), path, files)
        shape = shape or found.shape[:2]
        if found.shape[:2] != shape:
            has = " x ".join(map(str, found.shape[:2]))
            raise unusable(path, f"it has {has} pixels, and the image of this view {shape[0]} x {shape[1]}")
        if d.is_mirrored(files):
            found = found[:, ::-1]
            if kind == "normal":
                found = found * np.array([-1, 1, 1], np.float32)
        read_[kind] = np.ascontiguousarray(found)
    assert shape is not None
    rows, columns = at = nearest(shape, size)
    there = np.ix_(rows, columns)
    if "normal" in read_:
        normal = np.ascontiguousarray(read_["normal"][there].transpose(2, 0, 1))
    else:
        camera, how = d.camera.at(shape), d.derived
        normal = normals(read_["depth"], camera, how.window, how.jump, 1 / d.depth.per_metre, at)
    return View(resized(read_["image"], size), read_["label"][there], read_["depth"][there], normal)


def _image(content: bytes, path: Path, files: Any) -> NDArray[np.uint8]:
    return coloured(content, path)


def _depth(content: bytes, path: Path, files: DepthFiles) -> Floats:
    """(H, W) metres, 0 where nothing was measured."""
    values = _numbers(content, path).astype(np.float64)
    if not np.isfinite(values).all():
        raise unusable(path, "it holds depths that are no finite numbers; `missing` is for other values")
    if values.min(initial=0) < 0:
        raise unusable(path, f"it holds the depth {values.min()}")
    metres = (values + (0.5 if files.rounded == "down" else 0)) / files.per_metre
    metres[np.isin(values, files.missing)] = 0
    return metres.astype(np.float32)


def _label(content: bytes, path: Path, files: LabelFiles) -> NDArray[np.int8]:
    values = _numbers(content, path)
    if values.dtype.kind == "f":
        raise unusable(path, "its labels are not whole numbers")
    least, most = int(values.min(initial=0)), int(values.max(initial=0))
    if least < 0 or most >= len(files.classes):
        wrong = least if least < 0 else most
        raise unusable(path, f"it holds the label {wrong}, and `classes` has values from 0 to {len(files.classes) - 1}")
    return np.array(files.classes, np.int8)[values]


def _normal(content: bytes, path: Path, files: NormalFiles) -> Floats:
    """(H, W, 3) of unit length; 0 where the vector is shorter than a half, as the grey of a colour image is."""
    if path.suffix == ".npy":
        vectors = unpacked(content, path).astype(np.float32)
        if vectors.ndim != 3 or vectors.shape[2] != 3:
            raise unusable(path, f"it is of shape {vectors.shape}, and normals of (H, W, 3)")
        if not np.isfinite(vectors).all():
            raise unusable(path, "it holds normals that are no finite numbers")
    else:
        vectors = coloured(content, path).astype(np.float32) / np.float32(127.5) - 1
    length = np.linalg.norm(vectors, axis=2, keepdims=True)
    unit = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0.5)
    for axis in files.negated:
        unit[..., "xyz".index(axis)] *= -1
    return unit


READERS: dict[str, Callable[[bytes, Path, Any], NDArray[Any]]] = {
    "image": _image,
    "depth": _depth,
    "label": _label,
    "normal": _normal,
}


def _numbers(content: bytes, path: Path) -> NDArray[Any]:
    """(H, W): of an image of one channel or an .npy file."""
    values = unpacked(content, path) if path.suffix == ".npy" else single(content, path)
    if values.ndim != 2:
        raise unusable(path, f"it is of shape {values.shape}, and not (H, W)")
    return values


def _scenes(listed: Folder, scene: SceneColumn) -> list[int]:
    """Of each training view the number of its scene."""
    known: dict[str, int] = {}
    return [known.setdefault(listed.scene(scene, row), len(known)) for row in listed.rows["train"]]


def _origin(d: Description) -> str:
    if d.normal is not None:
        return "read from files"
    return f"derived from the depth: planes through {d.derived.window} x {d.derived.window} pixels of the whole image"
