"""The gradients of heads: parameters that one objective alone reaches, scaled by weights known at the end only."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from mtlbench.errors import UsageError


class Heads:
    """The gradients of parameters that one objective alone reaches.

    They accumulate in `.grad` as in any backward pass. Where they must be scaled by weights that are only
    known at the end, they are held back until `release`.
    """

    def __init__(self, shared: set[int], present: list[int], hold: bool, check: bool) -> None:
        self._shared = shared
        self._present = present
        self._hold = hold
        self._check = check
        self._owner: dict[int, int] = {}
        self._held: list[tuple[int, Tensor, Tensor]] = []

    def of(self, row: int, loss: Tensor) -> _HeldBack:
        """A context around the backward pass of `loss`."""
        heads = [p for p in leaves(loss) if id(p) not in self._shared] if self._hold or self._check else []
        if self._check:
            for p in heads:
                if self._owner.setdefault(id(p), row) != row:
                    raise UsageError(
                        f"a parameter of shape {tuple(p.shape)} is reached by the losses of objectives "
                        f"{self._present[self._owner[id(p)]]} and {self._present[row]} but is not in shared: its "
                        "gradients would be added without the method. Add it to shared."
                    )
        return _HeldBack(heads if self._hold else [], row, self._held)

    def release(self, weights: Tensor) -> None:
        """Add each held gradient, times its objective's weight, to `.grad`."""
        factors = weights.tolist()
        for row, p, gradient in self._held:
            if p.grad is None:
                p.grad = gradient.mul_(factors[row])
            else:
                p.grad.add_(gradient, alpha=factors[row])


class _HeldBack:
    """Sets the `.grad` of `parameters` aside while a backward pass runs, and keeps what the pass left there."""

    def __init__(self, parameters: list[Tensor], row: int, held: list[tuple[int, Tensor, Tensor]]) -> None:
        self._parameters = parameters
        self._row = row
        self._held = held

    def __enter__(self) -> None:
        self._existing = [p.grad for p in self._parameters]
        for p in self._parameters:
            p.grad = None

    def __exit__(self, *_: object) -> None:
        for p, existing in zip(self._parameters, self._existing, strict=True):
            if p.grad is not None:
                self._held.append((self._row, p, p.grad))
            p.grad = existing


def leaves(loss: Tensor) -> list[Tensor]:
    """The leaf tensors that the graph of `loss` accumulates gradients into."""
    seen: set[Any] = set()
    found = []
    stack: list[Any] = [loss.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            found.append(leaf)
        stack.extend(next_node for next_node, _ in node.next_functions)
    return found
