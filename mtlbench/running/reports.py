"""What a worker reports to its launcher, as lines of JSON and back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, cast

import pydantic

from mtlbench.record.schema import Status

Count = Annotated[int, pydantic.Field(ge=0)]


@dataclass(frozen=True)
class Progress:
    """Where a cell stands, told after every block of steps."""

    step: Count
    total_steps: Count
    epoch: Count
    scores: dict[str, float] = field(default_factory=dict)
    """After an evaluation: validation score of each objective's main metric; of many, means over all and groups."""


@dataclass(frozen=True)
class Caution:
    """Something that people should know; the cell goes on."""

    message: str


@dataclass(frozen=True)
class Busy:
    """Another process holds the lock of the cell's folder; nothing has been done."""


@dataclass(frozen=True)
class End:
    """How the cell ended, told last."""

    status: Status | Literal["interrupted"]
    reason: str = ""


@dataclass(frozen=True)
class Queued:
    """The cell waits for its turn at the place that it was sent to, for the first time or once more."""

    told: str
    """Where, and why it waits once more."""


Report = Progress | Caution | Busy | End | Queued


@dataclass(frozen=True)
class Begun:
    """A worker has begun, at the place that its cell was sent to."""

    host: str
    process: int


@dataclass(frozen=True)
class Ceased:
    """That worker is no more."""

    status: Literal["error", "interrupted"]
    """`interrupted` if the place took it back: it has saved its checkpoint, or had nothing to save."""
    reason: str
    advanced: bool = True
    """Whether it has trained a step."""


Line = Report | Begun | Ceased
"""What is written of a cell that is trained elsewhere."""

_KINDS: dict[str, type[Line]] = {kind.__name__.lower(): kind for kind in (Progress, Caution, Busy, End)}
_LINES: dict[str, type[Line]] = _KINDS | {kind.__name__.lower(): kind for kind in (Begun, Ceased)}


def to_json(report: Line) -> str:
    """One line, without its end: the kind of report and what it says."""
    return json.dumps({type(report).__name__.lower(): dataclasses.asdict(report)})


def from_json(line: str | bytes) -> Report:
    """What `to_json` made of a worker's report, back again; raises `ValueError` for anything else."""
    return cast("Report", _read(line, _KINDS))


def line_from_json(line: str | bytes) -> Line:
    """What `to_json` made of a line of reports from elsewhere, back again; raises `ValueError` for anything else."""
    return _read(line, _LINES)


def _read(line: str | bytes, kinds: Mapping[str, type[Line]]) -> Line:
    try:
        content = json.loads(line)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not (isinstance(content, dict) and len(content) == 1):
        raise ValueError("a report has one key, which names its kind")
    ((kind, said),) = content.items()
    if kind not in kinds:
        raise ValueError(f"{kind!r} is no kind of report")
    return pydantic.TypeAdapter(kinds[kind]).validate_json(json.dumps(said), strict=True)
