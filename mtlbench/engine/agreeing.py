"""What ranks tell each other before a step: which objectives each holds, how much of them, and that all are alike."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mtlbench.engine.collectives import Collectives
from mtlbench.engine.losses import Losses
from mtlbench.errors import UsageError

LOOKS_EVERY = 100
"""Steps between two comparisons of parameters and method over the ranks, after those in steps 1, 2, 4, ..., 64."""


@dataclass(frozen=True)
class Joint:
    """A step that all ranks agree on."""

    objectives: list[int] = field(default_factory=list)
    """What the ranks hold together, in the order of the rows."""
    own: list[int] = field(default_factory=list)
    """What this rank holds, in the order of its losses."""
    factors: dict[int, float] = field(default_factory=dict)
    """Objective -> what this rank's loss is multiplied with, so that the mean over ranks is that over examples."""
    lacking: frozenset[int] = frozenset()
    """Objectives that some rank does not hold."""

    @property
    def is_plain(self) -> bool:
        """Whether this rank's losses are those of the step as they are."""
        return self.own == self.objectives and all(factor == 1 for factor in self.factors.values())

    def losses(self, given: Losses, like: Tensor) -> Losses:
        """The losses of this rank as the step takes them, with a zero for each objective that it does not hold."""
        if self.is_plain:
            return given
        if not isinstance(given, Sequence):
            return self._one_by_one(given, like)
        found = dict(zip(self.own, given, strict=True))
        return [found[k] * self.factors[k] if k in found else _nothing(like) for k in self.objectives]

    def _one_by_one(self, given: Iterator[Tensor], like: Tensor) -> Iterator[Tensor]:
        for k in self.objectives:
            if k not in self.factors:
                yield _nothing(like)
                continue
            try:  # no name for the loss, which would keep its graph until the next one is built
                yield next(given) * self.factors[k]
            except StopIteration:
                return
        yield from given

    def weighted(self, values: Sequence[Tensor], like: Tensor) -> Tensor:
        """(m,) detached values of this rank's losses, as `losses` makes them of losses."""
        found = dict(zip(self.own, values, strict=True))
        return torch.stack([found[k] * self.factors[k] if k in found else _nothing(like) for k in self.objectives])


class Agreement:
    """The step that ranks take together, from what each of them brings.

    Args:
        collectives: of the ranks.
    """

    def __init__(self, collectives: Collectives) -> None:
        self._collectives = collectives
        self._objectives = 0
        self._steps = 0

    @property
    def looks(self) -> bool:
        """Whether parameters and method are compared in the step that comes next."""
        step = self._steps + 1
        return step % LOOKS_EVERY == 0 or (step <= 64 and step.bit_count() == 1)

    def fail(self) -> None:
        """Tell the other ranks that this one has come upon an error before the step."""
        self._collectives.gathered([1, *[0] * (2 + 2 * self._objectives)])

    def join(
        self, layout: int, state: int, objectives: int, own: Sequence[int], examples: Sequence[float] | None
    ) -> Joint:
        """Agree on a step.

        Args:
            layout: of the groups, the method and its options, which must be those of all ranks.
            state: of the parameters and the method, likewise; 0 where nobody looks.
            objectives: K.
            own: the objectives that this rank holds, in the order of its losses.
            examples: how many of each, in the same order, or in another measure of the weight of a mean; 1 by default.

        Raises:
            UsageError: on every rank, where one has failed, where they are not alike, or hold no objective.
        """
        if not self._objectives:  # how long the message is depends on K
            table = self._collectives.gathered([0, objectives, layout])
            _require_success(table)
            if len(set(table[:, 1].tolist())) > 1:
                raise UsageError(f"ranks have {table[:, 1].tolist()} objectives: all must have the same.")
            self._objectives = objectives
        weights = [1.0] * len(own) if examples is None else [float(n) for n in examples]
        places, amounts = [-1] * objectives, [0.0] * objectives
        for place, (k, weight) in enumerate(zip(own, weights, strict=True)):
            places[k], amounts[k] = place, weight
        bits = torch.tensor(amounts, dtype=torch.float64).view(torch.int64).tolist()
        table = self._collectives.gathered([0, layout, state, *places, *bits])
        self._steps += 1
        _require_success(table)
        _require_alike(table)
        held = table[:, 3 : 3 + objectives]
        amount = table[:, 3 + objectives :].contiguous().view(torch.float64)
        return self._joint(list(own), held, amount)

    def _joint(self, own: list[int], held: Tensor, amount: Tensor) -> Joint:
        orders = [
            sorted((k for k, place in enumerate(row) if place >= 0), key=row.__getitem__) for row in held.tolist()
        ]
        alike = all(order == orders[0] for order in orders)
        if not alike and any(order != sorted(order) for order in orders):
            raise UsageError(
                "ranks hold different objectives, in orders of their own: where an objective is absent from some "
                "ranks, pass losses in the order of the objectives."
            )
        union = orders[0] if alike else sorted({k for order in orders for k in order})
        if not union:
            raise UsageError("a step needs at least one loss, on one of the ranks.")
        totals = amount.sum(0)
        for k in union:
            if not (bool(torch.isfinite(amount[:, k]).all()) and bool((amount[:, k] >= 0).all()) and totals[k] > 0):
                raise UsageError(
                    f"examples of objective {k} on the ranks are {amount[:, k].tolist()}: they are finite, not "
                    "negative, and not all zero."
                )
        rank, ranks = self._collectives.rank, self._collectives.size
        factors = {k: float(amount[rank, k] * ranks / totals[k]) for k in own}
        lacking = frozenset(k for order in orders for k in union if k not in order)
        return Joint(union, own, factors, lacking)


def _in_order(places: Sequence[int]) -> list[int]:
    """The objectives that have a place, by it."""
    return sorted((k for k, place in enumerate(places) if place >= 0), key=places.__getitem__)


def _require_success(table: Tensor) -> None:
    if failed := table[:, 0].nonzero().flatten().tolist():
        which = ", ".join(map(str, failed))
        raise UsageError(f"rank {which} came upon an error before this step, which is told there.")


def _require_alike(table: Tensor) -> None:
    if len(set(table[:, 1].tolist())) > 1:
        raise UsageError(
            "ranks differ in their shared parameters, groups, method or options: build the same model, method and "
            "Backward on every rank, and freeze and unfreeze alike."
        )
    if len(set(table[:, 2].tolist())) > 1:
        raise UsageError(
            "ranks have come apart: their parameters, or the state of the method, are not the same. Before the first "
            "step give all ranks the same parameters (torch.distributed.broadcast) and the same seed; later, let "
            "nothing else change them on one rank only."
        )


def digest(*parts: object) -> int:
    """A positive number below 2^62 that tells contents apart."""
    text = "\n".join(map(repr, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 2


def bits(tensors: Sequence[Tensor]) -> list[int]:
    """For each tensor the sum of its bytes' words: equal for equal bits, whatever the order of summation."""
    return [int(_words(t.detach()).sum(dtype=torch.int64)) for t in tensors if t.numel()]


def _words(t: Tensor) -> Tensor:
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    flat = torch.view_as_real(t) if t.is_complex() else t
    return flat.contiguous().view(kinds[flat.element_size()])


def _nothing(like: Tensor) -> Tensor:
    """A loss that no parameter moves."""
    dtype = like.dtype if like.dtype in (torch.float32, torch.float64) else torch.float32
    return torch.zeros((), dtype=dtype, device=like.device, requires_grad=True)
