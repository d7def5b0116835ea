"""The checkpoint of a cell: what has been measured, what goes on from there, and a file that is whole or not used."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtlbench.engine.kinds import Method
from mtlbench.errors import UsageError
from mtlbench.record.schema import Evaluation, Precision
from mtlbench.running import provenance
from mtlbench.running.trainee import Trainee
from mtlbench.storage import set_aside, write_atomically

FORMAT = 2


@dataclass
class Log:
    """What has been measured so far."""

    loss_sums: Tensor
    """(K,) float64 on the device: training losses since the previous evaluation."""
    loss_counts: Tensor
    """(K,) float64 on the CPU: how many losses these are."""
    step: int = 0
    evaluations: list[Evaluation] = field(default_factory=list)
    block_seconds: list[float] = field(default_factory=list)
    """Seconds per step of each block of steps."""
    seconds_training: float = 0.0
    seconds_evaluation: float = 0.0
    peak_memory: int = 0
    resumed: int = 0
    started: str = field(default_factory=provenance.now)

    @classmethod
    def empty(cls, objectives: int, device: torch.device) -> Log:
        """That of a cell which begins."""
        zeros = torch.zeros(objectives, dtype=torch.float64)
        return cls(loss_sums=zeros.to(device, copy=True), loss_counts=zeros)


@dataclass(frozen=True)
class Checkpoint:
    """Where one cell keeps what it needs to go on."""

    path: Path
    cell: str
    """The identity of the cell that it belongs to."""
    precision: Precision
    """In which the cell is trained here; it goes on in no other."""

    def save(self, parts: Sequence[Trainee], method: Method, log: Log) -> None:
        """Replace the checkpoint by the state as it is now; raises `OSError` if the disk does not take it."""
        state = {
            "format": FORMAT,
            "cell": self.cell,
            "precision": self.precision,
            "parts": [part.state_dict() for part in parts],
            "method": method.state_dict(),
            "step": log.step,
            "evaluations": [e.model_dump(mode="json") for e in log.evaluations],
            "loss_sums": log.loss_sums,
            "loss_counts": log.loss_counts,
            "block_seconds": torch.tensor(log.block_seconds, dtype=torch.float64),
            "seconds_training": log.seconds_training,
            "seconds_evaluation": log.seconds_evaluation,
            "peak_memory": log.peak_memory,
            "resumed": log.resumed,
            "started": log.started,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        # A digest in front: a file that was damaged on disk must never be taken for a checkpoint.
        write_atomically(self.path, hashlib.sha256(content).digest() + content)

    def resume(self, parts: Sequence[Trainee], method: Method, device: torch.device) -> Log | None:
        """Bring `parts` and `method` to where the checkpoint stands; None if there is none that can be used.

        One that is damaged is kept under another name and not used, with a warning.

        Raises:
            UsageError: it does not fit the model as it is now, or was trained in another precision.
        """
        if not self.path.exists():
            return None
        try:
            state = self._read(device)
        except Exception as error:
            kept = set_aside(self.path)
            warnings.warn(f"{self.path} is damaged ({error}); kept as {kept.name}, starting again.", stacklevel=2)
            return None
        if state["precision"] != self.precision:
            raise UsageError(
                f"{self.path} was trained in {state['precision']}, and this device would go on in {self.precision}. "
                "Go on where it was begun, or remove the file to start the cell again."
            )
        try:
            for part, stored in zip(parts, state["parts"], strict=True):
                part.load_state_dict(stored)
            method.load_state_dict(state["method"])
        except (RuntimeError, ValueError, KeyError) as error:
            kept = set_aside(self.path)
            raise UsageError(
                f"{self.path} does not fit the model as it is now ({str(error).splitlines()[0]}). It is kept as "
                f"{kept.name}; the same command starts the cell again."
            ) from error
        return Log(
            loss_sums=state["loss_sums"],
            loss_counts=state["loss_counts"].cpu(),
            step=state["step"],
            evaluations=[Evaluation.model_validate(e) for e in state["evaluations"]],
            block_seconds=state["block_seconds"].tolist(),
            seconds_training=state["seconds_training"],
            seconds_evaluation=state["seconds_evaluation"],
            peak_memory=state["peak_memory"],
            resumed=state["resumed"] + 1,
            started=state["started"],
        )

    def _read(self, device: torch.device) -> dict[str, Any]:
        content = self.path.read_bytes()
        digest, body = content[:32], content[32:]
        if hashlib.sha256(body).digest() != digest:
            raise ValueError("its checksum does not match")
        state = torch.load(io.BytesIO(body), map_location=device, weights_only=True)
        if state["format"] != FORMAT or state["cell"] != self.cell:
            raise ValueError("it is of another version or of another cell")
        return dict(state)
