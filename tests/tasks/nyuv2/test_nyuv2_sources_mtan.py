"""The preprocessed .npy files: how they are read, and one clear error for each bad file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mtlbench.errors import DataMissing, UsageError
from mtlbench.tasks.nyuv2.sources import mtan
from mtlbench.tasks.nyuv2.views import CLASSES, Source

SIZE = (6, 8)
COUNTS = {"train": 12, "val": 3}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Files as in the official download; view n has images of value n / 20, the label n and depths of n metres."""
    for folder, count in COUNTS.items():
        for kind in ("image", "label", "depth", "normal"):
            (tmp_path / folder / kind).mkdir(parents=True)
        for n in range(count):
            image = np.full((*SIZE, 3), n / 20)
            image[..., 0], image[0, 2, 1] = 1, 0.25
            label = np.full(SIZE, n)
            label[0] = -1
            depth = np.full((*SIZE, 1), n, np.float32)
            normal = np.zeros((*SIZE, 3))
            normal[:, :, 1], normal[0, 0] = 0.5, 0
            for kind, array in (("image", image), ("label", label), ("depth", depth), ("normal", normal)):
                np.save(path(tmp_path, folder, kind, n), array)
    return tmp_path


def path(root: Path, folder: str, kind: str, n: int) -> Path:
    return root / folder / kind / f"{n}.npy"


def refused(root: Path, message: str) -> None:
    """The error comes with the headers, or when all views are read."""
    with pytest.raises(UsageError, match=message):
        whole(mtan.load(root))


def whole(source: Source) -> list[str]:
    return [views.digest() for views in source.splits.values()]


def test_val_is_the_official_test_set_and_views_are_in_the_order_of_their_numbers(root: Path) -> None:
    source = mtan.load(root)
    assert {split: len(views) for split, views in source.splits.items()} == {"train": 12, "test": 3}
    train = source.splits["train"]
    assert train.size == SIZE
    for n in (1, 2, 10, 11):
        assert train.depths[n][3, 3] == n
        assert train.labels[n][3, 3] == n


def test_channels_come_first_and_types_are_those_of_views(root: Path) -> None:
    train = mtan.load(root).splits["train"]
    image, label, depth, normal = train.images[4], train.labels[4], train.depths[4], train.normals[4]
    assert [array.dtype for array in (image, label, depth, normal)] == ["f4", "i1", "f4", "f4"]
    assert [array.shape for array in (image, label, depth, normal)] == [(3, *SIZE), SIZE, SIZE, (3, *SIZE)]
    assert image[:, 0, 2] == pytest.approx([1, 0.25, 0.2])
    assert (label[0] == -1).all()
    assert normal[:, 3, 3].tolist() == [0, 1, 0]  # brought to unit length
    assert normal[:, 0, 0].tolist() == [0, 0, 0]  # unknown
    batch = train.batch([3, 1])
    assert batch.images.shape == (2, 3, *SIZE)
    assert batch.depths[:, 2, 2].tolist() == [3, 1]


def test_blocks_of_consecutive_training_views_stand_for_scenes(root: Path) -> None:
    source = mtan.load(root)
    assert source.scenes == [0] * 10 + [1] * 2
    assert "consecutive" in source.facts["scenes"]


def test_the_normal_of_floors_is_told_since_the_axes_are_not_documented(root: Path) -> None:
    assert mtan.load(root).facts["floor_normal"] == [0, 1, 0]
    floor = CLASSES.index("floor")
    np.save(path(root, "train", "normal", floor), np.full((*SIZE, 3), (0, -3, 4.0)))
    assert mtan.load(root).facts["floor_normal"] == [0, -0.6, 0.8]


def test_the_digest_changes_with_any_file(root: Path) -> None:
    before = whole(mtan.load(root))
    assert whole(mtan.load(root)) == before
    np.save(path(root, "val", "depth", 2), np.full((*SIZE, 1), 2.5, np.float32))
    assert whole(mtan.load(root))[1] != before[1]


def test_a_folder_that_is_not_there_says_where_it_was_looked_for(root: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataMissing, match=r"nyuv2/mtan needs the preprocessed NYUv2.*nyuv2/mtan or .*github.com/lorenmt"
    ):
        mtan.find(tmp_path / "nothing", "nyuv2/mtan")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mtan").symlink_to(root)
    assert mtan.find(tmp_path / "data", "nyuv2/mtan") == tmp_path / "data" / "mtan"


