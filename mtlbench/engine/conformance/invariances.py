"""What must not matter: the order of the objectives, the scale of losses, what is in other groups."""

from __future__ import annotations

import torch
from torch import Tensor

from mtlbench.engine.conformance.finding import Inapplicable, Make, require_several, usual_size
from mtlbench.engine.conformance.trial import Run, Step, apart, ordinary, turned
from mtlbench.engine.kinds import GramianWeighting, LossWeighting

SCALES = (1e-6, 1e6)
SINGLE = 100.0
CLOSE = 1e-6
"""How far updates may be apart that are the same but for rounding, in their own length."""
SEEDS = 200
"""Over which a method that draws is averaged."""
ERRORS = 6.0
"""How many standard errors such averages may be apart."""


def order(make: Make) -> str:
    """The objectives turned round by one; of a method that draws at random, the mean over seeds."""
    size = require_several(make())
    steps = ordinary(make(), size)
    turn = [*range(1, size), 0]
    problem = ""
    plain, permuted = Run(make).steps(steps), Run(make).steps(step.permuted(turn) for step in steps)
    for number, (one, other) in enumerate(zip(plain, permuted, strict=True)):
        off = max(apart(one.update, other.update), apart(one.weights[:, turn], other.weights))
        if off > CLOSE:
            problem = f"step {number + 1}: answers differ by {off:.1e} of their length"
            break
    return _in_the_mean(make, steps[:3], turn) if problem and _draws(make, steps) else problem


def _draws(make: Make, steps: list[Step]) -> bool:
    """Whether what a method answers depends on its generator."""
    one, other = Run(make, 0).steps(steps), Run(make, 1).steps(steps)
    return any(not torch.equal(a.update, b.update) for a, b in zip(one, other, strict=True))


def _in_the_mean(make: Make, steps: list[Step], turn: list[int]) -> str:
    def numbers(seed: int, permuted: bool) -> Tensor:
        answers = Run(make, seed).steps(step.permuted(turn) if permuted else step for step in steps)
        weights = [a.weights if permuted else a.weights[:, turn] for a in answers]
        return torch.cat([x.flatten() for x in (*weights, *(a.update for a in answers))])

    plain = torch.stack([numbers(seed, False) for seed in range(SEEDS)])
    other = torch.stack([numbers(seed, True) for seed in range(SEEDS, 2 * SEEDS)])
    error = ((plain.var(0) + other.var(0)) / SEEDS).sqrt()
    off = (plain.mean(0) - other.mean(0)).abs()
    allowed = ERRORS * error + CLOSE * plain.abs().max()
    worst = int((off - allowed).argmax())
    if off[worst] <= allowed[worst]:
        return ""
    return f"the mean over {SEEDS} seeds differs by {off[worst] / error[worst].clamp(min=1e-300):.0f} standard errors"


def common_scale(make: Make) -> str:
    """All losses, and so all gradients, times a small and a large number."""
    steps = ordinary(make(), usual_size(make()))
    plain = Run(make).steps(steps)
    for scale in SCALES:
        scaled = Run(make).steps(step.times(scale) for step in steps)
        for number, (one, other) in enumerate(zip(plain, scaled, strict=True)):
            if apart(one.update, other.update / scale) > CLOSE:
                turn, ratio = turned(one.update, other.update), _ratio(other.update, one.update)
                how = f"turns by {turn:.1e}" if turn > CLOSE else f"becomes {ratio:.2g} times as long"
                return f"all losses times {scale:g}: in step {number + 1} the update {how}"
    return ""


def _ratio(one: Tensor, other: Tensor) -> float:
    return float(one.norm() / other.norm())


def single_scale(make: Make) -> str:
    """One loss, and so its gradient, times a number."""
    size = require_several(make())
    for common in (0.0, 2.0):
        steps = ordinary(make(), size, common=common)
        plain = Run(make).steps(steps)
        for k in range(size):
            factors = torch.ones(size, dtype=torch.float64)
            factors[k] = SINGLE
            scaled = Run(make).steps(step.times(factors) for step in steps)
            for number, (one, other) in enumerate(zip(plain, scaled, strict=True)):
                if (off := turned(one.update, other.update)) > 10 * CLOSE:
                    return f"loss {k} times {SINGLE:g}: in step {number + 1} the update is turned by {off:.1e}"
    return ""


def groups(make: Make) -> str:
    """The update of the first and the last of three groups, with other gradients in the other two."""
    method = make()
    if isinstance(method, LossWeighting):
        raise Inapplicable("it sees losses and no gradients")
    if isinstance(method, GramianWeighting) and method.scope == "last_layer":
        raise Inapplicable("it sees the gradients of one layer only")
    size = usual_size(method)
    steps, others = (ordinary(method, size, groups=3, seed=seed) for seed in (0, 1))
    plain = Run(make).steps(steps)
    for group in (0, 2):
        mixed = []
        for step, other in zip(steps, others, strict=True):
            rows = other.rows.clone()
            rows[:, group] = step.rows[:, group]
            mixed.append(step._replace(rows=rows))
        for number, (one, two) in enumerate(zip(plain, Run(make).steps(mixed), strict=True)):
            if (off := apart(one.update[group], two.update[group])) > CLOSE:
                return f"step {number + 1}: the update of group {group} changes by {off:.1e} with the other groups"
    return ""
