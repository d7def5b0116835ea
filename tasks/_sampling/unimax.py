"""UniMax: as uniform as possible without seeing any objective's data more often than N times.

The budget of the whole training is handed out from the smallest objective to the largest: each gets an equal part of
what is left, or N times its data where that is less.

    U_i = min(rest / objectives left, N amount_i)
    p_i = U_i / sum_j U_j

Amounts and budget are in the unit of a task's steps. In translation these are subwords, with the end of sentences and
without padding, and batches hold whole sentences, so that fewer than N passes are made; more only by an objective whose
share of a step is less than its longest sentence, which has room for that one all the same. Where N passes over
everything do not use the budget up, shares are proportional to the amounts and every objective is seen more often. The
paper's N is not known here, so that there is no default: give it.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray

import mtlbench


@mtlbench.register_sampling("unimax", paper="UniMax, ICLR 2023, arXiv:2304.09151")
class UniMax(mtlbench.Sampling):
    """The same shares in every epoch.

    Args:
        repeats: N, the most passes over the data of an objective; not necessarily whole.
    """

    def __init__(self, repeats: Annotated[float, Interval(gt=0)]) -> None:
        super().__init__()
        self.repeats = repeats

    def shares(self, epoch: int) -> NDArray[np.float64]:
        """What each objective gets of the budget, over what all get."""
        rest = self.supply.step * self.steps_per_epoch * self.epochs
        given = np.zeros(len(self.supply.amounts))
        for place, k in enumerate(np.argsort(self.supply.amounts, kind="stable")):
            given[k] = min(rest / (len(given) - place), self.repeats * self.supply.amounts[k])
            rest -= given[k]
        return given / given.sum()
