"""The K x P Jacobian of the objectives: filled row by row, reduced to Gramians, combined into the update."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from mtlbench.engine.columns import Columns, block_size, required, starts, take_up

# Up to so many columns a row is copied from `.grad` in one call after its pass: a hook for each parameter takes longer
# than what it copies. In wider ones each gradient is let go of as soon as it is there, which saves the memory of a row.
_GATHERED_COLUMNS = 1 << 21


class Jacobian(Columns):
    """The gradients of the objectives with respect to the shared parameters, one row each.

    Here all columns lie in one place. Nothing outside knows: where they are spread over ranks (`engine.sharded`), the
    Gramian is the sum of the ranks' Gramians, and the combination is local to each.

    Columns are ordered by group, and each group starts a new block of columns; the padding stays zero.

    Args:
        groups: the parameters of each group; every parameter in exactly one.
        dtype: of the buffer; by default float64 if a parameter is, else float32. bfloat16 halves the buffer;
            products are still taken in float32.
    """

    def __init__(self, groups: Sequence[Sequence[Parameter]], dtype: torch.dtype | None = None) -> None:
        parameters, device, wide = required(groups)
        sizes = [[p.numel() for p in group] for group in groups]
        totals = list(map(sum, sizes))
        block = block_size(totals)
        places, firsts = starts(sizes, block)
        blocks = torch.repeat_interleave(torch.tensor([-(-total // block) for total in totals]))
        spans = [(first, first + total) for first, total in zip(firsts, totals, strict=True)]
        super().__init__(parameters, spans, blocks, block, dtype or wide, wide, device)
        self._places = list(zip(places, parameters, strict=True))
        # Those of p, where it is dense: channels_last stays channels_last.
        self._strides = [torch.empty_like(p, device="meta").stride() for p in parameters]
        gathered = self.width <= _GATHERED_COLUMNS
        self._hooks = [] if gathered else [self._hook(index) for index in range(len(parameters))]
        self._rows: list[list[Tensor]] = []
        self._update_views = self._views(self._update)

    def end_row(self) -> list[bool]:
        """Put zeros where the backward pass did not reach; whether it did, for every parameter."""
        if not self._hooks:
            gradients = [p.grad for p in self.parameters]
            for p in self.parameters:
                p.grad = None
            return self._put(self._row, gradients)
        for reached, view in zip(self._reached, self._rows[self._row], strict=True):
            if not reached:
                view.zero_()
        return self._reached

    def row(self, row: int) -> list[Tensor]:
        """One row, in the shapes of the parameters: views, to be read only."""
        return self._rows[row]

    def set_row(self, row: int, gradients: Sequence[Tensor | None]) -> None:
        """Copy one gradient per parameter into `row`; None is zero. `reserve` all rows before the first."""
        self.reserve(row + 1)
        self._put(row, gradients)

    def reserve(self, rows: int) -> None:
        """Make room for `rows` rows; what is in the buffer is lost if it grows."""
        if rows > len(self._buffer):
            self._rows = []
            super().reserve(rows)
            self._rows = [self._views(row) for row in self._buffer]

    def _views(self, flat: Tensor) -> list[Tensor]:
        """Shaped as the parameters, with their strides, as optimisers may expect of `.grad`."""
        first = flat.storage_offset()
        return [
            flat.as_strided(p.shape, s, first + start)
            for (start, p), s in zip(self._places, self._strides, strict=True)
        ]

    def _put(self, row: int, gradients: Sequence[Tensor | None]) -> list[bool]:
        """Copy one gradient for each parameter into a row, zeros for None; for which there was one."""
        views, found = [], []
        for view, gradient in zip(self._rows[row], gradients, strict=True):
            if gradient is None:
                view.zero_()
            else:
                views.append(view)
                found.append(gradient.to_dense() if gradient.is_sparse else gradient)
        if found:
            torch._foreach_copy_(views, found)
        return [gradient is not None for gradient in gradients]

    def _store(self, index: int, gradient: Tensor) -> None:
        view = self._rows[self._row][index]
        dense = gradient.to_dense() if gradient.is_sparse else gradient
        if self._reached[index]:  # a nested backward pass (checkpointing) delivers a gradient in several parts
            view.add_(dense)
        else:
            view.copy_(dense)
        self._reached[index] = True

    def _take_up_existing(self) -> bool:
        return take_up(self.parameters, self._update_views)

    def _spans_of(self, parameters: Sequence[Parameter]) -> list[tuple[int, int]]:
        wanted = {id(p) for p in parameters}
        return [(start, start + p.numel()) for start, p in self._places if id(p) in wanted]

    def _hand_out(self) -> None:
        for p, view in zip(self.parameters, self._update_views, strict=True):
            p.grad = view if view.dtype == p.dtype else view.to(p.dtype)
