"""Cosines between objectives' gradients, freed of noise, and how well a few probe batches tell them.

The gradient of objective k on its probe batch b is `g_kb = mu_k + noise`. Everything starts from a block X of inner
products `X[b, k, c, l] = <g_kb, g_lc>`, (..., B, K, B, K): the Gramians of the wanted groups, added up. Leading
dimensions, such as snapshots, are kept.

Two means over batches stand in all formulas. The aligned one is over b = c: of aligned probe batches, such as
translations of the same sentences, it holds noise that both gradients share. The unaligned one is over b != c:
`U_kl = mean_{b != c} X[b, k, c, l]` has the expectation `<mu_k, mu_l>`, for k = l too, where the aligned one has
`|mu_k|^2` and the variance of the noise.

**Errors** are those of the jackknife over batches: batch b is left out for all objectives at once, so that noise shared
by aligned batches is no trouble. An interval is Student's t with B - 1 degrees of freedom. The jackknife does not
underestimate the variance of such means (Efron and Stein, 1981), and where noise dominates it is too large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from mtlbench.errors import unknown
from mtlbench.statistics import LEVEL

Array = NDArray[np.float64]
Kind = Literal["disattenuated", "unaligned", "aligned"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, eq=False)
class Sampled:
    """Estimates of any shape, with what each would move by if one probe batch were left out."""

    value: Array
    """(...); NaN where it cannot be said."""
    shifts: Array
    """(B, ...): the value without batch b minus the value with it, to first order. All NaN for fewer than three
    batches: two tell nothing of the spread of what is between different batches."""

    @property
    def batches(self) -> int:
        """B."""
        return len(self.shifts)

    def error(self) -> Array:
        """(...): the standard error from the choice of probe batches, by the jackknife."""
        around = self.shifts - self.shifts.mean(0)
        return np.asarray(np.sqrt((self.batches - 1) / max(self.batches, 1) * (around**2).sum(0)))

    def interval(self, level: float = LEVEL) -> tuple[Array, Array]:
        """Low and high, both (...): Student's t with B - 1 degrees of freedom; NaN where there is no error."""
        quantile = float(special.stdtrit(self.batches - 1, 0.5 + level / 2)) if self.batches > 1 else math.nan
        half = quantile * self.error()
        return self.value - half, self.value + half

    def known(self) -> NDArray[np.bool_]:
        """(...): whether there is a value."""
        return ~np.isnan(self.value)


