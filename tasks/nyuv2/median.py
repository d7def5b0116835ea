"""The exact median of more values than one would like to sort or to copy."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 20
"""Values that are looked at together; what is needed beside the values themselves is some 20 bytes for each."""
_LOW = 16
"""Bits: the bit pattern of a float32 is read in two halves of so many."""


class Median:
    """The median of all float32 values that are added, none of them negative: 4 bytes a value and little more.

    Bit patterns of such values have the order of the values, as unsigned integers. So counts of their high halves tell
    the high half of the value of a rank, and counts of the low halves of those that share it tell the rest. Nothing is
    sorted, joined or estimated.
    """

    def __init__(self) -> None:
        self._parts: list[NDArray[np.float32]] = []
        self._count = 0
        self._nan = False

    def add(self, values: NDArray[np.float32]) -> None:
        """Keep a copy of the values, of any shape.

        Raises:
            ValueError: a value is negative, or they are not float32.
        """
        if values.dtype != np.float32:
            raise ValueError(f"float32 values, not {values.dtype}")
        kept = values.ravel() + np.float32(0)  # a copy, and -0, whose bits would come last, becomes 0
        if len(kept) == 0:
            return
        lowest = kept.min()
        if lowest < 0:
            raise ValueError(f"no negative values, such as {lowest}")
        self._nan |= bool(np.isnan(lowest))
        self._parts.append(kept)
        self._count += len(kept)

    def result(self) -> float:
        """The middle value, or the mean of the two in the middle of an even count; NaN of nothing or if one is NaN."""
        if self._nan or not self._count:
            return math.nan
        ranks = sorted({(self._count - 1) // 2, self._count // 2})
        high = np.cumsum(self._counts(None))
        found = []
        low: dict[int, NDArray[np.int64]] = {}  # by high half: both ranks share one as a rule
        for rank in ranks:
            half = int(np.searchsorted(high, rank, side="right"))
            if half not in low:
                low[half] = np.cumsum(self._counts(half))
            before = int(high[half - 1]) if half else 0
            rest = int(np.searchsorted(low[half], rank - before, side="right"))
            found.append(float(np.array(half << _LOW | rest, dtype=np.uint32).view(np.float32)))
        return sum(found) / len(found)

    def _counts(self, half: int | None) -> NDArray[np.int64]:
        """(65536,): how many values have each high half; or each low half, of those with this high half."""
        counts = np.zeros(1 << _LOW, dtype=np.int64)
        for part in self._parts:
            for start in range(0, len(part), BLOCK):
                bits = part[start : start + BLOCK].view(np.uint32)
                high = bits >> _LOW
                chosen = high if half is None else bits[high == half] & np.uint32((1 << _LOW) - 1)
                counts += np.bincount(chosen, minlength=len(counts))
        return counts
