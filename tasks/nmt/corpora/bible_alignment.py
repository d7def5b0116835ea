"""Verses that do not stand beside their translation, found by their lengths."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..._text.bibles.layouts import Verse

FARTHEST = 6
"""Places that a verse may be off by: five in Ezekiel 21 where the Hebrew numbering is kept, three in Daniel 4."""

AROUND = 4
"""Verses on each side of a verse that its fit is judged with."""

CAP = 9.0
"""The most that one verse says against a fit, in squared standard deviations."""

MARGIN = 25.0
"""How much better nine verses must fit when shifted, in squared standard deviations."""

DEVIATIONS = 5.0
"""A length ratio farther from the median, in standard deviations of its logarithm, is no translation's."""

SMALLEST = 2.0
"""A length ratio within this factor of the median stands in any language."""


def shifted(foreign: Mapping[Verse, str], english: Mapping[Verse, str]) -> set[Verse]:
    """Verses of `foreign` that belong to English verses some places before or after the ones of their number.

    Logarithms of length ratios of true pairs scatter around a language's median. Over a verse and its `AROUND`
    neighbours on each side, the squared deviations from it, in standard deviations and each at most `CAP`, are
    summed as numbered and for shifts by up to `FARTHEST` places. Where a shift is better by `MARGIN`, the verse and
    these neighbours are answered, as far as they are in the same book.

    Args:
        foreign: the verses of one text, all of them in `english`.
        english: the English verses in their order.
    """
    order = list(english)
    lengths = np.log([len(text) for text in english.values()])
    own = np.log([len(foreign[verse]) if verse in foreign else np.nan for verse in order])
    there = ~np.isnan(own)
    if not there.any():
        return set()
    usual, deviation = _median_and_deviation((own - lengths)[there])

    def misfit(shift: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The sum over each neighbourhood, and how many verses it is over."""
        other = np.full(len(order), np.nan)
        inner = slice(max(-shift, 0), len(order) - max(shift, 0))
        other[inner] = lengths[max(shift, 0) : len(order) + min(shift, 0)]
        squares = np.minimum(((own - other - usual) / deviation) ** 2, CAP)
        return _over_neighbours(np.nan_to_num(squares)), _over_neighbours(~np.isnan(squares))

    numbered, verses = misfit(0)
    best = np.full(len(order), np.inf)
    for shift in range(-FARTHEST, FARTHEST + 1):
        if shift and abs(shift) < len(order):
            moved, compared = misfit(shift)
            best = np.minimum(best, np.where(compared >= verses - 1, moved, np.inf))
    centres = np.flatnonzero(there & (verses > AROUND) & (numbered - best > MARGIN)).tolist()
    near = {(i, j) for i in centres for j in range(max(i - AROUND, 0), min(i + AROUND + 1, len(order)))}
    return {order[j] for i, j in near if there[j] and order[i][0] == order[j][0]}


def of_other_length(foreign: Mapping[Verse, str], english: Mapping[Verse, str]) -> set[Verse]:
    """Verses whose length is no translation's: parts, joined verses, additions.

    The ratio of lengths in characters is off the median ratio by more than the factor `SMALLEST` and its logarithm
    by more than `DEVIATIONS` standard deviations, estimated as 1.4826 times the median absolute deviation.

    Args:
        foreign: the verses of one text, all of them in `english`.
        english: the English verses.
    """
    if not foreign:
        return set()
    ratios = np.log([len(text) / len(english[verse]) for verse, text in foreign.items()])
    usual, deviation = _median_and_deviation(ratios)
    off = np.abs(ratios - usual) > max(np.log(SMALLEST), DEVIATIONS * deviation)
    return {verse for verse, is_off in zip(foreign, off.tolist(), strict=True) if is_off}


def _median_and_deviation(values: NDArray[np.float64]) -> tuple[float, float]:
    median = float(np.median(values))
    return median, max(1.4826 * float(np.median(np.abs(values - median))), 0.05)  # a handful of verses may agree


def _over_neighbours(values: NDArray[np.generic]) -> NDArray[np.float64]:
    whole = np.convolve(values.astype(np.float64), np.ones(2 * AROUND + 1))
    return whole[AROUND : AROUND + len(values)]
