"""What trying one property comes to, and which numbers of objectives it is tried with."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mtlbench.engine.kinds import Method
from mtlbench.errors import UsageError

Make = Callable[[], Method]
Check = Callable[[Make], str]
"""Answers what was seen where a property does not hold, nothing where it does; raises `Inapplicable` where it says
nothing about a method."""
Verdict = Literal["holds", "declared", "violated", "not applicable"]

SIZES = (2, 3, 8, 1)
"""The numbers of objectives K that are tried, of those that the method supports."""
MOST = 64
"""The largest K that is tried where none of these is supported."""


class Inapplicable(Exception):
    """A property says nothing about this method, and why."""


@dataclass(frozen=True)
class Finding:
    """One property, and what came of trying it."""

    name: str
    verdict: Verdict
    told: str = ""
    """What was seen where it is violated, the reason where it is declared or not applicable."""
    key: str = ""
    """What the property is called in `exceptions`, if it may stand there."""
    needless: bool = False
    """Whether it is declared not to hold, and held in every trial."""

    @property
    def violated(self) -> bool:
        """Whether it was promised and does not hold."""
        return self.verdict == "violated"

    @property
    def problem(self) -> str:
        """What was seen where it is violated, nothing elsewhere."""
        return self.told if self.violated else ""


def judged(name: str, check: Callable[[], str], key: str = "", declared: str = "") -> Finding:
    """Try a property; an error is a violation, unless the property is declared not to hold.

    Args:
        name: what it says.
        check: as `Check`, of a method that it knows.
        key: of what may be declared.
        declared: why it is not promised; empty where it is.
    """
    try:
        problem = check()
    except Inapplicable as why:
        return Finding(name, "not applicable", str(why), key)
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    if declared:
        return Finding(name, "declared", declared, key, needless=not problem)
    return Finding(name, "violated" if problem else "holds", problem, key)


def sizes(method: Method) -> list[int]:
    """The numbers of objectives to try; the least that it begins with where none of the usual ones is."""
    usual = [k for k in SIZES if begins(method, k)]
    return usual or [k for k in range(1, MOST + 1) if begins(method, k)][:1]


def begins(method: Method, objectives: int) -> bool:
    """Whether there can be so many objectives, which parameters may say too."""
    try:
        copy.deepcopy(method).begin(objectives, 1)
    except UsageError:
        return False
    return True


def supports(method: Method, objectives: int) -> bool:
    """Whether a step can hold so many objectives."""
    return method.supports is None or objectives in method.supports


def usual_size(method: Method) -> int:
    """The number of objectives of most trials: three, or what comes nearest."""
    return next((k for k in (3, 2, 4, 8) if begins(method, k)), sizes(method)[0])


def require_several(method: Method) -> int:
    """`usual_size`, where it is two at least."""
    if (size := usual_size(method)) < 2:
        raise Inapplicable("it combines one objective only")
    return size
