"""The gradients' geometry along the training of one cell: Gramians of probe gradients, as a file beside its record."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mtlbench.catalogue.relation import Relation, require_of
from mtlbench.record.reading import Unreadable
from mtlbench.storage import read_regular, write_atomically

__all__ = ["GEOMETRY", "SCHEMA_VERSION", "Group", "MethodTrace", "Part", "Relation", "Trajectory", "read", "write"]

GEOMETRY = "geometry.npz"
"""The file's name in a cell's folder."""
SCHEMA_VERSION = 1
LARGEST_FILE = 8 * 2**30
"""Bytes, packed or not; 50 snapshots of 20 objectives, 10 batches and 200 layers are 1.6 GiB."""

Array = NDArray[Any]
Part = Literal["encoder", "decoder", ""]


@dataclass(frozen=True)
class Group:
    """A group of shared parameters of the granularity `all_layer`."""

    name: str
    part: Part
    """Empty for others, such as a shared embedding."""
    parameters: int
    """How many numbers."""


@dataclass(frozen=True, eq=False)
class MethodTrace:
    """What the method did in the steps of training between snapshots, M groups of its own granularity apart.

    Entry t is about the window after snapshot t - 1 up to snapshot t; the first is empty. Numbers are NaN in an empty
    window, for pairs that no step held, and where the method makes no such thing.
    """

    groups: tuple[str, ...]
    """The names of the M groups."""
    steps: Array
    """(T,) int64 steps of training in the window in which the method was asked: with kept weights, not all."""
    corrected: Array
    """(T, M, K, K) float32 share of the visits of gradient k to l in which k was changed (PCGrad, GradVac)."""
    negative: Array
    """(T, M, K, K) float32 share of the steps in which the cosine of the training gradients was negative."""
    cosine: Array
    """(T, M, K, K) float32 mean cosine of the training gradients."""
    target: Array
    """(T, M, K, K) float32 mean target of Gradient Vaccine."""
    norm_ratio: Array
    """(T, M) float32 mean norm of the update over that of the plain sum of gradients."""
    update_cosine: Array
    """(T, M, K) float32 mean cosine of the update with the training gradient of each objective."""

    def __post_init__(self) -> None:
        windows, groups = len(self.steps), len(self.groups)
        objectives = self.cosine.shape[-1] if self.cosine.ndim else 0
        pairs = (windows, groups, objectives, objectives)
        _require("steps of the method", self.steps, (windows,), np.int64)
        for name in ("corrected", "negative", "cosine", "target"):
            _require(name, getattr(self, name), pairs, np.float32)
        _require("norm_ratio", self.norm_ratio, pairs[:2], np.float32)
        _require("update_cosine", self.update_cosine, pairs[:3], np.float32)


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Snapshots of the probe gradients' Gramian along training: T snapshots, G groups, B batches, K objectives.

    Raises:
        ValueError: arrays that do not fit each other.
    """

    cell: str
    """The identity of the cell."""
    objectives: tuple[str, ...]
    groups: tuple[Group, ...]
    """In the order of the forward pass."""
    steps: Array
    """(T,) int64 completed steps at each snapshot, increasing; 0 is the untrained model."""
    total_steps: int
    gramians: Array
    """(T, G, B, K, B, K) float32: [t, g, b, k, c, l] is the inner product, over the parameters of group g, of the
    gradient of objective k on its probe batch b with that of l on its batch c. Computed in float64; symmetric. A
    coarser granularity is the sum over its groups."""
    losses: Array
    """(T, K) float64 mean loss of each objective over its probe batches."""
    aligned: bool
    """Whether batch b holds the same examples, such as translations of each other, for all objectives."""
    examples: int
    """Of one objective in one probe batch; 0 where the task does not say."""
    relations: tuple[Relation, ...]
    method: MethodTrace | None
    """None where the method sees no Gramian of the training gradients."""
    seconds: float
    """Spent recording."""
    training_seconds: float
    """Spent training, as in the record's cost."""
    split: str = ""
    """Which split the probes are of; empty where it is not known, as of files that do not say."""

    def __post_init__(self) -> None:
        snapshots, groups, objectives = len(self.steps), len(self.groups), len(self.objectives)
        batches = self.gramians.shape[2] if self.gramians.ndim == 6 else 0
        _require("steps", self.steps, (snapshots,), np.int64)
        shape = (snapshots, groups, batches, objectives, batches, objectives)
        _require("gramians", self.gramians, shape, np.float32)
        _require("losses", self.losses, (snapshots, objectives), np.float64)
        if snapshots and (self.steps[0] < 0 or self.steps[-1] > self.total_steps or (np.diff(self.steps) <= 0).any()):
            raise ValueError("steps do not increase from 0 to total_steps")
        require_of(self.relations, objectives)
        if self.method and self.method.cosine.shape[::3] != (snapshots, objectives):
            raise ValueError("what the method did is of other snapshots or objectives")

    @property
    def batches(self) -> int:
        """B."""
        return int(self.gramians.shape[2])


