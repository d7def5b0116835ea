"""What a benchmark answers: ratios, times and memory, with the samples behind them, and where it ran."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
import pydantic
import torch
from pydantic_core import to_jsonable_python

from mtlbench.running.provenance import cpu_name, now

Progress = Callable[[int, int, str], object]
"""Called with the number of finished samples, their total, and what was measured last."""

Samples = Mapping[str, Sequence[float]]
"""Seconds per call of each subject, one entry per repeat; entry r of all subjects was taken in repeat r."""

_MEGABYTE = 1e6


class _Data(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Spread(_Data):
    """A ratio of two times over the repeats."""

    median: float
    low: float
    """The first quartile."""
    high: float
    """The third quartile."""

    @classmethod
    def of(cls, samples: Samples, numerator: str, denominator: str) -> Self | None:
        """Quartiles of the ratios within each repeat; None if one of the two was not measured."""
        if numerator not in samples or denominator not in samples:
            return None
        ratios = np.divide(samples[numerator], samples[denominator])
        low, median, high = np.quantile(ratios, (0.25, 0.5, 0.75)).tolist()
        return cls(median=median, low=low, high=high)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


class Row(_Data):
    """One thing that was measured; the benchmark that made it documents the keys."""

    labels: dict[str, str | int]
    ratios: dict[str, Spread | None] = {}
    """Medians and quartiles over repeats; None where there is nothing to compare with."""
    seconds: dict[str, float | None] = {}
    """Medians over repeats of the time of one call."""
    bytes: dict[str, int | None] = {}
    """Peak memory, of one run in a process of its own."""
    bytes_ratios: dict[str, float | None] = {}
    samples: dict[str, list[float]] = {}
    """Seconds per call in each repeat, from which `ratios` and `seconds` follow."""
    note: str = ""
    """Why something was not measured."""


class Environment(_Data):
    """Where and when a benchmark ran."""

    date: str
    """UTC, to the second."""
    torch_version: str
    python_version: str
    system: str
    processor: str
    device: str
    cores: int
    """Those that this process may run on."""
    threads: int
    """Of torch, within one operation."""
    torchjd_version: str | None
    """The version that was compared with; None if it is not installed."""

    @classmethod
    def here(cls, device: torch.device, torchjd: str | None) -> Self:
        """The environment of this process."""
        cuda = device.type == "cuda"
        return cls(
            date=now(),
            torch_version=torch.__version__,
            python_version=platform.python_version(),
            system=f"{platform.system()} {platform.release()}",
            processor=cpu_name(),
            device=torch.cuda.get_device_name(device) if cuda else str(device),
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            threads=torch.get_num_threads(),
            torchjd_version=torchjd,
        )


class Bench(_Data):
    """The record of one benchmark; everything that a table shows is in it."""

    schema_version: Literal[1] = 1
    kind: Literal[
        "combination",
        "steps",
        "tables",
        "weights",
        "processes",
        "decoding",
        "fine-tuning",
        "dense prediction",
        "geometry",
    ]
    settings: dict[str, Any]
    """The arguments that the benchmark was called with, as JSON holds them."""
    environment: Environment
    disturbed: float
    """Share of the kept samples (0 to 1) during which other processes used the processor noticeably."""
    rows: list[Row]

    @pydantic.field_validator("settings", mode="before")
    @classmethod
    def _as_json(cls, settings: Any) -> Any:
        return to_jsonable_python(settings)

    @property
    def columns(self) -> list[str]:
        """The headings of `table`, with units: labels, then ratios, then times, then memory."""
        return [
            *self._keys("labels"),
            *(f"{key} (IQR)" for key in self._keys("ratios")),
            *self._keys("bytes_ratios"),
            *(f"{key} [ms]" for key in self._keys("seconds")),
            *(f"{key} [MB]" for key in self._keys("bytes")),
            *(["note"] if any(row.note for row in self.rows) else []),
        ]

    def table(self) -> list[list[str]]:
        """The rows as text under `columns`; empty where there is nothing to show."""
        notes = any(row.note for row in self.rows)
        return [
            [
                *(str(row.labels.get(key, "")) for key in self._keys("labels")),
                *(_text(row.ratios.get(key), str) for key in self._keys("ratios")),
                *(_text(row.bytes_ratios.get(key), "{:.2f}".format) for key in self._keys("bytes_ratios")),
                *(_text(row.seconds.get(key), _milliseconds) for key in self._keys("seconds")),
                *(_text(row.bytes.get(key), _megabytes) for key in self._keys("bytes")),
                *([row.note] if notes else []),
            ]
            for row in self.rows
        ]

    def to_json(self) -> str:
        """The whole record; `from_json` reads it back."""
        return self.model_dump_json(indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` wrote; raises `pydantic.ValidationError` for anything else."""
        return cls.model_validate_json(text)

    def _keys(self, field: str) -> list[str]:
        """The keys of a field over all rows that have a value somewhere, in order of first appearance."""
        found: dict[str, bool] = {}
        for row in self.rows:
            for key, value in getattr(row, field).items():
                found[key] = found.get(key, False) or value is not None
        return [key for key, has_value in found.items() if has_value]


def medians(samples: Samples, subjects: Iterable[str]) -> dict[str, float | None]:
    """The median seconds per call of each of `subjects`; None for what was not measured."""
    return {name: statistics.median(samples[name]) if name in samples else None for name in subjects}


def _text(value: Any, form: Callable[[Any], str]) -> str:
    return "" if value is None else form(value)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}" if seconds < 1 else f"{seconds * 1e3:.0f}"


def _megabytes(size: int) -> str:
    return f"{size / _MEGABYTE:.1f}"
