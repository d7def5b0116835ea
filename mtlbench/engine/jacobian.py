"""The K x P Jacobian of the objectives: filled row by row, reduced to Gramians, combined into the update."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from mtlbench.engine.aside import Aside

# Columns per block. Groups are padded to whole blocks so that one batched product serves every granularity.
_BLOCKS = (4096, 2048, 1024, 512, 256, 128, 64)
_PADDING_SHARE = 0.02
# Below this many entries the Gramian is computed in float64 throughout: it costs nothing there.
_EXACT_ENTRIES = 1 << 16
# Bytes between the end of a row and the next: a page and a cache line. Blocks make rows a multiple of a page, so
# that without it the same column of all rows falls into the same few cache and TLB sets; that costs up to a half
# from 16 rows on.
_STAGGER = 4096 + 64
# Up to so many columns the Gramian of two rows is three inner products, of pieces of so many columns: they stay in the
# cache for all three, and are summed in many lanes, so that no float32 sum is longer than in a block.
_LARGEST_OF_TWO = 1 << 20
_COLUMNS_OF_TWO = 1 << 17
# Columns per block, at most, where there is one group, to combine rows or to multiply two of them: a block of two rows
# then fits the first cache, which saves up to a third where the whole fits none.
_NARROW = 1024
# Up to so many entries one product of a matrix and a vector combines faster than a batch of blocks. Whether the bits
# are the same depends on the processor.
_WHOLE_ENTRIES = 1 << 18
# Entries of a temporary of a batched product.
_TEMPORARY_ENTRIES = 1 << 19
# Up to so many columns a row is copied from `.grad` in one call after its pass: a hook for each parameter takes longer
# than what it copies. In wider ones each gradient is let go of as soon as it is there, which saves the memory of a row.
_GATHERED_COLUMNS = 1 << 21


class Jacobian:
    """The gradients of the objectives with respect to the shared parameters, one row each.

    Nothing outside this class knows that the columns lie in one place: a Gramian over columns that are
    spread over ranks is the sum of the ranks' Gramians, and the combination is local to each.

    Columns are ordered by group, and each group starts a new block of columns; the padding stays zero.

    Args:
        groups: the parameters of each group; every parameter in exactly one.
        dtype: of the buffer; by default float64 if a parameter is, else float32. bfloat16 halves the buffer;
            products are still taken in float32.
    """

    def __init__(self, groups: Sequence[Sequence[Parameter]], dtype: torch.dtype | None = None) -> None:
        self.parameters = [p for group in groups for p in group]
        if len({id(p) for p in self.parameters}) != len(self.parameters) or not all(groups):
            raise ValueError("every shared parameter belongs to exactly one group, and no group is empty")
        devices = {p.device for p in self.parameters}
        if len(devices) != 1:
            raise ValueError(f"the shared parameters lie on several devices: {sorted(map(str, devices))}")
        self.device = devices.pop()
        wide = torch.float64 if any(p.dtype == torch.float64 for p in self.parameters) else torch.float32
        self.dtype = dtype or wide
        sizes = [sum(p.numel() for p in group) for group in groups]
        self.block = _block_size(sizes)
        self._narrow = self.block if len(groups) > 1 else min(self.block, _NARROW)
        blocks = [-(-size // self.block) for size in sizes]
        bounds = [0, *torch.tensor(blocks).cumsum(0).tolist()]
        self.groups = len(groups)
        self.width = bounds[-1] * self.block
        self._spans = [(a * self.block, a * self.block + n) for a, n in zip(bounds, sizes, strict=False)]
        self._group_of_block = torch.repeat_interleave(torch.tensor(blocks)).to(self.device)
        starts = [a + offset for (a, _), group in zip(self._spans, groups, strict=True) for offset in _offsets(group)]
        self._places = list(zip(starts, self.parameters, strict=True))
        # Those of p, where it is dense: channels_last stays channels_last.
        self._strides = [torch.empty_like(p, device="meta").stride() for p in self.parameters]
        gathered = self.width <= _GATHERED_COLUMNS
        self._hooks = [] if gathered else [self._hook(index) for index in range(len(self.parameters))]
        self._buffer = torch.zeros(0, self.width, dtype=self.dtype, device=self.device)
        self._rows: list[list[Tensor]] = []
        self._update = torch.zeros(self.width, dtype=wide, device=self.device)
        self._update_row = self._update.view(1, -1)
        self._update_views = self._views(self._update)
        self._row = 0
        self._reached: list[bool] = []

    @contextmanager
    def filling(self, rows: int) -> Iterator[Jacobian]:
        """While open, gradients of the shared parameters land in the row chosen by `start_row`.

        The parameters' `.grad` and users' hooks on it are kept away and put back at the end, whatever happens.
        """
        self.reserve(rows)
        aside = Aside()
        aside.take(self.parameters)
        handles = []
        try:
            for p, hook in zip(self.parameters, self._hooks, strict=bool(self._hooks)):
                handles.append(p.register_post_accumulate_grad_hook(hook))
            yield self
        finally:
            for handle in handles:
                handle.remove()
            aside.put_back()

    def start_row(self, row: int) -> None:
        """Direct the next backward pass into `row`."""
        self._row = row
        self._reached = [False] * len(self.parameters)

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

    def gramian(self, rows: int, parameters: Sequence[Parameter] | None = None) -> Tensor:
        """Inner products of the first `rows` rows, per group: (groups, rows, rows) float64.

        Args:
            rows: how many rows hold gradients.
            parameters: count only these parameters' columns, as one group: (1, rows, rows).
        """
        with _full_precision(self.device):
            if parameters is not None:
                return self._gramian_of(rows, parameters)
            exact = rows * self.width <= _EXACT_ENTRIES
            if self.groups == 1:
                return self._gramian_of_all(rows, exact)
            total = torch.zeros(self.groups, rows, rows, dtype=torch.float64, device=self.device)
            for first, columns in self._chunks(rows, self.block, exact):
                partial = torch.bmm(columns, columns.transpose(1, 2)).double()
                total.index_add_(0, self._group_of_block[first : first + len(partial)], partial)
            return _symmetric(total)

    def row_sums(self, rows: int) -> Tensor:
        """(rows,) float64 sums of the entries of each row: finite only if every entry is."""
        return self._buffer[:rows].sum(1, dtype=torch.float64)

    def combine(self, weights: Tensor) -> None:
        """Add the weighted sum of the rows to `.grad`.

        Args:
            weights: (groups, rows), or (1, rows) for the same weights in every group.
        """
        keep = self._take_up_existing()
        weights = weights.type_as(self._update)
        whole = self.groups == 1 and self.dtype == self._update.dtype
        with _full_precision(self.device):
            if whole and weights.shape[1] * self.width <= _WHOLE_ENTRIES:
                matrix = self._matrix(weights.shape[1])
                if keep:  # the same product: gradients that are zero and those that are None train alike, to the bit
                    self._update_row += torch.mm(weights, matrix)
                else:
                    torch.mm(weights, matrix, out=self._update_row)
            else:
                self._combine_blocks(weights, keep)
        self._hand_out()

    def _combine_blocks(self, weights: Tensor, keep: bool) -> None:
        rows = weights.shape[1]
        target = self._update.view(-1, 1, self._narrow)
        shares = weights[self._group_of_block] if len(weights) > 1 else weights.expand(len(target), rows)
        for first, columns in self._chunks(rows, self._narrow, False):
            out = target[first : first + len(columns)]
            share = shares[first : first + len(columns)].unsqueeze(1)
            if keep:
                torch.baddbmm(out, share, columns, out=out)
            else:
                torch.bmm(share, columns, out=out)

    def add(self, updates: Sequence[Tensor]) -> None:
        """Add one update per group, (P_g,) each, to `.grad`."""
        if not self._take_up_existing():
            self._update.zero_()
        for (start, stop), update in zip(self._spans, updates, strict=True):
            self._update[start:stop] += update
        self._hand_out()

    def columns(self, rows: int) -> list[Tensor]:
        """Per group, the (rows, P_g) block of the first `rows` rows: views, to be read only."""
        return [self._buffer[:rows, start:stop] for start, stop in self._spans]

    def reserve(self, rows: int) -> None:
        """Make room for `rows` rows; what is in the buffer is lost if it grows."""
        if rows > len(self._buffer):
            self._rows = []
            self._buffer = torch.zeros(0, self.width, dtype=self.dtype, device=self.device)  # free before growing
            stride = self.width + _STAGGER // self.dtype.itemsize
            self._buffer = torch.zeros(rows, stride, dtype=self.dtype, device=self.device)[:, : self.width]
            self._rows = [self._views(row) for row in self._buffer]

    def _views(self, flat: Tensor) -> list[Tensor]:
        """Shaped as the parameters, with their strides, as optimisers may expect of `.grad`."""
        first = flat.storage_offset()
        return [
            flat.as_strided(p.shape, s, first + start)
            for (start, p), s in zip(self._places, self._strides, strict=True)
        ]

    def _hook(self, index: int):  # type: ignore[no-untyped-def]
        def store(parameter: Tensor) -> None:
            assert parameter.grad is not None
            self._store(index, parameter.grad)
            parameter.grad = None

        return store

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

    def _matrix(self, rows: int) -> Tensor:
        """(rows, width): a view."""
        return self._buffer if rows == len(self._buffer) else self._buffer[:rows]

    def _chunks(self, rows: int, block: int, exact: bool) -> Iterator[tuple[int, Tensor]]:
        """Blocks of columns as (blocks, rows, block) batches, as many as a temporary may hold."""
        blocks = self._matrix(rows).view(rows, -1, block).transpose(0, 1)
        converted = rows * block if exact or self.dtype != self._update.dtype else 0
        size = max(1, _TEMPORARY_ENTRIES // max(rows * rows, converted))
        for first in range(0, len(blocks), size):
            chunk = blocks[first : first + size]
            if exact:
                chunk = chunk.double()
            elif self.dtype != self._update.dtype:
                chunk = chunk.to(self._update.dtype)
            yield first, chunk

    def _gramian_of_all(self, rows: int, exact: bool) -> Tensor:
        """That of a single group, (1, rows, rows), by whatever is fastest."""
        matrix = self._matrix(rows).double() if exact else self._matrix(rows)
        two = rows == 2 and self.device.type == "cpu"
        if two and self.width <= _LARGEST_OF_TWO and matrix.dtype in (torch.float32, torch.float64):
            return _gramian_of_two(matrix)
        if exact:
            return _symmetric(torch.mm(matrix, matrix.t())[None])
        block = self._narrow if two else self.block
        batches = (torch.bmm(columns, columns.transpose(1, 2)) for _, columns in self._chunks(rows, block, exact))
        sums = [batch.sum(0, keepdim=True, dtype=torch.float64) for batch in batches]
        return _symmetric(sum(sums[1:], start=sums[0]))

    def _gramian_of(self, rows: int, parameters: Sequence[Parameter]) -> Tensor:
        wanted = {id(p) for p in parameters}
        total = torch.zeros(1, rows, rows, dtype=torch.float64, device=self.device)
        for start, p in self._places:
            if id(p) in wanted:
                part = self._buffer[:rows, start : start + p.numel()].double()
                total[0] += part @ part.T
        return total

    def _take_up_existing(self) -> bool:
        """Bring gradients that are already there into the update; False if there are none."""
        if all(p.grad is None for p in self.parameters):
            return False
        for p, view in zip(self.parameters, self._update_views, strict=True):
            if p.grad is None:
                view.zero_()
            elif p.grad.data_ptr() != view.data_ptr():
                view.copy_(p.grad)
        return True

    def _hand_out(self) -> None:
        for p, view in zip(self.parameters, self._update_views, strict=True):
            p.grad = view if view.dtype == p.dtype else view.to(p.dtype)


def _block_size(sizes: Sequence[int]) -> int:
    """The largest block whose padding is a small share of the columns."""
    total = sum(sizes)
    for block in _BLOCKS[:-1]:
        if sum(-size % block for size in sizes) <= _PADDING_SHARE * total:
            return block
    return _BLOCKS[-1]


def _offsets(group: Sequence[Parameter]) -> list[int]:
    ends = torch.tensor([0, *(p.numel() for p in group)]).cumsum(0).tolist()
    return [start for start, _ in pairwise(ends)]


def _gramian_of_two(matrix: Tensor) -> Tensor:
    """That of (2, P) by inner products, for which matrix products are made too wide: (1, 2, 2) float64."""
    first = between = second = 0.0
    for x, y in [matrix] if matrix.shape[1] <= _COLUMNS_OF_TWO else matrix.split(_COLUMNS_OF_TWO, 1):
        first += torch.dot(x, x).item()
        between += torch.dot(x, y).item()
        second += torch.dot(y, y).item()
    return torch.from_numpy(np.array([[[first, between], [between, second]]]))


def _symmetric(tables: Tensor) -> Tensor:
    """The (groups, rows, rows) `tables` without what rounding made unequal."""
    return torch.add(tables, tables.transpose(1, 2)).mul_(0.5)


def _full_precision(device: torch.device) -> AbstractContextManager[object]:
    """No autocast and no TF32 in Gramians and combinations, whatever the user allows for the model."""
    if device.type == "cuda":
        return _without_tf32()
    return torch.autocast(device.type, enabled=False) if torch.is_autocast_enabled(device.type) else nullcontext()


@contextmanager
def _without_tf32() -> Iterator[None]:
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.autocast("cuda", enabled=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
