"""PCD: follow one objective's gradient as nearly as the others allow, each of which is promised a share of progress.

Objective `primary` has priority. Gradients are first divided by a moving average of their lengths, per group::

    v_k := beta v_k + (1 - beta) |g_k|^2,    g'_k = g_k / sqrt(v_k / (1 - beta^t) + eps)

with t the number of steps in which objective k was present. Then, p being the primary objective::

    d' = argmin |d - g'_p|^2    subject to <g'_j, d> >= tau |g'_j|^2 for every other j

and the update is d' at the length of g_p. Heads are trained by their own loss. The quadratic problem is solved exactly
(`mtlbench.engine.nonnegative`: method, tolerance, proof). Where the constraints contradict each other they are dropped
and the update is g_p; where d' or g_p is 0, it is 0. A group without a proven solution keeps the best weights found,
and is counted (`unsolved` in the record).

Permuting the objectives changes the update, since one has priority; and it depends on the scale of all gradients where
their squares are not far above eps. In a step without the primary objective there is nothing to follow, and the
gradients of the others enter as they are, with weight 1.

`tau` is one number for all other objectives, or a list with one for each of them, in their order without the primary
one: <g'_j, d> >= tau_j |g'_j|^2 then.

Convention: as published; TorchJD, of which this is the definition, takes such a tau for each objective too, and calls a
gradient dependent on others at 1e-9 of its squared length where this does at 1e-12. LibMTL has no such method.

Source: "Not All Objectives Are Born Equal", in the form of TorchJD.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Interval
from numpy.typing import NDArray
from torch import Tensor

import mtlbench
from mtlbench.engine.nonnegative import SOLVED, nonnegative_minimisers
from mtlbench.engine.visiting import unit_rows

Array = NDArray[np.float64]

NOTHING = 1e-14
"""The share of the squared sum of lengths below which the squared length of a sum is rounding error."""


@mtlbench.register_method("pcd", paper="Priority-Constrained Descent, TMLR 2026, arXiv:2606.29521")
class PCD(mtlbench.GramianWeighting):
    """The primary gradient, constrained by progress of the secondary objectives.

    Args:
        tau: the share of the progress along its own gradient that each secondary objective is promised; a list has
            one for each, in their order without the primary objective.
        beta: how much of its squared gradient lengths an objective remembers.
        eps: what is added to the squared lengths.
        primary: which objective has priority.
    """

    exceptions: Mapping[str, str] = {
        "order": "one objective has priority",
        "common_scale": "eps is a squared length",
        "plain_sum": "it follows the primary gradient",
        "descent": "the primary objective gives way to what others are promised",
    }
    per_group: ClassVar[tuple[str, ...]] = ("square", "steps")

    square: Tensor
    """(G, K) float64: the moving average of the squared lengths, before its correction for the zeros it began with."""
    steps: Tensor
    """(G, K) int64: in how many steps each objective was present."""
    unsolved: Tensor
    """() int64: how many times a group had no proven solution."""
    contradicted: Tensor
    """() int64: how many times the constraints of a group contradicted each other."""

    def __init__(
        self,
        tau: Annotated[float, Interval(ge=0, le=1), mtlbench.Range(low=2e-3, high=0.2, scale="log")]
        | tuple[Annotated[float, Interval(ge=0, le=1)], ...] = 0.02,
        beta: Annotated[float, Interval(ge=0, lt=1)] = 0.999,
        eps: Annotated[float, Ge(0)] = 1e-8,
        primary: Annotated[int, Ge(0)] = 0,
    ) -> None:
        super().__init__()
        self.tau = tau
        self.beta = beta
        self.eps = eps
        self.primary = primary
        self.register_buffer("square", torch.empty(0, dtype=torch.float64))
        self.register_buffer("steps", torch.empty(0, dtype=torch.int64))
        self.register_buffer("unsolved", torch.zeros((), dtype=torch.int64))
        self.register_buffer("contradicted", torch.zeros((), dtype=torch.int64))

    def start(self) -> None:
        """No lengths yet."""
        if self.primary >= self.objectives:
            raise mtlbench.UsageError(
                f"pcd: primary={self.primary} is not allowed: objectives are 0 to {self.objectives - 1}."
            )
        if isinstance(self.tau, tuple) and len(self.tau) != self.objectives - 1:
            raise mtlbench.UsageError(
                f"pcd: tau has {len(self.tau)} numbers for {self.objectives - 1} objectives beside the primary one."
            )
        self.square = torch.zeros(self.groups, self.objectives, dtype=torch.float64)
        self.steps = torch.zeros(self.groups, self.objectives, dtype=torch.int64)

    def report(self) -> dict[str, float]:
        """How many times the constraints of a group contradicted each other, or had no proven solution."""
        return {"contradicted": int(self.contradicted), "unsolved": int(self.unsolved)}

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """One quadratic problem for each group."""
        lengths = self._normalized(gramian)
        first = (self.present == self.primary).nonzero().flatten().tolist()
        if not first or len(self.present) == 1:
            return torch.ones(gramian.shape[:-1], dtype=torch.float64)
        primary = first[0]
        others = [row for row in range(gramian.shape[-1]) if row != primary]
        cosines, norms = unit_rows(gramian.numpy())
        reach = lengths[:, [primary]] * cosines[:, others, primary]
        asked = self._promised(others) * lengths[:, others]
        found = nonnegative_minimisers(cosines[:, others][:, :, others], asked - reach)
        self.contradicted.add_(int(np.count_nonzero(found.unbounded)))
        self.unsolved.add_(int(np.count_nonzero((found.violation > SOLVED) & ~found.unbounded)))
        unit = lengths.copy()  # weights of the unit rows in d'
        unit[:, others] = np.where(found.unbounded[:, None], 0.0, found.x)
        square = np.einsum("gi,gij,gj->g", unit, cosines, unit)
        moving = (norms[:, primary] > 0) & (square > NOTHING * unit.sum(-1) ** 2)
        size = np.divide(norms[:, primary], np.sqrt(np.maximum(square, 0.0)), out=np.zeros_like(square), where=moving)
        weights = np.divide(unit * size[:, None], norms, out=np.zeros_like(norms), where=norms > 0)
        return torch.from_numpy(weights)

    def _promised(self, rows: list[int]) -> float | Array:
        """tau, or that of each of these rows."""
        if not isinstance(self.tau, tuple):
            return self.tau
        each: Array = np.insert(np.array(self.tau, dtype=np.float64), self.primary, 0.0)
        return each[self.present[rows].numpy()]

    def _normalized(self, gramian: Tensor) -> Array:
        """(G, m) the lengths of the normalised gradients, after this step's have joined the moving average."""
        squares = gramian.diagonal(dim1=-2, dim2=-1).clamp(min=0)
        average = self.beta * self.square[:, self.present] + (1 - self.beta) * squares
        steps = self.steps[:, self.present] + 1
        self.square[:, self.present] = average
        self.steps[:, self.present] = steps
        divisor = average / (1 - self.beta ** steps.double()) + self.eps
        return torch.where(divisor > 0, squares / divisor, 0.0).sqrt().numpy()
