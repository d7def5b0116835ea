"""Aggregators that remember a number for each entry of the Jacobian, such as a mean of every gradient over steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from mtlbench.engine.kinds import JacobianAggregator
from mtlbench.errors import UsageError


class RememberingAggregator(JacobianAggregator):
    """A `JacobianAggregator` with a state of the size of the Jacobian, per group, on the model's device.

    Other state, in buffers, stays on the CPU. Groups that are frozen or taken up during training come and go with
    their state; within a group the same parameters must stay trainable.
    """

    def __init__(self) -> None:
        super().__init__()
        self._memory: dict[int, Tensor] = {}

    def remember(self, jacobian: Tensor, change: Callable[[Tensor, Tensor], object]) -> Tensor:
        """What is remembered of the present objectives in this group, after `change`.

        Args:
            jacobian: (m, P_g), as `aggregate` gets it.
            change: of what was remembered, (m, P_g) of zeros at first and at least float32, by the Jacobian in the
                same dtype; in place.

        Returns:
            (m, P_g), to be read only.

        Raises:
            UsageError: the group has other columns than before.
        """
        memory, rows = self._of(jacobian), self.present.tolist()
        new = jacobian.to(memory.dtype)
        if rows == list(range(self.objectives)):
            change(memory, new)
            return memory
        part = memory[rows]
        change(part, new)
        memory[rows] = part
        return part

    def _of(self, jacobian: Tensor) -> Tensor:
        """(K, P_g): the memory of the group."""
        columns, dtype = jacobian.shape[1], torch.promote_types(jacobian.dtype, torch.float32)
        memory = self._memory.get(self.group)
        if memory is None:
            memory = torch.zeros(self.objectives, columns, dtype=dtype, device=jacobian.device)
        elif memory.shape[1] != columns:
            raise UsageError(
                f"{self.name}: has a number for each trainable shared parameter, and group {self.group} had "
                f"{memory.shape[1]} of them and now has {columns}. Freeze and unfreeze whole groups."
            )
        self._memory[self.group] = memory = memory.to(jacobian.device, dtype)
        return memory

    def regroup(self, origin: Sequence[int | None]) -> None:
        """Go on with other groups; see `Method.regroup`."""
        super().regroup(origin)
        kept = {new: old for new, old in enumerate(origin) if old in self._memory}
        self._memory = {new: self._memory[old] for new, old in kept.items() if old is not None}

    def get_extra_state(self) -> dict[str, Any]:
        """That of every method, and the memory of each group, empty before its first step."""
        memory = {str(group): self._memory.get(group, torch.empty(0)) for group in range(self.groups)}
        return super().get_extra_state() | {"memory": memory}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """What `get_extra_state` returned; copied, since memory is changed in place."""
        super().set_extra_state(state)
        self._memory = {int(group): rows.clone() for group, rows in state["memory"].items() if rows.numel()}

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        return self
