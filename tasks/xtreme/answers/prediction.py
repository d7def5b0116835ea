"""The answer that a model gives: the best part of the context by the n-best rule of SQuAD's baselines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .windows import Windows


class Span(NamedTuple):
    """A part of a context from one subword to another, the last one included, and the sum of its two scores."""

    score: float
    first: int
    last: int


class Rule(NamedTuple):
    """What may be an answer."""

    n_best: int
    """The places with so many of the highest scores of a row are looked at, as starts and as ends."""
    longest: int
    """Subwords of an answer at most."""


def most_context(windows: Windows) -> list[NDArray[np.bool_]]:
    """For each window (size,) whether no other window of its question has more context of a subword.

    A window has as much context of a subword as there are subwords in it on that side of it that has fewer, and a
    hundredth of the window's size; of equal ones the first window counts.
    """
    found: list[NDArray[np.bool_]] = []
    for rows in _by_question(windows):
        begins, sizes = windows.begins[rows][:, None], windows.sizes[rows][:, None]
        places = np.arange(int((begins + sizes).max()))
        inside = (places >= begins) & (places < begins + sizes)
        context = np.minimum(places - begins, begins + sizes - 1 - places) + 0.01 * sizes
        best = np.where(inside, context, -np.inf).argmax(axis=0) if len(places) else places
        for number, row in enumerate(rows.tolist()):
            part = slice(int(windows.begins[row]), int(windows.begins[row] + windows.sizes[row]))
            found.append(best[part] == number)
    return found


def _by_question(windows: Windows) -> Iterator[NDArray[np.int64]]:
    """The windows of each question, which stand beside each other."""
    yield from np.split(np.arange(len(windows.owners)), np.flatnonzero(np.diff(windows.owners)) + 1)


def best(scores: NDArray[np.float64], before: int, begin: int, starts: NDArray[np.bool_], rule: Rule) -> Span | None:
    """The best answer in one window; None where none is allowed.

    Args:
        scores: (T, 2) of each place of the row, padding left out: that an answer starts and that it ends there.
        before: places of the row before the context's.
        begin: the first subword of the context that is in the window.
        starts: (size,) at which subwords of the window an answer may start.
        rule: what may be an answer.
    """
    size = len(starts)
    ranked = np.argsort(-scores, axis=0, kind="stable")[: rule.n_best] - before
    first, last = (places[(places >= 0) & (places < size)] for places in ranked.T)
    first = first[starts[first]]
    length = last - first[:, None] + 1
    sums = scores[first + before, 0][:, None] + scores[last + before, 1]
    sums = np.where((length >= 1) & (length <= rule.longest), sums, -np.inf)
    if sums.size == 0 or sums.max() == -np.inf:
        return None
    row, column = np.unravel_index(int(sums.argmax()), sums.shape)
    return Span(float(sums[row, column]), begin + int(first[row]), begin + int(last[column]))
