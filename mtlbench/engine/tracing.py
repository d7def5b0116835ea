"""What a method does to the gradients, step by step: sums over steps for those who ask, from numbers that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlbench.engine.visiting import Array, unit_rows

PAIRS = ("cosine", "negative", "corrected", "target")
"""Means over steps, with an entry for each ordered pair of objectives in each group."""
UPDATES = ("norm_ratio", "update_cosine")
"""Means over steps of what the update is; the second has an entry for each objective."""


@runtime_checkable
class Targeting(Protocol):
    """A method that pulls the similarity of gradients to targets, such as Gradient Vaccine."""

    def targets(self) -> Tensor:
        """(G, K, K) float64 on the CPU, of objective i when it visits j, as they are now; the diagonal is ignored."""


class Trace:
    """Sums over steps, from which the means of a window of training follow.

    Everything comes from a step's Gramian and weights: the norm of the update `sum_k w_k g_k` and its inner products
    with the gradients are quadratic and linear forms of the Gramian.

    Args:
        groups: the names of the M groups of the method's Gramians.
        objectives: K.
    """

    def __init__(self, groups: Sequence[str], objectives: int) -> None:
        self.groups = tuple(groups)
        self.objectives = objectives
        shapes: dict[str, tuple[int, ...]] = {name: (len(groups), objectives, objectives) for name in PAIRS}
        shapes |= {"norm_ratio": (len(groups),), "update_cosine": (len(groups), objectives)}
        self.shapes = shapes
        """Of each mean."""
        self._sums = {name: np.zeros(shape) for name, shape in shapes.items()}
        self._counts = {name: np.zeros(shape, np.int64) for name, shape in shapes.items()}
        self._steps = 0

    def note(
        self,
        gramian: Tensor,
        weights: Tensor,
        present: Sequence[int],
        changed: NDArray[np.bool_] | None,
        treated: Sequence[int],
        target: Tensor | None,
    ) -> None:
        """Take up one step.

        Args:
            gramian: (M, m, m) float64 on the CPU.
            weights: (M, m) float64 on the CPU.
            present: the objectives of the m rows.
            changed: (M, m, m) whether row i was changed by visiting row j; None where nothing visits.
            treated: the rows that visit others.
            target: (M, K, K) of the method, as it is after the step; None where it has none.
        """
        table, rows = gramian.numpy(), np.asarray(present)
        cosines, norms = unit_rows(table)
        there = norms > 0
        both = there[:, :, None] & there[:, None, :]
        pairs = np.ix_(np.arange(len(table)), rows, rows)
        self._add("cosine", pairs, cosines, both)
        self._add("negative", pairs, cosines < 0, both)
        if changed is not None and changed.shape == table.shape:
            visiting = np.zeros(len(rows), bool)
            visiting[list(treated)] = True
            visits = both & visiting[:, None] & ~np.eye(len(rows), dtype=bool)
            self._add("corrected", pairs, changed, visits)
        if target is not None and target.shape == self._sums["target"].shape:
            apart = np.broadcast_to(~np.eye(self.objectives, dtype=bool), target.shape)
            self._add("target", ..., target.numpy(), apart)
        self._note_update(table, weights.numpy(), norms, rows)
        self._steps += 1

    def _note_update(self, table: Array, weights: Array, norms: Array, rows: NDArray[np.int64]) -> None:
        products = np.einsum("gij,gj->gi", table, weights)  # of the update with each gradient
        length = np.sqrt(np.maximum((weights * products).sum(1), 0.0))
        plain = np.sqrt(np.maximum(table.sum((1, 2)), 0.0))
        self._add("norm_ratio", ..., _ratio(length, plain), plain > 0)
        scales = length[:, None] * norms
        some = np.ix_(np.arange(len(table)), rows)
        self._add("update_cosine", some, np.clip(_ratio(products, scales), -1.0, 1.0), scales > 0)

    def _add(self, name: str, where: Any, values: NDArray[np.generic], counted: NDArray[np.bool_]) -> None:
        self._sums[name][where] += np.where(counted, values, 0)
        self._counts[name][where] += counted

    def window(self) -> tuple[int, dict[str, NDArray[np.float32]]]:
        """The number of steps since the last call, and their means (NaN where there are none); begins anew."""
        means = {name: _ratio(total, self._counts[name], np.nan) for name, total in self._sums.items()}
        steps, self._steps = self._steps, 0
        for values in (*self._sums.values(), *self._counts.values()):
            values[...] = 0
        return steps, {name: mean.astype(np.float32) for name, mean in means.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """The sums of the window that is open, for a checkpoint."""
        found = {f"{name} sums": torch.from_numpy(total.copy()) for name, total in self._sums.items()}
        found |= {f"{name} counts": torch.from_numpy(count.copy()) for name, count in self._counts.items()}
        return found | {"steps": torch.tensor(self._steps)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state_dict()`; raises `ValueError` for the state of other groups or objectives."""
        own = self.state_dict()
        if own.keys() != state.keys() or any(
            state[key].shape != value.shape or state[key].dtype != value.dtype for key, value in own.items()
        ):
            raise ValueError("the trace of the method is of other groups or objectives")
        for name in self._sums:
            self._sums[name][...] = state[f"{name} sums"].cpu().numpy()
            self._counts[name][...] = state[f"{name} counts"].cpu().numpy()
        self._steps = int(state["steps"])


def _ratio(above: NDArray[np.generic], below: NDArray[np.generic], otherwise: float = 0.0) -> Array:
    """The quotient where it is defined."""
    out = np.full(above.shape, otherwise)
    return np.divide(above, below, out=out, where=np.asarray(below) > 0)
