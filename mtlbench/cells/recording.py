"""What is recorded of the gradients' geometry while a cell trains, and when; no part of the cell, which ends alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

STEPS_PER_BATCH = 25
"""With `auto`, steps between two snapshots for each probe batch. A snapshot takes a gradient of each objective on each
probe batch, as a step does on its own, so that one gradient in 25 is added, and one snapshot more."""
MOST_INTERVALS = 8
"""With `auto`, between the untrained and the trained model."""


@dataclass(frozen=True)
class Recording:
    """When snapshots of the Gramian of probe gradients are taken, and on how many examples."""

    every: int | Literal["auto", "epoch"] = "auto"
    """Steps, or at the end of every epoch; `auto` for few that are spread evenly. The untrained and the trained model
    are always among them."""
    batches: int = 10
    """Of probes, each with all objectives."""
    examples: int = 5
    """Of each objective in a batch."""
    memory: float = 4.0
    """GiB that gradients may take; what does not fit takes further passes over the probes."""

    def steps(self, total: int, per_epoch: int) -> tuple[int, ...]:
        """After which steps of a cell there is a snapshot, 0 for the untrained model."""
        if self.every == "auto":
            intervals = min(MOST_INTERVALS, max(1, total // (STEPS_PER_BATCH * self.batches)))
            inner = {round(total * place / intervals) for place in range(1, intervals)}
        else:
            every = per_epoch if self.every == "epoch" else self.every
            inner = {*range(every, total, every)}
        return tuple(sorted({0, *inner, total}))
