"""What a worker reports to its launcher, as lines of JSON and back."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Annotated, Literal

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


Report = Progress | Caution | Busy | End

_KINDS: dict[str, type[Report]] = {kind.__name__.lower(): kind for kind in (Progress, Caution, Busy, End)}


def to_json(report: Report) -> str:
    """One line, without its end: the kind of report and what it says."""
    return json.dumps({type(report).__name__.lower(): dataclasses.asdict(report)})


def from_json(line: str | bytes) -> Report:
    """What `to_json` made, back again; raises `ValueError` for anything else."""
    try:
        content = json.loads(line)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not (isinstance(content, dict) and len(content) == 1):
        raise ValueError("a report has one key, which names its kind")
    ((kind, said),) = content.items()
    if kind not in _KINDS:
        raise ValueError(f"{kind!r} is no kind of report")
    return pydantic.TypeAdapter(_KINDS[kind]).validate_json(json.dumps(said), strict=True)
