"""What `Backward` is given as losses, in order and checked, and backward passes whose errors are in words."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

import torch
from torch import Tensor

from mtlbench.engine.distributed import INSTEAD
from mtlbench.errors import UsageError

Losses = Sequence[Tensor] | Iterator[Tensor]
Batches = Sequence[Losses] | Iterator[Losses]
"""The losses of several independent batches, for methods that take gradients from as many."""


def in_order(losses: object) -> Losses:
    """The losses as a list or an iterator; raises `UsageError` for what has no order, or is no collection."""
    if isinstance(losses, Tensor):
        raise UsageError("pass the losses as a list or a generator of scalars, not packed into one tensor.")
    if isinstance(losses, Mapping):
        raise UsageError(
            "the losses are in a dict, but objectives go by their order: pass a list, such as list(losses.values())."
        )
    if isinstance(losses, Sequence):
        return losses
    if isinstance(losses, Iterator):
        return losses
    if isinstance(losses, Set) and not hasattr(losses, "mapping"):
        raise UsageError("the losses are in a set, which has no order: pass a list.")
    if isinstance(losses, Collection):
        return list(losses)
    if isinstance(losses, Iterable):
        return iter(losses)
    raise UsageError(f"pass the losses as a list or a generator of scalars, not {type(losses).__name__}.")


def batches(losses: Any, count: int) -> Iterator[Losses]:
    """The losses of each of `count` independent batches; each is let go of before the next is asked for.

    Raises:
        UsageError: another number of batches, or losses that are not apart by batch.
    """
    wanted = f"this method takes gradients from {count} independent batches in a step: pass {count} lists of losses"
    found = 0
    for of_batch in losses:
        if isinstance(of_batch, Tensor):
            raise UsageError(f"{wanted}, not losses.")
        if found == count:
            raise UsageError(f"{wanted}, not more.")
        yield in_order(of_batch)
        del of_batch
        found += 1
    if found != count:
        raise UsageError(f"{wanted}, not {found}.")


def each(losses: Losses, count: int) -> Iterator[Tensor]:
    """The `count` losses, checked one by one; each is let go of before the next is asked for.

    Raises:
        UsageError: more or fewer losses than that, or something that is no scalar loss.
    """
    row = 0
    for loss in losses:  # not enumerate, which would keep each loss until after the next is built
        _check_scalar(loss)
        if row >= count:
            raise UsageError(f"got more than {count} losses for {count} objectives.")
        yield loss
        del loss
        row += 1
    if row != count:
        raise UsageError(f"got {row} losses for {count} objectives.")


def run_backward(
    losses: Sequence[Tensor],
    weights: Sequence[Tensor] | None = None,
    *,
    inputs: Sequence[Tensor] | None = None,
    retain_graph: bool = False,
    row: int = 0,
) -> None:
    """`torch.autograd.backward`, with what goes wrong there in words.

    Args:
        losses: scalars.
        weights: what each is multiplied by; 1 if not given.
        inputs: the only leaves that get a gradient, some; all if not given.
        retain_graph: whether another pass needs the graph.
        row: how many losses of a generator came before.
    """
    try:
        torch.autograd.backward(
            list(losses),
            None if weights is None else list(weights),
            inputs=None if inputs is None else list(inputs),
            retain_graph=retain_graph,
        )
    except RuntimeError as error:
        raise explained(error, row) from error


def explained(error: RuntimeError, row: int = 0) -> Exception:
    """A `UsageError` for what torch says about a backward pass, or `error` itself where it needs no other words."""
    said = str(error)
    if "second time" in said and row > 0:
        return UsageError(
            "the losses of the generator share a graph, which is freed after the first of them: pass a list."
        )
    if "second time" in said:
        return UsageError(
            "the graph of the losses is freed: a backward pass has been through it. Build the losses anew for every "
            "call, and let nothing else call backward() on them."
        )
    if "donated buffer" in said:
        return UsageError(
            "torch.compile let go of buffers that a second pass through the graph needs. Before the first step: "
            "`import torch._functorch.config; torch._functorch.config.donated_buffer = False`. Or give every loss a "
            "graph of its own, in a generator."
        )
    if "Checkpointing is not compatible" in said:
        return UsageError(
            "gradients by some parameters alone cannot be taken through a reentrant checkpoint: use "
            "torch.utils.checkpoint.checkpoint(..., use_reentrant=False)."
        )
    if "mark a variable ready only once" in said or "finished reduction in the prior iteration" in said:
        return UsageError(f"a DistributedDataParallel module counts backward passes, one for each step. {INSTEAD}")
    return error


def _check_scalar(loss: object) -> None:
    if not isinstance(loss, Tensor) or loss.numel() != 1 or loss.ndim != 0:
        shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise UsageError(f"a loss is a tensor with one number and no dimensions, not {shape}.")
    if not loss.requires_grad:
        raise UsageError("a loss depends on no parameter that requires a gradient.")
