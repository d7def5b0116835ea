"""The official labelled file: its layout, mapping and split, and one clear error for each bad file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from mtlbench.errors import DataMissing, UsageError
from mtlbench.tasks.nyuv2.geometry import KINECT, KINECT_SIZE
from mtlbench.tasks.nyuv2.sources import labeled
from mtlbench.tasks.nyuv2.views import CLASSES

COUNT, FULL, SIZE = 6, (48, 64), (24, 32)
SCENES = ("kitchen_0001", "kitchen_0001", "bath_0002", "study_0003", "kitchen_0001", "bath_0002")
TO_40 = np.array([40, 3, 22, 5, 1, 9], np.uint8)  # of classes 1 to 6
TO_13 = np.array([12, 5, 6, 1, 4, 9, 10, 12, 13, *[7] * 12, 3, *[6] * 18], np.uint8)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Files in the official layout: MATLAB's axes, last one first, and scenes as references to characters."""
    place = tmp_path / "nyuv2"
    (place / "nyuv2-meta-data").mkdir(parents=True)
    columns = np.arange(FULL[1]) - FULL[1] / 2
    filled = np.tile(1 / (0.5 - 0.002 * columns), (FULL[0], 1)).astype(np.float32)
    raw = filled.copy()
    raw[:, :6] = 0
    with h5py.File(place / labeled.FILE, "w") as mat:
        image = np.zeros((COUNT, *FULL, 3), np.uint8)
        image[:, : FULL[0] // 2] = (200, 0, 0)  # the upper half is red
        image[..., 2] = np.arange(COUNT)[:, None, None] * 10
        label = np.zeros((COUNT, *FULL), np.uint16)
        label[:, :24], label[:, 24:, :32] = 5, np.arange(1, 7)[:, None, None]
        mat["images"] = image.transpose(0, 3, 2, 1)
        mat["labels"] = label.transpose(0, 2, 1)
        mat["depths"] = np.stack([filled.T] * COUNT)
        mat["rawDepths"] = np.stack([raw.T] * COUNT)
        scenes = mat.create_dataset("scenes", (1, COUNT), h5py.ref_dtype)
        for n, scene in enumerate(SCENES):
            mat[f"#refs#/{n}"] = np.array([[ord(c)] for c in scene], np.uint16)
            scenes[0, n] = mat[f"#refs#/{n}"].ref
    meta = place / "nyuv2-meta-data"
    split = {"trainNdxs": [[1], [2], [4], [5]], "testNdxs": [[3], [6]]}
    scipy.io.savemat(meta / "splits.mat", {name: np.array(n, np.uint16) for name, n in split.items()})
    scipy.io.savemat(meta / "classMapping40.mat", {"mapClass": TO_40[None]})
    scipy.io.savemat(meta / "class13Mapping.mat", {"classMapping13": {"labels13": TO_13[None]}})
    return tmp_path


def load(root: Path, depth: Any = "filled", size: tuple[int, int] = SIZE) -> Any:
    return labeled.load(labeled.find(root, "nyuv2/labeled"), size, depth)


def test_the_official_split_and_orientation(root: Path) -> None:
    source = load(root)
    train, test = source.splits["train"], source.splits["test"]
    assert (len(train), len(test), train.size) == (4, 2, SIZE)
    assert [int(image[2, 5, 5]) for image in train.images] == [0, 10, 30, 40]
    assert [int(image[2, 5, 5]) for image in test.images] == [20, 50]
    assert train.images[0][:, 3, 20].tolist() == [200, 0, 0]
    assert train.images[0][:, 20, 20].tolist() == [0, 0, 0]


def test_894_classes_become_13_and_unlabelled_pixels_are_ignored(root: Path) -> None:
    source = load(root)
    train = source.splits["train"]
    assert CLASSES[train.labels[0][3, 3]] == "wall"  # 5 -> 1 -> 12
    assert [CLASSES[label[20, 3]] for label in train.labels] == ["furniture", "furniture", "chair", "wall"]
    assert train.labels[0][20, 28] == -1
    assert source.facts["labels_ignored"]["train"] == 0.25


def test_raw_depth_has_holes_and_filled_depth_has_none(root: Path) -> None:
    raw, filled = load(root, "raw"), load(root)
    assert raw.facts["depth"] == "raw"
    assert (raw.splits["train"].depths[0][:, :3] == 0).all()
    assert (raw.splits["train"].depths[0][:, 3:] == filled.splits["train"].depths[0][:, 3:]).all()
    assert (filled.splits["train"].depths[0] > 0).all()
    assert raw.facts["depth_missing"]["train"] == pytest.approx(3 / 32, abs=1e-3)
    assert filled.facts["depth_missing"]["train"] == 0
    assert filled.splits["train"].depths[0][0, 31] > filled.splits["train"].depths[0][0, 0]


def test_normals_are_derived_with_the_sensors_camera(root: Path) -> None:
    source = load(root)
    slope = 0.002 * KINECT.resized(KINECT_SIZE, FULL).fx / 0.5
    normal = source.splits["train"].normals[0][:, 12, 16]
    assert normal == pytest.approx([slope / np.hypot(slope, 1), 0, 1 / np.hypot(slope, 1)], abs=0.01)
    assert "derived from the filled depth" in source.facts["normals"]


def test_normals_beside_the_file_are_used(root: Path) -> None:
    vectors = np.zeros((COUNT, *FULL, 3), np.float32)
    vectors[:] = (0, 0.6, 0.8)
    vectors[:, :, :32] = 0
    np.save(root / "nyuv2" / "normals.npy", vectors)
    source = load(root)
    assert source.splits["test"].normals[1][:, 5, 20] == pytest.approx([0, 0.6, 0.8])
    assert not source.splits["test"].normals[1][:, :, :16].any()
    assert source.facts["normals"] == "read from files"


def test_scenes_are_those_of_the_file(root: Path) -> None:
    assert load(root).scenes == [0, 0, 1, 0]  # images 1, 2, 4 and 5: kitchen, kitchen, study, kitchen


def test_views_are_made_once_and_the_large_file_is_read_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    original = labeled._Official.view
    monkeypatch.setattr(labeled._Official, "view", lambda *args: made.append(args[1]) or original(*args))
    first = load(root)
    load(root)
    assert len(made) == COUNT
    load(root, "raw")
    assert len(made) == 2 * COUNT
    with h5py.File(root / "nyuv2" / labeled.FILE, "r+") as mat:
        mat["depths"][0] = 3
    changed = load(root)
    assert len(made) == 3 * COUNT
    assert changed.facts["files_sha256"] != first.facts["files_sha256"]


def test_missing_files_say_where_they_were_looked_for(root: Path) -> None:
    with pytest.raises(DataMissing, match="No data root is set"):
        labeled.find(None, "nyuv2/labeled")
    (root / "nyuv2/nyuv2-meta-data/splits.mat").rename(root / "nyuv2/splits.mat")
    assert labeled.find(root, "nyuv2/labeled").split == root / "nyuv2/splits.mat"
    (root / "nyuv2/splits.mat").unlink()
    with pytest.raises(DataMissing, match=r"its file splits.mat is not there.*\n.*data fetch nyuv2/labeled"):
        labeled.find(root, "nyuv2/labeled")
    (root / "nyuv2" / labeled.FILE).unlink()
    with pytest.raises(DataMissing, match=r"nyuv2/labeled needs the official .*\n.*cs.nyu.edu"):
        labeled.find(root, "nyuv2/labeled")


def changed(name: str, array: Any) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        with h5py.File(root / "nyuv2" / labeled.FILE, "r+") as mat:
            del mat[name]
            if isinstance(array, dict):
                mat.create_group(name)
            elif array is not None:
                mat[name] = array

    return change


def meta(name: str, content: dict[str, Any]) -> Callable[[Path], None]:
    return lambda root: scipy.io.savemat(root / "nyuv2/nyuv2-meta-data" / name, content)


def cut(root: Path) -> None:
    path = root / "nyuv2" / labeled.FILE
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def objects(root: Path) -> None:
    np.save(root / "nyuv2/normals.npy", np.full((COUNT, *FULL, 3), None), allow_pickle=True)


BAD: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "a cut file": ("labeled.mat is not usable: it is no whole HDF5 file .*truncated", cut),
    "no HDF5": (
        "labeled.mat is not usable: it is no whole HDF5 file",
        lambda root: (root / "nyuv2" / labeled.FILE).write_text("404"),
    ),
    "no images": ("labeled.mat is not usable: it has no array 'images'", changed("images", None)),
    "no depths": ("labeled.mat is not usable: it has no array 'depths'", changed("depths", None)),
    "no scenes": ("labeled.mat is not usable: it has no names of scenes", changed("scenes", None)),
    "scenes that are no references": ("it has no names of scenes", changed("scenes", np.ones((1, COUNT)))),
    "fewer labels": ("labels is 5 x 64 x 48 uint16 and not 6 x 64 x 48", changed("labels", np.ones((5, 64, 48), "u2"))),
    "labels of reals": ("labels is 6 x 64 x 48 float64", changed("labels", np.ones((COUNT, 64, 48)))),
    "images in C order": ("images is 6 x 48 x 64 x 3", changed("images", np.ones((COUNT, 48, 64, 3), "u1"))),
    "a group": ("it has no array 'depths'", changed("depths", {})),
    "an unknown class": ("image 1 has the label 7, above 6", changed("labels", np.full((COUNT, 64, 48), 7, "u2"))),
    "a split without test": ("splits.mat is not usable: testNdxs are not", meta("splits.mat", {"trainNdxs": [[1]]})),
    "a split beyond the images": (
        "testNdxs are not numbers of images from 1 to 6",
        meta("splits.mat", {"trainNdxs": [[1]], "testNdxs": [[7]]}),
    ),
    "an image in both": (
        "splits.mat is not usable: an image is in train and in test",
        meta("splits.mat", {"trainNdxs": [[1], [2]], "testNdxs": [[2]]}),
    ),
    "no mapping to 40": (
        "classMapping40.mat is not usable: its classes are not from 1 to 40",
        meta("classMapping40.mat", {}),
    ),
    "no mapping to 13": ("class13Mapping.mat is not usable: it has no", meta("class13Mapping.mat", {"x": 1})),
    "14 classes": (
        "class13Mapping.mat is not usable: its classes are not from 1 to 13",
        meta("class13Mapping.mat", {"classMapping13": {"labels13": np.full((1, 40), 14, np.uint8)}}),
    ),
    "no MATLAB file": (
        "splits.mat is not usable: it is no MATLAB file",
        lambda root: (root / "nyuv2/nyuv2-meta-data/splits.mat").write_text("x" * 300),
    ),
    "no mapping file": (
        "its file classMapping40.mat is not there",
        lambda root: (root / "nyuv2/nyuv2-meta-data/classMapping40.mat").unlink(),
    ),
    "normals of another shape": (
        r"normals.npy is not usable: it is \(3, 3\)",
        lambda root: np.save(root / "nyuv2/normals.npy", np.ones((3, 3))),
    ),
    "normals of Python objects": (r"normals.npy is not usable: .*objects", objects),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_named(root: Path, what: str) -> None:
    message, spoil = BAD[what]
    spoil(root)
    with pytest.raises(UsageError, match=message):
        load(root)


def test_a_missing_package_says_what_to_install(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UsageError, match=r'pip install "mtlbench\[vision\]"'):
        load(root)
