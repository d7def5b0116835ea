"""Temperature sampling: shares proportional to the training examples of an objective to the power 1/T.

    p_i = D_i^(1/T) / sum_j D_j^(1/T)

T = 1 is proportional to the data, T towards infinity uniform. With the temperature of the protocol, which is the
default, it is what a task does without a strategy. Another one changes the shares alone, and nothing else that a
protocol derives from its temperature, such as the text that subwords are learnt from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray

import mtlbench


def shares(sizes: Sequence[int] | NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """(K,) p_i proportional to D_i^(1/T); equal ones where T is infinite."""
    logs = np.log(np.asarray(sizes, dtype=np.float64)) / temperature
    p = np.exp(logs - logs.max())
    return np.asarray(p / p.sum(), dtype=np.float64)


@mtlbench.register_sampling("temperature")
class Temperature(mtlbench.Sampling):
    """The same shares in every epoch.

    Args:
        temperature: T; none for that of the protocol.
    """

    def __init__(self, temperature: Annotated[float, Interval(gt=0)] | None = None) -> None:
        super().__init__()
        self.temperature = temperature

    def shares(self, epoch: int) -> NDArray[np.float64]:
        """Proportional to `sizes^(1/T)`."""
        return shares(self.supply.sizes, self.temperature or self.supply.temperature)
