"""Where a number came from: versions, commit, hardware, memory."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import inspect
import os
import platform
import re
import resource
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pydantic

from mtlbench.strict import Strict

if TYPE_CHECKING:
    import torch

_HASH = r"^[0-9a-f]{40,64}$"

_TOP = Path(__file__).resolve().parents[2]
"""The checkout, where there is one."""

PACKAGES = ("mtlbench", "torch", "torchvision", "numpy", "scipy", "scikit-learn")
"""Whose versions every record has."""


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


_THEN = " then "
"""Between the values of a cell that went on under another one."""


class Origin(Strict):
    """What the numbers of a cell come from beside its configuration: what may change while it is interrupted."""

    commit: Annotated[str, pydantic.Field(pattern=_HASH)] | None
    dirty: bool | None
    method_digest: str
    packages: dict[str, str]
    host: str
    hardware: str
    device: str
    processes: str = "1"
    kernels: dict[str, str] = pydantic.Field(default_factory=dict)
    """Which code does the arithmetic: the same versions choose other code on other processors, with other last bits."""

    @classmethod
    def of(cls, method: type, device: torch.device, packages: Sequence[str] = (), processes: int = 1) -> Origin:
        """That of a cell which trains here and now; with the versions of `PACKAGES` and of the given further ones."""
        commit, dirty = source_commit()
        return cls(
            commit=commit,
            dirty=dirty,
            method_digest=_digest_of_source(method),
            packages={"python": platform.python_version(), **_versions((*PACKAGES, *packages))},
            host=_host(),
            hardware=hardware(device),
            device=str(device),
            processes=str(processes),
            kernels=kernels(),
        )

    def changes(self, before: Origin) -> list[str]:
        """What is another here than where the cell was last, and may move its numbers: `torch 2.12.0, now 2.13.0`."""
        parts = _both(before.kernels, self.kernels) if before.kernels else []  # older checkpoints do not tell
        pairs = [] if _same_source(before.commit, self.commit) else [("commit", before.commit, self.commit)]
        pairs += [
            ("source of the method", before.method_digest, self.method_digest),
            *((name, before.packages.get(name), self.packages.get(name)) for name in self._packages_of(before)),
            ("device", before.device, self.device),
            ("hardware", before.hardware, self.hardware),
            ("processes", before.processes, self.processes),
            *((name, before.kernels.get(name), self.kernels.get(name)) for name in parts),
        ]
        told = [(what, _told(old), _told(new)) for what, old, new in pairs]
        return [f"{what} {old}, now {new}" for what, old, new in told if old != new]

    def after(self, before: Origin) -> Origin:
        """That of a cell which began at `before` and goes on here: both values where they differ, `2.12.0 then 2.13.0`.

        So tables, which refuse to mix versions and compare times on one host only, keep such a cell apart. The commit
        is the present one; files count as differing from it where the earlier part ran from others.
        """
        same = _same_source(before.commit, self.commit) and not before.dirty
        names = self._packages_of(before)
        parts = _both(before.kernels, self.kernels)
        return Origin(
            commit=self.commit,
            dirty=None if self.commit is None else bool(self.dirty) or not same,
            method_digest=_then(before.method_digest, self.method_digest),
            packages={name: _then(before.packages.get(name), self.packages.get(name)) for name in names},
            host=_then(before.host, self.host),
            hardware=_then(before.hardware, self.hardware),
            device=_then(before.device, self.device),
            processes=_then(before.processes, self.processes),
            kernels={name: _then(before.kernels.get(name), self.kernels.get(name)) for name in parts},
        )

    def _packages_of(self, before: Origin) -> list[str]:
        return _both(before.packages, self.packages)


def _both(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """The names in either, those of before first."""
    return [*dict.fromkeys((*before, *now))]


def _last(value: str | None) -> str:
    return (value or "none").rpartition(_THEN)[2]


def _then(before: str | None, now: str | None) -> str:
    new = now or "none"
    return before or "none" if _last(before) == new else f"{before or 'none'}{_THEN}{new}"


def _told(value: str | None) -> str:
    """A value for people, hashes shortened."""
    last = _last(value)
    return last[:12] if re.fullmatch(_HASH, last) else last


def peak_memory(device: torch.device) -> int:
    """Bytes: the most that was allocated on a CUDA device, elsewhere the process's peak resident memory."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak_memory(device: torch.device) -> None:
    """Let `peak_memory` begin anew from what is used now; where the system cannot, it stays as it is."""
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


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


LIBRARIES = {"blas": r"Math Kernel Library Version (\S+)|OpenBLAS (\S+)", "onednn": r"MKL-DNN v(\S+)"}
"""What torch says of the libraries that it was built with."""
CHOOSING = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")
"""Environment variables by which these choose their code."""


@cache
def kernels() -> dict[str, str]:
    """What decides which code does the arithmetic of a CPU: `instructions`, library versions, variables that are set.

    The libraries choose their code by the processor, which `hardware` names, unless a variable says otherwise.
    """
    import torch

    built = torch.__config__.show()
    found = {"instructions": torch.backends.cpu.get_cpu_capability()}
    for name, pattern in LIBRARIES.items():
        if match := re.search(pattern, built):
            found[name] = next(group for group in match.groups() if group)
    return {**found, **{name: os.environ[name] for name in CHOOSING if os.environ.get(name)}}


@cache
def source_commit() -> tuple[str | None, bool | None]:
    """The commit of the checkout that mtlbench runs from and whether files differ from it; None outside of one."""
    if not (_TOP / ".git").exists():
        return None, None
    try:
        run = ["git", "--no-optional-locks", "-C", str(_TOP)]
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


def _same_source(before: str | None, now: str | None) -> bool:
    """Whether two commits hold the same files, results aside; not where that cannot be told."""
    if before == now:
        return True
    if before is None or now is None:
        return False
    command = ["git", "-C", str(_TOP), "diff", "--quiet", before, now, "--", ".", ":!results"]
    try:
        return subprocess.run(command, capture_output=True, timeout=20).returncode == 0
    except (OSError, ValueError, subprocess.SubprocessError):
        return False


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
