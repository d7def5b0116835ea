"""Methods, strategies of sampling and task classes by name, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from mtlbench.catalogue import registry

if TYPE_CHECKING:
    from mtlbench.catalogue.sampling import Sampling
    from mtlbench.catalogue.task import Task
    from mtlbench.engine.kinds import Method


def method(name: str, **parameters: Any) -> Method:
    """Build the method called `name`, with its hyper-parameters checked against its signature.

    Raises:
        UsageError: unknown name or parameter, wrong type or value out of range; it says what is allowed.
    """
    from mtlbench.catalogue.signature import validated

    cls = registry.methods.load(name)
    return cast("Method", cls(**validated(name, cls, parameters)))


def sampling(name: str, **parameters: Any) -> Sampling:
    """Build the strategy called `name`; raises `UsageError` as `method` does."""
    from mtlbench.catalogue.signature import validated

    cls = registry.samplings.load(name)
    return cast("Sampling", cls(**validated(name, cls, parameters, "sampling")))


def task_class(name: str) -> type[Task]:
    """The class of the task called `name`."""
    return cast("type[Task]", registry.tasks.load(name))
