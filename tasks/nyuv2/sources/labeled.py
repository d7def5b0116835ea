"""The variant `labeled`: the official `nyu_depth_v2_labeled.mat`, with the official split and 13 classes."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtlbench.catalogue.data import datasets, locate
from mtlbench.errors import UsageError
from mtlbench.storage import read_regular

from ..._cache import kept
from ..geometry import KINECT, KINECT_SIZE, Floats, Size, nearest, normals
from ..views import CLASSES, IGNORED, Source, View
from .arrays import mapped, unusable
from .images import resized
from .listed import LARGEST
from .prepared import prepared

FILE = "nyu_depth_v2_labeled.mat"
NORMALS = "normals.npy"
"""Beside it, if somebody has normals of their own: (N, H, W, 3), in the axes of `Views`, 0 where not known."""
META = ("splits.mat", "classMapping40.mat", "class13Mapping.mat")
WINDOW = 21
"""Of the planes that normals are derived by, in pixels of the whole image; depth is rounded to 3 cm at 3 m."""
DEPTHS = {"raw": "rawDepths", "filled": "depths"}


class Files(NamedTuple):
    """Where the official files are."""

    data: Path
    split: Path
    to_40: Path
    """The mapping of 894 classes to 40."""
    to_13: Path
    """The mapping of these to 13."""


def find(root: Path | None, wanted_by: str) -> Files:
    """The official files below the data root; raises `DataMissing` if some are not there."""
    declared = datasets("nyuv2")
    data = locate(declared["labeled"], FILE, root, wanted_by)
    return Files(data, *(locate(declared["labeled-meta"], name, root, wanted_by) for name in META))


def load(files: Files, size: Size, depth: Literal["raw", "filled"]) -> Source:
    """The official training and test views, with scenes from the names that the file gives.

    They are prepared once for each content of the files and kept. The whole file is read for its checksum once: as long
    as its size and its time of change stay, it is taken to be the same.

    Args:
        files: see `find`.
        size: height and width of the views.
        depth: as the sensor measured it, or with holes filled in by the authors.

    Raises:
        UsageError: a file is cut short or lacks something; the message names it.
    """
    with _opened(files.data) as mat:
        official = _official(mat, files, depth, size)
        content = hashlib.sha256(" ".join(_sha256(path) for path in official.used).encode()).hexdigest()
        counts = {split: len(places) for split, places in official.split.items()}
        splits, told = prepared(f"labeled {depth} {WINDOW} {content}", counts, size, official.view)
    known: dict[str, int] = {}
    derived = f"derived from the {depth} depth: planes through {WINDOW} x {WINDOW} pixels of the whole image"
    facts = {
        "title": "NYU Depth V2, the official labelled images",
        "files_sha256": content,
        "depth": depth,
        "normals": derived if official.normals is None else "read from files",
        **told,
    }
    scenes = [known.setdefault(official.scenes[n], len(known)) for n in official.split["train"]]
    return Source(splits, scenes, facts)


@dataclass(frozen=True)
class _Official:
    """The arrays of the file, with N images of H x W pixels, in the order in which MATLAB writes them."""

    files: Files
    size: Size
    images: Any
    """(N, 3, W, H) uint8."""
    depths: Any
    """(N, W, H) float32, metres."""
    labels: Any
    """(N, W, H) uint16: 1 to 894, 0 unlabelled."""
    normals: NDArray[Any] | None
    """(N, H, W, 3), of people's own."""
    scenes: Sequence[str]
    split: Mapping[str, Sequence[int]]
    classes: NDArray[np.int8]
    """(895,): what a label becomes."""

    @property
    def used(self) -> list[Path]:
        """All files that the views depend on."""
        own = [] if self.normals is None else [self.files.data.with_name(NORMALS)]
        return [*self.files, *own]

    def view(self, split: str, n: int) -> View:
        """The n-th view of a split, made."""
        place, path = self.split[split][n], self.files.data
        try:
            image, depth, label = (array[place].T for array in (self.images, self.depths, self.labels))
        except (OSError, RuntimeError) as error:
            raise unusable(path, f"image {place + 1} cannot be read ({error})") from error
        if not (np.isfinite(depth).all() and depth.min() >= 0):
            raise unusable(path, f"image {place + 1} has depths that are negative or no finite numbers")
        if label.max() >= len(self.classes):
            raise unusable(path, f"image {place + 1} has the label {label.max()}, above {len(self.classes) - 1}")
        rows, columns = at = nearest(label.shape, self.size)
        there = np.ix_(rows, columns)
        if self.normals is None:
            camera = KINECT.resized(KINECT_SIZE, label.shape)
            normal = normals(np.ascontiguousarray(depth, dtype=np.float32), camera, WINDOW, at=at)
        else:
            normal = _unit(self.normals[place][there], path.with_name(NORMALS)).transpose(2, 0, 1)
        return View(resized(np.ascontiguousarray(image), self.size), self.classes[label[there]], depth[there], normal)


