"""Modules that average or shard gradients on their own: refused, with what to do instead."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mtlbench.errors import UsageError

INSTEAD = (
    "On several processes keep the module plain, and give Backward process_group=torch.distributed.group.WORLD and "
    "heads=model: gradients are averaged over processes before the method combines them."
)
"""What works."""


def refuse_wrapped(shared: object) -> None:
    """Raise `UsageError` if `shared` is a module that averages or shards its own gradients, or holds one."""
    if not isinstance(shared, nn.Module):
        return
    for module in shared.modules():
        if isinstance(module, DistributedDataParallel):
            raise UsageError(
                "shared holds a DistributedDataParallel module, which averages gradients before a method could "
                f"combine them: pass what it wraps, such as shared=model.module.encoder. {INSTEAD}"
            )
        if _shards(module):
            raise UsageError(f"shared holds an FSDP module, whose parameters are sharded: {_UNSHARDED}")


def refuse_sharded(named: Mapping[str, Tensor]) -> None:
    """Raise `UsageError` for parameters that are DTensors, of FSDP2 or tensor parallelism."""
    for name, p in named.items():
        if type(p).__name__ == "DTensor" or hasattr(p, "_local_tensor"):
            raise UsageError(f"the shared parameter {name} is a DTensor, spread over processes: {_UNSHARDED}")


class Wrappers:
    """The modules alive that average or shard the gradients of the shared parameters."""

    def __init__(self) -> None:
        self._found: list[weakref.ref[nn.Module]] = []

    def find(self, parameters: Collection[Tensor]) -> None:
        """Look among all modules of the process, which takes time where it is one of several."""
        self._found = []
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return
        ours = set(map(id, parameters))
        for module in [thing for thing in gc.get_objects() if issubclass(type(thing), nn.Module)]:
            wraps = isinstance(module, DistributedDataParallel) or _shards(module)
            if wraps and not ours.isdisjoint(map(id, module.parameters())):
                self._found.append(weakref.ref(module))

    def refuse(self) -> None:
        """Raise `UsageError` if one of them would touch the gradients of this step."""
        for module in [reference() for reference in self._found]:
            if module is None:
                continue
            if _shards(module):
                raise UsageError(f"the shared parameters are those of an FSDP module: {_UNSHARDED}")
            if module.require_backward_grad_sync or module.require_forward_param_sync:
                raise UsageError(
                    "the shared parameters are those of a DistributedDataParallel module, which averages each "
                    f"gradient over processes on its own, before a method could combine them. {INSTEAD}"
                )


_UNSHARDED = f"keep the model whole on every process. {INSTEAD}"


def _shards(module: Any) -> bool:
    return any(cls.__name__ in ("FullyShardedDataParallel", "FSDPModule") for cls in type(module).__mro__)
