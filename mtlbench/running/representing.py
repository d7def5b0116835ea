"""What all heads read: which tasks say it (`wrt=representation`), and whether it is what they say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtlbench.catalogue import building, registry
from mtlbench.catalogue.task import Task
from mtlbench.engine.backward import Backward
from mtlbench.engine.kinds import GramianWeighting
from mtlbench.errors import UsageError


def require_representation(task: Task, variant: str) -> None:
    """Raise `UsageError`, naming tasks that do, where a task does not say what its heads read."""
    if task.has_representation:
        return
    having = ", ".join(name for name in registry.tasks.names() if name != task.name and _may_have_one(name))
    raise UsageError(
        f"wrt=representation is not allowed: {task.name}/{variant} has no representation that all heads read "
        f"(Task.losses_and_representation). Tasks that have one: {having or 'none'}."
    )


def problem(task: Task, model: nn.Module, batch: Any, objectives: Sequence[int]) -> str:
    """What is wrong with the representation of a task, if anything is; gradients are left on the model.

    Its losses must be those of `losses`, and the sum of them must give shared parameters and heads, by way of the
    representation, the gradients that it gives them without.

    Args:
        task: with a representation.
        model: without anything random in its forward pass.
        batch: to try it on.
        objectives: those that the batch holds.
    """
    plain = list(task.losses(model, batch, objectives))
    expected = torch.autograd.grad(torch.stack(plain).sum(), _trained(model), allow_unused=True)
    losses, representation = task.losses_and_representation(model, batch, objectives)
    if len(losses) != len(plain) or not torch.allclose(torch.stack(list(losses)), torch.stack(plain), rtol=1e-4):
        return "losses_and_representation gives other losses than losses"
    model.zero_grad()
    Backward(_Sum(), task.shared(model), wrt="representation")(list(losses), representation=representation)
    for (name, p), gradient in zip(model.named_parameters(), _aligned(model, expected), strict=True):
        found = torch.zeros_like(p) if p.grad is None else p.grad
        wanted = torch.zeros_like(p) if gradient is None else gradient
        if not torch.allclose(found, wanted, rtol=1e-3, atol=1e-5 * float(wanted.abs().max()) + 1e-12):
            return f"the gradient of {name} by way of the representation is another than without"
    return ""


class _Sum(GramianWeighting):
    """Weights of 1."""

    name = "the plain sum"

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        return torch.ones(gramian.shape[:2], dtype=torch.float64)


def _trained(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def _aligned(model: nn.Module, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
    """One for each parameter, None for those that are not trained."""
    left = iter(gradients)
    return [next(left) if p.requires_grad else None for p in model.parameters()]


def _may_have_one(name: str) -> bool:
    try:
        return building.task_class(name).losses_and_representation is not Task.losses_and_representation
    except UsageError:  # a task that cannot be imported here
        return False
