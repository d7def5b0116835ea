"""Described folders of images: orientation, values, splits, what is kept, and one clear error for each bad file."""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from mtlbench.errors import DataMissing, UsageError
from mtlbench.tasks.nyuv2 import keeping
from mtlbench.tasks.nyuv2.geometry import KINECT, KINECT_SIZE, nearest
from mtlbench.tasks.nyuv2.sources import folder
from mtlbench.tasks.nyuv2.views import CLASSES, Source

SIZE = (24, 32)
FULL = (48, 64)
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTLBENCH_CACHE", str(tmp_path / "cache"))


def wall(n: int) -> np.ndarray:
    """(H, W) millimetres: a plane, farther to the right, as inverse depths that are linear in the column."""
    columns = np.arange(FULL[1]) - FULL[1] / 2
    return np.tile(1000 / (0.5 + 0.02 * n - 0.002 * columns), (FULL[0], 1)).round().astype(np.uint16)


class Data:
    """A described folder of four views, whose files a test may spoil."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.described: dict[str, Any] = {
            "title": "four walls",
            "csv": "list.csv",
            "image": {"path": "rgb/{name:03}.png"},
            "depth": {"path": "depth/{name:03}.png", "per_metre": 1000},
            "label": {"path": "label/{name:03}.png", "classes": [-1, *range(13)]},
        }
        (place / "list.csv").write_text(
            "name,split,room\n1,train,kitchen\n2,test,bath\n3,train,hall\n4,train,kitchen\n"
        )
        for kind in ("rgb", "depth", "label"):
            (place / kind).mkdir()
        for n in range(1, 5):
            image = np.zeros((*FULL, 3), np.uint8)
            image[:, : FULL[1] // 2] = (250, 10 * n, 0)  # red on the left
            self.write(f"rgb/{n:03}.png", image)
            self.write(f"depth/{n:03}.png", wall(n))
            label = np.full(FULL, 12, np.uint8)
            label[:, FULL[1] // 2 :] = 13
            label[: FULL[0] // 2] = n - 1
            self.write(f"label/{n:03}.png", label)

    def write(self, name: str, array: np.ndarray) -> None:
        Image.fromarray(array).save(self.place / name)

    def load(self, change: Change = lambda described: None, size: tuple[int, int] = SIZE) -> Source:
        change(self.described)
        path = self.place / "folder.yaml"
        path.write_text(yaml.safe_dump(self.described))
        return folder.load(path, size)

    def refused(self, message: str, change: Change = lambda described: None) -> str:
        with pytest.raises(UsageError, match=message) as error:
            self.load(change)
        return str(error.value)


@pytest.fixture
def data(tmp_path: Path) -> Data:
    place = tmp_path / "data"
    place.mkdir()
    return Data(place)


def test_images_labels_depth_and_normals_are_read_and_resized(data: Data) -> None:
    source = data.load()
    train, test = source.splits["train"], source.splits["test"]
    assert (len(train), len(test), train.size) == (3, 1, SIZE)
    assert train.images[0].dtype == np.uint8
    assert train.images[2][:, 5, 4].tolist() == [250, 40, 0]
    assert train.images[2][:, 5, 28].tolist() == [0, 0, 0]
    assert train.labels[0][20, 3] == CLASSES.index("wall")
    assert train.labels[0][20, 28] == CLASSES.index("window")
    assert train.labels[0][3, 3] == -1  # 0 is ignored
    assert train.labels[1][3, 3] == CLASSES.index("books")
    rows, columns = nearest(FULL, SIZE)
    assert np.allclose(train.depths[0], wall(1)[np.ix_(rows, columns)] / 1000, atol=1e-6)
    normal = test.normals[0][:, 8:16, 8:24]
    assert np.allclose(np.linalg.norm(normal, axis=0), 1, atol=1e-5)
    slope = 0.002 * KINECT.resized(KINECT_SIZE, FULL).fx / 0.54
    assert normal[0] == pytest.approx(slope / np.hypot(slope, 1), abs=0.02)  # farther to the right: it faces right
    assert normal[1] == pytest.approx(0, abs=0.02)
    assert "derived from the depth" in source.facts["normals"]


def test_what_is_told_of_the_data_is_counted(data: Data) -> None:
    depth = wall(1)
    depth[:, 32:] = 0
    data.write("depth/001.png", depth)
    facts = data.load().facts
    assert facts["depth_missing"] == {"train": pytest.approx(1 / 6, abs=0.001), "test": 0}
    assert facts["labels_ignored"] == {"train": pytest.approx(1 / 6, abs=0.001), "test": 0}
    assert facts["class_shares"]["test"]["bed"] == 0.5
    assert facts["class_shares"]["test"]["window"] == 0.25
    assert sum(facts["class_shares"]["train"].values()) == pytest.approx(5 / 6, abs=0.001)


def test_depth_is_never_mixed_over_an_edge_or_with_missing_values(data: Data) -> None:
    depth = np.full(FULL, 1000, np.uint16)
    depth[:, 31:] = 4000
    depth[10:20, 5:9] = 0
    data.write("depth/001.png", depth)
    assert np.unique(data.load(size=(17, 23)).splits["train"].depths[0]).tolist() == [0, 1, 4]


def test_rounded_depths_and_missing_values_are_read_as_described(data: Data) -> None:
    eight = np.full(FULL, 51, np.uint8)
    eight[:10], eight[10:20] = 0, 255
    for n in range(1, 5):
        data.write(f"depth/{n:03}.png", eight)
    data.described["depth"] |= {"per_metre": 25.5, "rounded": "down", "missing": [0, 255]}
    assert np.unique(data.load().splits["train"].depths[0]).tolist() == pytest.approx([0, 51.5 / 25.5])


def test_mirrored_files_give_the_same_views_as_the_true_ones(data: Data) -> None:
    camera = {"cx": 300.0, "cy": 250.0}
    true = data.load(lambda described: described.update(camera=camera))
    for kind in ("rgb", "depth", "label"):
        for n in range(1, 5):
            path = data.place / kind / f"{n:03}.png"
            data.write(f"{kind}/{n:03}.png", np.asarray(Image.open(path))[:, ::-1])
    found = data.load(lambda described: described.update(mirrored=True))
    for split in ("train", "test"):
        assert found.splits[split].digest() == true.splits[split].digest()


def test_one_kind_of_files_can_be_mirrored_alone(data: Data) -> None:
    true = data.load()
    for n in range(1, 5):
        label = np.asarray(Image.open(data.place / f"label/{n:03}.png"))
        data.write(f"label/{n:03}.png", label[:, ::-1])
    found = data.load(lambda described: described["label"].update(mirrored=True))
    assert found.splits["train"].digest() == true.splits["train"].digest()


def test_labels_of_a_split_can_come_from_an_archive_which_is_not_unpacked(data: Data) -> None:
    label = np.full(FULL, 5, np.uint8)
    packed = io.BytesIO()
    Image.fromarray(label).save(packed, "PNG")
    with tarfile.open(data.place / "test.tgz", "w:gz") as archive:
        member = tarfile.TarInfo("./two_0002.png")
        member.size = len(packed.getvalue())
        archive.addfile(member, io.BytesIO(packed.getvalue()))
    before = sorted(data.place.rglob("*"))
    labels = {"path": "two_{name:04}.png", "archive": "test.tgz", "classes": list(range(13))}
    source = data.load(lambda described: described.update(label_of={"test": labels}))
    assert np.unique(source.splits["test"].labels[0]).tolist() == [5]
    assert np.unique(source.splits["train"].labels[1]).tolist() == [1, 11, 12]
    assert sorted(data.place.rglob("*")) == sorted([*before, data.place / "folder.yaml"])


def test_normals_from_files_are_used_with_their_axes_turned(data: Data) -> None:
    (data.place / "normal").mkdir()
    vectors = np.zeros((*FULL, 3))
    vectors[:, :40] = (0.6, -0.8, 0)
    vectors[:, 60:] = (0, 0, 0.1)  # too short to have a direction
    for n in range(1, 5):
        np.save(data.place / f"normal/{n:03}.npy", vectors * 2)
    files = {"path": "normal/{name:03}.npy", "negated": ["y"]}
    source = data.load(lambda described: described.update(normal=files))
    normals = source.splits["test"].normals[0]
    assert normals[:, 3, 3] == pytest.approx([0.6, 0.8, 0])
    assert not normals[:, :, 31].any()
    assert source.facts["normals"] == "read from files"

    for n in range(1, 5):
        data.write(f"normal/{n:03}.png", ((vectors + 1) * 127.5).round().astype(np.uint8))
    data.described["normal"] |= {"path": "normal/{name:03}.png", "mirrored": True}
    normals = data.load().splits["test"].normals[0]
    assert normals[:, 3, 28] == pytest.approx([-0.6, 0.8, 0], abs=0.01)
    assert not normals[:, :, 0].any()


def test_scenes_come_from_a_column_or_from_blocks_of_numbers(data: Data) -> None:
    assert data.load().scenes is None
    by_name = data.load(lambda described: described.update(scene={"column": "room"})).scenes
    assert by_name == [0, 1, 0]
    assert data.load(lambda described: described.update(scene={"column": "name", "numbers": 3})).scenes == [0, 1, 1]
    assert data.load().facts["scenes"] == "3 consecutive numbers of the column name"
    data.refused("'kitchen' in line 2, column room", lambda d: d.update(scene={"column": "room", "numbers": 3}))


def test_a_validation_split_of_ones_own_is_used_and_words_of_splits_are_free(data: Data) -> None:
    (data.place / "list.csv").write_text("name,part\n1,a\n2,b\n3,c\n4,a\n")
    column = {"column": "part", "words": {"a": "train", "b": "test", "c": "val"}}
    source = data.load(lambda described: described.update(split=column, scene={"column": "part"}))
    assert {split: len(views) for split, views in source.splits.items()} == {"train": 2, "val": 1, "test": 1}
    assert source.scenes is None


def test_views_are_made_once_and_again_when_a_file_changes(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    original = folder._view
    monkeypatch.setattr(folder, "_view", lambda *args: made.append(args[2]) or original(*args))
    first = data.load()
    second = data.load()
    assert len(made) == 4
    assert first.splits["train"].digest() == second.splits["train"].digest()
    assert isinstance(second.splits["train"].images, np.memmap)
    data.write("depth/003.png", wall(9))
    data.load()
    assert len(made) == 8
    data.load(size=(12, 16))
    assert len(made) == 12


def test_progress_is_told(data: Data, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "TELL_SECONDS", -1)
    with caplog.at_level("INFO"):
        data.load()
    assert [record.progress for record in caplog.records if hasattr(record, "progress")][-1] == (4, 4)


def test_a_missing_package_says_what_to_install(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    data.refused(r'nyuv2 need Pillow: pip install "mtlbench\[vision\]"')


def test_caveats_come_from_the_description(data: Data) -> None:
    assert data.load(lambda described: described.update(caveats=["few views"])).caveats == ("few views",)


BAD_FILES: dict[str, tuple[str, Callable[[Data], object]]] = {
    "no image": ("rgb/003.png cannot be read: No such file.*[Ll]ine 4", lambda d: (d.place / "rgb/003.png").unlink()),
    "no depth": ("depth/003.png cannot be read: No such file", lambda d: (d.place / "depth/003.png").unlink()),
    "a cut image": (
        "rgb/001.png is not usable: it is damaged",
        lambda d: (d.place / "rgb/001.png").write_bytes((d.place / "rgb/001.png").read_bytes()[:-40]),
    ),
    "a cut depth": (
        "depth/001.png is not usable: it is damaged",
        lambda d: (d.place / "depth/001.png").write_bytes((d.place / "depth/001.png").read_bytes()[:60]),
    ),
    "text": ("label/002.png is not usable: it is no image", lambda d: (d.place / "label/002.png").write_text("wall")),
    "coloured depth": (
        "depth/004.png is not usable: it is an image of the kind RGB",
        lambda d: d.write("depth/004.png", np.zeros((*FULL, 3), np.uint8)),
    ),
    "image of 16 bits": (
        "rgb/004.png is not usable: it is an image of the kind I;16",
        lambda d: d.write("rgb/004.png", np.zeros(FULL, np.uint16)),
    ),
    "another size": (
        "label/004.png is not usable: it has 10 x 20 pixels, and the image of this view 48 x 64",
        lambda d: d.write("label/004.png", np.ones((10, 20), np.uint8)),
    ),
    "a label too large": (
        "label/004.png is not usable: it holds the label 14",
        lambda d: d.write("label/004.png", np.full(FULL, 14, np.uint8)),
    ),
    "no list": ("list.csv cannot be read: No such file", lambda d: (d.place / "list.csv").unlink()),
    "no column": (
        "Unknown column of .*list.csv: 'name'.*Known: Name, split",
        lambda d: (d.place / "list.csv").write_text("Name,split\n1,train\n2,test\n"),
    ),
    "an unknown split": (
        "Unknown split in line 3 of .*list.csv: 'tset'. Did you mean 'test'",
        lambda d: (d.place / "list.csv").write_text("name,split\n1,train\n2,tset\n"),
    ),
    "nothing to test on": (
        "no line is of the split test",
        lambda d: (d.place / "list.csv").write_text("name,split\n1,train\n"),
    ),
    "an image in two splits": (
        "lines 2 and 3 name the same image",
        lambda d: (d.place / "list.csv").write_text("name,split\n1,train\n1,test\n"),
    ),
    "a short line": (
        "line 3 has not as many cells",
        lambda d: (d.place / "list.csv").write_text("name,split\n1,train\n2\n"),
    ),
    "a list that is no text": (
        "list.csv is not usable: it is no CSV file",
        lambda d: (d.place / "list.csv").write_bytes(b"name,split\n\xff,train"),
    ),
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_a_bad_file_is_named(data: Data, what: str) -> None:
    message, spoil = BAD_FILES[what]
    spoil(data)
    data.refused(message)


BAD_ARRAYS: dict[str, tuple[str, np.ndarray]] = {
    "nan": ("001.npy is not usable: it holds depths that are no finite", np.where(wall(1) > 1600, np.nan, 1.0)),
    "infinite": ("001.npy is not usable: it holds depths that are no finite", np.full(FULL, np.inf)),
    "negative": ("001.npy is not usable: it holds the depth -1", np.full(FULL, -1.0)),
    "another shape": ("001.npy is not usable: it is of shape \\(48, 64, 1\\)", np.ones((*FULL, 1))),
    "Python objects": ("001.npy is not usable: .*Object arrays cannot be loaded", np.full(FULL, None)),
    "text": ("001.npy is not usable: it holds <U1 and no real numbers", np.full(FULL, "1")),
}


@pytest.mark.parametrize("what", BAD_ARRAYS)
def test_a_bad_array_of_depths_is_named_and_nothing_in_it_executed(data: Data, what: str) -> None:
    message, array = BAD_ARRAYS[what]
    for n in range(1, 5):
        np.save(data.place / f"depth/{n:03}.npy", array if n == 1 else np.ones(FULL), allow_pickle=True)
    data.refused(message, lambda described: described["depth"].update(path="depth/{name:03}.npy"))


BAD_DESCRIPTIONS: dict[str, tuple[str, Change]] = {
    "an unknown key": ("folder.yaml .*: colour: extra inputs", lambda d: d.update(colour="red")),
    "an unknown key below": ("depth.unit: extra inputs", lambda d: d["depth"].update(unit="mm")),
    "no depth": ("depth: field required", lambda d: d.pop("depth")),
    "no metres": ("depth.per_metre: input should be greater than 0", lambda d: d["depth"].update(per_metre=0)),
    "a class too large": (
        "label.classes.1: input should be less",
        lambda d: d["label"].update(classes=[0, 13]),
    ),
    "attributes in braces": ("image.path: in braces", lambda d: d["image"].update(path="{name.__class__}.png")),
    "an even window": ("derived.window: it must be odd", lambda d: d.update(derived={"window": 20})),
    "an unknown split": ("split.words.a: input should be", lambda d: d.update(split={"words": {"a": "trian"}})),
    "no word for test": ("split.words has no word for test", lambda d: d.update(split={"words": {"a": "train"}})),
    "no archive": (
        "none.tgz is not usable: it cannot be read \\(No such file",
        lambda d: d["label"].update(archive="none.tgz"),
    ),
    "an archive that is none": (
        "list.csv is not usable: it is no whole tar archive",
        lambda d: d["label"].update(archive="list.csv"),
    ),
}


@pytest.mark.parametrize("what", BAD_DESCRIPTIONS)
def test_a_bad_description_is_told_with_its_file_and_key(data: Data, what: str) -> None:
    message, change = BAD_DESCRIPTIONS[what]
    data.refused(message, change)


def test_an_archive_without_a_file_says_which(data: Data) -> None:
    with tarfile.open(data.place / "empty.tar", "w"):
        pass
    data.refused("empty.tar has no file label/001.png. Line 2 of", lambda d: d["label"].update(archive="empty.tar"))


def test_the_description_is_the_named_one_that_of_the_data_root_or_that_of_the_subset(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match=r"nyuv2/folder needs images of NYUv2.*folder.yaml or subset.csv is not in"):
        folder.find(tmp_path, None, "nyuv2/folder")
    with pytest.raises(DataMissing, match="no data root is set"):
        folder.find(None, None, "nyuv2/folder")
    base = tmp_path / "nyuv2"
    base.mkdir()
    (base / "subset.csv").touch()
    assert folder.find(tmp_path, None, "nyuv2/folder") == (folder.SUBSETS_DESCRIPTION, base)
    (base / "folder.yaml").touch()
    assert folder.find(tmp_path, None, "nyuv2/folder") == (base / "folder.yaml", base)
    assert folder.find(None, str(tmp_path / "own.yaml"), "nyuv2/folder") == (tmp_path / "own.yaml", tmp_path)


def test_the_subsets_description_reads_a_folder_of_its_layout(tmp_path: Path) -> None:
    """The packaged description, on made files: mirrored, 8-bit depth, 40 classes, official test labels not mirrored."""
    for name in ("nyu_images", "nyu_depths", "nyu_labels40", "nyuv2-meta-data/test_labels_13"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "subset.csv").write_text("official_index,split,file_stem\n1,test,0\n3,train,2\n41,train,40\n")
    left = np.zeros((480, 640), np.uint8)
    left[:, :320] = 1
    for stem in (0, 2, 40):
        Image.fromarray(np.stack([left[:, ::-1] * 255] * 3, 2)).save(tmp_path / f"nyu_images/{stem}.jpg", quality=95)
        Image.fromarray(left[:, ::-1] * 51 + 25).save(tmp_path / f"nyu_depths/{stem}.png")
        Image.fromarray(np.where(left[:, ::-1], 3, 39).astype(np.uint8)).save(tmp_path / f"nyu_labels40/{stem}.png")
    Image.fromarray(np.where(left, 7, 0).astype(np.uint8)).save(tmp_path / "new_nyu_class13_0001.png")
    with tarfile.open(tmp_path / "nyuv2-meta-data/test_labels_13/nyuv2_test_class13.tgz", "w:gz") as archive:
        archive.add(tmp_path / "new_nyu_class13_0001.png", "new_nyu_class13_0001.png")
    source = folder.load(folder.SUBSETS_DESCRIPTION, SIZE, tmp_path)
    for split, name in (("train", "bed"), ("test", "objects")):
        views = source.splits[split]
        assert (views.images[0][:, :, 2] > 240).all()
        assert (views.images[0][:, :, 29] < 15).all()
        assert np.unique(views.labels[0][:, :15]).tolist() == [CLASSES.index(name)]
        assert np.unique(views.labels[0][:, 17:]).tolist() == [-1]
        assert views.depths[0][5, [2, 29]] == pytest.approx([76.5 / 25.5, 25.5 / 25.5])
    assert source.scenes == [0, 1]
    assert len(source.caveats) == 4


def test_the_subsets_classes_are_the_official_mapping_with_the_last_one_ignored() -> None:
    """Values of `labels13` in the official class13Mapping.mat, which counts from 1."""
    official = [12, 5, 6, 1, 4, 9, 10, 12, 13, 6, 8, 6, 13, 10, 6, 13, 6, 7, 7, 5, 7, 3, 2, 6, 11, *[7] * 6, 6]
    official += [7, 7, 7, 7, 7, 7, 6, 7]
    classes = yaml.safe_load(folder.SUBSETS_DESCRIPTION.read_text())["label"]["classes"]
    assert classes == [*(n - 1 for n in official[:39]), -1]
