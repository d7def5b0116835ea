"""Weights that a method computes every n-th step and that are kept in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mtlbench.errors import UsageError


class KeptWeights:
    """The weights of the last step that computed some, and how long ago that was.

    Args:
        every: n: weights serve their own step and at most n - 1 after it.

    Raises:
        UsageError: `every` is not a whole number of at least 1.
    """

    def __init__(self, every: int) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise UsageError(f"refresh={every!r} is not allowed: it is a whole number of steps, at least 1.")
        self.every = every
        self._served = 0
        self._weights = torch.empty(0, dtype=torch.float64)

    def of(self, present: Sequence[int]) -> Tensor | None:
        """(G, m) float64 on the CPU: the weights of a step that holds these objectives; None if it computes anew.

        It does after n steps, and where an objective had no weight in the last step that computed some.
        """
        if not 0 < self._served < self.every:
            return None
        weights = self._weights[:, list(present)]
        return None if bool(weights.isnan().any()) else weights

    def computed(self, weights: Tensor, present: Sequence[int], objectives: int) -> None:
        """Keep the (G, m) weights that a step of these objectives, of K in all, has computed."""
        self._weights = torch.full((len(weights), objectives), torch.nan, dtype=torch.float64)
        self._weights[:, list(present)] = weights
        self._served = 1

    def used(self) -> None:
        """Count a step that took them."""
        self._served += 1

    def forget(self) -> None:
        """Compute in the next step, since these are of other parameters."""
        self._served = 0

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"served": self._served, "weights": self._weights.clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict()`."""
        self._served = int(state["served"])
        self._weights = state["weights"].to("cpu", torch.float64, copy=True)
