"""What a cell leaves on disk: its record, or why there is none; reading them back."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic

from mtlbench.cell import identity, method_label, setting
from mtlbench.errors import UsageError
from mtlbench.protocol import Strict, protocol_folder, protocol_label
from mtlbench.search import Tuning
from mtlbench.storage import is_locked, write_atomically

if TYPE_CHECKING:
    from mtlbench.task import Task

RECORD = "record.json"
FAILURE = "failure.json"
CHECKPOINT = "checkpoint.pt"

Finite = Annotated[float, pydantic.Field(allow_inf_nan=False)]
Scores = dict[str, dict[str, dict[str, Finite]]]
"""Split -> objective -> metric -> value."""
Status = Literal["finished", "diverged", "oom", "timeout", "error"]
Precision = Literal["float32", "bfloat16 autocast"]

SPLITS = ("val", "test")
"""What every evaluation scores; a task may have extra splits."""


def _plain(facts: Any) -> Any:
    """Facts that JSON holds as they are: mappings, lists, strings, booleans, None and finite numbers."""

    def check(value: Any, place: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                if not isinstance(key, str):
                    raise ValueError(f"facts{place} has the key {key!r}, which is no string")
                check(inner, f"{place}[{key!r}]")
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                check(inner, f"{place}[{index}]")
        elif not (value is None or isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))):
            raise ValueError(f"facts{place} is {value!r}: allowed are strings, finite numbers, lists and mappings")

    check(facts, "")
    return facts


Facts = Annotated[dict[str, Any], pydantic.BeforeValidator(_plain)]


class MetricInfo(Strict):
    """A metric as its task declared it when the cell ran."""

    name: str
    higher_is_better: bool
    unit: str
    signature: str = ""
    """Its exact definition in its library's own notation; empty in records before schema version 3."""


class ObjectiveInfo(Strict):
    """An objective and its metrics, the main one first."""

    name: str
    metrics: tuple[MetricInfo, ...]


class Evaluation(Strict):
    """One point of the curves."""

    epoch: int
    """Completed epochs."""
    step: int
    """Completed optimiser steps."""
    losses: dict[str, Finite]
    """Mean training loss of each objective since the previous evaluation."""
    scores: Scores


class Cost(Strict):
    """What the cell cost, evaluation apart from training."""

    steps: int
    seconds_per_step: float
    """Median over blocks of steps; loading the batch, forward, backward, method and optimiser."""
    seconds_training: float
    seconds_evaluation: float
    peak_memory_bytes: int
    memory: Literal["process", "device"]
    """Whether the peak is the process's resident memory (CPU) or the device's allocated memory."""


class Provenance(Strict):
    """Where the numbers came from; not part of the cell's identity."""

    started: str
    """ISO 8601, UTC."""
    finished: str
    resumed: int
    """How often the cell went on from a checkpoint."""
    packages: dict[str, str]
    commit: str | None
    dirty: bool | None
    """Whether files differed from `commit`."""
    method_digest: str
    """SHA-256 of the method's source file."""
    data_digest: str
    host: str
    """A hash of the machine's name and of its start: equal for runs whose times can be compared."""
    hardware: str
    device: str
    threads: int
    precision: Precision = "float32"
    """In which forward passes of training really ran; a task may score in a higher one."""


