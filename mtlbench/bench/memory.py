"""Peak memory of an action, measured in a fresh process where nothing that was freed earlier can hide it."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

_STATUS = Path("/proc/self/status")
_RUN_CHILD = "from mtlbench.bench.memory import answer; answer()"


class Action(NamedTuple):
    """What is measured, and the bytes that its preparation allocated and that count as well."""

    call: Callable[[], object]
    held: int = 0


def peak(prepare: str, settings: dict[str, Any], device: str, plugins: Sequence[str] = ()) -> int:
    """The bytes by which memory grows, at the most, while an action runs twice.

    Args:
        prepare: `module:function`; called with `settings` as keywords, it returns an `Action`.
        settings: what JSON can hold.
        device: resident memory is measured on a CPU, the allocator's tensors on a CUDA device.
        plugins: files to load first.

    Raises:
        RuntimeError: the process failed, or the system does not tell.
    """
    question: dict[str, Any] = {
        "prepare": prepare,
        "settings": settings,
        "device": device,
        "plugins": list(plugins),
        "threads": torch.get_num_threads(),
    }
    # glibc would keep freed tensors for reuse; with a fixed threshold they go back to the system at once.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    child = subprocess.run(
        [sys.executable, "-c", _RUN_CHILD],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if child.returncode:
        lines = child.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"exit status {child.returncode}"
        raise RuntimeError(f"memory could not be measured: {reason}")
    return int(child.stdout.splitlines()[-1])


def answer() -> None:
    """Body of the fresh process: the question on standard input, bytes on standard output."""
    from mtlbench.catalogue.registry import load_plugin

    question = json.load(sys.stdin)
    torch.set_num_threads(question["threads"])
    for plugin in question["plugins"]:
        load_plugin(plugin)
    module, name = question["prepare"].split(":")
    prepare = getattr(importlib.import_module(module), name)
    action: Action = prepare(**question["settings"])
    sys.stdout.write(f"{action.held + growth(action.call, torch.device(question['device']))}\n")


def growth(call: Callable[[], object], device: torch.device) -> int:
    """Bytes by which memory grows, at the most, while `call` runs twice in this process."""
    cuda = device.type == "cuda"
    before = _cuda_start(device) if cuda else _resident_start()
    for _ in range(2):
        call()
    highest = torch.cuda.max_memory_allocated(device) if cuda else _status("VmHWM")
    return max(0, highest - before)


def _cuda_start(device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def _resident_start() -> int:
    """Resident bytes now, with the high-water mark brought down to them."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as error:
        raise RuntimeError(f"peak memory is only known on Linux and on CUDA devices ({error})") from error
    return _status("VmRSS")


def _status(key: str) -> int:
    match = re.search(rf"^{key}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    if match is None:
        raise RuntimeError(f"{_STATUS} does not tell {key}")
    return int(match[1]) * 1024