def write(path: Path, trajectory: Trajectory) -> None:
    """Write the file so that the old one or the new one stands whole; raises `OSError` if that fails.

    Half of each Gramian is stored, which is symmetric, and text as JSON, so that nothing needs to be unpickled.
    """
    t = trajectory
    rows = len(t.objectives) * t.batches
    flat = t.gramians.reshape(len(t.steps), len(t.groups), rows, rows)
    upper, lower = np.triu_indices(rows)
    arrays: dict[str, Any] = {"about": np.array(json.dumps(_about(t))), "steps": t.steps, "losses": t.losses}
    arrays["gramians"] = flat[:, :, upper, lower]
    if t.method:
        arrays |= {f"method_{name}": getattr(t.method, name) for name in _TRACED}
    write_atomically(path, lambda file: np.savez_compressed(file, **arrays))


def read(path: Path) -> Trajectory:
    """Read what `write` wrote; raises `Unreadable`, in one line that names the file, if it is not whole."""
    try:
        content = read_regular(path, LARGEST_FILE)
        arrays = _arrays(content)
        return _trajectory(json.loads(str(arrays.pop("about"))), arrays)
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror or error}") from error
    except KeyError as error:
        raise Unreadable(f"{path} is not a whole trajectory: it lacks {error}") from error
    except (ValueError, TypeError, EOFError, RecursionError, zipfile.BadZipFile, zlib.error) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise Unreadable(f"{path} is not a whole trajectory: {first}") from error


_TRACED = tuple(field.name for field in fields(MethodTrace) if field.name != "groups")


def _about(t: Trajectory) -> dict[str, Any]:
    """What is no array."""
    return {
        "schema_version": SCHEMA_VERSION,
        "cell": t.cell,
        "objectives": t.objectives,
        "groups": [[group.name, group.part, group.parameters] for group in t.groups],
        "batches": t.batches,
        "total_steps": t.total_steps,
        "aligned": t.aligned,
        "examples": t.examples,
        "split": t.split,
        "relations": [[r.name, r.kind, r.about, r.values.tolist()] for r in t.relations],
        "method_groups": t.method.groups if t.method else None,
        "seconds": t.seconds,
        "training_seconds": t.training_seconds,
    }


def _arrays(content: bytes) -> dict[str, Array]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > LARGEST_FILE:
            raise ValueError(f"unpacked it is larger than {LARGEST_FILE} bytes")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return dict(file.items())


def _trajectory(about: Mapping[str, Any], arrays: dict[str, Array]) -> Trajectory:
    if about["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"it has schema version {about['schema_version']}, and this program reads {SCHEMA_VERSION}")
    objectives = tuple(map(str, about["objectives"]))
    groups = tuple(Group(str(name), _part(part), int(size)) for name, part, size in about["groups"])
    method = None
    if about["method_groups"] is not None:
        method = MethodTrace(tuple(map(str, about["method_groups"])), *(arrays[f"method_{name}"] for name in _TRACED))
    return Trajectory(
        cell=str(about["cell"]),
        objectives=objectives,
        groups=groups,
        steps=arrays["steps"],
        total_steps=int(about["total_steps"]),
        gramians=_unpacked(arrays["gramians"], int(about["batches"]), len(objectives)),
        losses=arrays["losses"],
        aligned=bool(about["aligned"]),
        examples=int(about["examples"]),
        relations=tuple(Relation(*relation) for relation in about["relations"]),
        method=method,
        seconds=float(about["seconds"]),
        training_seconds=float(about["training_seconds"]),
        split=str(about.get("split", "")),
    )


def _unpacked(packed: Array, batches: int, objectives: int) -> Array:
    """(T, G, B, K, B, K) from the upper triangles (T, G, n)."""
    rows = batches * objectives
    if packed.ndim != 3 or packed.shape[2] != rows * (rows + 1) // 2:
        raise ValueError(f"gramians have the shape {packed.shape}, which {rows} rows do not")
    upper, lower = np.triu_indices(rows)
    whole = np.empty((*packed.shape[:2], rows, rows), packed.dtype)
    whole[:, :, upper, lower] = packed
    whole[:, :, lower, upper] = packed
    return whole.reshape(*packed.shape[:2], batches, objectives, batches, objectives)


def _part(text: str) -> Part:
    if text not in get_args(Part):
        raise ValueError(f"a group is of the part {text!r}")
    return text  # type: ignore[return-value]


def _require(name: str, array: Array, shape: tuple[int, ...], dtype: type) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{name} is {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}")