def within(value: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """The interval of a cosine cut to [-1, 1], where the true one lies, though never so far as to leave out its value.

    The value itself is not cut: disattenuated ones above 1 are what keeps their mean right.
    """
    return np.maximum(low, np.fmin(value, -1.0)), np.minimum(high, np.fmax(value, 1.0))


def block(gramians: ArrayLike, chosen: Sequence[int] | None = None) -> Array:
    """(..., B, K, B, K): Gramians (..., G, B, K, B, K) added up over the chosen groups, all of them for None."""
    whole = np.asarray(gramians)
    picked = whole if chosen is None else whole.take(list(chosen), axis=-5)
    return np.asarray(picked.sum(axis=-5, dtype=np.float64))


def inner(inside: Array, aligned: bool = False) -> Sampled:
    """Mean inner products (..., K, K) of a block (..., B, K, B, K), over b = c if `aligned`, else over b != c.

    Unaligned ones are unbiased for `<mu_k, mu_l>`; NaN for one batch.
    """
    return _aligned(inside) if aligned else _unaligned(inside)


def cosine(inside: Array, kind: Kind = "disattenuated") -> Sampled:
    """Cosines (..., K, K) of a block (..., B, K, B, K).

    - `aligned`: mean_b cos(g_kb, g_lb), what a plot of one batch shows; shared noise counts as similarity;
    - `unaligned`: mean_{b != c} cos(g_kb, g_lc), what a step of training on a batch of this size meets; the more noise,
      the nearer it is to zero;
    - `disattenuated`: U_kl / sqrt(U_kk U_ll), the cosine of the mean gradients, as it would be without noise. It may
      lie beyond 1. NaN where U_kk or U_ll is not positive: the batches show no signal. Its shifts are to first order,

      r_kl ((U_kl)' / U_kl - (U_kk)' / 2 U_kk - (U_ll)' / 2 U_ll),

      since without some batch U_kk may be negative.

    The diagonal of aligned and disattenuated ones is 1; of unaligned ones it is how alike two batches of one objective
    are.
    """
    if kind == "aligned":
        return _aligned(_directions(inside))
    if kind == "unaligned":
        return _unaligned(_directions(inside))
    if kind != "disattenuated":
        raise unknown("kind of cosine", kind, KINDS)
    product = _unaligned(inside)
    square, moved = _diagonal(product.value), _diagonal(product.shifts)
    square = np.where(square > 0, square, np.nan)
    scale = np.sqrt(square[..., :, None] * square[..., None, :])
    relative = moved / square / 2
    value = product.value / scale
    shifts = product.shifts / scale - value * (relative[..., :, None] + relative[..., None, :])
    return Sampled(value, shifts)


def share(inside: Array) -> Sampled:
    """The share of signal `U_kk / A_kk` (..., K): how much of a gradient's square is the same on every batch.

    U_kk is the unaligned, A_kk the aligned inner product. The bias of the ratio, which is upwards where the size of
    gradients varies, is taken off as the jackknife tells it. A share may be negative where there is hardly any.
    """
    signal, whole = inner(inside), inner(inside, aligned=True)
    total = np.where(_diagonal(whole.value) > 0, _diagonal(whole.value), np.nan)
    value = _diagonal(signal.value) / total
    without = (_diagonal(signal.value) + _diagonal(signal.shifts)) / (_diagonal(whole.value) + _diagonal(whole.shifts))
    shifts = without - value
    batches = inside.shape[-2]
    return Sampled(value - (batches - 1) * shifts.mean(0) if batches > 2 else value, shifts)


def negative(inside: Array, aligned: bool = False) -> Sampled:
    """The share of negative cosines (..., K, K) of a block, over batches b = c if `aligned`, else over b != c.

    A zero gradient has no direction; its pairs are NaN.
    """
    directions = _directions(inside)
    signs = np.where(np.isnan(directions), np.nan, directions < 0)
    return _aligned(signs) if aligned else _unaligned(signs)


def pooled(sampled: Sampled, pairs: ArrayLike) -> Sampled:
    """The mean (...) over the objectives' pairs (K, K) bool of what is (..., K, K), of those that are known.

    How many are not, `missing` tells. NaN where none is known.
    """
    chosen = np.asarray(pairs, dtype=bool)
    return mean_of(Sampled(sampled.value[..., chosen], sampled.shifts[..., chosen]))


def missing(sampled: Sampled, pairs: ArrayLike) -> NDArray[np.int64]:
    """(...): how many of the pairs (K, K) bool have no value."""
    return np.asarray(np.isnan(sampled.value[..., np.asarray(pairs, dtype=bool)]).sum(-1))


def mean_of(sampled: Sampled, axis: int = -1) -> Sampled:
    """The mean over one axis (one of the last ones, counted from the end) of what is known; NaN where nothing is."""
    known = sampled.known()
    count = known.sum(axis)
    with np.errstate(invalid="ignore"):
        value = np.where(known, sampled.value, 0.0).sum(axis) / count
        shifts = np.where(known, sampled.shifts, 0.0).sum(axis) / count
    return Sampled(np.asarray(value), np.asarray(shifts))


def difference(first: Sampled, second: Sampled) -> Sampled:
    """`first - second`, from the same probe batches."""
    return Sampled(first.value - second.value, first.shifts - second.shifts)


def mean_over_runs(runs: Sequence[Sampled]) -> Sampled:
    """The mean over runs of the same shape; its shifts are those of leaving a batch out of all of them."""
    return Sampled(np.mean([run.value for run in runs], 0), np.mean([run.shifts for run in runs], 0))


def interval_over_runs(runs: Sequence[Sampled], level: float = LEVEL) -> tuple[Array, Array, Array]:
    """Mean, low and high over runs that differ in their seeds, all (...): runs and probe batches both vary.

    The squared error is that of the mean over runs, from their spread, and that of the mean by the jackknife, since all
    runs may have been probed on the same examples, and then these are an error that no number of runs takes away. Where
    they were not, it counts twice and the interval is a little long. Degrees of freedom after Satterthwaite. One run
    has the interval of its batches alone. NaN in any run is NaN here.
    """
    mean = mean_over_runs(runs)
    if len(runs) < 2:
        return mean.value, *mean.interval(level)
    between, probes = _variances(runs)
    total = between + probes
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = total**2 / (between**2 / (len(runs) - 1) + probes**2 / (mean.batches - 1))
    half = np.where(total > 0, special.stdtrit(freedom, 0.5 + level / 2) * np.sqrt(total), total)
    return mean.value, mean.value - half, mean.value + half


def share_interval(runs: Sequence[Sampled], level: float = LEVEL) -> tuple[Array, Array, Array]:
    """Mean, low and high of shares in [0, 1], of one run or several, by Wilson's interval; all (...).

    Its number of observations is the one that gives a share the error found (`interval_over_runs`), though B at least
    and B (B - 1) for each run at most; where nothing varies, as where the share is 0 or 1, it is B.
    """
    value = mean_over_runs(runs).value
    batches = runs[0].batches
    between, probes = _variances(runs)
    spread = value * (1 - value)
    with np.errstate(invalid="ignore", divide="ignore"):
        count = np.where(spread > 0, spread / (between + probes), batches)
    count = np.clip(np.where(np.isnan(value), 1.0, count), batches, batches * max(1, batches - 1) * len(runs))
    square = special.ndtri(0.5 + level / 2) ** 2 / count
    middle = (value + square / 2) / (1 + square)
    half = np.sqrt(spread * square + square**2 / 4) / (1 + square)
    return value, middle - half, middle + half


def _variances(runs: Sequence[Sampled]) -> tuple[Array, Array]:
    """Squared errors of the mean over runs, both (...): from their spread, zero for one, and from the probe batches."""
    mean = mean_over_runs(runs)
    spread = np.var([run.value for run in runs], axis=0, ddof=1) if len(runs) > 1 else np.zeros_like(mean.value)
    return np.asarray(spread / len(runs)), mean.error() ** 2


def _directions(inside: Array) -> Array:
    """The cosines of all pairs of gradients in a block; NaN where one is zero."""
    squares = np.einsum("...bkbk->...bk", inside)
    norms = np.sqrt(np.where(squares > 0, squares, np.nan))
    return np.asarray(inside / norms[..., :, :, None, None] / norms[..., None, None, :, :])


def _aligned(inside: Array) -> Sampled:
    each = np.moveaxis(np.einsum("...bkbl->...bkl", inside), -3, 0)
    batches = len(each)
    value = each.mean(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return Sampled(value, _enough((value - each) / np.float64(batches - 1), batches, 2))


def _unaligned(inside: Array) -> Sampled:
    """A mean over ordered pairs of batches; without one, all pairs that hold it are gone."""
    batches = inside.shape[-2]
    each = np.moveaxis(np.einsum("...bkbl->...bkl", inside), -3, 0)
    rows = np.moveaxis(np.einsum("...bkcl->...bkl", inside), -3, 0)
    columns = np.moveaxis(np.einsum("...bkcl->...ckl", inside), -3, 0)
    total = rows.sum(0) - each.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = total / np.float64(batches * (batches - 1))
        without = (total - rows - columns + 2 * each) / np.float64((batches - 1) * (batches - 2))
    return Sampled(value, _enough(without - value, batches, 3))


def _enough(shifts: Array, batches: int, needed: int) -> Array:
    """NaN instead of 0 / 0 and infinities where there are too few batches."""
    return shifts if batches >= needed else np.full_like(shifts, np.nan)


def _diagonal(matrices: Array) -> Array:
    return np.asarray(np.einsum("...kk->...k", matrices))
