"""What the losses reach beside the shared parameters: heads, which one objective alone trains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import Parameter

from mtlbench.engine.aside import Aside, added
from mtlbench.engine.graph import described, graph_of
from mtlbench.errors import UsageError


class Heads:
    """The parameters outside `shared` that each objective's loss reaches, remembered from step to step.

    Walking a graph takes time, so an objective's is walked in the first, second, fourth, eighth, ... step that holds
    it, and in every step of a method that weights heads.
    """

    def __init__(self) -> None:
        self._known: dict[int, list[Tensor]] = {}
        self._steps: Counter[int] = Counter()

    def forget(self) -> None:
        """Look again, since the shared parameters have changed."""
        self._known, self._steps = {}, Counter()

    def step(
        self,
        shared: Collection[int],
        present: Sequence[int],
        aside: Aside,
        *,
        weighted: bool,
        given: Sequence[Tensor] | None = None,
    ) -> HeadsOfStep:
        """The heads of one step.

        Args:
            shared: the `id` of every shared parameter.
            present: the objectives that the step holds, in the order of its losses.
            aside: what is taken here is kept away in it.
            weighted: whether gradients of heads are scaled by weights, known at the end only.
            given: all heads, where they cannot be found in graphs.
        """
        for objective in present:
            aside.take(self._known.get(objective, ()))
        return HeadsOfStep(self, shared, present, aside, weighted, given)

    def due(self, objective: int) -> bool:
        """Whether the graph of this objective is walked in this step, which is counted."""
        self._steps[objective] += 1
        return self._steps[objective].bit_count() == 1

    def remember(self, objective: int, heads: list[Tensor]) -> None:
        """What the objective's loss reaches; inputs that require a gradient are other ones in every step."""
        self._known[objective] = [p for p in heads if isinstance(p, Parameter)]


class HeadsOfStep:
    """The gradients of heads in one step.

    They accumulate in `.grad` as in any backward pass. In a step that looks at them, or must scale them by weights
    that are only known at the end, each row's are held back until `release`.
    """

    def __init__(
        self,
        heads: Heads,
        shared: Collection[int],
        present: Sequence[int],
        aside: Aside,
        weighted: bool,
        given: Sequence[Tensor] | None,
    ) -> None:
        self._heads = heads
        self._given = given
        self._shared = shared
        self._present = present
        self._aside = aside
        self._weighted = weighted
        self._held: list[tuple[int, Tensor, Tensor]] = []
        self._first: dict[int, tuple[int, Tensor]] = {}

    def look(self, row: int, loss: Tensor) -> list[Tensor] | None:
        """The leaves outside `shared` that `loss` reaches, kept away from now on; None in a step without a look."""
        objective = self._present[row]
        if not self._heads.due(objective) and not self._weighted:
            return None
        if self._given is not None:
            self._aside.take(self._given)
            return list(self._given)
        graph = graph_of(loss)
        if graph.opaque and self._weighted:
            raise UsageError(
                "a reentrant checkpoint hides which parameters it uses, so that those of heads would escape the "
                "weights of this method: use torch.utils.checkpoint.checkpoint(..., use_reentrant=False)."
            )
        heads = [leaf.tensor for leaf in graph.leaves.values() if id(leaf.tensor) not in self._shared]
        self.take(row, heads)
        return heads

    def of_all(self, losses: Sequence[Tensor]) -> list[Tensor]:
        """The leaves outside `shared` that any of the `losses` reaches, kept away from now on."""
        found = [leaf.tensor for leaf in graph_of(*losses).leaves.values() if id(leaf.tensor) not in self._shared]
        self._aside.take(found)
        return found

    @contextmanager
    def of(self, row: int, loss: Tensor) -> Iterator[None]:
        """A context around the backward pass of `loss`.

        Raises:
            UsageError: a parameter outside `shared` that this loss and another one train.
        """
        with self.holding(row, self.look(row, loss) or []):
            yield

    def take(self, row: int, heads: list[Tensor]) -> None:
        """Keep away, from now on, the leaves outside `shared` that the caller has found the loss of `row` to reach."""
        self._heads.remember(self._present[row], heads)
        self._aside.take(heads)

    @contextmanager
    def holding(self, row: int, heads: list[Tensor]) -> Iterator[None]:
        """A context around what leaves the gradients of these `heads` of `row` in `.grad`, which are held back.

        Raises:
            UsageError: as `of`.
        """
        before = [p.grad for p in heads]
        for p in heads:
            p.grad = None
        try:
            yield
            for p in heads:
                if p.grad is not None:
                    self._held.append((row, p, p.grad))
                    self._check(row, p, p.grad)
        finally:
            for p, gradient in zip(heads, before, strict=True):
                p.grad = gradient

    def release(self, weights: Tensor | None = None) -> None:
        """Add what was held back to `.grad`: as it is, or times the (m,) weights of the objectives."""
        factors = None if weights is None else weights.tolist()
        for row, p, gradient in self._held:
            if factors is not None:
                gradient.mul_(factors[row])
            p.grad = gradient if p.grad is None else added(p.grad, gradient)

    def _check(self, row: int, p: Tensor, gradient: Tensor) -> None:
        """Two objectives train `p`; gradients of zero, as of heads whose outputs are stacked, are none."""
        first, theirs = self._first.setdefault(id(p), (row, gradient))
        if self._present[first] == self._present[row] or not isinstance(p, Parameter) or not _moves(gradient):
            return
        if not _moves(theirs):
            self._first[id(p)] = row, gradient
            return
        raise UsageError(
            f"{described(p)} is reached by the losses of objectives {self._present[first]} and {self._present[row]} "
            "but is not in shared: its gradients would be added without the method. If both are to train it, add it "
            "to shared. If it is the head of one, its output enters the other's loss: torch.compile of trunk and "
            "heads together, or DistributedDataParallel, may do that too. Then compile the encoder alone."
        )


def _moves(gradient: Tensor) -> bool:
    """Whether a gradient is finite and not zero everywhere."""
    whole = getattr(gradient, "full_tensor", None)  # of a DTensor, for all ranks to say the same
    values = whole() if whole else gradient._values() if gradient.is_sparse else gradient
    return bool(torch.isfinite(values).all()) and bool(values.any())
