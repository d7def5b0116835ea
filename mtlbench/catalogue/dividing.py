"""Batches in parts, for processes that each take one: rows of tensors in whatever holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mtlbench.errors import UsageError

if TYPE_CHECKING:
    import torch


def rows_of(batch: Any, part: int, parts: int) -> tuple[Any, int]:
    """A part of a batch and how many rows it has: a tensor, or lists, tuples and dicts of tensors with as many rows.

    Args:
        batch: whose tensors have the examples along their first axis.
        part: from 0.
        parts: which differ by one row at most; some have none where there are fewer rows.

    Raises:
        UsageError: something else in it, or tensors with other numbers of rows.
    """
    tensors = list(_tensors(batch))
    sizes = {tensor.shape[0] if tensor.ndim else -1 for tensor in tensors}
    if len(sizes) != 1 or -1 in sizes:
        raise UsageError("it is not made of tensors with one row for each example, the same number in all")
    rows = sizes.pop()
    first, stop = part * rows // parts, (part + 1) * rows // parts
    return _cut(batch, first, stop), stop - first


def _tensors(batch: Any) -> list[torch.Tensor]:
    import torch

    if isinstance(batch, torch.Tensor):
        return [batch]
    if isinstance(batch, Mapping):
        return [tensor for value in batch.values() for tensor in _tensors(value)]
    if isinstance(batch, list | tuple):
        return [tensor for value in batch for tensor in _tensors(value)]
    raise UsageError(f"it holds something of type {type(batch).__name__}")


def _cut(batch: Any, first: int, stop: int) -> Any:
    if isinstance(batch, Mapping):
        cut = {key: _cut(value, first, stop) for key, value in batch.items()}
        return cut if type(batch) is dict else type(batch)(cut)  # type: ignore[call-arg]
    if isinstance(batch, list | tuple):
        values = [_cut(value, first, stop) for value in batch]
        return type(batch)(*values) if hasattr(batch, "_fields") else type(batch)(values)
    return batch[first:stop]
