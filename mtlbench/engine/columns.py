"""Columns of a Jacobian that lie in one place: rows of numbers, their Gramians per group, their weighted sums."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from mtlbench.engine.aside import Aside

# Columns per block. Groups are padded to whole blocks so that one batched product serves every granularity.
BLOCKS = (4096, 2048, 1024, 512, 256, 128, 64)
PADDING_SHARE = 0.02
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


class Columns(ABC):
    """A buffer of rows whose columns are whole blocks, each of one group; what pads a group is zero.

    Args:
        parameters: whose gradients the columns are, or part of them.
        spans: from where to where each group's columns go, padding left out.
        blocks: (blocks,) int64: the group of each block of columns, in order.
        block: columns of a block.
        dtype: of the rows.
        wide: dtype of products and of the update.
        device: where they lie.
    """

    def __init__(
        self,
        parameters: Sequence[Parameter],
        spans: Sequence[tuple[int, int]],
        blocks: Tensor,
        block: int,
        dtype: torch.dtype,
        wide: torch.dtype,
        device: torch.device,
    ) -> None:
        self.parameters = parameters
        self.block = block
        self.dtype = dtype
        self.device = device
        self.groups = len(spans)
        self.width = len(blocks) * block
        self._narrow = block if self.groups > 1 else min(block, _NARROW)
        self._spans = spans
        self._group_of_block = blocks.to(device)
        self._buffer = torch.zeros(0, self.width, dtype=dtype, device=device)
        self._update = torch.zeros(self.width, dtype=wide, device=device)
        self._update_row = self._update.view(1, -1)
        self._hooks: list[Callable[[Tensor], None]] = []
        self._row = 0
        self._reached: list[bool] = []

    @abstractmethod
    def end_row(self) -> list[bool]:
        """Put zeros where the backward pass did not reach; whether it did, for every parameter."""

    @abstractmethod
    def row(self, row: int) -> list[Tensor]:
        """One row, for each parameter what lies here of it, to be read only."""

    @abstractmethod
    def set_row(self, row: int, gradients: Sequence[Tensor | None]) -> None:
        """Copy one gradient per parameter into `row`; None is zero. `reserve` all rows before the first."""

    @abstractmethod
    def _store(self, index: int, gradient: Tensor) -> None:
        """Take a gradient of a parameter, or another part of it, into the row."""

    @abstractmethod
    def _take_up_existing(self) -> bool:
        """Bring gradients that are already there into the update; False if there are none."""

    @abstractmethod
    def _hand_out(self) -> None:
        """Make `.grad` of the parameters what the update says."""

    @abstractmethod
    def _spans_of(self, parameters: Sequence[Parameter]) -> list[tuple[int, int]]:
        """From where to where columns of these parameters go."""

    @contextmanager
    def filling(self, rows: int) -> Iterator[Self]:
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

    def places(self, group: int) -> tuple[int, Tensor] | None:
        """How many columns a group has, and which of them lie here, (P_g,) int64; None where all do."""
        return None

    def reserve(self, rows: int) -> None:
        """Make room for `rows` rows; what is in the buffer is lost if it grows."""
        if rows > len(self._buffer):
            self._buffer = torch.zeros(0, self.width, dtype=self.dtype, device=self.device)  # free before growing
            stride = self.width + _STAGGER // self.dtype.itemsize
            self._buffer = torch.zeros(rows, stride, dtype=self.dtype, device=self.device)[:, : self.width]

    def gramian(self, rows: int, parameters: Sequence[Parameter] | None = None) -> Tensor:
        """Inner products of the first `rows` rows, per group: (groups, rows, rows) float64.

        Args:
            rows: how many rows hold gradients.
            parameters: count only these parameters' columns, as one group: (1, rows, rows).
        """
        with full_precision(self.device):
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
        with full_precision(self.device):
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

    def _hook(self, index: int) -> Callable[[Tensor], None]:
        def store(parameter: Tensor) -> None:
            assert parameter.grad is not None
            self._store(index, parameter.grad)
            parameter.grad = None

        return store

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
        total = torch.zeros(1, rows, rows, dtype=torch.float64, device=self.device)
        for start, stop in self._spans_of(parameters):
            part = self._buffer[:rows, start:stop].double()
            total[0] += part @ part.T
        return total


def block_size(sizes: Sequence[int], ranks: int = 1) -> int:
    """The largest block whose padding, of groups and to equal shares of ranks, is a small share of the columns."""
    total = sum(sizes)
    for block in BLOCKS[:-1]:
        if sum(-size % block for size in sizes) + (ranks - 1) * block <= PADDING_SHARE * total:
            return block
    return BLOCKS[-1]


def required(groups: Sequence[Sequence[Parameter]]) -> tuple[list[Parameter], torch.device, torch.dtype]:
    """The parameters of all groups, their device, and the dtype in which they are combined; raises `ValueError`."""
    parameters = [p for group in groups for p in group]
    if len({id(p) for p in parameters}) != len(parameters) or not all(groups):
        raise ValueError("every shared parameter belongs to exactly one group, and no group is empty")
    devices = {p.device for p in parameters}
    if len(devices) != 1:
        raise ValueError(f"the shared parameters lie on several devices: {sorted(map(str, devices))}")
    wide = torch.float64 if any(p.dtype == torch.float64 for p in parameters) else torch.float32
    return parameters, devices.pop(), wide


def starts(sizes: Sequence[Sequence[int]], block: int) -> tuple[list[int], list[int]]:
    """Where the columns of each parameter begin, and those of each group, which begin blocks; by their numbers."""
    of_parameters, of_groups, at = [], [], 0
    for group in sizes:
        of_groups.append(at)
        of_parameters += [at + before for before in itertools.accumulate(group[:-1], initial=0)]
        at += -(-sum(group) // block) * block
    return of_parameters, of_groups


def take_up(
    parameters: Sequence[Parameter], views: Sequence[Tensor], entries: Callable[[Tensor], Tensor] | None = None
) -> bool:
    """Copy gradients that are already there to `views`, where they do not lie there; False if there are none.

    Args:
        parameters: those without a gradient have zeros among ones that have one.
        views: one for each parameter.
        entries: what is copied of a gradient; None for all of it.
    """
    if all(p.grad is None for p in parameters):
        return False
    for p, view in zip(parameters, views, strict=True):
        if p.grad is None:
            view.zero_()
        elif (found := p.grad if entries is None else entries(p.grad)).data_ptr() != view.data_ptr():
            view.copy_(found)
    return True


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


def full_precision(device: torch.device) -> AbstractContextManager[object]:
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
