"""Nearest neighbours among embeddings, and translations that are found by them, a block at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

NEIGHBOURS = 4
"""Over whose cosines the margin is taken (XTREME, `utils_retrieve.py`)."""
QUERIES, CANDIDATES = 1024, 16384
"""Rows and columns of the cosines that are in memory at one time: 64 MiB."""


class Neighbours(NamedTuple):
    """Of each of n queries the k candidates with the highest cosines, the highest first."""

    cosines: Tensor
    """(n, k) float32."""
    candidates: Tensor
    """(n, k) which candidate each is."""


class Best(NamedTuple):
    """Of each of n queries the best candidate."""

    scores: NDArray[np.float64]
    candidates: NDArray[np.int64]


def nearest(x: Tensor, y: Tensor, k: int, device: torch.device | None = None) -> tuple[Neighbours, Neighbours]:
    """The nearest rows of `y` to each row of `x`, and the other way round, from one pass over all cosines.

    Args:
        x: (n, width) rows of length 1.
        y: (m, width) rows of length 1.
        k: how many, at most as many as there are.
        device: where the cosines are computed; where `x` is unless given.
    """
    device = device or x.device
    backward = _nothing(len(y), min(k, len(x)), device)
    found: list[Neighbours] = []
    for first in range(0, len(x), QUERIES):
        rows = x[first : first + QUERIES].to(device)
        forward = _nothing(len(rows), min(k, len(y)), device)
        for start in range(0, len(y), CANDIDATES):
            cosines = rows @ y[start : start + CANDIDATES].to(device).T
            part = slice(start, start + cosines.shape[1])
            forward = _merged(forward, cosines, start)
            merged = _merged(Neighbours(backward.cosines[part], backward.candidates[part]), cosines.T, first)
            backward.cosines[part], backward.candidates[part] = merged
        found.append(Neighbours(forward.cosines.cpu(), forward.candidates.cpu()))
    forward = Neighbours(*(torch.cat(parts) for parts in zip(*found, strict=True)))
    return forward, Neighbours(backward.cosines.cpu(), backward.candidates.cpu())


def _nothing(rows: int, k: int, device: torch.device) -> Neighbours:
    """Worse than any that is found."""
    return Neighbours(
        torch.full((rows, k), -torch.inf, device=device), torch.zeros(rows, k, dtype=torch.int64, device=device)
    )


def _merged(known: Neighbours, cosines: Tensor, first: int) -> Neighbours:
    """The best of those that are known and of a block (rows, candidates) whose first candidate has that number."""
    k = known.cosines.shape[1]
    top = cosines.topk(min(k, cosines.shape[1]), dim=1)
    values = torch.cat([known.cosines, top.values], 1)
    places = torch.cat([known.candidates, top.indices + first], 1)
    kept = values.topk(k, dim=1)
    return Neighbours(kept.values, places.gather(1, kept.indices))


def best(x: Tensor, y: Tensor, margin: bool, device: torch.device | None = None) -> tuple[Best, Best]:
    """For each row of `x` the best one of `y`, and for each of `y` the best one of `x`.

    The score is the cosine; or with `margin` the cosine over the mean of both sides' mean cosine to their nearest
    `NEIGHBOURS`, among which the best one is looked for (Artetxe and Schwenk, ACL 2019, equation 2, the ratio).

    Args:
        x: (n, width) rows of length 1.
        y: (m, width) rows of length 1.
        margin: see above.
        device: see `nearest`.
    """
    k = NEIGHBOURS if margin else 1
    forward, backward = nearest(x, y, k, device)
    if not margin:
        return _first(forward), _first(backward)
    means = forward.cosines.double().mean(1), backward.cosines.double().mean(1)
    return _over_margin(forward, *means), _over_margin(backward, *means[::-1])


def _first(found: Neighbours) -> Best:
    return Best(found.cosines[:, 0].double().numpy(), found.candidates[:, 0].numpy())


def _over_margin(found: Neighbours, own: Tensor, theirs: Tensor) -> Best:
    ratios = found.cosines.double() / ((own[:, None] + theirs[found.candidates]) / 2)
    top = ratios.max(1)
    return Best(top.values.numpy(), found.candidates.gather(1, top.indices[:, None])[:, 0].numpy())


class Mined(NamedTuple):
    """A pair that may be a translation: rows of both sides, and the score."""

    row: int
    column: int
    score: float


def mined(forward: Best, backward: Best) -> list[Mined]:
    """One-to-one pairs, the best score first: those of both directions, each row and column in its best one.

    Pairs with scores of 0 and below take their rows and columns away from others, but are none themselves.
    """
    rows = np.concatenate([np.arange(len(forward.candidates)), backward.candidates])
    columns = np.concatenate([forward.candidates, np.arange(len(backward.candidates))])
    scores = np.concatenate([forward.scores, backward.scores])
    taken: tuple[set[int], set[int]] = set(), set()
    found = []
    for place in np.argsort(-scores, kind="stable").tolist():
        row, column = int(rows[place]), int(columns[place])
        if row in taken[0] or column in taken[1]:
            continue
        taken[0].add(row)
        taken[1].add(column)
        if scores[place] > 0:
            found.append(Mined(row, column, float(scores[place])))
    return found


def threshold(scores: Sequence[float], right: Sequence[bool], gold: int) -> float:
    """The score from which on pairs are taken, so that F1 is best: half-way to the next lower score.

    Args:
        scores: of the pairs, the highest first.
        right: whether each is a translation.
        gold: how many translations there are, found or not.

    Returns:
        The threshold, the highest of equally good ones; 0 where no pair is right.
    """
    found, best_f1, chosen = 0, 0.0, 0.0
    for place, is_right in enumerate(right):
        found += is_right
        f1 = 2 * found / (place + 1 + gold)
        if f1 > best_f1:
            best_f1 = f1
            following = scores[place + 1] if place + 1 < len(scores) else scores[place]
            chosen = (scores[place] + following) / 2
    return chosen
