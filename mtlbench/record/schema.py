"""What a cell leaves on disk: its record, or why there is none; reading them back."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from mtlbench.catalogue.protocol import protocol_folder, protocol_label
from mtlbench.cells.axes import AXES, as_data, from_data
from mtlbench.cells.cell import Tuning, identity, method_label, setting_id
from mtlbench.cells.parameters import default_parameters
from mtlbench.record.configuration import LARGEST, require_configuration, require_enough
from mtlbench.record.sent import SENT
from mtlbench.storage import write_atomically
from mtlbench.strict import Strict

RECORD = "record.json"
FAILURE = "failure.json"
CHECKPOINT = "checkpoint.pt"

Finite = Annotated[float, pydantic.Field(allow_inf_nan=False)]
Seconds = Annotated[float, pydantic.Field(allow_inf_nan=False, ge=0)]
Count = Annotated[int, pydantic.Field(ge=0, le=LARGEST)]
Scores = dict[str, dict[str, dict[str, Finite]]]
"""Split -> objective -> metric -> value."""
Status = Literal["finished", "diverged", "oom", "timeout", "error"]
Precision = Literal["float32", "bfloat16 autocast"]

SPLITS = ("val", "test")
"""What every evaluation scores; a task may have extra splits."""


def _writable(text: Any) -> Any:
    """Text of others, such as an exception's, without the halves of characters that no file can hold."""
    return text.encode(errors="replace").decode() if isinstance(text, str) else text


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


def _require_distinct(what: str, names: Sequence[str]) -> None:
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two {what} are called {twice[0]}")


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
    metrics: Annotated[tuple[MetricInfo, ...], pydantic.Field(min_length=1)]

    @pydantic.field_validator("metrics")
    @classmethod
    def _are_distinct(cls, metrics: tuple[MetricInfo, ...]) -> tuple[MetricInfo, ...]:
        _require_distinct("metrics", [metric.name for metric in metrics])
        return metrics


class Sampling(Strict):
    """What is known of how a score depends on the choice of test examples (`mtlbench.Estimate`)."""

    error: Annotated[float, pydantic.Field(allow_inf_nan=False, ge=0)] | None
    """Standard error of the score in the metric's unit; None where it cannot be said."""
    count: Annotated[int, pydantic.Field(ge=1, le=LARGEST)]
    """How many examples were scored."""


class Evaluation(Strict):
    """One point of the curves."""

    epoch: Count
    """Completed epochs; 0 where the protocol has none, and at no other time."""
    step: Count
    """Completed optimiser steps."""
    losses: dict[str, Finite]
    """Mean training loss of each objective since the previous evaluation."""
    scores: Scores
    sampling: dict[str, dict[str, dict[str, Sampling]]] = pydantic.Field(default_factory=dict)
    """Split -> objective -> metric, for scores of which the task told it; empty for others and before version 5."""

    @pydantic.model_validator(mode="after")
    def _is_of_scores(self) -> Evaluation:
        for split, by_objective in self.sampling.items():
            for objective, metrics in by_objective.items():
                if strangers := {*metrics} - {*self.scores.get(split, {}).get(objective, {})}:
                    name = min(strangers)
                    raise ValueError(f"sampling of {objective} {name} on {split}, of which there is no score")
        return self


class Cost(Strict):
    """What the cell cost, evaluation apart from training."""

    steps: Count
    seconds_per_step: Seconds
    """Median over blocks of steps; loading the batch, forward, backward, method and optimiser."""
    seconds_training: Seconds
    seconds_evaluation: Seconds
    peak_memory_bytes: Count
    memory: Literal["process", "device"]
    """Whether the peak is the process's resident memory (CPU) or the device's allocated memory."""
    seconds_recording: Seconds | None = None
    """Of `geometry.every=`, which is in no other time; None where nothing was recorded, and before version 7."""


class Provenance(Strict):
    """Where the numbers came from; not part of the cell's identity."""

    started: str
    """ISO 8601, UTC."""
    finished: str
    resumed: Count
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
    kernels: dict[str, str] = pydantic.Field(default_factory=dict)
    """Which code did the arithmetic on the CPU: the processor's `instructions` that torch used, the versions of its
    libraries, and environment variables that choose among their code. Empty in records before schema version 6."""
    threads: Count
    """Of each process."""
    processes: str = "1"
    """On how many the cell was trained; `1 then 4` if it went on from a checkpoint on another number."""
    precision: Precision = "float32"
    """In which forward passes of training really ran; a task may score in a higher one."""