class CellInfo(Strict):
    """The cell's canonical configuration (`mtlbench.cell.Cell`)."""

    method: str
    parameters: dict[str, Any]
    task: str
    variant: str
    protocol: dict[str, Any]
    seed: int
    granularity: str | None
    jacobian_dtype: str | None
    tuning: Tuning | None = None
    """None in the fixed regime, as in every record of schema version 1."""
    treated: tuple[str, ...] | None = None
    """The objectives whose gradients the method corrects, and groups of them; None for all, as before version 3."""

    def canonical(self) -> dict[str, Any]:
        """What the identity is made of: where there is no tuning and all are treated, there is no word of it."""
        return self.model_dump(exclude={key for key in ("tuning", "treated") if getattr(self, key) is None})

    @property
    def protocol_label(self) -> str:
        """`cpu@1`, with the overridden keys if any."""
        return protocol_label(self.protocol["name"], self.protocol["version"], self.protocol["modified"])

    @property
    def protocol_folder(self) -> str:
        """The folder between those of the variant and of the method."""
        p = self.protocol
        return protocol_folder(p["name"], p["version"], p["modified"], self.tuning is not None)

    @property
    def setting(self) -> str:
        """What seeds, trials and reruns of one setting have in common, as a hash."""
        return setting(self.canonical())


class Record(Strict):
    """What one cell leaves on disk.

    `record.json` holds a finished cell; it appears by an atomic rename and is the only sign of "done". A cell
    that failed leaves the same content, as far as it came, in `failure.json`.
    """

    schema_version: Literal[1, 2, 3] = 3
    """2 knows the tuned regime; 3 groups, facts, extra splits, signatures and precision. Older ones are read as is."""
    id: str
    status: Status
    reason: str = ""
    """Why the cell did not finish; empty for a finished one."""
    cell: CellInfo
    separate_models: bool = False
    """Whether every objective was trained by a model of its own, whose epochs are then selected apart."""
    objectives: tuple[ObjectiveInfo, ...] = ()
    groups: dict[str, tuple[str, ...]] = pydantic.Field(default_factory=dict)
    """Named groups of objectives, for means over them."""
    facts: Facts = pydantic.Field(default_factory=dict)
    """What the task says of itself; not part of the cell's identity."""
    evaluations: tuple[Evaluation, ...] = ()
    cost: Cost | None = None
    provenance: Provenance | None = None
    diagnostics: dict[str, Finite] = pydantic.Field(default_factory=dict)
    """What the method says of its run, such as the share of visits that Gradient Vaccine corrected."""

    @pydantic.model_validator(mode="after")
    def _is_whole(self) -> Record:
        if identity(self.cell.canonical()) != self.id:
            raise ValueError("the id is not that of the configuration")
        if self.status == "finished" and not (self.evaluations and self.cost and self.provenance and self.objectives):
            raise ValueError("a finished record needs objectives, evaluations, cost and provenance")
        strangers = {name for group in self.groups.values() for name in group} - {o.name for o in self.objectives}
        if strangers:
            raise ValueError(f"groups name {', '.join(sorted(strangers))}, which is no objective")
        return self

    @property
    def label(self) -> str:
        """The method with what differs from its defaults."""
        c = self.cell
        return method_label(c.method, c.parameters, c.granularity, c.jacobian_dtype, c.tuning, c.treated)

    @property
    def protocol_label(self) -> str:
        """`cpu@1`, with the overridden keys if any."""
        return self.cell.protocol_label

    def save(self, folder: Path) -> None:
        """Write the record (or the failure) of a cell and remove what it makes obsolete.

        Raises:
            OSError: the disk does not take it; nothing has been removed.
        """
        text = json.dumps(self.model_dump(mode="json"), indent=1, allow_nan=False)
        write_atomically(folder / (RECORD if self.status == "finished" else FAILURE), text.encode())
        self.remove_obsolete(folder)

    def remove_obsolete(self, folder: Path) -> None:
        """Remove what this record, which stands in `folder`, leaves no use for; what cannot be removed stays."""
        with contextlib.suppress(OSError):
            if self.status == "finished":
                (folder / FAILURE).unlink(missing_ok=True)
            if self.status in ("finished", "diverged"):
                (folder / CHECKPOINT).unlink(missing_ok=True)


