"""What a task declares, in the form in which a record holds it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pydantic

from mtlbench.errors import UsageError
from mtlbench.record.schema import SPLITS, Facts, MetricInfo, ObjectiveInfo
from mtlbench.strict import Strict, first_error

if TYPE_CHECKING:
    from mtlbench.catalogue.task import Task


class TaskInfo(Strict):
    """What a task declares, in the form in which a record holds it."""

    objectives: tuple[ObjectiveInfo, ...]
    groups: dict[str, tuple[str, ...]]
    facts: Facts

    @classmethod
    def of(cls, task: Task) -> TaskInfo:
        """The declarations of `task`; raises `UsageError` for one that no record can hold."""
        who, count, extra = f"task {task.name}", len(task.objectives), tuple(task.extra_splits)
        taken = {"all", *(o.name for o in task.objectives)}
        for name, members in task.groups.items():
            if name in taken:
                raise UsageError(f"{who}: a group must not be called {name!r}, which is all or an objective.")
            if not members or len(set(members)) < len(members) or not all(0 <= k < count for k in members):
                raise UsageError(
                    f"{who}: groups[{name!r}] is {list(members)}. A group holds different objectives by index, "
                    f"from 0 to {count - 1}."
                )
        if len({*SPLITS, "train", *extra}) < len(SPLITS) + 1 + len(extra):
            raise UsageError(f"{who}: extra_splits={list(extra)} must be different names other than train, val, test.")
        if without := [o.name for o in task.objectives if not o.metrics]:
            raise UsageError(f"{who}: the objective {without[0]!r} has no metric; give each objective a metric.")
        groups = {name: tuple(task.objectives[k].name for k in members) for name, members in task.groups.items()}
        try:
            objectives = tuple(
                ObjectiveInfo(name=o.name, metrics=tuple(MetricInfo(**dataclasses.asdict(m)) for m in o.metrics))
                for o in task.objectives
            )
            return cls(objectives=objectives, groups=groups, facts=_as_data(task.facts))
        except pydantic.ValidationError as error:
            raise UsageError(f"{who}: {first_error(error)}.") from error


def _as_data(value: Any) -> Any:
    """Mappings as dicts and tuples as lists, the way they come back from a file."""
    if isinstance(value, Mapping):
        return {key: _as_data(inner) for key, inner in value.items()}
    return [*map(_as_data, value)] if isinstance(value, list | tuple) else value
