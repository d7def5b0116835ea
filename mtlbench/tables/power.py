"""How small a difference some seeds can show, and how many seeds a difference needs: pure functions of arrays.

All of it is for the paired t test of one method against a row that it is compared with, two-sided, at the first step of
Holm's procedure, where the level is divided by the number of comparisons.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special
from scipy.optimize import brentq

from mtlbench.statistics import LEVEL, Array

POWER = 0.8
"""The share of tables in which a difference of the size that is told would be seen."""
MOST_SEEDS = 10_000
"""Differences that need more than this are not planned for."""
LEFT_OPEN = "in parentheses what so few seeds leave open"
FAMILY = "Every further row enlarges Holm's family, and with it the smallest difference that is detectable."
_SHARED = 0.25
"""The correlation of the variances of two differences to one row, where all rows are equally noisy: 0.5 squared."""


@dataclass(frozen=True)
class Spread:
    """A standard deviation, and how well it is known."""

    sd: float
    freedom: float
    """The degrees of freedom of its square, which need not be whole."""

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """Its confidence interval, from the chi-square distribution."""
        tail = (1 - level) / 2
        low, high = (self.sd * math.sqrt(self.freedom / special.chdtri(self.freedom, t)) for t in (tail, 1 - tail))
        return low, high


@dataclass(frozen=True)
class Detectable:
    """The smallest difference that a table shows with 80 % power, and what its few seeds leave open of that."""

    difference: float
    low: float
    high: float

    @property
    def told(self) -> str:
        """`0.46 (0.40 to 0.54)`."""
        return f"{amount(self.difference)} ({amount(self.low)} to {amount(self.high)})"


def amount(size: float) -> str:
    """With two decimals, and more where the first two digits need them."""
    return f"{size:.{digits(size)}f}"


def digits(size: float) -> int:
    """Decimals that show the first two digits, two at least."""
    return max(2, 1 - math.floor(math.log10(size))) if size > 0 else 2


def pooled(differences: Sequence[Array], floor: float = 0.0) -> Spread:
    """The spread over seeds of paired differences to one row, over all methods together.

    All differences have the noise of that row in common, so that m of them tell less than m times as much of it:
    equally noisy rows give n - 1 degrees of freedom `m / (1 + (m - 1) / 4)` times, fewer than four times.

    Args:
        differences: m arrays (n_m,), two seeds at least in each.
        floor: the variance that differences have at least, from rounding.
    """
    freedoms = [len(d) - 1 for d in differences]
    variance = sum(f * float(d.var(ddof=1)) for f, d in zip(freedoms, differences, strict=True)) / sum(freedoms)
    return Spread(math.sqrt(max(variance, floor)), sum(freedoms) / (1 + _SHARED * (len(freedoms) - 1)))


def detectable(error: float, freedom: float, comparisons: int, level: float = LEVEL) -> float:
    """The difference that is told from zero with 80 % power; 0 where nothing spreads.

    Args:
        error: the standard error of a difference; of n seeds the standard deviation over sqrt(n).
        freedom: its degrees of freedom; n - 1.
        comparisons: of the family, one at least.
        level: of confidence.
    """
    critical = _critical(freedom, comparisons, level)
    # Of the noncentral t distribution; what lies beyond the other end is next to nothing.
    missed = lambda shift: float(special.nctdtr(freedom, shift, critical)) - (1 - POWER)  # noqa: E731
    return error * float(brentq(missed, critical / 4, 2 * critical + 10))


def detectable_mean(errors: Sequence[tuple[float, float]], level: float = LEVEL) -> Detectable:
    """The difference in a mean over tasks that is told from zero with 80 % power, for all methods together.

    Args:
        errors: of each of m methods the standard error of its difference and its degrees of freedom.
        level: of confidence.
    """
    count = len(errors)
    error = math.sqrt(sum(error**2 for error, _ in errors) / count)
    freedom = sum(freedom for _, freedom in errors) / count
    known = Spread(error, freedom * count / (1 + _SHARED * (count - 1)))
    factor = detectable(1.0, freedom, count, level)
    low, high = known.interval(level)
    return Detectable(factor * error, factor * low, factor * high)


def seeds_needed(sd: float, difference: float, comparisons: int, level: float = LEVEL) -> int | None:
    """The smallest number of seeds with which a difference is detectable; None where `MOST_SEEDS` are too few.

    Args:
        sd: of paired differences over seeds.
        difference: positive.
        comparisons: of the family.
        level: of confidence.
    """

    def enough(seeds: int) -> bool:
        return detectable(sd / math.sqrt(seeds), seeds - 1, comparisons, level) <= difference

    if not enough(MOST_SEEDS):
        return None
    low, high = 1, MOST_SEEDS  # one is too few, there is no test
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def searched(deviations: Sequence[tuple[Array, Array]], comparisons: int, level: float = LEVEL) -> Detectable:
    """What a table of tuned methods shows: the median over methods, and the smallest and largest one.

    Args:
        deviations: of each method (B,), how far its difference to the row that it is compared with is from zero where
            both are equal, as its test has it; and (B,), as repeated searches have it.
        comparisons: of the family.
        level: of confidence.
    """
    found = [
        float(np.quantile(tested, 1 - (1 - level) / comparisons) + np.quantile(repeated, POWER))
        for tested, repeated in deviations
    ]
    return Detectable(float(np.median(found)), min(found), max(found))


def _critical(freedom: float, comparisons: int, level: float) -> float:
    return -float(special.stdtrit(freedom, (1 - level) / 2 / comparisons))
