"""In which precision forward passes run on a device."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from mtlbench.record.schema import Precision

if TYPE_CHECKING:
    import torch


def precision(autocast: bool, device: torch.device) -> Precision:
    """What a cell runs in on `device`: bfloat16 autocast where its protocol asks for it and the device has it."""
    return "bfloat16 autocast" if autocast and _multiplies_bfloat16(device) else "float32"


def forward_context(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """What a forward pass in `precision` runs in.

    To be asked for anew in each step and evaluation: within one context, torch remembers the weights it has converted.
    """
    import torch

    return nullcontext() if precision == "float32" else torch.autocast(device.type, torch.bfloat16)


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has matrix units for bfloat16: CUDA from compute capability 8.0 on, CPUs with AMX tiles."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    ask = getattr(torch.cpu, "get_capabilities", None)  # of the processor itself; older versions of torch lack it
    return device.type == "cpu" and ask is not None and bool(ask().get("amx_bf16"))
