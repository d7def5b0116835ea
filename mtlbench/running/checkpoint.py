"""The checkpoint of a cell: what has been measured, what goes on from there, and a file that is whole or not used."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic
import torch
from torch import Tensor

from mtlbench.errors import UsageError
from mtlbench.record.schema import Evaluation, Precision
from mtlbench.running import provenance
from mtlbench.running.provenance import Origin
from mtlbench.running.resuming import FORMAT, Content, Course, require_fitting
from mtlbench.running.sampled import Sampler
from mtlbench.running.trainee import OUT_OF_MEMORY, Trainee
from mtlbench.storage import read_regular, set_aside, write_atomically
from mtlbench.strict import first_error


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
    trace: dict[str, Tensor] | None = None
    """Of the method since the last snapshot, where the geometry of gradients is recorded."""
    sampling: dict[str, Any] | None = None
    """Of the strategy that shares steps out, where that is not the way of the protocol."""

    @classmethod
    def empty(cls, objectives: int, device: torch.device) -> Log:
        """That of a cell which begins."""
        zeros = torch.zeros(objectives, dtype=torch.float64)
        return cls(loss_sums=zeros.to(device, copy=True), loss_counts=zeros)

    @classmethod
    def of(cls, content: Content, device: torch.device) -> Log:
        """That of a cell which goes on."""
        return cls(
            loss_sums=content.loss_sums.to(device),
            loss_counts=content.loss_counts.cpu(),
            step=content.step,
            evaluations=list(content.evaluations),
            block_seconds=content.block_seconds.tolist(),
            seconds_training=content.seconds_training,
            seconds_evaluation=content.seconds_evaluation,
            peak_memory=content.peak_memory,
            resumed=content.resumed + 1,
            started=content.started,
            trace=content.trace,
            sampling=content.sampling,
        )


class Unusable(Exception):
    """A checkpoint from which its cell cannot go on; the message says why and where it is kept."""


@dataclass(frozen=True)
class Checkpoint:
    """Where one cell keeps what it needs to go on."""

    path: Path
    cell: str
    """The identity of the cell that it belongs to."""
    precision: Precision
    """In which the cell is trained here; it goes on in no other."""
    data_digest: str
    """Of the data that the cell is trained on here; it goes on with no other."""

    def save(self, parts: Sequence[Trainee], log: Log, origin: Origin) -> None:
        """Replace the checkpoint by the state as it is now; raises `OSError` if the disk does not take it."""
        state = {
            "format": FORMAT,
            "cell": self.cell,
            "precision": self.precision,
            "data_digest": self.data_digest,
            "origin": origin.model_dump(),
            "parts": [part.state_dict() for part in parts],
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
        if log.trace is not None:
            state["trace"] = log.trace
        if log.sampling is not None:
            state["sampling"] = log.sampling
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        # A digest in front: a file that was damaged on disk must never be taken for a checkpoint.
        write_atomically(self.path, hashlib.sha256(content).digest() + content)

    def resume(
        self, parts: Sequence[Trainee], course: Course, device: torch.device, sampler: Sampler | None = None
    ) -> Content | None:
        """Bring `parts`, and what shares their steps out, to where the checkpoint stands; None if there is none.

        Raises:
            UsageError: it was trained in another precision; it stays where it is.
            Unusable: it is damaged, of other data, or holds what this cell cannot have come to. It is kept under
                another name, and `parts` and `sampler` are in no known state.
        """
        if not self.path.exists():
            return None
        with self._or_aside("is damaged"):
            state = self._read(_largest(parts), device)
        with self._or_aside("holds what its cell cannot have come to"):
            content = Content.model_validate(state)
        if content.precision != self.precision:
            raise UsageError(
                f"{self.path} was trained in {content.precision}, and this device would go on in {self.precision}. "
                "Go on where it was begun, or remove the file to start the cell again."
            )
        if content.data_digest != self.data_digest:
            raise self._aside(f"was trained on data of digest {content.data_digest}, here they have {self.data_digest}")
        with self._or_aside("holds what its cell cannot have come to"):
            course.require_possible(content)
            if sampler is not None:
                sampler.load_state_dict(content.sampling, content.step)
            elif content.sampling is not None:
                raise ValueError("it has a state of sampling")
        with self._or_aside("does not fit the model as it is now"):
            require_fitting(parts, content)
            for part, stored in zip(parts, content.parts, strict=True):
                part.load_state_dict(stored)
        return content

    def _read(self, most: int, device: torch.device) -> dict[str, Any]:
        content = read_regular(self.path, most)
        digest, body = content[:32], content[32:]
        if hashlib.sha256(body).digest() != digest:
            raise ValueError("its checksum does not match")
        state = torch.load(io.BytesIO(body), map_location=device, weights_only=True)
        if state["format"] != FORMAT or state["cell"] != self.cell:
            raise ValueError("it is of another version or of another cell")
        return dict(state)

    @contextmanager
    def _or_aside(self, what: str) -> Iterator[None]:
        """Whatever goes wrong while open makes the file unusable, but for memory: another run may have more."""
        try:
            yield
        except OUT_OF_MEMORY:
            raise
        except Exception as error:
            raise self._aside(f"{what} ({_in_words(error)})") from error

    def _aside(self, what: str) -> Unusable:
        return Unusable(f"{self.path} {what}; kept as {set_aside(self.path).name}, starting again.")


def _largest(parts: Sequence[Trainee]) -> int:
    """Bytes that no checkpoint of these parts exceeds: weights, moments and gradients by objective, and some more."""
    weights = sum(p.numel() * p.element_size() for part in parts for p in part.trained)
    buffers = sum(b.numel() * b.element_size() for part in parts for b in part.model.buffers())
    return 2**30 + (8 + 2 * max(len(part.objectives) for part in parts)) * (weights + buffers)


def _in_words(error: Exception) -> str:
    if isinstance(error, pydantic.ValidationError):
        return first_error(error)
    first = str(error).split("\n")[0][:200]
    return first if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {first}"