class TaskInfo(Strict):
    """What a task declares, in the form in which a record holds it."""

    objectives: tuple[ObjectiveInfo, ...]
    groups: dict[str, tuple[str, ...]]
    facts: Facts

    @classmethod
    def of(cls, task: Task) -> TaskInfo:
        """The declarations of `task`; raises `UsageError` for one that no record can hold."""
        who, count, extra = f"task {task.name}", len(task.objectives), tuple(task.extra_splits)
        taken = {"all", *(o.name for o in task.objectives)}
        for name, members in task.groups.items():
            if name in taken:
                raise UsageError(f"{who}: a group must not be called {name!r}, which is all or an objective.")
            if not members or len(set(members)) < len(members) or not all(0 <= k < count for k in members):
                raise UsageError(
                    f"{who}: groups[{name!r}] is {list(members)}. A group holds different objectives by index, "
                    f"from 0 to {count - 1}."
                )
        if len({*SPLITS, "train", *extra}) < len(SPLITS) + 1 + len(extra):
            raise UsageError(f"{who}: extra_splits={list(extra)} must be different names other than train, val, test.")
        objectives = tuple(
            ObjectiveInfo(name=o.name, metrics=tuple(MetricInfo(**dataclasses.asdict(m)) for m in o.metrics))
            for o in task.objectives
        )
        groups = {name: tuple(objectives[k].name for k in members) for name, members in task.groups.items()}
        try:
            return cls(objectives=objectives, groups=groups, facts=_as_data(task.facts))
        except pydantic.ValidationError as error:
            raise UsageError(f"{who}: {error.errors()[0]['msg'].removeprefix('Value error, ')}.") from error


def _as_data(value: Any) -> Any:
    """Mappings as dicts and tuples as lists, the way they come back from a file."""
    if isinstance(value, Mapping):
        return {key: _as_data(inner) for key, inner in value.items()}
    return [*map(_as_data, value)] if isinstance(value, list | tuple) else value


class Unreadable(UsageError):
    """A record file that is not whole."""


def load(path: Path) -> Record:
    """Read a `record.json` or `failure.json`; raises `Unreadable` naming the file and what is wrong with it."""
    try:
        return Record.model_validate_json(path.read_bytes())
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise Unreadable(f"{path} is not a whole record: {where + ': ' if where else ''}{first['msg']}") from error
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror}") from error


@dataclass(frozen=True)
class CellState:
    """What stands in the folder of one cell."""

    path: Path
    """The record, the failure, or the folder where there is neither."""
    id: str
    """As the folder's name says."""
    status: str
    """That of the record or failure; else `running`, `interrupted` or `unreadable`."""
    reason: str = ""
    record: Record | None = None
    """None while the cell is running or interrupted, and where its file is not whole."""


def cells(results: Path) -> Iterator[CellState]:
    """Everything under `results`, folder by folder in the order of their names; nothing found there raises."""
    return map(cell_state, _cell_folders(results))


def cell_state(folder: Path) -> CellState:
    """What stands in the folder of one cell."""
    cell = folder.name.rpartition("-")[2]
    path = folder / RECORD
    if not path.exists():
        if is_locked(folder):
            return CellState(folder, cell, "running", "it is being trained now")
        path = folder / FAILURE
        if not path.exists():
            return CellState(folder, cell, "interrupted", "the same command goes on from there")
    try:
        record = load(path)
    except Unreadable as error:
        return CellState(path, cell, "unreadable", str(error))
    return CellState(path, cell, record.status, record.reason, record)


def records(results: str | Path = "results") -> list[Record]:
    """Every finished record under `results`; warns about each file that is not whole."""
    found = []
    for state in cells(Path(results)):
        if state.status == "unreadable":
            warnings.warn(state.reason, stacklevel=2)
        elif state.status == "finished" and state.record is not None:
            found.append(state.record)
    return found


def _cell_folders(results: Path) -> Iterator[Path]:
    marks = {RECORD, FAILURE, CHECKPOINT, "log.txt", ".lock"}
    for folder, inside, files in os.walk(results):
        inside.sort()
        if marks.intersection(files) and Path(folder).name.startswith("seed"):
            yield Path(folder)
