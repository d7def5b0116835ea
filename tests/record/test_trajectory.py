"""The file of a trajectory: what is written is read, and what is broken is refused in one line."""

from __future__ import annotations

import json
import zipfile
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from mtlbench.errors import UsageError
from mtlbench.record.trajectory import Group, MethodTrace, Relation, Trajectory, read, write

T, G, B, K, M = 3, 2, 2, 3, 1


def trace(**changes: object) -> MethodTrace:
    rng = np.random.default_rng(1)
    pairs = rng.normal(size=(T, M, K, K)).astype(np.float32)
    pairs[0] = np.nan
    content = {"groups": ("whole_model",), "steps": np.array([0, 5, 4])}
    content |= dict.fromkeys(("corrected", "negative", "cosine", "target"), pairs)
    content |= {"norm_ratio": pairs[:, :, 0, 0], "update_cosine": pairs[:, :, 0]}
    return MethodTrace(**(content | changes))  # type: ignore[arg-type]


def trajectory(**changes: object) -> Trajectory:
    rows = np.random.default_rng(0).normal(size=(T, G, B * K, 5))
    gramians = (rows @ rows.transpose(0, 1, 3, 2)).astype(np.float32)
    gramians = np.maximum(gramians, gramians.transpose(0, 1, 3, 2))
    tree = np.ones((K, K)) - np.eye(K)
    content: dict[str, object] = {
        "cell": "abc",
        "objectives": ("a", "b", "ç"),
        "groups": (Group("encoder.0", "encoder", 3), Group("embedding", "", 2)),
        "steps": np.array([0, 5, 9]),
        "total_steps": 9,
        "gramians": gramians.reshape(T, G, B, K, B, K),
        "losses": np.random.default_rng(2).normal(size=(T, K)),
        "aligned": True,
        "examples": 20,
        "relations": (
            Relation("tree", "distance", "made up", tree / 3),
            Relation("resource", "amount", "sentences", np.array([1.0, 2.0, 3.0])),
            Relation("family", "label", "made up", np.array(["x", "x", "yy"])),
        ),
        "method": trace(),
        "seconds": 1.5,
        "training_seconds": 20.0,
        "split": "val",
    }
    return Trajectory(**(content | changes))  # type: ignore[arg-type]


def test_what_is_written_is_read_to_the_bit(tmp_path: Path) -> None:
    given = trajectory()
    write(tmp_path / "geometry.npz", given)
    found = read(tmp_path / "geometry.npz")
    for field in fields(Trajectory):
        if field.name not in ("relations", "method"):
            np.testing.assert_array_equal(getattr(found, field.name), getattr(given, field.name))
    for ours, theirs in zip(found.relations, given.relations, strict=True):
        assert (ours.name, ours.kind, ours.about) == (theirs.name, theirs.kind, theirs.about)
        np.testing.assert_array_equal(ours.values, theirs.values)
    for field in fields(MethodTrace):
        np.testing.assert_array_equal(getattr(found.method, field.name), getattr(given.method, field.name))
    assert found.gramians.dtype == np.float32


def test_a_method_that_sees_no_gramian_leaves_no_trace(tmp_path: Path) -> None:
    write(tmp_path / "geometry.npz", trajectory(method=None))
    assert read(tmp_path / "geometry.npz").method is None


def test_a_file_that_does_not_say_the_split_is_read_all_the_same(tmp_path: Path) -> None:
    write(tmp_path / "geometry.npz", trajectory())
    arrays = dict(np.load(tmp_path / "geometry.npz", allow_pickle=False).items())
    about = json.loads(str(arrays["about"]))
    assert about.pop("split") == "val"
    np.savez_compressed(tmp_path / "geometry.npz", **(arrays | {"about": np.array(json.dumps(about))}))
    assert read(tmp_path / "geometry.npz").split == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": np.array([0, 9, 5])},
        {"losses": np.zeros((T, K + 1))},
        {"gramians": np.zeros((T, G, B, K, B, K))},
        {"gramians": np.zeros((T, G, B, K, B), np.float32)},
        {"relations": (Relation("tree", "distance", "of fewer", np.zeros((2, 2))),)},
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        trajectory(**changes)


def test_a_broken_file_is_refused_in_one_line_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "geometry.npz"
    write(path, trajectory())
    whole = path.read_bytes()
    lacking = tmp_path / "lacking.npz"
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(lacking, "w") as other:
        for name in archive.namelist():
            if name != "losses.npy":
                other.writestr(name, archive.read(name))
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    broken = {"empty": b"", "cut": whole[: len(whole) // 2], "lacking": lacking.read_bytes(), "flipped": bytes(flipped)}
    for content in broken.values():
        path.write_bytes(content)
        with pytest.raises(UsageError) as told:
            read(path)
        assert str(path) in str(told.value)
        assert "\n" not in str(told.value)
    with pytest.raises(UsageError, match=r"absent\.npz cannot be read"):
        read(tmp_path / "absent.npz")


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "geometry.npz"
    with path.open("wb") as file:
        np.savez(file, about=np.array({"schema_version": 1}, dtype=object))
    with pytest.raises(UsageError, match="allow_pickle"):
        read(path)


def test_a_later_schema_is_told(tmp_path: Path) -> None:
    path = tmp_path / "geometry.npz"
    with path.open("wb") as file:
        np.savez(file, about=np.array(json.dumps({"schema_version": 2})))
    with pytest.raises(UsageError, match="schema version 2"):
        read(path)


def test_an_unequal_pair_of_distances_is_no_relation() -> None:
    with pytest.raises(ValueError, match="symmetric"):
        Relation("tree", "distance", "made up", np.array([[0.0, 1.0], [2.0, 0.0]]))
    with pytest.raises(ValueError, match="one for each"):
        Relation("family", "label", "made up", np.array([["x", "y"]]))
    with pytest.raises(ValueError, match="finite"):
        Relation("resource", "amount", "sentences", np.array([1.0, np.inf]))


def test_replacing_values_checks_them_again() -> None:
    with pytest.raises(ValueError, match="kind"):
        replace(Relation("r", "amount", "a", np.array([1.0])), kind="other")  # type: ignore[arg-type]
