"""The Jacobian of a plain module over the ranks of a process group: rows are averaged, each rank keeps its columns."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import Parameter

from mtlbench.engine.collectives import Collectives, Coming
from mtlbench.engine.columns import Columns, block_size, required, starts, take_up
from mtlbench.errors import UsageError

# Entries of a row that travel in one message.
_BUCKET = 1 << 22
# Messages on their way at a time; each holds a bucket, or two where the backend cannot reduce while it scatters.
_UNDERWAY = 4
# Up to so many columns a row is taken from `.grad` after its pass, as in `engine.jacobian`.
_GATHERED_COLUMNS = 1 << 21


class _Piece(NamedTuple):
    """Some entries of a parameter, in the order in which they lie in memory."""

    bucket: int
    place: int
    """In the bucket."""
    start: int
    stop: int


class _Share(NamedTuple):
    """What this rank keeps of a bucket: from where to where among the columns of all ranks, and in its own."""

    first: int
    stop: int
    here: int
    end: int


class SummedColumns(Columns):
    """Columns of which others lie with the other ranks, so that what is summed over columns is summed over ranks."""

    _collectives: Collectives

    def gramian(self, rows: int, parameters: Sequence[Parameter] | None = None) -> Tensor:
        """See `Columns.gramian`: the sum of those of the ranks."""
        return self._collectives.total(super().gramian(rows, parameters))

    def row_sums(self, rows: int) -> Tensor:
        """See `Columns.row_sums`: over the columns of all ranks."""
        return self._collectives.total(super().row_sums(rows))


class ShardedJacobian(SummedColumns):
    """Gradients of the objectives with respect to shared parameters that every rank has, averaged over the ranks.

    All columns, ordered by group and padded to whole blocks, are cut into buckets, and a rank keeps its Nth of each
    bucket. While a backward pass runs, gradients are copied to buckets and let go of; a bucket that is full is sent
    off, and arrives as the rank's columns of the mean over ranks. All ranks send the buckets of a row in the same
    order, last columns first, whatever order gradients come in.

    Args:
        groups: the parameters of each group, the same on every rank.
        dtype: of the rows that are kept; they travel in the dtype of the parameters, at least float32.
        collectives: of the ranks.
    """

    def __init__(
        self, groups: Sequence[Sequence[Parameter]], dtype: torch.dtype | None, collectives: Collectives
    ) -> None:
        parameters, device, wide = required(groups)
        sizes = [[p.numel() for p in group] for group in groups]
        totals = list(map(sum, sizes))
        block = block_size(totals, collectives.size)
        places, firsts = starts(sizes, block)
        used = torch.repeat_interleave(torch.tensor([-(-total // block) for total in totals]))
        self._bounds = _bucket_bounds(len(used), block, collectives.size)
        padded = torch.cat([used, used[-1:].expand(self._bounds[-1] // block - len(used))])
        self._shares = list(_shares(self._bounds, collectives))
        blocks = torch.cat([padded[s.first // block : s.stop // block] for s in self._shares])
        self._groups = [(first, first + total) for first, total in zip(firsts, totals, strict=True)]
        spans = [_whole_span(self._kept(first, stop)) for first, stop in self._groups]
        super().__init__(parameters, spans, blocks, block, dtype or wide, wide, device)
        self._collectives = collectives
        self._places = [(start, start + p.numel()) for start, p in zip(places, parameters, strict=True)]
        self._pieces = [list(_pieces(self._bounds, *place)) for place in self._places]
        self._padding = _gaps(self._bounds, self._places)
        self._orders = [_order(p) for p in parameters]
        self._whole = torch.zeros(self._bounds[-1], dtype=wide, device=device)
        self._views = [
            _shaped(self._whole[start:stop], p, order)
            for (start, stop), p, order in zip(self._places, parameters, self._orders, strict=True)
        ]
        gathered = self._bounds[-1] <= _GATHERED_COLUMNS
        self._hooks = [] if gathered else [self._hook(index) for index in range(len(parameters))]
        self._filled: dict[int, Tensor] = {}
        self._free: dict[int, list[Tensor]] = {}
        self._missing: list[int] = []
        self._underway: deque[tuple[int, int, Coming]] = deque()
        self._next = 0

    @contextmanager
    def filling(self, rows: int) -> Iterator[Self]:
        """See `Columns.filling`; at the end all rows are here."""
        try:
            with super().filling(rows):
                yield self
                self._arrive(0)
        finally:
            self._underway.clear()
            self._filled.clear()

    def start_row(self, row: int) -> None:
        """Direct the next backward pass into `row`."""
        super().start_row(row)
        self._next = len(self._shares) - 1
        self._missing = [0] * len(self._shares)
        for pieces in self._pieces:
            for piece in pieces:
                self._missing[piece.bucket] += 1

    def end_row(self) -> list[bool]:
        """Send what is left of the row; whether the pass on this rank reached each parameter."""
        if not self._hooks:
            for index, p in enumerate(self.parameters):
                if p.grad is not None:
                    self._store(index, p.grad)
                    p.grad = None
        reached = list(self._reached)
        for index, there in enumerate(reached):
            if not there:
                self._store(index, None)
        return reached

    def row(self, row: int) -> list[Tensor]:
        """Of each parameter the entries of the averaged row that this rank keeps, flat."""
        self._arrive(0)
        kept = self._buffer[row]
        spans = [self._kept(*place) for place in self._places]
        return [torch.cat([kept[start:stop] for start, stop in own]) if own else kept[:0] for own in spans]

    def set_row(self, row: int, gradients: Sequence[Tensor | None]) -> None:
        """Average one gradient per parameter over ranks into `row`; None is zero."""
        self.reserve(row + 1)
        self.start_row(row)
        for index, gradient in enumerate(gradients):
            self._store(index, gradient)
        self._arrive(0)

    def places(self, group: int) -> tuple[int, Tensor]:
        """See `Columns.places`."""
        first, stop = self._groups[group]
        spans = [(max(first, s.first), min(stop, s.stop)) for s in self._shares]
        return stop - first, torch.cat([torch.arange(a - first, max(a, b) - first) for a, b in spans])

    def _kept(self, first: int, stop: int) -> list[tuple[int, int]]:
        """From where to where the columns `first` to `stop` of all ranks lie here."""
        found = []
        for share in self._shares:
            a, b = max(first, share.first), min(stop, share.stop)
            if a < b:
                found.append((share.here + a - share.first, share.here + b - share.first))
        return found

    def _spans_of(self, parameters: Sequence[Parameter]) -> list[tuple[int, int]]:
        wanted = {id(p) for p in parameters}
        places = [place for place, p in zip(self._places, self.parameters, strict=True) if id(p) in wanted]
        return [span for place in places for span in self._kept(*place)]

    def _take_up_existing(self) -> bool:
        if not take_up(self.parameters, self._views):
            return False
        for share in self._shares:
            self._update[share.here : share.end] = self._whole[share.first : share.stop]
        return True

    def _hand_out(self) -> None:
        works = [
            self._collectives.gather(self._whole[first:stop], self._update[share.here : share.end])
            for (first, stop), share in zip(pairwise(self._bounds), self._shares, strict=True)
        ]
        for work in works:
            work.wait()
        for p, view in zip(self.parameters, self._views, strict=True):
            p.grad = view if view.dtype == p.dtype else view.to(p.dtype)

    def _store(self, index: int, gradient: Tensor | None) -> None:
        """Copy a gradient to the buckets; one that is missing is zero."""
        again = self._reached[index]
        flat = None if gradient is None else _flat(gradient, self._orders[index])
        for piece in self._pieces[index]:
            if again and piece.bucket > self._next:
                raise UsageError(
                    "the gradient of a shared parameter comes in several parts, as from a reentrant checkpoint, and "
                    "the first is on its way to other ranks: use torch.utils.checkpoint.checkpoint(..., "
                    "use_reentrant=False)."
                )
            place = self._bucket(piece.bucket)[piece.place : piece.place + piece.stop - piece.start]
            if flat is None:
                place.zero_()
            elif again:
                place += flat[piece.start : piece.stop]
            else:
                place.copy_(flat[piece.start : piece.stop])
            self._missing[piece.bucket] -= not again
        self._reached[index] = True
        while self._next >= 0 and not self._missing[self._next]:
            self._send(self._next)
            self._next -= 1

    def _send(self, bucket: int) -> None:
        self._arrive(_UNDERWAY - 1)
        full = self._bucket(bucket)
        del self._filled[bucket]
        self._underway.append((self._row, bucket, self._collectives.scatter(full)))

    def _arrive(self, left: int) -> None:
        """Wait until so many messages are left on their way."""
        while len(self._underway) > left:
            row, bucket, coming = self._underway.popleft()
            share = self._shares[bucket]
            coming.arrive(self._buffer[row, share.here : share.end])
            self._free.setdefault(len(coming.sent), []).append(coming.sent)

    def _bucket(self, bucket: int) -> Tensor:
        """The bucket of the row that is being filled, zero where it is padded."""
        if bucket not in self._filled:
            size = self._bounds[bucket + 1] - self._bounds[bucket]
            free = self._free.get(size)
            made = free.pop() if free else torch.empty(size, dtype=self._update.dtype, device=self.device)
            for start, stop in self._padding[bucket]:
                made[start:stop] = 0
            self._filled[bucket] = made
        return self._filled[bucket]


def _bucket_bounds(blocks: int, block: int, ranks: int) -> list[int]:
    """Where buckets begin and end, in columns: each is as many whole blocks for every rank."""
    size = max(1, _BUCKET // (block * ranks)) * ranks
    end = -(-blocks // ranks) * ranks
    return [bound * block for bound in (*range(0, end, size), end)]


def _shares(bounds: Sequence[int], collectives: Collectives) -> Iterator[_Share]:
    here = 0
    for start, stop in pairwise(bounds):
        size = (stop - start) // collectives.size
        first = start + collectives.rank * size
        yield _Share(first, first + size, here, here + size)
        here += size


def _pieces(bounds: Sequence[int], first: int, end: int) -> Iterator[_Piece]:
    """Of a parameter, which part goes to which bucket."""
    for bucket, (start, stop) in enumerate(pairwise(bounds)):
        a, b = max(first, start), min(end, stop)
        if a < b:
            yield _Piece(bucket, a - start, a - first, b - first)


def _gaps(bounds: Sequence[int], places: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Of each bucket, from where to where it belongs to no parameter."""
    found: list[list[tuple[int, int]]] = [[] for _ in bounds[1:]]
    edges = [0, *(edge for place in places for edge in place), bounds[-1]]
    for first, stop in zip(edges[::2], edges[1::2], strict=True):
        for piece in _pieces(bounds, first, stop):
            found[piece.bucket].append((piece.place, piece.place + piece.stop - piece.start))
    return found


def _whole_span(spans: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Of a group, whose columns here follow each other."""
    return (spans[0][0], spans[-1][1]) if spans else (0, 0)


def _order(p: Tensor) -> list[int]:
    """The dimensions as they lie in memory, outermost first; of what is not dense, as torch would lay it out."""
    strides = torch.empty_like(p, device="meta").stride()
    return sorted(range(p.ndim), key=lambda dim: (-strides[dim], dim))


def _flat(gradient: Tensor, order: Sequence[int]) -> Tensor:
    dense = gradient.to_dense() if gradient.is_sparse else gradient
    return dense.permute(*order).reshape(-1) if dense.ndim > 1 else dense.reshape(-1)


def _shaped(flat: Tensor, p: Tensor, order: Sequence[int]) -> Tensor:
    """A view with the shape of the parameter, laid out as it is."""
    back = sorted(range(p.ndim), key=order.__getitem__)
    return flat.view([p.shape[dim] for dim in order]).permute(back)
