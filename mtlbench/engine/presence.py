"""Which objectives a call of `Backward` is about: how many there are, and which of them the step holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mtlbench.engine.kinds import GramianWeighting, Method
from mtlbench.errors import UsageError


def number_of_objectives(
    known: int, losses: Any, objectives: Sequence[int] | None, method: Method, *, may_be_none: bool
) -> int:
    """K, from what is known of it and the losses of a step.

    Args:
        known: K, or 0 where nobody has said.
        losses: of the step, or of each of its batches; what comes from a generator cannot be counted before.
        objectives: which they are; None for all.
        method: says how many batches a step has.
        may_be_none: whether a step may hold no loss in this process.

    Raises:
        UsageError: no loss, another number of losses, or a number that cannot be told.
    """
    batches = len(method.batch_shares) if isinstance(method, GramianWeighting) else 1
    if batches > 1:
        counted = isinstance(losses, Sequence) and losses and isinstance(losses[0], Sequence)
        count = len(losses[0]) if counted else None
    else:
        count = len(losses) if isinstance(losses, Sequence) else None
    if count is None:
        if known == 0 and objectives is None:
            raise UsageError(_unknown(method, batches))
        return known
    if count == 0 and not (may_be_none and objectives is not None):
        raise UsageError("a step needs at least one loss.")
    if objectives is not None:
        if len(objectives) != count:
            raise UsageError(f"objectives names {len(objectives)} objectives for {count} losses.")
        return known
    if known and known != count:
        raise UsageError(f"got {count} losses for {known} objectives; name the ones present: objectives=[...].")
    return count


def chosen(objectives: Sequence[int] | None, known: int) -> list[int] | None:
    """Which of the `known` objectives a step holds; None for all in their order. `UsageError` for others."""
    if objectives is None:
        return None
    if known == 0:
        raise UsageError("the first step holds only some objectives: tell Backward how many there are, objectives=K.")
    found = [int(k) for k in objectives]
    if len(set(found)) != len(found) or not all(0 <= k < known for k in found):
        raise UsageError(f"objectives={found} must be different numbers from 0 to {known - 1}.")
    return None if found == list(range(known)) else found


def _unknown(method: Method, batches: int) -> str:
    if batches > 1:
        return (
            f"{method.name} takes the losses of {batches} batches in a step: tell Backward how many objectives there "
            "are, objectives=K."
        )
    return (
        "the losses come from a generator, so their number is not known before they are built: tell Backward how many "
        "there are, objectives=K."
    )
