"""Gradients and losses that break methods: zero, equal, opposite, of every length, nearly dependent, or alone."""

from __future__ import annotations

import torch
from torch import Tensor

from mtlbench.engine.conformance.finding import Inapplicable, Make, begins, sizes, usual_size
from mtlbench.engine.conformance.trial import Run, Step, batches_of, constant, ordinary, turned
from mtlbench.engine.kinds import LossWeighting, Method

REPEATED = 20
"""How often a step comes again, for what builds up in a state."""
ROUNDS = 12
"""Of the search for gradients that make an update long."""
LIMIT = 100.0
"""What an update may be at most, in summed lengths of the gradients."""
X, Y = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])


def finite(make: Make) -> str:
    """Weights of a few steps for every number of objectives, of one group and of four."""
    for objectives in sizes(make()):
        for groups in (1, 4):
            run = Run(make)
            for step in ordinary(run.method, objectives, groups, count=3):
                answer = run.step(step)
                if answer.weights.shape[-1] != objectives or (seen := _not_finite(answer.weights, answer.update)):
                    return f"K={objectives}, G={groups}: weights {seen or answer.weights.tolist()}"
    return ""


def zeros(make: Make) -> str:
    """Objectives without a gradient, some or all."""
    return _repeated(make, {"a zero gradient": [X, 0 * X, Y], "all gradients zero": [0 * X, 0 * X, 0 * Y]})


def duplicates(make: Make) -> str:
    """Gradients that are equal, opposite, or both."""
    return _repeated(make, {"equal gradients": [X, X, Y], "all equal": [X, X, X], "opposite gradients": [X, -X, Y]})


def extremes(make: Make) -> str:
    """Gradients of very different length, and the losses that go with them."""
    scales = torch.tensor([1e-6, 1e6, 1.0], dtype=torch.float64)
    return _repeated(make, {"lengths from 1e-6 to 1e6": [1e-6 * X, 1e6 * (X + Y), Y]}, scales)


def alone(make: Make) -> str:
    """With one objective there is nothing to combine."""
    if not begins(make(), 1):
        raise Inapplicable("it does not combine one objective")
    run = Run(make)
    for number, step in enumerate(ordinary(run.method, 1)):
        update = run.step(step).update
        shares = torch.tensor(getattr(run.method, "batch_shares", (1.0,)), dtype=torch.float64)
        own = (step.rows[:, :, 0] * shares[:, None, None]).sum(0)
        if (off := turned(update, own)) > 1e-9:
            return f"step {number + 1}: the update is turned from the only gradient by {off:.1e}"
    return ""


def bounded(make: Make) -> str:
    """Gradients in few dimensions, dependent or nearly so, and ever closer to those whose update was the longest."""
    objectives, generator = usual_size(make()), torch.Generator().manual_seed(3)
    run, rows, width = Run(make), _dependent(objectives, generator), 1.0
    for number in range(ROUNDS):
        step = constant(run.method, rows)
        if batches_of(run.method) > 1:
            noise = torch.randn(step.rows.shape, generator=generator, dtype=torch.float64)
            step = step._replace(rows=step.rows + 0.1 * noise)
        update = run.step(step).update
        if seen := _not_finite(update):
            return f"step {number + 1}: an update is {seen}"
        share = update.norm(dim=-1) / step.lengths.sum(-1)
        if share.max() > LIMIT:
            return f"an update is {float(share.max()):.0f} times as long as all gradients together"
        worst, width = rows[share.argmax()], width / 3
        rows = worst + width * torch.randn(rows.shape, generator=generator, dtype=torch.float64)
    return ""


def _dependent(objectives: int, generator: torch.Generator) -> Tensor:
    """(G, K, P): independent rows in as many dimensions, dependent ones, and nearly parallel or opposite ones."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, objectives, generator=generator, dtype=torch.float64)

    free, flat, common = normal(60, objectives), normal(20, objectives), normal(20, 1)
    flat[:, :, -1] = 0
    signs = torch.where(torch.rand(20, objectives, 1, generator=generator) < 0.5, -1.0, 1.0)
    return torch.cat([free, flat, signs * common + 1e-8 * normal(20, objectives)])


def _repeated(make: Make, cases: dict[str, list[Tensor]], scales: Tensor | None = None) -> str:
    """Each case over and over; finite, and bounded where gradients are of one length."""
    objectives = usual_size(make())
    for what, rows in cases.items():
        run = Run(make)
        step = constant(run.method, torch.stack([rows[k % 3] for k in range(objectives)]))
        if scales is not None and isinstance(run.method, LossWeighting):
            step = step.times(torch.stack([scales[k % 3] for k in range(objectives)]))
        for _ in range(REPEATED):
            answer = run.step(step)
            if seen := _not_finite(answer.weights, answer.update):
                return f"{what}: weights or update {seen}"
            if scales is None and _length(answer.update) > LIMIT * _total(step, run.method):
                return f"{what}: the update is {_length(answer.update):.1e} long"
    return ""


def _length(update: Tensor) -> float:
    return float(update.norm(dim=-1).max())


def _total(step: Step, method: Method) -> float:
    """The summed lengths of the gradients, and some for what has a length of its own."""
    return float(step.lengths.sum()) + 1.0


def _not_finite(*tensors: Tensor) -> str:
    return next((str(x.tolist()) for x in tensors if not bool(torch.isfinite(x).all())), "")
