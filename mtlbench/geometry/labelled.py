"""Numbers with intervals whose axes and entries have names: what every question to a run's geometry answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlbench.errors import UsageError, unknown
from mtlbench.statistics import Interval

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Labelled:
    """Values with intervals, all of the same shape."""

    values: Array
    """NaN where it cannot be said; `notes` say why."""
    low: Array
    """The lower end of the 95 % interval; NaN where there is none."""
    high: Array
    """The upper end."""
    axes: tuple[str, ...]
    """What each axis is: `step`, `group`, `objective` or `other` (the second objective of a pair)."""
    labels: tuple[tuple[str, ...], ...]
    """The names along each axis; steps as `450`."""
    unknown: NDArray[np.int64]
    """How many pairs a value leaves out because nothing is known of them; 1 for a single one that is NaN."""
    runs: int = 1
    """How many runs are behind it."""
    about: str = ""
    """What it is, as a caption says it."""
    notes: tuple[str, ...] = ()
    """Sentences on what is unknown and left out."""

    def __post_init__(self) -> None:
        shape = tuple(map(len, self.labels))
        for name in ("values", "low", "high", "unknown"):
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has the shape {getattr(self, name).shape}, and the labels {shape}")
        if len(self.axes) != len(shape):
            raise ValueError(f"{len(self.axes)} names for {len(shape)} axes")

    def at(self, *names: str | int) -> Interval:
        """The number at one label of every axis, such as `at("de", "nl")`; steps may be whole numbers.

        Raises:
            UsageError: a name that is not there, or too many or too few of them.
        """
        if len(names) != len(self.axes):
            raise UsageError(f"{len(names)} names were given; {len(self.axes)} are needed, for {', '.join(self.axes)}.")
        place = tuple(self._place(axis, str(name)) for axis, name in enumerate(names))
        return Interval(float(self.values[place]), float(self.low[place]), float(self.high[place]), self.runs)

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row for each value, as for a CSV file: a name for each axis, then value, low, high, unknown and runs."""
        for place in np.ndindex(self.values.shape):
            names = {axis: self.labels[i][p] for i, (axis, p) in enumerate(zip(self.axes, place, strict=True))}
            yield {
                **names,
                "value": float(self.values[place]),
                "low": float(self.low[place]),
                "high": float(self.high[place]),
                "unknown": int(self.unknown[place]),
                "runs": self.runs,
            }

    def _place(self, axis: int, name: str) -> int:
        if name not in self.labels[axis]:
            raise unknown(self.axes[axis], name, self.labels[axis])
        return self.labels[axis].index(name)
