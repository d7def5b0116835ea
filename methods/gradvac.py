"""Gradient Vaccine: pulls each pair of gradients up to a target similarity that it learns per pair and group.

For each group of parameters, with `g'_i := g_i`, each objective i visits the others j in random order. With
`phi = cos(g'_i, g_j)` (g_j: the ORIGINAL gradient) and the target `t = t_ij` of this group, where `phi < t`::

    g'_i := g'_i + |g'_i| (t sqrt(1 - phi^2) - phi sqrt(1 - t^2)) / (|g_j| sqrt(1 - t^2)) * g_j

after which cos(g'_i, g_j) = t. Whether or not it fired, the target then moves towards the similarity that was found::

    t_ij := (1 - beta) t_ij + beta phi                   (phi: before the correction; t_ij starts at 0)

The update is the SUM of the g'_i; heads are trained by their own loss. Targets are kept per ordered pair and group.
Objectives and groups draw independent orders. With `target` given, targets are that constant and nothing is learnt;
`target=0` is PCGrad. Where only some objectives are treated, i ranges over these and j over all.

Guards, which leave the ordinary case as it is. The correction multiplies |g'_i| by sqrt(1 - phi^2) / sqrt(1 - t^2),
without bound as t approaches 1 (duplicated objectives, one-element groups). So a target counts as at most 0.9999,
and |g'_i| grows to at most 100 |g_i|: the update is at most `100 sum_i |g_i|` long. A visit where either gradient is
zero (or |g'_i| fell below 1e-6 |g_i|, where its direction is rounding error) changes neither gradient nor target.

Source: Wang et al., Algorithm 1 (Appendix E), by way of TorchJD's and LibMTL's code, which agree on it; beta = 0.01 is
what two other ports call the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Interval
from torch import Tensor

import mtlbench
from mtlbench.engine.visiting import Pair, Visits, unit_rows

LARGEST_TARGET = 0.9999
LARGEST_GROWTH = 100.0
SMALLEST_NORM = 1e-6


@mtlbench.register_method("gradvac", paper="Wang et al., ICLR 2021, arXiv:2010.05874")
class GradVac(mtlbench.GramianWeighting):
    """Raise the cosine similarity of gradients to a target that follows its moving average.

    Args:
        beta: how fast a target follows the similarity that is found.
        target: a fixed target similarity instead of the moving average.
        shuffle: visit the other objectives in random order, as published; otherwise in index order.
    """

    exceptions: Mapping[str, str] = {
        "single_scale": "the longest gradient leads the sum",
        "plain_sum": "targets above 0 turn gradients that do not conflict",
        "descent": "one correction may undo another, and targets may be below 0",
    }
    per_group: ClassVar[tuple[str, ...]] = ("target",)

    target: Tensor
    """(G, K, K) float64: the target similarity of objective i (row) to j (column); the diagonal has no meaning."""
    visited: Tensor
    """() int64: how many visits there have been."""
    corrected: Tensor
    """() int64: how many of them raised the similarity; about half in a stationary run."""

    def __init__(
        self,
        beta: Annotated[float, Interval(gt=0, le=1), mtlbench.Range(low=1e-3, high=0.5, scale="log")] = 0.01,
        target: Annotated[float, Interval(ge=-1, lt=1)] | None = None,
        shuffle: bool = True,
    ) -> None:
        super().__init__()
        self.beta = beta
        self.fixed_target = target
        self.shuffle = shuffle
        if not shuffle:
            self.exceptions = {**self.exceptions, "order": "others are visited in the order of their index"}
        self.register_buffer("target", torch.empty(0, dtype=torch.float64))
        self.register_buffer("visited", torch.zeros((), dtype=torch.int64))
        self.register_buffer("corrected", torch.zeros((), dtype=torch.int64))

    def start(self) -> None:
        """Targets of zero, or the fixed one."""
        shape = (self.groups, self.objectives, self.objectives)
        self.target = torch.full(shape, self._first_target, dtype=torch.float64)

    def report(self) -> dict[str, float]:
        """The share of visits that were corrected, and the mean of the targets that have moved."""
        visited = int(self.visited)
        if not visited or self.objectives < 2:
            return {}
        moved = self.target[self.target != self._first_target]
        return {
            "corrected_share": int(self.corrected) / visited,
            "mean_target": moved.mean().item() if len(moved) else self._first_target,
        }

    def targets(self) -> Tensor:
        """The targets as they are now; the diagonal has no meaning."""
        return self.target

    @property
    def _first_target(self) -> float:
        return 0.0 if self.fixed_target is None else self.fixed_target

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """K-1 vaccination steps for all objectives and groups at once."""
        return self.weigh_treated(gramian, losses, range(gramian.shape[-1]))

    def weigh_treated(self, gramian: Tensor, losses: Tensor, rows: Sequence[int]) -> Tensor:
        """The same for the treated objectives alone, which visit all the others."""
        if Pair.is_all(gramian):
            return self._weigh_pair(Pair(gramian), rows)
        cosines, norms = unit_rows(gramian.numpy())
        visits = Visits(cosines, self.generator, self.shuffle, rows)
        table = self.target.numpy()
        some = self.present.tolist() != list(range(self.objectives))  # of the objectives, or all in another order
        chosen = np.ix_(np.arange(self.groups), self.present.numpy(), self.present.numpy()) if some else ...
        targets = table[chosen].reshape(-1)
        usable = norms.reshape(-1) > 0
        length = usable.take(visits.copies).astype(np.float64)  # |g'_i| / |g_i|
        fired = seen = 0
        for visit in visits:
            meet = usable.take(visit.row) & (length > SMALLEST_NORM)
            target = targets.take(visit.entry)
            aim = np.minimum(target, LARGEST_TARGET)
            along = visits.inner_products(visit)
            phi = np.divide(along, length, out=np.zeros_like(length), where=meet)
            phi = np.maximum(np.minimum(phi, 1.0), -1.0)
            fire = meet & (phi < aim)
            across = length * np.sqrt(1.0 - phi * phi)  # the part of g'_i orthogonal to g_j, which stays
            grown = np.divide(across, np.sqrt(1.0 - aim * aim), out=length.copy(), where=fire)
            amount = np.where(fire, grown * aim - length * phi, 0.0)
            if grown.max(initial=0.0) > LARGEST_GROWTH:
                over = grown > LARGEST_GROWTH
                grown[over] = LARGEST_GROWTH
                amount[over] = np.sqrt(LARGEST_GROWTH**2 - across[over] ** 2) - (length * phi)[over]
            visits.add(visit, amount)
            length = grown
            if self.fixed_target is None:
                targets[visit.entry] = np.where(meet, target + self.beta * (phi - target), target)
            fired += int(np.count_nonzero(fire))
            seen += int(np.count_nonzero(meet))
        if some:
            table[chosen] = targets.reshape(table[chosen].shape)
        self.visited.add_(seen)
        self.corrected.add_(fired)
        return torch.from_numpy(visits.weights(norms))

    def _weigh_pair(self, pair: Pair, rows: Sequence[int]) -> Tensor:
        """One visit at most for each of two objectives: no length has grown before, and none can reach its limit."""
        table, present = self.target.numpy(), self.present.tolist()
        amounts = {}
        visits = rows if pair.moving else ()
        for row in visits:
            place = 0, present[row], present[1 - row]
            phi, target = pair.cosines[row], table.item(place)
            aim = min(target, LARGEST_TARGET)
            if phi < aim:
                amounts[row] = math.sqrt(1.0 - phi * phi) / math.sqrt(1.0 - aim * aim) * aim - phi
            if self.fixed_target is None:
                table[place] = target + self.beta * (phi - target)
        self.visited.add_(len(visits))
        self.corrected.add_(len(amounts))
        return pair.weights(amounts)
