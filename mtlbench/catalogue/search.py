"""Search spaces of the tuned regime."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import pydantic
from pydantic.dataclasses import dataclass

_DIGITS = 3
_STRICT = pydantic.ConfigDict(extra="forbid")

Number = int | Annotated[float, pydantic.Field(allow_inf_nan=False)]


# Dataclasses, since pydantic would take a model among an annotation's metadata for the annotation's schema.
@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Range:
    """Numbers from `low` to `high`, both included; whole ones if both are whole and the scale is linear."""

    low: Number
    high: Number
    scale: Literal["linear", "log"] = "linear"

    @pydantic.model_validator(mode="after")
    def _is_a_range(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low must be less than high, not {self.low} and {self.high}")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"on a log scale low must be positive, not {self.low}")
        return self

    def at(self, u: float) -> float:
        """The value at `u` in [0, 1), of three significant digits; whole numbers are equally likely."""
        low, high = self.low, self.high
        if self.scale == "log":
            value = low * (high / low) ** u
        elif isinstance(low, int) and isinstance(high, int):
            return low + int(u * (high - low + 1))
        else:
            value = low + u * (high - low)
        return float(min(max(float(f"{value:.{_DIGITS}g}"), low), high))

    def position(self, value: float) -> float:
        """Where `value` lies on the scale: 0 at `low`, 1 at `high`, below and above outside; the inverse of `at`.

        What a log scale does not have, zero and below, is at minus infinity.
        """
        if self.scale == "linear":
            return (value - self.low) / (self.high - self.low)
        return math.log(value / self.low) / math.log(self.high / self.low) if value > 0 else -math.inf

    @property
    def probes(self) -> tuple[float, ...]:
        """Values that stand for all: where they are allowed, all are."""
        return self.low, self.at(0.5), self.high

    def __str__(self) -> str:
        return f"{self.low:g} .. {self.high:g}" + (" (log)" if self.scale == "log" else "")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Choice:
    """Any of `values`, equally likely."""

    values: Annotated[tuple[bool | Number | str, ...], pydantic.Field(min_length=2)]

    def at(self, u: float) -> bool | float | str:
        """The value at `u` in [0, 1)."""
        return self.values[int(u * len(self.values))]

    @property
    def probes(self) -> tuple[bool | float | str, ...]:
        """Values that stand for all: all of them."""
        return self.values

    def __str__(self) -> str:
        return "one of " + ", ".join(map(str, self.values))


Space = dict[str, Range | Choice]
"""Key -> where its values are searched."""
