"""Inner products of the gradients of many batches: rows one by one, products in float64, within a limit of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from mtlbench.engine.losses import Losses

# Columns that are converted and multiplied at a time: those of some hundred rows stay in the second cache.
_COLUMNS = 1024
# Rows are multiplied with those before them only, in so many bands: the products are symmetric.
_BANDS = 4


class Piece(NamedTuple):
    """Columns of one parameter."""

    group: int
    parameter: Parameter
    start: int
    stop: int


def probe_gramians(
    groups: Sequence[Sequence[Parameter]],
    losses: Callable[[int], Losses],
    batches: int,
    objectives: int,
    memory: int,
) -> tuple[Tensor, Tensor]:
    """The inner products of the gradients of K objectives on B batches, over each group of parameters.

    The gradients of as many parameters as `memory` allows are kept at a time, one row for each loss, in the dtype of
    the parameters (at least float32); the others take further passes over all losses.

    Args:
        groups: G groups of parameters.
        losses: of a batch, from 0 to B - 1, the losses of all objectives, as `Backward` takes them.
        batches: B.
        objectives: K.
        memory: bytes that rows may take.

    Returns:
        (G, B K, B K) float64 on the CPU, rows by batch and then by objective, and (B, K) float64 losses on the CPU.
    """
    rows = batches * objectives
    wide = any(p.dtype == torch.float64 for group in groups for p in group)
    dtype = torch.float64 if wide else torch.float32
    device = groups[0][0].device
    total = torch.zeros(len(groups), rows, rows, dtype=torch.float64, device=device)
    values = torch.zeros(batches, objectives, dtype=torch.float64)
    for pieces in passes(groups, max(1, memory // (rows * dtype.itemsize))):
        width = sum(piece.stop - piece.start for piece in pieces)
        buffer = torch.empty(rows, width, dtype=dtype, device=device)
        for batch in range(batches):
            first = batch * objectives
            values[batch] = _fill(buffer[first : first + objectives], losses(batch), pieces)
        place = 0
        for group, own in groupby(pieces, key=lambda piece: piece.group):
            stop = place + sum(piece.stop - piece.start for piece in own)
            _add_products(total[group], buffer[:, place:stop])
            place = stop
    upper = torch.triu(total.transpose(1, 2), 1)
    return (total.tril() + upper).cpu(), values


def passes(groups: Sequence[Sequence[Parameter]], width: int) -> Iterator[list[Piece]]:
    """All columns of all parameters, at most `width` at a time."""
    pieces: list[Piece] = []
    left = width
    for group, parameters in enumerate(groups):
        for parameter in parameters:
            start = 0
            while start < parameter.numel():
                stop = min(parameter.numel(), start + left)
                pieces.append(Piece(group, parameter, start, stop))
                left -= stop - start
                start = stop
                if not left:
                    yield pieces
                    pieces, left = [], width
    if pieces:
        yield pieces


def _fill(rows: Tensor, losses: Losses, pieces: Sequence[Piece]) -> Tensor:
    """One row for each loss; the (K,) losses."""
    parameters = list({id(piece.parameter): piece.parameter for piece in pieces}.values())
    place = {id(parameter): index for index, parameter in enumerate(parameters)}
    kept = isinstance(losses, Sequence)
    values = torch.zeros(len(rows), dtype=torch.float64)
    row = 0
    for loss in losses:
        found = torch.autograd.grad(loss, parameters, retain_graph=kept and row < len(rows) - 1, allow_unused=True)
        target = rows[row]
        for piece in pieces:
            size = piece.stop - piece.start
            if (gradient := found[place[id(piece.parameter)]]) is None:
                target[:size] = 0
            else:
                dense = gradient.to_dense() if gradient.is_sparse else gradient
                target[:size] = dense.reshape(-1)[piece.start : piece.stop]
            target = target[size:]
        values[row] = float(loss.detach())
        del loss
        row += 1
    if row != len(rows):
        raise ValueError(f"got {row} losses of a batch of {len(rows)} objectives")
    return values


def _add_products(total: Tensor, columns: Tensor) -> None:
    """Add the products of the rows to the lower triangle of `total`, and some of them to the upper one."""
    height = -(-len(columns) // _BANDS)
    bands = [(first, min(first + height, len(columns))) for first in range(0, len(columns), height)]
    for block in columns.split(_COLUMNS, 1):
        exact = block.double()
        for first, stop in bands:
            total[first:stop, :stop].addmm_(exact[first:stop], exact[:stop].T)
