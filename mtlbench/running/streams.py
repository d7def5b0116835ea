"""Named streams of randomness, all derived from the seed of a cell."""

from __future__ import annotations

import hashlib

import torch


def stream(seed: int, name: str, index: int = 0) -> int:
    """The seed of a named stream of randomness: `init`, `data` by epoch, `noise` by step, `method`.

    Streams depend on the cell's seed alone, so that at equal seed all methods start from the same weights, see
    the same batches and draw the same dropout masks.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}/{index}".encode()).digest()[:8]) >> 1


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed torch's generator on the CPU, and on `device` if that is another."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
