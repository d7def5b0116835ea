"""The errors that are for the person who typed the command."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """Something the user wrote is wrong; the message says what, what is allowed and what to do next."""


class DataMissing(UsageError):
    """A data set is not under the data root; the message says where it was looked for and how to get it."""


class Diverged(ArithmeticError):
    """Training produced a loss or a gradient that is not a finite number."""


def unknown(kind: str, name: str, allowed: Iterable[str], hint: str = "") -> UsageError:
    """An error for a `name` that is none of `allowed`, with the nearest of them."""
    names = sorted(allowed)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    listed = f" Known: {', '.join(names)}." if names else ""
    return UsageError(f"Unknown {kind} {name!r}.{guess}{listed}{' ' + hint if hint else ''}")