class CellInfo(Strict):
    """The cell's canonical configuration (`mtlbench.cells.cell.Cell`)."""

    method: str
    parameters: dict[str, Any]
    task: str
    variant: str
    protocol: dict[str, Any]
    seed: int
    axes: dict[str, Any] = pydantic.Field(default_factory=dict)
    """The value of every axis (`cells.axes`); in a file they stand beside the other keys."""
    tuning: Tuning | None = None
    """None in the fixed regime, as in every record of schema version 1."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _gather_axes(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "axes" in data:
            return data
        return {**{key: value for key, value in data.items() if key not in AXES}, "axes": from_data(data)}

    @pydantic.model_serializer(mode="wrap")
    def _spread_axes(self, inner: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        content = inner(self)
        axes = content.pop("axes")
        return {**content, **as_data(axes)}

    def canonical(self) -> dict[str, Any]:
        """What the identity is made of: where there is no tuning, there is no word of it."""
        return self.model_dump(exclude={"tuning"} if self.tuning is None else None)

    @pydantic.model_validator(mode="after")
    def _is_possible(self) -> CellInfo:
        require_configuration(**{name: getattr(self, name) for name in CellInfo.model_fields})
        return self

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
    def setting_id(self) -> str:
        """What seeds, trials and reruns of one setting have in common, as a hash."""
        return setting_id(self.canonical())


class Record(Strict):
    """What one cell leaves on disk.

    `record.json` holds a finished cell; it appears by an atomic rename and is the only sign of "done". A cell
    that failed leaves the same content, as far as it came, in `failure.json`.
    """

    schema_version: Literal[1, 2, 3, 4, 5, 6, 7] = 7
    """2 knows the tuned regime; 3 groups, facts, extra splits, signatures and precision; 4 the method's defaults and
    the last shared layer; 5 the sampling of scores; 6 the kernels; 7 the time of recording geometry. Older ones
    are read as they are."""
    id: str
    status: Status
    reason: Annotated[str, pydantic.BeforeValidator(_writable)] = ""
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
    last_layer: tuple[str, ...] = ()
    """The parameters at which a method such as GradNorm measured gradients; empty for others and before version 4."""
    defaults: dict[str, Any] | None = None
    """The method's default hyper-parameters when the cell ran, which labels leave out; None before version 4."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _note_defaults(cls, data: Any) -> Any:
        """Of a new record: its method is known here and now, and may not be where the record is read."""
        if isinstance(data, dict) and isinstance(cell := data.get("cell"), CellInfo):
            return {"defaults": default_parameters(cell.method), **data}
        return data

    @pydantic.model_validator(mode="after")
    def _is_whole(self) -> Record:
        if identity(self.cell.canonical()) != self.id:
            raise ValueError("the id is not that of the configuration")
        if self.status == "finished" and not (self.evaluations and self.cost and self.provenance and self.objectives):
            raise ValueError("a finished record needs objectives, evaluations, cost and provenance")
        if self.status == "finished":
            require_enough(self.cell.protocol["selection"], len(self.evaluations))
        names = [objective.name for objective in self.objectives]
        _require_distinct("objectives", names)
        for group, members in self.groups.items():
            if strangers := {*members} - {*names}:
                raise ValueError(f"groups name {', '.join(sorted(strangers))}, which is no objective")
            if not members:
                raise ValueError(f"the group {group} has no objectives")
            _require_distinct(f"objectives in the group {group}", members)
        epochs = [evaluation.epoch for evaluation in self.evaluations]
        if 0 in epochs and self.cell.protocol.get("epochs") != 0:
            raise ValueError("an evaluation is of epoch 0, and the protocol has epochs")
        if epochs != sorted({*epochs}):
            raise ValueError(f"the evaluations are not in the order of their epochs: {epochs}")
        return self

    @property
    def label(self) -> str:
        """The method with what differs from its defaults."""
        c = self.cell
        return method_label(c.method, c.parameters, c.axes, c.tuning, self.defaults)

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
            (folder / SENT).unlink(missing_ok=True)
            if self.status == "finished":
                (folder / FAILURE).unlink(missing_ok=True)
            if self.status in ("finished", "diverged"):
                (folder / CHECKPOINT).unlink(missing_ok=True)
