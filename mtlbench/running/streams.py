"""Named streams of randomness, all derived from the seed of a cell."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def process_of_a_cell(threads: int) -> Iterator[None]:
    """While open, torch has the threads of the cell's protocol and takes denormal numbers for zero.

    These two and its generator come back as they were. Processors calculate with denormal numbers, those below
    1.2e-38 in float32, many times as slowly as with others, and weight decay makes them of the weights of units that
    no longer react: a cell with many took five times as long to evaluate. Threads that torch has started before go on
    as they were, so that a process which has used several should not train cells: those of `mtlbench run` have not.
    """
    before, generator, flushes = torch.get_num_threads(), torch.get_rng_state(), flushes_denormals()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(flushes)
        torch.set_num_threads(before)
        torch.set_rng_state(generator)


def flushes_denormals() -> bool:
    """Whether this thread takes denormal numbers for zero; torch has no question for it."""
    least = torch.tensor(torch.finfo(torch.float32).tiny, dtype=torch.float32)
    return (least / 2).item() == 0.0