def saved(folder: str, kind: str, n: int, array: np.ndarray) -> Callable[[Path], object]:
    return lambda root: np.save(path(root, folder, kind, n), array, allow_pickle=True)


def cut(root: Path) -> None:
    file = path(root, "train", "normal", 7)
    file.write_bytes(file.read_bytes()[:-100])


def renamed(root: Path) -> None:
    path(root, "train", "depth", 5).rename(path(root, "train", "depth", 20))


BAD: dict[str, tuple[str, Callable[[Path], object]]] = {
    "no folder": ("val/normal cannot be read: No such file", lambda r: (r / "val/normal").rename(r / "val/normals")),
    "one file fewer": ("train/depth has 11 views and .*image has 12", lambda r: path(r, "train", "depth", 11).unlink()),
    "a number missing": ("train/depth/5.npy is missing", renamed),
    "a cut file": ("normal/7.npy is not usable: it is no whole .npy file", cut),
    "no array": (
        "label/2.npy is not usable: it is no whole .npy",
        lambda r: path(r, "val", "label", 2).write_bytes(b"PK\x03\x04"),
    ),
    "Python objects": ("label/1.npy is not usable: .*objects", saved("val", "label", 1, np.full(SIZE, None))),
    "depth without its axis": (
        r"depth/3.npy is not usable: it is of shape \(6, 8\) and not \(6, 8, 1\)",
        saved("train", "depth", 3, np.ones(SIZE)),
    ),
    "channels first": (
        r"image/0.npy is not usable: it is of shape \(3, 6, 8\) and not",
        saved("train", "image", 0, np.ones((3, *SIZE))),
    ),
    "another size": (
        r"label/3.npy is not usable: it is of shape \(8, 6\)",
        saved("train", "label", 3, np.ones((8, 6))),
    ),
    "an image of bytes": (
        "image/2.npy is not usable: its numbers are of the type uint8",
        saved("val", "image", 2, np.ones((*SIZE, 3), np.uint8)),
    ),
    "complex numbers": (
        "label/2.npy is not usable: it holds complex128 and no real numbers",
        saved("val", "label", 2, np.ones(SIZE, complex)),
    ),
    "an image above 1": (
        "image/2.npy is not usable: it holds values that are not from 0 to 1",
        saved("val", "image", 2, np.full((*SIZE, 3), 2.0)),
    ),
    "an image with nan": ("image/2.npy is not usable", saved("val", "image", 2, np.full((*SIZE, 3), np.nan))),
    "depth with nan": (
        "depth/2.npy is not usable: it holds depths that are negative or no finite",
        saved("val", "depth", 2, np.full((*SIZE, 1), np.nan)),
    ),
    "negative depth": ("depth/2.npy is not usable", saved("val", "depth", 2, np.full((*SIZE, 1), -1.0))),
    "normals with nan": (
        "normal/2.npy is not usable: it holds normals that are no finite",
        saved("val", "normal", 2, np.full((*SIZE, 3), np.inf)),
    ),
    "a label too large": (
        "label/2.npy is not usable: it holds the label 13; labels are 0 to 12",
        saved("val", "label", 2, np.full(SIZE, 13)),
    ),
    "a label too small": (
        "label/2.npy is not usable: it holds the label -2",
        saved("val", "label", 2, np.full(SIZE, -2)),
    ),
    "half a label": ("label/2.npy is not usable: it holds the label 0.5", saved("val", "label", 2, np.full(SIZE, 0.5))),
    "a label of 255": (
        "label/2.npy is not usable: it holds the label 255",
        saved("val", "label", 2, np.full(SIZE, 255)),
    ),
    "no label": ("label/2.npy is not usable: it holds the label nan", saved("val", "label", 2, np.full(SIZE, np.nan))),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_named(root: Path, what: str) -> None:
    message, spoil = BAD[what]
    spoil(root)
    refused(root, message)


def test_splits_of_different_sizes_are_refused(root: Path) -> None:
    for n in range(COUNTS["val"]):
        for kind in ("image", "label", "depth", "normal"):
            np.save(path(root, "val", kind, n), np.load(path(root, "val", kind, n))[:4])
    refused(root, r"of different sizes: \(6, 8\) and, in val, \(4, 8\)")
