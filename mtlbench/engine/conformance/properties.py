"""What methods promise unless their class says otherwise: the names that `exceptions` may hold, and what each means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

from mtlbench.errors import UsageError

PROMISES = {
    "alone": "leaves a single objective the direction of its own gradient",
    "order": "permuting the objectives permutes the weights, and the update stays",
    "common_scale": "multiplying all losses by one number multiplies the update by it",
    "single_scale": "multiplying one loss by a number does not turn the update",
    "plain_sum": "is the plain sum, up to a factor, where no two gradients conflict",
    "descent": "lowers every loss in ten short steps on a convex problem",
    "bounded": "gives at most 100 times the summed lengths of the gradients, however they depend on each other",
    "groups": "treats a group of parameters the same whatever is in the others",
    "float32": "gives the same in float32 as in float64, to three digits",
    "saved_state": "continues bit for bit from a saved state",
    "refresh": "rests in the steps that keep its weights (refresh=n), and goes on from a state that is saved there",
    "representation": "weighs the same gradients of a representation as it weighs those of parameters",
    "absent": "takes steps that hold some objectives only, and leaves the state of the others as it is",
    "treated": "adds the gradients of objectives that it does not treat, and leaves their state as it is",
}
"""Name -> what it says of a method."""


class Declaring(Protocol):
    """A method, or whatever else has promises to take exception from."""

    name: ClassVar[str]
    exceptions: Mapping[str, str]


def exceptions(promising: Declaring, promises: Mapping[str, str] = PROMISES) -> dict[str, str]:
    """What a method declares not to promise: name -> why.

    Args:
        promising: the method.
        promises: name -> what it says, of its kind of thing.

    Raises:
        UsageError: a name that is none, or no reason.
    """
    declared = dict(promising.exceptions)
    for name, reason in declared.items():
        if name not in promises:
            raise UsageError(f"{promising.name}: exceptions names {name!r}, which is none of {', '.join(promises)}.")
        if not isinstance(reason, str) or not reason.strip():
            raise UsageError(f"{promising.name}: exceptions[{name!r}] needs a reason, in a few words.")
    return declared
