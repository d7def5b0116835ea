"""Gradient surgery on coefficients: every objective visits the others, in steps shared by all groups.

Methods such as PCGrad and Gradient Vaccine change a working copy g'_i of each gradient by multiples of the original
g_j. Each g'_i therefore stays a combination of the original rows, and the whole procedure runs on its coefficients
and the Gramian, whatever the number of parameters.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]
Index = NDArray[np.int64]


class Changes:
    """Which gradients were changed by which others in a step."""

    def __init__(self) -> None:
        self.table: NDArray[np.bool_] | None = None
        """(G, K, K): whether gradient i, in visiting gradient j, was changed; None where nothing visited."""

    def begin(self, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        """A new table of which nothing was changed, flattened."""
        self.table = np.zeros(shape, bool)
        return self.table.reshape(-1)


_watched: ContextVar[Changes | None] = ContextVar("changes of the step", default=None)


@contextmanager
def watched() -> Iterator[Changes]:
    """While open, note what visits change; what they answer is the same to the bit."""
    changes = Changes()
    token = _watched.set(changes)
    try:
        yield changes
    finally:
        _watched.reset(token)


def unit_rows(gramian: Array) -> tuple[Array, Array]:
    """The Gramian of the normalised rows, and the norms.

    Working on unit vectors makes every decision free of scale. A zero row stays zero.

    Args:
        gramian: (G, K, K).

    Returns:
        (G, K, K) cosines, clipped to [-1, 1], with 1 on the diagonal of every row that is not zero, and (G, K) norms.
    """
    groups, objectives, _ = gramian.shape
    diagonal = slice(None, None, objectives + 1)
    squares = gramian.reshape(groups, -1)[:, diagonal]
    norms = np.sqrt(np.maximum(squares, 0.0))
    inverse = _inverse(norms)
    cosines = gramian * inverse[:, :, None]
    cosines *= inverse[:, None, :]
    np.minimum(cosines, 1.0, out=cosines)
    np.maximum(cosines, -1.0, out=cosines)
    cosines.reshape(groups, -1)[:, diagonal] = norms > 0
    return cosines, norms


def visiting_orders(groups: int, objectives: int, generator: torch.Generator, shuffle: bool) -> Index:
    """Which objective each one visits in each step: (K-1, G, K), a permutation of the others along the first axis.

    Args:
        groups: G.
        objectives: K.
        generator: draws the orders, uniform and independent over groups and objectives; untouched for K < 3,
            where there is one order only.
        shuffle: False for increasing index everywhere.
    """
    k = np.arange(objectives)
    if not shuffle or objectives < 3:
        steps = np.arange(objectives - 1)[:, None]
        order = steps + (steps >= k)
        return np.broadcast_to(order[:, None, :], (objectives - 1, groups, objectives))
    keys = torch.rand(groups, objectives, objectives, generator=generator, dtype=torch.float64).numpy()
    keys[:, k, k] = 2.0  # after all the others, and then dropped
    return np.argsort(keys, axis=2)[:, :, :-1].transpose(2, 0, 1)


class Visit(NamedTuple):
    """One step: what every one of the n working copies visits."""

    entry: Index
    """(n,) where the pair stands in a flattened (G, K, K) table."""
    row: Index
    """(n,) which of the (G K,) original gradients is visited."""


class Plan(NamedTuple):
    """Who visits whom when."""

    copies: Index
    """(n,) which of the (G K,) original gradients each working copy is of."""
    visits: tuple[Visit, ...]
    identity: Array
    """(G K K,) coefficients of originals in themselves."""


class Visits:
    """The working copies of unit gradients and the steps in which they visit the others.

    There is one for every treated objective in every group, n of them. All arrays over working copies are flat: (n,),
    group by group, in the order of the objectives. Every objective is visited, treated or not.

    Args:
        cosines: (G, K, K) the Gramian of the unit rows.
        generator: draws the visiting orders, of all objectives whoever is treated, so that runs stay paired.
        shuffle: False for visits in index order.
        treated: the objectives that have working copies.
    """

    copies: Index
    """(n,) which of the (G K,) original gradients each working copy is of."""

    def __init__(self, cosines: Array, generator: torch.Generator, shuffle: bool, treated: Sequence[int]) -> None:
        groups, objectives, _ = cosines.shape
        if shuffle and objectives > 2:
            plan = _plan(visiting_orders(groups, objectives, generator, shuffle), tuple(treated))
        else:  # there is one order only
            plan = _plan_by_index(groups, objectives, tuple(treated))
        self.copies = plan.copies
        self._visits = plan.visits
        self._shape = cosines.shape
        self._cosines = cosines.reshape(-1, objectives)
        self._coefficients = plan.identity.copy()
        # Inner products of the working copies with the originals, kept up to date so that a visit only looks one up.
        self._products = self._cosines.copy()
        changes = _watched.get()
        self._changes = None if changes is None else changes.begin(cosines.shape)

    def __iter__(self) -> Iterator[Visit]:
        yield from self._visits

    def inner_products(self, visit: Visit) -> Array:
        """(n,) inner products of each working copy with the unit gradient that it visits."""
        return self._products.take(visit.entry)

    def add(self, visit: Visit, amounts: Array) -> None:
        """Add (n,) multiples of the visited unit gradients to the working copies."""
        entry, row, copies = visit.entry, visit.row, self.copies
        changed = amounts.nonzero()[0]
        if len(changed) == 0:
            return
        if len(changed) < len(amounts):
            amounts, entry, row, copies = amounts[changed], entry[changed], row[changed], copies[changed]
        if self._changes is not None:
            self._changes[entry] = True
        self._coefficients[entry] += amounts
        step = self._cosines.take(row, axis=0)
        step *= amounts[:, None]
        self._products[copies] += step

    def weights(self, norms: Array) -> Array:
        """(G, K) weights of the original rows in the sum of working copies and untreated gradients, at full length."""
        # Not a matrix product, which rounds as the processor's library does.
        summed = np.einsum("gi,gij->gj", norms, self._coefficients.reshape(self._shape))
        scaled = summed * _inverse(norms)
        return scaled if norms.all() else np.where(norms > 0, scaled, 1.0)


class Pair:
    """Two objectives in one group: each has one other to visit, whatever is drawn.

    This is what `unit_rows` and `Visits` are for that case, in plain numbers instead of arrays of one or two. The
    operations and their order are the same, and so are the bits.

    Args:
        gramian: (1, 2, 2) float64 on the CPU.
    """

    cosines: tuple[float, float]
    """Of the first gradient with the second and of the second with the first, which differ by rounding at most."""
    moving: bool
    """Whether neither gradient is zero."""

    def __init__(self, gramian: Tensor) -> None:
        (((first, between), (back, second)),) = gramian.tolist()
        a, b = math.sqrt(max(first, 0.0)), math.sqrt(max(second, 0.0))
        u, v = 1.0 / a if a else 0.0, 1.0 / b if b else 0.0
        self.cosines = max(min(between * u * v, 1.0), -1.0), max(min(back * v * u, 1.0), -1.0)
        self.moving = a > 0 and b > 0
        self._norms, self._inverses = (a, b), (u, v)

    @staticmethod
    def is_all(gramian: Tensor) -> bool:
        """Whether a (G, K, K) Gramian is that of two objectives in one group."""
        return gramian.shape == (1, 2, 2)

    def weights(self, amounts: Mapping[int, float]) -> Tensor:
        """(1, 2) weights of the original rows, where unit gradient i gains `amounts[i]` times the other, if given."""
        (a, b), (u, v) = self._norms, self._inverses
        first = (a + b * amounts.get(1, 0.0)) * u if a else 1.0
        second = (a * amounts.get(0, 0.0) + b) * v if b else 1.0
        if (changes := _watched.get()) is not None:
            changes.begin((1, 2, 2))[1:3] = [amounts.get(row, 0.0) != 0 for row in (0, 1)]
        return torch.from_numpy(np.array([[first, second]]))


def _plan(orders: Index, treated: tuple[int, ...]) -> Plan:
    """Of (K-1, G, K) orders, for the treated objectives."""
    steps, groups, objectives = orders.shape
    every = np.arange(groups * objectives)
    copies = every.reshape(groups, objectives)[:, list(treated)].reshape(-1)
    order = orders.reshape(steps, groups * objectives)[:, copies]
    identity = np.zeros(groups * objectives * objectives)
    identity[every * objectives + every % objectives] = 1.0
    visits = map(Visit, order + copies * objectives, order + (copies - copies % objectives))
    return Plan(copies, tuple(visits), identity)


@functools.lru_cache(maxsize=16)
def _plan_by_index(groups: int, objectives: int, treated: tuple[int, ...]) -> Plan:
    """The plan where nothing is drawn: the same in every step, so made once."""
    return _plan(visiting_orders(groups, objectives, torch.Generator(), False), treated)


def _inverse(norms: Array) -> Array:
    """1 / norms, and 0 where a norm is 0."""
    if norms.all():
        return 1.0 / norms
    return np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