def _official(mat: Any, files: Files, depth: str, size: Size) -> _Official:
    scenes = _scene_names(mat, files.data)
    images = _dataset(mat, "images", (len(scenes), 3, None, None), "u", files.data)
    shape = (len(scenes), *images.shape[2:])
    return _Official(
        files,
        size,
        images,
        _dataset(mat, DEPTHS[depth], shape, "f", files.data),
        _dataset(mat, "labels", shape, "u", files.data),
        _own_normals(files.data.with_name(NORMALS), shape),
        scenes,
        _split(files.split, len(scenes)),
        _classes(files.to_40, files.to_13),
    )


def _opened(path: Path) -> Any:
    try:
        return _h5py().File(path, "r")
    except OSError as error:
        raise unusable(path, f"it is no whole HDF5 file ({' '.join(str(error).split())[:160]})") from error


def _h5py() -> ModuleType:
    try:
        import h5py
    except ImportError as error:
        raise UsageError('The variant nyuv2/labeled needs h5py: pip install "mtlbench[vision]".') from error
    module: ModuleType = h5py
    return module


def _dataset(mat: Any, name: str, shape: tuple[int | None, ...], kind: str, path: Path) -> Any:
    """The array `name` of the file, in the order in which MATLAB writes: the last of its axes first."""
    try:
        found = mat[name]
        there, dtype = found.shape, found.dtype
    except (KeyError, AttributeError, OSError, RuntimeError) as error:
        raise unusable(path, f"it has no array {name!r}") from error
    fits = len(there) == len(shape) and all(s in (None, t) for s, t in zip(shape, there, strict=True))
    if not fits or dtype.kind != kind:
        wanted = " x ".join("?" if s is None else str(s) for s in shape)
        raise unusable(path, f"{name} is {' x '.join(map(str, there))} {dtype} and not {wanted} of kind {kind!r}")
    return found


def _scene_names(mat: Any, path: Path) -> list[str]:
    """Of each image the name of its scene: references to arrays of character codes."""
    try:
        references = np.asarray(mat["scenes"]).ravel()
        return ["".join(map(chr, np.asarray(mat[reference]).ravel())) for reference in references]
    except (KeyError, AttributeError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise unusable(path, "it has no names of scenes, `scenes`") from error


def _split(path: Path, count: int) -> dict[str, list[int]]:
    """The places of the training and of the test images; the file counts from 1."""
    content = _mat(path)
    split = {}
    for name, variable in (("train", "trainNdxs"), ("test", "testNdxs")):
        numbers = np.asarray(content.get(variable, ())).ravel()
        if not numbers.size or numbers.dtype.kind not in "iu" or numbers.min() < 1 or numbers.max() > count:
            raise unusable(path, f"{variable} are not numbers of images from 1 to {count}")
        split[name] = [int(n) - 1 for n in numbers]
    if {*split["train"]} & {*split["test"]}:
        raise unusable(path, "an image is in train and in test")
    return split


def _classes(to_40: Path, to_13: Path) -> NDArray[np.int8]:
    """(895,): of each of the 894 classes, and of 0, unlabelled, that of the 13."""
    of_894 = np.asarray(_mat(to_40).get("mapClass", ())).ravel()
    try:
        of_40 = np.asarray(_mat(to_13)["classMapping13"]["labels13"].item()).ravel()
    except (KeyError, ValueError, IndexError) as error:
        raise unusable(to_13, "it has no classMapping13.labels13") from error
    for values, most, path in ((of_894, len(of_40), to_40), (of_40, len(CLASSES), to_13)):
        if not values.size or values.dtype.kind not in "iu" or values.min() < 1 or values.max() > most:
            raise unusable(path, f"its classes are not from 1 to {most}")
    return np.concatenate([[IGNORED], of_40[of_894.astype(int) - 1].astype(int) - 1]).astype(np.int8)


def _mat(path: Path) -> dict[str, Any]:
    """The variables of a MATLAB file of version 5."""
    import scipy.io

    try:
        content: dict[str, Any] = scipy.io.loadmat(io.BytesIO(read_regular(path, LARGEST)))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except Exception as error:  # scipy raises whatever broken bytes lead to
        raise unusable(path, f"it is no MATLAB file ({error})") from error
    return content


def _own_normals(path: Path, shape: tuple[int, ...]) -> NDArray[Any] | None:
    if not path.exists():
        return None
    found = mapped(path)
    wanted = (shape[0], shape[2], shape[1], 3)
    if found.shape != wanted or found.dtype.kind != "f":
        raise unusable(path, f"it is {found.shape} {found.dtype}, and not {wanted} of floating-point numbers")
    return found


def _unit(vectors: NDArray[Any], path: Path) -> Floats:
    if not np.isfinite(vectors).all():
        raise unusable(path, "it holds normals that are no finite numbers")
    length = np.linalg.norm(vectors, axis=2, keepdims=True)
    unit = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    return unit.astype(np.float32)


def _sha256(path: Path) -> str:
    """Of a file's content (hex), remembered in the cache for as long as its size and time of change stay."""
    state = path.stat()
    key = hashlib.sha256(f"{path.resolve()} {state.st_size} {state.st_mtime_ns}".encode()).hexdigest()

    def make(folder: Path) -> None:
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
        (folder / "content").write_text(digest)

    return (kept(f"nyuv2-checksum-{key}", f"the checksum of {path.name}", make) / "content").read_text()
