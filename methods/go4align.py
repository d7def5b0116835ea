"""GO4Align: objectives in groups, whose common weights bring their losses to one scale and favour what is small.

With p = 1/K at first, every step takes::

    p_k <- p_k exp(-eta L_k),  normalised;    v_k = p_k sum_j L_j / L_k

then puts the K numbers v into `clusters` groups by k-means, and minimises `sum_k w_k L_k` with the constant weight w_k
the mean of v in the group of k, heads included. With one group this is the plain sum times the mean of v.

Conventions of this suite: numbers on a line need no random start for k-means, so that the groups are the best ones,
found exactly; the authors' code draws its starting points. The authors' command line has one group by default, with
which the method is a rescaled plain sum; the default here is two, and the number is to be chosen. With at least K
groups each objective is its own. Losses must be positive. In a step without some objectives p is renormalised over
those that are present, to the sum that they had, and the groups are of them alone.

Source: the rule from the authors' code (autumn9999/GO4Align), which calls p `adv_probs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

import mtlbench


@mtlbench.register_method("go4align", paper="NeurIPS 2024, arXiv:2404.06486")
class GO4Align(mtlbench.LossWeighting):
    """`sum_k w_k L_k`, with one weight for each group of objectives.

    Args:
        clusters: how many groups.
        eta: step size of p.
    """

    exceptions: Mapping[str, str] = {
        "common_scale": "eta has the unit of an inverse loss",
        "single_scale": "several objectives may share a weight",
        "plain_sum": "weights follow the losses",
        "descent": "it sees no gradients, so no conflicts",
    }
    on_host: ClassVar[bool] = True

    p: Tensor
    """(K,) float64, summing to 1."""

    def __init__(self, clusters: Annotated[int, Ge(1)] = 2, eta: Annotated[float, Ge(0)] = 1e-4) -> None:
        super().__init__()
        self.clusters = clusters
        self.eta = eta
        self.register_buffer("p", torch.empty(0, dtype=torch.float64))

    def start(self) -> None:
        """Equal p."""
        self.p = torch.full((self.objectives,), 1 / self.objectives, dtype=torch.float64)

    def scalarize(self, losses: Tensor) -> Tensor:
        """The losses with the weights of their groups."""
        self.require_positive(losses)
        values = losses.detach().to("cpu", torch.float64)
        p = self.p[self.present]
        moved = (p.log() - self.eta * values).softmax(0) * p.sum()
        self.p[self.present] = moved
        weights = cluster_means(moved * values.sum() / values, self.clusters)
        return (weights.to(losses) * losses).sum()

    def report(self) -> dict[str, float]:
        """The p that were reached."""
        return {f"p_{k}": p for k, p in enumerate(self.p.tolist())}


def cluster_means(values: Tensor, clusters: int) -> Tensor:
    """Every number replaced by the mean of its group, where groups have the least sum of squared distances to means.

    Groups of numbers on a line are runs of the sorted numbers, so that the best grouping of the first j into g groups
    is the best one of the first i into g - 1 and the run from i to j, for some i.

    Args:
        values: (m,) float64.
        clusters: how many groups at most, at least 1.

    Returns:
        (m,) float64.
    """
    order = values.argsort(stable=True)
    x, m = values[order].numpy(), len(values)
    runs = _squared_distances(x)
    costs = [runs[0]]  # costs[g][j]: of the first j numbers in g + 1 groups
    cuts = []
    for _ in range(min(clusters, m) - 1):
        ways = costs[-1][:, None] + runs
        cuts.append(ways.argmin(0))
        costs.append(ways.min(0))
    means, end = np.empty(m), m
    for cut in [*reversed(cuts), np.zeros(m + 1, dtype=int)]:
        begin = int(cut[end])
        if begin < end:
            means[begin:end] = x[begin:end].mean()
        end = begin
    answer = torch.empty_like(values)
    answer[order] = torch.from_numpy(means)
    return answer


def _squared_distances(x: np.ndarray) -> np.ndarray:
    """(m+1, m+1): at (i, j) the sum of squared distances of `x[i:j]` to their mean; infinite where i is above j."""
    m = len(x)
    found = np.full((m + 1, m + 1), np.inf)
    for i in range(m + 1):
        run = x[i:]
        sizes = np.arange(1, len(run) + 1)
        found[i, i] = 0.0
        centred = run - x[i] if len(run) else run
        found[i, i + 1 :] = np.maximum(np.cumsum(centred**2) - np.cumsum(centred) ** 2 / sizes, 0.0)
    return found
