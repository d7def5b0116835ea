"""Named streams of random draws that are the same on every platform and under every version."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Generic, TypeVar

T = TypeVar("T")


class Stream:
    """The draws of one purpose, fixed by the seed and the purpose's name.

    Everything comes from `random.Random.random`, the one method whose sequence Python's documentation
    guarantees across versions; streams of different names do not disturb each other.
    """

    def __init__(self, seed: int, name: str) -> None:
        self.uniform = random.Random(f"{seed}/{name}").random

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.uniform() < probability

    def pick(self, items: Sequence[T]) -> T:
        """One of `items`, all equally likely."""
        return items[int(self.uniform() * len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """`items` in a random order (Fisher and Yates)."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            other = int(self.uniform() * (last + 1))
            order[last], order[other] = order[other], order[last]
        return order


class Zipfian(Generic[T]):
    """Draws items with frequencies that fall with their rank: the r-th has weight 1 / r."""

    def __init__(self, items: Sequence[T]) -> None:
        self.items = tuple(items)
        # In whole numbers, so that no rounding can differ.
        self._bounds = list(accumulate(1_000_000 // (rank + 1) for rank in range(len(self.items))))

    def draw(self, stream: Stream) -> T:
        """One item."""
        return self.items[bisect_right(self._bounds, stream.uniform() * self._bounds[-1])]
