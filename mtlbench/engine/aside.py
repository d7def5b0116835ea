"""Gradients that are already there, and hooks of users, kept away while backward passes run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class _Kept(NamedTuple):
    tensor: Tensor
    gradient: Tensor | None
    hooks: Any


class Aside:
    """Some tensors whose `.grad` and whose hooks on it are kept away.

    At the end either all is as it was (`put_back`), or what the passes left is added to what was there (`merge`).
    """

    def __init__(self) -> None:
        self._kept: dict[int, _Kept] = {}

    def take(self, tensors: Iterable[Tensor]) -> None:
        """Keep away what these hold, unless it already is; they now hold nothing."""
        for tensor in tensors:
            if id(tensor) not in self._kept:
                hooks = hooks_of(tensor)
                self._kept[id(tensor)] = _Kept(tensor, tensor.grad, hooks)
                tensor.grad = None
                if hooks:
                    tensor._post_accumulate_grad_hooks = OrderedDict()  # None would leave them registered

    @property
    def taken(self) -> list[Tensor]:
        """The tensors that are kept away."""
        return [kept.tensor for kept in self._kept.values()]

    def put_back(self) -> None:
        """All as it was; what the passes left is lost."""
        for tensor, gradient, hooks in self._kept.values():
            tensor.grad = gradient
            if hooks:
                tensor._post_accumulate_grad_hooks = hooks
        self._kept = {}

    def merge(self) -> list[Tensor]:
        """Add what the passes left to what was there; the tensors for which they left something."""
        reached = []
        for tensor, gradient, hooks in self._kept.values():
            if hooks:
                tensor._post_accumulate_grad_hooks = hooks
            if tensor.grad is not None:
                reached.append(tensor)
            if gradient is not None:
                tensor.grad = gradient if tensor.grad is None else added(gradient, tensor.grad)
        self._kept = {}
        return reached


def added(gradient: Tensor, other: Tensor) -> Tensor:
    """`gradient` with `other` added in place; a sparse one to a dense one, whichever that is."""
    with torch.no_grad():
        if gradient.is_sparse and not other.is_sparse:
            return other.add_(gradient)
        return gradient.add_(other)


def hooks_of(tensor: Tensor) -> Any:
    """The hooks that run after a gradient has been accumulated, a dict; None or empty if there are none."""
    return tensor._post_accumulate_grad_hooks


def run_hooks(tensors: Iterable[Tensor]) -> None:
    """Run the users' hooks on gradients that are complete."""
    for tensor in tensors:
        for hook in tuple((hooks_of(tensor) or {}).values()):
            hook(tensor)
