"""What an update does to the losses: the plain sum where nothing conflicts, and descent of all where something does."""

from __future__ import annotations

import torch
from torch import Tensor

from mtlbench.engine.conformance.finding import Make, require_several, usual_size
from mtlbench.engine.conformance.trial import Run, Step, batches_of, constant, turned
from mtlbench.engine.kinds import Method

CLOSE = 1e-6
STEPS = 10
LENGTH = 1e-4
"""Of every step, where the minima are 1 away: so short that the order of the second derivative is no excuse."""


def plain_sum(make: Make) -> str:
    """Gradients of different length whose inner products are all positive, other ones in every step."""
    method = make()
    size, generator = require_several(method), torch.Generator().manual_seed(1)
    run = Run(make)
    for number in range(STEPS):
        rows = _agreeing(size, generator)
        lengths = torch.linspace(0.5, 2.0, size, dtype=torch.float64)[torch.randperm(size, generator=generator)]
        step = constant(method, rows * lengths[:, None], torch.linspace(0.9, 0.8, size, dtype=torch.float64) ** number)
        if (off := turned(run.step(step).update, step.rows[0].sum(1))) > CLOSE:
            return f"step {number + 1}: the update is turned from the plain sum by {off:.1e}"
    return ""


def _agreeing(objectives: int, generator: torch.Generator) -> Tensor:
    """(K, P) rows at angles below 90 degrees, whose coordinates differ in sign."""
    common = torch.randn(objectives + 6, generator=generator, dtype=torch.float64)
    rows = common + torch.randn(objectives, objectives + 6, generator=generator, dtype=torch.float64)
    while bool((rows @ rows.T <= 0).any()):
        rows = rows + 0.2 * common
    return torch.nn.functional.normalize(rows, dim=1)


def descent(make: Make) -> str:
    """Quadratic losses whose minima are as far away, of which each in turn is ten times as steep, or as flat.

    There is always a direction that lowers all of them.
    """
    size = usual_size(make())
    for where, rows in _minima(size).items():
        minima = torch.nn.functional.normalize(rows[:size], dim=1)
        for curved in (10.0, 0.1):
            for k in range(size):
                curvature = torch.ones(size, dtype=torch.float64)
                curvature[k] = curved
                if problem := _descend(make, minima, curvature):
                    return f"minima {where}, loss {k} {curved:g} times as curved: {problem}"
    return ""


def _minima(objectives: int) -> dict[str, Tensor]:
    """(K, P) directions within a half-space."""
    spread = torch.eye(objectives, dtype=torch.float64) - 1.1 / objectives
    lifted = torch.full((objectives, 1), 0.4 / objectives, dtype=torch.float64)
    between = torch.eye(objectives, dtype=torch.float64)
    between[-1] = 1.0
    raised = torch.nn.functional.one_hot(torch.tensor(objectives - 1), objectives).double()[:, None] * 0.2
    more = torch.rand(objectives, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.3
    opposed = torch.tensor([[1.0, 0.0, 0.0], [-0.998, 0.063, 0.0], [-0.3, 0.5, 0.8]], dtype=torch.float64)
    return {
        "on all sides": torch.cat([spread, lifted], dim=1),
        "on one side, one between the others": torch.cat([between, raised], dim=1),
        "nearly opposite": torch.cat([opposed, opposed[-1] + more]),
    }


def _descend(make: Make, minima: Tensor, curvature: Tensor) -> str:
    """From 0, where every loss is half its curvature."""
    run, place = Run(make), torch.zeros(minima.shape[1], dtype=torch.float64)

    def losses() -> Tensor:
        return 0.5 * curvature * (place - minima).square().sum(1)

    first = losses()
    for _ in range(STEPS):
        update = run.answer(_step(run.method, (place - minima) * curvature[:, None], losses())).update[0]
        place = place - LENGTH * torch.nn.functional.normalize(update, dim=0)
        run.review(losses())
    risen = losses() - first
    worst = int(risen.argmax())
    return "" if risen[worst] < 0 else f"loss {worst} went from {first[worst]:.8g} to {losses()[worst]:.8g}"


def _step(method: Method, rows: Tensor, losses: Tensor) -> Step:
    return Step(rows.expand(batches_of(method), 1, *rows.shape), losses, losses)
