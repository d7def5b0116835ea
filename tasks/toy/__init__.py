"""Two losses of two numbers, the landscapes of the papers' figures: a picture of what a method does, and no benchmark.

All that is trained is a point, shared by both objectives, from a starting point that the protocol names. Scores are the
loss and how far the point is from the Pareto set. `predictions=DIR` writes where the point was every few steps
(`trajectory.csv`), and `mtlbench draw toy` draws that over the landscape.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, cast

import pydantic
import torch
from torch import Tensor, nn

import mtlbench
from mtlbench.catalogue.protocol import Protocol
from mtlbench.catalogue.task import Metric, Objective, Task
from mtlbench.errors import UsageError, unknown
from mtlbench.strict import Strict, refused

from .landscapes import LANDSCAPES

METRICS = Metric(name="loss", higher_is_better=False), Metric(name="distance", higher_is_better=False)
"""The loss, and how far the point is from the Pareto set, which is the same for both objectives."""
CAVEAT = (
    "A landscape of two parameters, to look at with `mtlbench draw`: which method comes first here says nothing of "
    "networks, and tables over tasks leave it out."
)

Finite = Annotated[float, pydantic.Field(allow_inf_nan=False)]
Count = Annotated[int, pydantic.Field(ge=1, le=10**7)]
Scale = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]


class Options(Strict):
    """Where the point begins, and how often the way is kept."""

    start: Count
    """Which of `starts`, from 1."""
    starts: Annotated[tuple[tuple[Finite, Finite], ...], pydantic.Field(min_length=1)]
    scales: tuple[Scale, Scale]
    """What the losses are multiplied by."""
    steps_per_epoch: Count
    keep_every: Count
    """Steps between the places that are kept."""


class Point(nn.Module):
    """The point (2,) that is trained, float32, and where it was before some of the steps."""

    visited: Tensor
    """(N, 2)"""
    steps: Tensor
    """() int64: how many there were."""

    def __init__(self, start: Sequence[float], places: int) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.tensor(start))
        self.register_buffer("visited", torch.zeros(places, 2))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))


@mtlbench.register_task("toy", paper="Yu et al., 2020; Liu et al., 2021; Navon et al., 2022")
class Toy(Task):
    """A point in a landscape of two losses (K = 2); the batches are the numbers of the steps."""

    objectives = Objective("first", METRICS), Objective("second", METRICS)

    def __init__(self, variant: str, protocol: Protocol, data_root: Path | None, device: torch.device) -> None:
        if variant not in LANDSCAPES:
            raise unknown("variant of toy:", variant, LANDSCAPES)
        try:
            self.options = Options.model_validate(protocol.options)
        except pydantic.ValidationError as error:
            raise refused(error, "protocol.options.") from error
        if self.options.start > len(self.options.starts):
            raise UsageError(f"start={self.options.start} is not allowed: it is at most {len(self.options.starts)}.")
        self.facts = {"caveats": [CAVEAT]}
        self.landscape = LANDSCAPES[variant](self.options.scales)
        self.steps_per_epoch = self.options.steps_per_epoch
        self.places = -(-protocol.epochs * self.steps_per_epoch // self.options.keep_every)
        self.start = self.options.starts[self.options.start - 1]
        self.data_digest = hashlib.sha256(f"{variant} {self.start} {self.options.scales}".encode()).hexdigest()

    def model(self) -> Point:
        """The point at its start, which no seed changes."""
        return Point(self.start, self.places)

    def shared(self, model: nn.Module) -> Iterable[tuple[str, nn.Parameter]]:
        """The point."""
        return model.named_parameters()

    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[int]:
        """The numbers of the steps of an epoch; nothing is random."""
        yield from range(epoch * self.steps_per_epoch, (epoch + 1) * self.steps_per_epoch)

    def losses(self, model: nn.Module, batch: int, objectives: Sequence[int]) -> list[Tensor]:
        """The losses of `objectives` where the point is, () each."""
        point = cast("Point", model)
        number, between = divmod(batch, self.options.keep_every)
        if not between and number < self.places:
            point.visited[number] = point.place.detach()
        point.steps.fill_(batch + 1)
        found = self.landscape.losses(point.place)
        return [found[k] for k in objectives]

    def evaluate(self, model: nn.Module, split: str, objectives: Sequence[int]) -> Mapping[str, Mapping[str, float]]:
        """Loss and distance where the point is, in float64; exact, and the same on every split."""
        place = cast("Point", model).place.double().cpu().numpy()
        losses, distance = self.landscape.at(place), self.landscape.distance(place)
        return {self.objectives[k].name: {"loss": float(losses[k]), "distance": distance} for k in objectives}

    def predictions(self, model: nn.Module, split: str, objectives: Sequence[int]) -> Mapping[str, str]:
        """The way of the point: a line for each place that was kept, and for the last one.

        `trajectory.csv`; of a single-task model `trajectory-OBJECTIVE.csv`.
        """
        point = cast("Point", model)
        steps = [*range(0, int(point.steps), self.options.keep_every), int(point.steps)]
        places = torch.cat([point.visited[: len(steps) - 1], point.place[None]]).double().cpu().numpy()
        rows = zip(steps, places.tolist(), self.landscape.at(places).tolist(), strict=True)
        lines = ["step,x1,x2,first,second", *(",".join(map(repr, [step, *at, *loss])) for step, at, loss in rows)]
        name = "trajectory" if len(objectives) > 1 else f"trajectory-{self.objectives[objectives[0]].name}"
        return {f"{name}.csv": "\n".join(lines) + "\n"}
