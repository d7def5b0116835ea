"""What a method needs of a step, what that costs, and what goes with it, in words for `mtlbench show` and the pages."""

from __future__ import annotations

from typing import Any

from mtlbench.catalogue import building, registry
from mtlbench.engine.kinds import GramianWeighting, JacobianAggregator, LossWeighting, Method
from mtlbench.engine.remembering import RememberingAggregator
from mtlbench.engine.representation import why_not
from mtlbench.errors import UsageError

HEADS = {"own": "each by its own loss", "weighted": "each by its loss times its weight"}
AT_REPRESENTATION = (
    "K passes through the heads and 1 through the encoder; an approximation, since the gradients that it sees are "
    "those of what the heads read"
)


def method_of(name: str) -> Method | type[Method]:
    """The method with its defaults, on which what it needs may depend; its class where a parameter has none."""
    try:
        return building.method(name)
    except UsageError:
        return registry.methods.load(name)


def facts(method: Method | type[Method]) -> dict[str, str]:
    """What to know before a method is run: short name -> what it is, in the order of reading."""
    cls = method if isinstance(method, type) else type(method)
    found = {"needs": needs(method), "backward passes a step": passes(method)}
    if cls.separate_models:
        return found
    found["heads are trained"] = HEADS[method.heads]
    if reason := method.exceptions.get("absent"):
        found["steps with some objectives only"] = f"no: {reason}"
    if issubclass(cls, LossWeighting):
        return found
    found["granularity"] = _granularity(method, cls)
    found["treated"] = _treated(method)
    found["refresh=n"] = _refresh(method, cls)
    found["wrt=representation"] = f"no: {reason}" if (reason := why_not(method)) else AT_REPRESENTATION
    return found


def needs(method: Method | type[Method]) -> str:
    """What it is given in a step."""
    cls = method if isinstance(method, type) else type(method)
    if cls.separate_models:
        return "a model for each objective"
    if issubclass(cls, LossWeighting):
        return "losses" + (", and those of the same batch after the step" if cls.reviews else "")
    if issubclass(cls, RememberingAggregator):
        return "Jacobian, and a number for each of its entries as state"
    if issubclass(cls, JacobianAggregator):
        return "Jacobian"
    if _batches(method) > 1:
        return "products of gradients of independent batches"
    return "Gramian of the last shared layer" if _looks_at_one_layer(method) else "Gramian"


def passes(method: Method | type[Method]) -> str:
    """How many backward passes a step takes, of losses that share a graph."""
    cls = method if isinstance(method, type) else type(method)
    if cls.separate_models:
        return "1 for each model"
    if issubclass(cls, LossWeighting):
        return "1, and a forward pass" if cls.reviews else "1"
    if _batches(method) > 1:
        return f"K on each of {_batches(method)} batches"
    return "1, and K down to that layer" if _looks_at_one_layer(method) else "K"


def _granularity(method: Any, cls: type[Method]) -> str:
    if _looks_at_one_layer(method):
        return "makes no difference: the weights are those of one layer"
    if reason := method.exceptions.get("groups"):
        return f"makes a difference in part: {reason}"
    return "each group is combined on its own" if issubclass(cls, JacobianAggregator) else "each group has its weights"


def _treated(method: Any) -> str:
    if reason := method.exceptions.get("treated"):
        return f"not as elsewhere: {reason}"
    return "corrects the gradients of those that are named; others enter the update as they are"


def _refresh(method: Any, cls: type[Method]) -> str:
    if not issubclass(cls, GramianWeighting):
        return "no: it answers an update, and no weights that could be kept"
    if _batches(method) > 1:
        return "no: it takes gradients from several batches in a step"
    more = "" if method.heads == "weighted" else ", and 1 through the heads alone"
    return f"weights are kept for n - 1 steps: 1 pass in each{more}, where there is one group and one graph"


def _batches(method: Any) -> int:
    return len(method.batch_shares) if hasattr(method, "batch_shares") else 1


def _looks_at_one_layer(method: Any) -> bool:
    return getattr(method, "scope", "shared") == "last_layer"
