"""Where a number came from: versions, commit, hardware, memory."""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import platform
import resource
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mtlbench.record.schema import Precision, Provenance

if TYPE_CHECKING:
    import torch


PACKAGES = ("mtlbench", "torch", "torchvision", "numpy", "scipy", "scikit-learn")
"""Whose versions every record has."""


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def collect(
    method: type,
    data_digest: str,
    device: torch.device,
    started: str,
    resumed: int,
    threads: int,
    precision: Precision,
    packages: Sequence[str] = (),
) -> Provenance:
    """The provenance of a cell that ends now; with the versions of `PACKAGES` and of the given further ones."""
    commit, dirty = source_commit()
    return Provenance(
        started=started,
        finished=now(),
        resumed=resumed,
        packages={"python": platform.python_version(), **_versions((*PACKAGES, *packages))},
        commit=commit,
        dirty=dirty,
        method_digest=_digest_of_source(method),
        data_digest=data_digest,
        host=_host(),
        hardware=hardware(device),
        device=str(device),
        threads=threads,
        precision=precision,
    )


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that was allocated on a CUDA device, elsewhere the process's peak resident memory."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def hardware(device: torch.device) -> str:
    """The name of the processor that did the work."""
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    return cpu_name()


@cache
def cpu_name() -> str:
    """The CPU's model name, or its architecture where the system does not tell."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def source_commit() -> tuple[str | None, bool | None]:
    """The commit of the checkout that mtlbench runs from and whether files differ from it; None outside of one."""
    top = Path(__file__).resolve().parents[2]
    if not (top / ".git").exists():
        return None, None
    try:
        run = ["git", "--no-optional-locks", "-C", str(top)]
        commit = subprocess.run([*run, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=20)
        changed = subprocess.run(
            [*run, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!results"],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError):
        return None, None
    return commit.stdout.strip(), bool(changed.stdout.strip())


@cache
def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _host() -> str:
    """A hash that is equal for runs on one machine since it was started: machines can share a name, and do."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    since = boot.read_text() if boot.exists() else ""
    return hashlib.sha256(f"{platform.node()} {since}".encode()).hexdigest()[:12]


def _digest_of_source(cls: type) -> str:
    try:
        return hashlib.sha256(Path(inspect.getfile(cls)).read_bytes()).hexdigest()
    except (TypeError, OSError):
        return "unknown"
