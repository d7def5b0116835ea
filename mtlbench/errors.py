"""The errors that are for the person who typed the command."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

LONGEST_NAME = 80
"""Characters of an unknown name that a message shows."""


class UsageError(ValueError):
    """Something the user wrote is wrong; the message says what, what is allowed and what to do next."""


class DataMissing(UsageError):
    """A data set is not under the data root; the message says where it was looked for and how to get it."""


class Diverged(ArithmeticError):
    """Training produced a loss or a gradient that is not a finite number."""


def unknown(kind: str, name: str, allowed: Iterable[str], hint: str = "") -> UsageError:
    """An error for a `name` that is none of `allowed`, with the nearest of them.

    The nearest is the one that ends in it, `optimizer.lr` for `lr`, or else the one that is spelt most alike.
    """
    names = sorted(allowed)
    shown = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..."
    ends = [known for known in names if known.rpartition(".")[2] == name]
    near = ends if len(ends) == 1 else difflib.get_close_matches(shown, names, n=1, cutoff=0.5)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    listed = f" Known: {', '.join(names)}." if names else ""
    return UsageError(f"Unknown {kind} {shown!r}.{guess}{listed}{' ' + hint if hint else ''}")
