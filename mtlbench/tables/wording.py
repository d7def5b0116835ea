"""Lists, spans and counts in words, for notes and commands."""

from __future__ import annotations

from collections.abc import Sequence


def spans(seeds: Sequence[int]) -> str:
    """`0..4`, or the numbers one by one where they have gaps."""
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}..{seeds[-1]}"
    return ",".join(map(str, seeds))


def plural(counted: Sequence[object]) -> str:
    """`s` of several."""
    return "" if len(counted) == 1 else "s"


def listed(names: Sequence[str], most: int = 8) -> str:
    """`de, fr, cs`; of many names the first ones, `and 12 more`."""
    if len(names) <= most + 1:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def objectives(count: int) -> str:
    """`3 objectives`."""
    return f"{count} objective{'' if count == 1 else 's'}"


def seeds(count: int) -> str:
    """`3 seeds`."""
    return f"{count} seed{'' if count == 1 else 's'}"
