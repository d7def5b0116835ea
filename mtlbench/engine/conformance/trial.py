"""Steps on gradients and losses that are given, without a model: what a method of any kind makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from mtlbench.engine.conformance.finding import Make
from mtlbench.engine.kinds import GramianWeighting, JacobianAggregator, LossWeighting, Method

STEPS = 16
"""In most trials: more than the epochs that any built-in method waits for."""
EPOCH = 2
"""Steps in what methods that count epochs are told is one."""
LEARNING_RATE = 0.1
"""What parameters of a method are trained with, by plain gradient descent."""


class Step(NamedTuple):
    """What one step gives to a method."""

    rows: Tensor
    """(B, G, K, P) float64: the gradients in each of B independent batches and G groups."""
    losses: Tensor
    """(K,) float64."""
    after: Tensor
    """(K,) float64: the same after the step."""

    def permuted(self, order: Sequence[int]) -> Step:
        """With the objectives in another order."""
        return Step(self.rows[:, :, order], self.losses[order], self.after[order])

    def times(self, factors: Tensor | float) -> Step:
        """With every loss, and so its gradients, multiplied by a number, or by one of (K,) numbers."""
        each = torch.as_tensor(factors, dtype=torch.float64).expand(len(self.losses))
        return Step(self.rows * each[:, None], self.losses * each, self.after * each)

    @property
    def lengths(self) -> Tensor:
        """(G, K): of the gradients, in the batch where they are longest."""
        return self.rows.norm(dim=-1).amax(0)


class Answer(NamedTuple):
    """What a method makes of a step."""

    update: Tensor
    """(G, P)."""
    weights: Tensor
    """(G, K), or (1, K) where groups have none of their own: of the gradients, or of the heads in an aggregator."""


class Run:
    """A method over several steps.

    Args:
        make: builds it.
        seed: of its generator.
    """

    def __init__(self, make: Make, seed: int = 0) -> None:
        self.method = make().seed(seed)
        self.method.steps_per_epoch = EPOCH

    def step(self, step: Step) -> Answer:
        """The answer to a step that holds all objectives, and what follows it."""
        answer = self.answer(step)
        self.review(step.after)
        return answer

    def steps(self, steps: Iterable[Step]) -> list[Answer]:
        """The answers to steps in turn."""
        return [self.step(step) for step in steps]

    def answer(self, step: Step) -> Answer:
        """The answer alone."""
        method = self.method
        if isinstance(method, LossWeighting):
            weights = _trained(method, step.losses)[None]
            return Answer((weights @ step.rows[0])[:, 0], weights)
        if isinstance(method, GramianWeighting):
            first, second = step.rows[0], step.rows[min(1, len(step.rows) - 1)]
            gramian = first @ second.transpose(1, 2)
            weights = method.weights(gramian[:1] if method.scope == "last_layer" else gramian, step.losses)
            shares = torch.tensor(method.batch_shares, dtype=torch.float64)
            return Answer(((weights[:, None] @ step.rows)[:, :, 0] * shares[:, None, None]).sum(0), weights)
        assert isinstance(method, JacobianAggregator)
        method.begin(len(step.losses), step.rows.shape[1])
        method.losses = step.losses
        updates = []
        for method.group, rows in enumerate(step.rows[0]):
            updates.append(method.aggregate(rows.clone()).clone())
        return Answer(torch.stack(updates), method.head_weights()[None])

    def review(self, losses: Tensor) -> None:
        """Show a method that asks for them the losses after the step."""
        if isinstance(self.method, LossWeighting) and self.method.reviews:
            self.method.review(losses)

    def load(self, state: dict[str, Tensor]) -> Self:
        """Go on from a state."""
        self.method.load_state_dict(state)
        return self


def _trained(method: LossWeighting, losses: Tensor) -> Tensor:
    """(K,) the weights, after which the method's own parameters take a step."""
    method.begin(len(losses), 1)
    method.require_finite("loss", losses)
    leaf, own = losses.clone().requires_grad_(), list(method.parameters())
    weights, *slopes = torch.autograd.grad(method.scalarize(leaf), [leaf, *own])
    with torch.no_grad():
        for p, slope in zip(own, slopes, strict=True):
            p.sub_(LEARNING_RATE * slope)
    return weights


def batches_of(method: Method) -> int:
    """How many independent batches a step of the method takes gradients from."""
    return len(method.batch_shares) if isinstance(method, GramianWeighting) else 1


def ordinary(
    method: Method, objectives: int, groups: int = 1, count: int = STEPS, seed: int = 0, common: float = 0.0
) -> list[Step]:
    """Steps with gradients of different length that partly conflict, and losses that fall at different rates.

    Args:
        method: for which there are as many batches as it takes.
        objectives: K.
        groups: G.
        count: of steps.
        seed: of all numbers.
        common: how much of one direction there is in all gradients.
    """
    generator, columns = torch.Generator().manual_seed(seed), max(6, objectives + 2)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, columns, generator=generator, dtype=torch.float64)

    lasting = normal(groups, objectives) + common * normal(groups, 1)
    lengths = torch.linspace(0.5, 2.0, objectives, dtype=torch.float64)
    first, rates = lengths.flip(0), torch.linspace(0.9, 0.98, objectives, dtype=torch.float64)
    steps = []
    for number in range(count):
        rows = lasting + 0.5 * normal(groups, objectives)
        rows = rows + 0.3 * normal(batches_of(method), groups, objectives) * (batches_of(method) > 1)
        losses = first * rates**number * (1 + 0.1 * torch.rand(objectives, generator=generator, dtype=torch.float64))
        steps.append(Step(rows * lengths[:, None], losses, losses * rates))
    return steps


def constant(method: Method, rows: Tensor, losses: Tensor | None = None) -> Step:
    """A step with (K, P) or (G, K, P) rows in every batch, and losses around one unless they are given."""
    grouped = rows.double() if rows.ndim == 3 else rows.double()[None]
    if losses is None:
        losses = torch.linspace(0.5, 1.5, grouped.shape[1], dtype=torch.float64)
    return Step(grouped.expand(batches_of(method), *grouped.shape), losses, 0.9 * losses)


def apart(one: Tensor, other: Tensor) -> float:
    """How far two vectors, or the rows of two tables, are apart: the largest distance over the longer one's length."""
    size = torch.maximum(one.norm(dim=-1), other.norm(dim=-1))
    distance = (one - other).norm(dim=-1)
    return float(torch.where(distance > 0, distance / size, 0.0).max())


def turned(one: Tensor, other: Tensor) -> float:
    """The distance of two vectors, or of the rows of two tables, at unit length; that of zero to zero is zero."""
    return apart(*(torch.nn.functional.normalize(x, dim=-1, eps=1e-300) for x in (one, other)))
