"""Aggregators that look at one column at a time, so that the columns of a group may lie apart, on several ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from mtlbench.engine.kinds import JacobianAggregator


class ColumnwiseAggregator(JacobianAggregator):
    """A `JacobianAggregator` whose update in a column depends on the rows in this column alone.

    It has no state with an entry for each column, and draws numbers for columns with `drawn`. So it gives the same
    update where each rank of a process group has some of the columns.
    """

    apart: tuple[int, Tensor] | None = None
    """Where columns lie apart: how many the group has, and which of them `aggregate` sees, (P_g,) int64."""

    def drawn(self, columns: int, dtype: torch.dtype) -> Tensor:
        """(columns,) uniform numbers of [0, 1) on the CPU, one for each column that `aggregate` sees.

        They are drawn for all columns of the group wherever these lie, so that generators of ranks stay together.
        """
        if self.apart is None:
            return torch.rand(columns, generator=self.generator, dtype=dtype)
        total, here = self.apart
        return torch.rand(total, generator=self.generator, dtype=dtype)[here]
