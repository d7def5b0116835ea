"""The conformance battery: every property tried on a method, or why it was not."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from mtlbench.engine.conformance import hazards, invariances, memory, presence, progress
from mtlbench.engine.conformance.finding import MOST, Check, Finding, Inapplicable, Make, judged, sizes
from mtlbench.engine.conformance.properties import PROMISES, exceptions
from mtlbench.engine.conformance.trial import EPOCH
from mtlbench.engine.kinds import Method

REQUIRED: dict[str, Check] = {
    "answers one finite weight for each objective and group": hazards.finite,
    "copes with gradients of zero": hazards.zeros,
    "copes with duplicated and opposite gradients": hazards.duplicates,
    "copes with gradients and losses from 1e-6 to 1e6": hazards.extremes,
    "answers the same from the same seed, whatever else is drawn": memory.deterministic,
    "gives the same with one graph as with a graph per objective": presence.graphs_agree,
    "refuses a loss that is not finite": presence.refuses,
}
"""What every method must do: nothing here can be declared away."""
PROMISED: dict[str, Check] = {
    "saved_state": memory.resumes,
    "refresh": memory.kept,
    "representation": presence.representation,
    "absent": presence.absent,
    "treated": presence.treated,
    "float32": presence.precision,
    "bounded": hazards.bounded,
    "groups": invariances.groups,
    "alone": hazards.alone,
    "order": invariances.order,
    "common_scale": invariances.common_scale,
    "single_scale": invariances.single_scale,
    "plain_sum": progress.plain_sum,
    "descent": progress.descent,
}
"""What methods promise unless their class says otherwise, by name."""


def battery(make: Make) -> Iterator[Finding]:
    """Try a method; one finding per property, in a fixed order.

    Args:
        make: builds the method anew; called several times.

    Raises:
        UsageError: the method declares an exception from what is no promise, or without a reason.
    """

    def told() -> Method:
        method = make()
        method.steps_per_epoch = EPOCH
        return method

    method = make()
    declared = exceptions(method)
    if not sizes(method):
        yield Finding(f"supports a number of objectives up to {MOST}", "violated", "it supports none")
        return
    for name, check in REQUIRED.items():
        yield judged(name, partial(check, told))
    for key, check in PROMISED.items():
        tried = _apart if method.separate_models and key != "saved_state" else check
        yield judged(PROMISES[key], partial(tried, told), key, declared.get(key, ""))


def _apart(make: Make) -> str:
    raise Inapplicable("each objective has a model of its own")
