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


def is_sharded(tensor: object) -> bool:
    """Whether this is a DTensor, of FSDP2 or tensor parallelism."""
    return type(tensor).__name__ == "DTensor" or hasattr(tensor, "_local_tensor")


def refuse_wrapped(shared: object, *, in_group: bool = False) -> None:
    """Raise `UsageError` if `shared` is a module that averages or shards its own gradients, or holds one.

    Args:
        shared: of any kind.
        in_group: whether the step is one of a process group, where models of `fully_shard` are right.
    """
    if not isinstance(shared, nn.Module):
        return
    for module in shared.modules():
        if isinstance(module, DistributedDataParallel):
            raise UsageError(
                "shared holds a DistributedDataParallel module, which averages gradients before a method could "
                f"combine them: pass what it wraps, such as shared=model.module.encoder. {INSTEAD}"
            )
        if _shards(module) and not (in_group and _is_fsdp2(module)):
            raise UsageError(f"shared holds an FSDP module, whose parameters are sharded: {_SHARDED}")


def refuse_sharded(named: Mapping[str, Tensor]) -> None:
    """Raise `UsageError` for parameters that are DTensors, of FSDP2 or tensor parallelism."""
    for name, p in named.items():
        if is_sharded(p):
            raise UsageError(f"the shared parameter {name} is a DTensor, spread over processes: {_SHARDED}")


class Wrappers:
    """The modules alive that average or shard the gradients of the shared parameters.

    Args:
        in_group: whether the step is one of a process group, where models of `fully_shard` are right.
    """

    def __init__(self, *, in_group: bool = False) -> None:
        self._in_group = in_group
        self._found: list[weakref.ref[nn.Module]] = []

    def find(self, parameters: Collection[Tensor]) -> None:
        """Look among all modules of the process, which takes time where it is one of several."""
        self._found = []
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return
        ours = set(map(id, parameters))
        for module in [thing for thing in gc.get_objects() if issubclass(type(thing), nn.Module)]:
            shards = _shards(module) and not (self._in_group and _is_fsdp2(module))
            wraps = isinstance(module, DistributedDataParallel) or shards
            if wraps and not ours.isdisjoint(map(id, module.parameters())):
                self._found.append(weakref.ref(module))

    def refuse(self) -> None:
        """Raise `UsageError` if one of them would touch the gradients of this step."""
        for module in [reference() for reference in self._found]:
            if module is None:
                continue
            if _shards(module):
                raise UsageError(f"the shared parameters are those of an FSDP module: {_SHARDED}")
            if module.require_backward_grad_sync or module.require_forward_param_sync:
                raise UsageError(
                    "the shared parameters are those of a DistributedDataParallel module, which averages each "
                    f"gradient over processes on its own, before a method could combine them. {INSTEAD}"
                )


_SHARDED = (
    "give Backward the process_group of the ranks and heads=model, and use torch.distributed.fsdp.fully_shard (FSDP2) "
    "if parameters are to be sharded; otherwise keep the model whole on every process."
)


def _shards(module: Any) -> bool:
    return any(cls.__name__ in ("FullyShardedDataParallel", "FSDPModule") for cls in type(module).__mro__)


def _is_fsdp2(module: Any) -> bool:
    return any(cls.__name__ == "FSDPModule" for cls in type(module).__mro__)
