"""Small regressions on one encoder, trained through `Backward`: what needs a model to be tried."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtlbench.engine.backward import Backward
from mtlbench.engine.conformance.finding import Make
from mtlbench.engine.kinds import GramianWeighting
from mtlbench.engine.representation import Wrt

OWN_RATE = 0.1
OWN_DECAY = 0.1
"""Of plain gradient descent on the parameters of a method."""


class Regressions:
    """K regressions on one encoder, whose batches differ from step to step while the model stays.

    Args:
        objectives: K.
        dtype: of model and data; data and weights are the same numbers in each, as far as it holds them.
    """

    def __init__(self, objectives: int, dtype: torch.dtype = torch.float64) -> None:
        self.objectives = objectives
        self.dtype = dtype
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.encoder = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).to(dtype)
            self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(objectives)).to(dtype)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Of encoder and heads."""
        return [*self.encoder.parameters(), *self.heads.parameters()]

    def batch(self, number: int, copy: int = 0) -> Tensor:
        """(16, 6): the inputs of a step, or of one of its further batches."""
        generator = torch.Generator().manual_seed(100 * number + copy)
        return torch.randn(16, 6, generator=generator, dtype=torch.float32).to(self.dtype)

    def losses(self, x: Tensor, present: Sequence[int], as_list: bool = True) -> Sequence[Tensor] | Iterator[Tensor]:
        """On one graph, or as a generator of one for each."""
        if not as_list:
            return (self._loss(self.encoder(x), x, k) for k in present)
        features = self.encoder(x)
        return [self._loss(features, x, k) for k in present]

    def _loss(self, features: Tensor, x: Tensor, k: int) -> Tensor:
        head: Any = self.heads[k]
        return (head(features) - x[:, [k % 6]]).square().mean() + 0.01

    def start(self, make: Make, as_list: bool = True, **options: Any) -> Training:
        """Begin to train with a method; options are those of `Backward`."""
        return Training(self, make, as_list, options)


class Training:
    """Steps of a method on regressions; its own parameters are trained, the model is not.

    Args:
        problem: what it is trained on.
        make: builds the method.
        as_list: whether losses share a graph.
        options: of `Backward`.
    """

    def __init__(self, problem: Regressions, make: Make, as_list: bool, options: Mapping[str, Any]) -> None:
        self.problem = problem
        self.as_list = as_list
        granularity = "all_layer" if problem.objectives != 2 else "whole_model"
        self.backward = Backward(make(), problem.encoder, granularity, problem.objectives, **options)
        own = list(self.backward.method.parameters())
        self._own = torch.optim.SGD(own, OWN_RATE, weight_decay=OWN_DECAY) if own else None
        self.number = 0

    def step(self, present: Sequence[int] | None = None) -> list[Tensor]:
        """`.grad` of encoder and heads, zero where there is none, after a step that holds these objectives."""
        problem, method = self.problem, self.backward.method
        held = range(problem.objectives) if present is None else present
        for p in (*problem.parameters, *method.parameters()):
            p.grad = None
        shares = method.batch_shares if isinstance(method, GramianWeighting) else (1.0,)
        several = (problem.losses(problem.batch(self.number, b), held, self.as_list) for b in range(len(shares)))
        self.backward(several if len(shares) > 1 else next(several), present)
        if self._own is not None:
            self._own.step()
        with torch.no_grad():
            losses = problem.losses(problem.batch(self.number), held)
            self.backward.review(0.9 ** (k * k) * loss for k, loss in zip(held, losses, strict=True))
        self.number += 1
        return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in problem.parameters]


class Tables:
    """K regressions that read a table of numbers, which is the only shared parameter.

    Args:
        objectives: K.
        make: builds the method.
        wrt: what gradients are taken with respect to, as in `Backward`.
    """

    ROWS = 16

    def __init__(self, objectives: int, make: Make, wrt: Wrt) -> None:
        generator = torch.Generator().manual_seed(0)
        self.objectives = objectives
        self.wrt = wrt
        self.table = nn.Parameter(torch.randn(self.ROWS, 4, generator=generator, dtype=torch.float64))
        self.heads = torch.randn(objectives, 4, generator=generator, dtype=torch.float64)
        self.backward = Backward(make(), [self.table], objectives=objectives, wrt=wrt)

    def step(self, number: int, rows: int) -> Tensor:
        """`.grad` of the table after a step on some of its rows."""
        generator = torch.Generator().manual_seed(number)
        targets = torch.randn(self.objectives, rows, generator=generator, dtype=torch.float64)
        self.table.grad = None
        features = self.table[:rows] * 1.0
        losses = [(features @ head - target).square().mean() for head, target in zip(self.heads, targets, strict=True)]
        self.backward(losses, representation=features if self.wrt == "representation" else None)
        assert self.table.grad is not None
        return self.table.grad.clone()


def flat(state: Mapping[Any, Any], prefix: str = "") -> dict[str, Tensor]:
    """The tensors and numbers in a state, however they are nested, by name."""
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{name}.")
        elif isinstance(value, Tensor):
            found[name] = value.clone()
        elif isinstance(value, bool | int | float):
            found[name] = torch.tensor(value)
    return found
