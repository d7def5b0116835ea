"""What code under trial must not change of the process, such as random generators that all code shares."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from mtlbench.running.streams import flushes_denormals


class Part(NamedTuple):
    """A part of the process that a task must not change."""

    name: str
    get: Callable[[], Any]
    """Its state, comparable."""
    put: Callable[[Any], object]
    """Brings a state back."""


def _get_numpy() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state()
    return (name, np.asarray(keys).tobytes(), *rest)


def _put_numpy(state: tuple[Any, ...]) -> None:
    name, keys, *rest = state
    np.random.set_state((name, np.frombuffer(keys, dtype=np.uint32), *rest))


def _put_torch(state: bytes) -> None:
    torch.set_rng_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))


def _put_environment(state: dict[str, str]) -> None:
    if dict(os.environ) != state:
        os.environ.clear()
        os.environ.update(state)


PROCESS = (
    Part("torch's global random state", lambda: torch.get_rng_state().numpy().tobytes(), _put_torch),
    Part("NumPy's global random state", _get_numpy, _put_numpy),
    Part("Python's global random state", random.getstate, random.setstate),
    Part("torch's number of threads", torch.get_num_threads, torch.set_num_threads),
    Part("whether denormal numbers are zero", flushes_denormals, torch.set_flush_denormal),
    Part("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Part("whether gradients are recorded", torch.is_grad_enabled, torch.set_grad_enabled),
    Part("the working directory", os.getcwd, os.chdir),
    Part("the environment", lambda: dict(os.environ), _put_environment),
)


@contextlib.contextmanager
def as_it_was() -> Iterator[list[Part]]:
    """Put the process back as it was, and fill the list with what had changed."""
    before = [part.get() for part in PROCESS]
    changed: list[Part] = []
    try:
        yield changed
    finally:
        changed += [part for part, state in zip(PROCESS, before, strict=True) if part.get() != state]
        for part, state in zip(PROCESS, before, strict=True):
            part.put(state)


def seed_everything(seed: int) -> None:
    """Bring the generators that all code shares to another state: nothing of a task may come from them."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
