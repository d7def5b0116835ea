"""One objective whose gradient is nearly all noise among several without any: they conflict by chance, half the time.

A point x of `quiet` blocks with `coordinates` numbers each is sought, whose true place is t. The quiet objective i
knows block i of t, `|x_i - t_i|^2 / 2`; the loud one sees all of t in labels with noise, `|x - t - noise e|^2 / 2`
with e standard normal and drawn anew in every step. All have the same minimum, so that there is nothing to trade.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, cast

import numpy as np
import pydantic
import torch
from torch import Tensor, nn

from mtlbench.catalogue.protocol import Protocol
from mtlbench.catalogue.task import Metric, Objective
from mtlbench.strict import Strict

from .problem import Count, Problem, Seed, options_of

METRICS = (Metric(name="error", higher_is_better=False),)


class Options(Strict):
    """Sizes, noise, and the length of an epoch."""

    composition_seed: Seed
    """Fixes the true place; never the seed of a run."""
    quiet: Count
    """Objectives without noise, a block of coordinates each."""
    coordinates: Count
    """Of a block."""
    noise: Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)]
    """Standard deviation of the noise in each label of the loud objective."""
    steps_per_epoch: Count


class Point(nn.Module):
    """The point that is sought, (quiet, coordinates), all of it shared; it starts standard normal."""

    def __init__(self, quiet: int, coordinates: int) -> None:
        super().__init__()
        self.trunk = nn.ParameterDict({"place": nn.Parameter(torch.randn(quiet, coordinates))})


class Loud(Problem):
    """The loud objective first, then the quiet ones (K = 1 + quiet)."""

    def __init__(self, protocol: Protocol, device: torch.device) -> None:
        self.options = options_of(protocol, Options)
        self.batch_size = protocol.batch_size
        self.steps_per_epoch = self.options.steps_per_epoch
        self.objectives = tuple(
            Objective(name, METRICS) for name in ("loud", *(f"quiet_{i + 1}" for i in range(self.options.quiet)))
        )
        shape = self.options.quiet, self.options.coordinates
        truth = np.random.RandomState(self.options.composition_seed).standard_normal(shape).astype("<f4")
        self.digest = hashlib.sha256(f"{shape}".encode() + truth.tobytes()).hexdigest()
        self.truth = torch.from_numpy(truth).to(device)

    def model(self) -> nn.Module:
        """A standard normal point."""
        return Point(self.options.quiet, self.options.coordinates)

    def batches(self, generator: torch.Generator) -> Iterator[Tensor]:
        """The labels of the loud objective, (batch_size, quiet, coordinates) float32."""
        shape = self.batch_size, *self.truth.shape
        for _ in range(self.steps_per_epoch):
            drawn = torch.randn(shape, generator=generator, device=generator.device).to(self.truth.device)
            yield self.truth + self.options.noise * drawn

    def losses(self, model: nn.Module, batch: Tensor, objectives: Sequence[int]) -> list[Tensor]:
        """Half the squared distance to the labels, mean over them, and from each block to its true place."""
        place = cast("Point", model).trunk["place"]
        return [self._squares(place, batch, k) / 2 for k in objectives]

    def _squares(self, place: Tensor, labels: Tensor, k: int) -> Tensor:
        if k == 0:
            return (place - labels).pow(2).sum() / len(labels)
        return (place[k - 1] - self.truth[k - 1]).pow(2).sum()

    def evaluate(self, model: nn.Module, split: str, objectives: Sequence[int]) -> Mapping[str, Mapping[str, float]]:
        """`error`: the root of the mean squared distance to the true place, of all coordinates or of the own block.

        It is exact, and the same on every split.
        """
        distance = (cast("Point", model).trunk["place"] - self.truth).double()
        parts = {k: distance if k == 0 else distance[k - 1] for k in objectives}
        return {self.objectives[k].name: {"error": part.pow(2).mean().sqrt().item()} for k, part in parts.items()}
