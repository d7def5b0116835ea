"""Search spaces of the tuned regime, and the quasi-random points in them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

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


class Tuning(pydantic.BaseModel, extra="forbid", frozen=True):
    """What a cell has to do with the tuned regime."""

    space: Space
    """By key of the cell, such as `protocol.optimizer.lr` or `method.beta`; the order is that of the dimensions."""
    fixed: tuple[str, ...] = ()
    """Hyper-parameters that the method would search and the user fixed, such as `method.beta`."""
    trial: Annotated[int, pydantic.Field(ge=0)]
    """Which point of the space: this trial's, or that of the trial which was selected."""
    budget: Annotated[int, pydantic.Field(ge=2)] | None = None
    """None for a trial; for a rerun, the number of trials that its trial was selected from."""

    @property
    def is_trial(self) -> bool:
        """Whether the cell is a trial, and not a rerun of the selected one."""
        return self.budget is None


def sample(space: Mapping[str, Range | Choice], trial: int) -> dict[str, Any]:
    """The values of a trial (from 0): point `trial + 1` of the Halton sequence, a dimension for each key.

    Where two spaces begin with the same keys, these get the same values in both. The points of a small budget are
    the first ones of a large one.
    """
    return {
        key: searched.at(radical_inverse(trial + 1, base))
        for (key, searched), base in zip(space.items(), _primes(len(space)), strict=True)
    }


def radical_inverse(index: int, base: int) -> float:
    """The digits of `index` in `base`, mirrored at the point: 6 = 110 in base 2 becomes 0.011 = 0.375."""
    numerator, denominator = 0, 1
    while index:
        index, digit = divmod(index, base)
        numerator, denominator = numerator * base + digit, denominator * base
    return numerator / denominator


def _primes(count: int) -> list[int]:
    found: list[int] = []
    candidates = itertools.count(2)
    while len(found) < count:
        candidate = next(candidates)
        if all(candidate % prime for prime in found):
            found.append(candidate)
    return found
