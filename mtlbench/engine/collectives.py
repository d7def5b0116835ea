"""What the ranks of a process group say to each other: means, sums, and columns sent to the rank that keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from mtlbench.errors import UsageError

_COALESCED = 1 << 22
"""Entries of many small tensors that travel in one message."""


class Collectives:
    """One process group, for tensors on one device.

    Args:
        group: such as `torch.distributed.group.WORLD`.
        device: of the gradients.

    Raises:
        UsageError: no process group that this process belongs to, or none that can carry tensors of the device.
    """

    def __init__(self, group: dist.ProcessGroup, device: torch.device) -> None:
        if not (dist.is_available() and isinstance(group, dist.ProcessGroup) and dist.get_rank(group) >= 0):
            raise UsageError(
                "process_group is a group of torch.distributed that this process belongs to, such as "
                f"torch.distributed.group.WORLD after init_process_group(), not {type(group).__name__}."
            )
        self.group = group
        self.rank = dist.get_rank(group)
        self.size = dist.get_world_size(group)
        config = dict(one.split(":") for one in dist.get_backend_config(group).split(","))
        if device.type not in config or (device.type != "cpu" and config[device.type] == "gloo"):
            raise UsageError(
                f"process_group carries {', '.join(f'{on} by {backend}' for on, backend in config.items())}, and the "
                f"shared parameters lie on {device.type}: initialise it with "
                f"backend={'gloo' if device.type == 'cpu' else 'nccl'!r}."
            )
        self._device = torch.device("cpu") if "cpu" in config else device
        self._by_hand = config[device.type] == "gloo"

    def gathered(self, numbers: Sequence[int]) -> Tensor:
        """(ranks, n) int64 on the CPU: the n numbers of each rank."""
        own = torch.tensor(numbers, dtype=torch.int64, device=self._device)
        table = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(table, own, group=self.group)
        return torch.stack(table).cpu()

    def total(self, values: Tensor) -> Tensor:
        """The sum over ranks, float64."""
        summed = values.to(self._device, torch.float64, copy=True)
        dist.all_reduce(summed, group=self.group)
        return summed.to(values.device)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over ranks, in the dtype of the values."""
        return (self.total(values) / self.size).to(values.dtype)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over ranks; many small ones travel together."""
        for parcel in _parcels(tensors):
            flat = torch.cat([t.reshape(-1) for t in parcel]) if len(parcel) > 1 else parcel[0].reshape(-1).contiguous()
            dist.all_reduce(flat, group=self.group)
            flat /= self.size
            for t, part in zip(parcel, flat.split([t.numel() for t in parcel]), strict=True):
                t.copy_(part.view_as(t))

    def scatter(self, sent: Tensor) -> Coming:
        """Begin to send each rank its part of `sent`, (ranks * n,), which must not change before it has arrived."""
        return Coming(self, sent, self._by_hand)

    def gather(self, whole: Tensor, own: Tensor) -> Any:
        """Begin to fill `whole`, (ranks * n,), with each rank's (n,); `wait()` for the answer."""
        collect = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
        return collect(whole, own, group=self.group, async_op=True)


class Coming:
    """Columns on their way."""

    def __init__(self, collectives: Collectives, sent: Tensor, by_hand: bool) -> None:
        self.sent = sent
        self._size = collectives.size
        if by_hand:  # gloo reduces by an all-reduce, of which a rank throws most away
            self._got = torch.empty_like(sent)
            self._work = dist.all_to_all_single(self._got, sent, group=collectives.group, async_op=True)
        else:
            self._got = sent.new_empty(len(sent) // self._size)
            reduce = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
            self._work = reduce(self._got, sent, group=collectives.group, async_op=True)

    def arrive(self, place: Tensor) -> None:
        """Put the mean over ranks of this rank's part into `place`, (n,)."""
        self._work.wait()
        own = self._got.view(-1, len(place))
        place.copy_(own.sum(0).div_(self._size) if len(own) > 1 else own[0].div_(self._size))


def _parcels(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """The tensors in order, together while they are of one dtype and small; ranks cut alike."""
    found: list[list[Tensor]] = []
    size = 0
    for t in tensors:
        if found and size + t.numel() <= _COALESCED and t.dtype == found[-1][0].dtype:
            found[-1].append(t)
            size += t.numel()
        else:
            found.append([t])
            size = t.numel()
    return found
