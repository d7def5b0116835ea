"""The variants and protocols of a task, and what its runs are compared with."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any

import pydantic

from mtlbench.catalogue.protocol import Protocol, _overridden, _place, with_values
from mtlbench.catalogue.registry import methods, tasks
from mtlbench.catalogue.yaml_file import read_yaml
from mtlbench.errors import UsageError, unknown
from mtlbench.strict import Strict, first_error

Name = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", max_length=60)]
"""Of a variant or protocol: a folder of results is called by it."""


Metrics = Annotated[tuple[str, ...], pydantic.Field(min_length=1)]


class Variant(Strict):
    """A task on one data source and scale."""

    description: str
    protocol: str
    """The protocol that runs when none is named."""
    needs: tuple[str, ...] = ()
    """The data sets it reads from the data root; none for embedded data."""
    against: str = ""
    """What a lone method is compared with: a method that is trained too, at the same seeds, unless it is asked for."""


class OverallScore(Strict):
    """A score over several variants, which a table shows beside those of the variants."""

    title: str
    about: str = ""
    """What else must be said of it, in a sentence."""
    alike: tuple[str, ...] = ()
    """Keys of the protocol, such as `options.encoder`, of which one score has one value."""
    groups: Annotated[dict[str, dict[str, Metrics]], pydantic.Field(min_length=1)]
    """Group -> variant -> the metrics that its score is the mean of."""

    @property
    def variants(self) -> dict[str, Metrics]:
        """Variant -> its metrics, over all groups."""
        return {variant: metrics for members in self.groups.values() for variant, metrics in members.items()}


class TaskData(Strict):
    """The contents of a `protocols.yaml`; the first variant is the default one."""

    variants: Annotated[dict[Name, Variant], pydantic.Field(min_length=1)]
    protocols: dict[Name, Protocol]
    words: dict[Annotated[str, pydantic.Field(pattern=r"^[A-Za-z]\w*$")], str] = pydantic.Field(default_factory=dict)
    """Short words for keys that every protocol has: `direction=en2x` for `protocol.options.direction=en2x`."""
    scores: dict[Name, OverallScore] = pydantic.Field(default_factory=dict)
    """Scores over several variants."""
    own_data: bool = False
    """Whether each objective has training data of its own, so that a step holds a share of each; else they share their
    input."""
    in_tables_over_tasks: bool = True
    """Whether tables over several tasks take it in; not what is a demonstration, or has a known outcome."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _named(cls, content: Any) -> Any:
        """Every protocol carries its name, which the file says once."""
        protocols = content.get("protocols") if isinstance(content, dict) else None
        if not isinstance(protocols, dict):
            return content
        named = {name: {"name": name, **b} if isinstance(b, dict) else b for name, b in protocols.items()}
        return {**content, "protocols": named}


@cache
def task_data(task: str) -> TaskData:
    """The variants and protocols of `task`; raises `UsageError` for an unknown task or a malformed file."""
    entry = tasks.entry(task)
    source = entry.protocols
    if source is None:
        raise UsageError(f"The task {task!r} cannot be used: {entry.error or 'it states no protocols'}.")
    file = source if isinstance(source, Path) else entry.origin
    try:
        data = TaskData.model_validate(read_yaml(source) if isinstance(source, Path) else source)
    except pydantic.ValidationError as error:
        raise UsageError(f"The protocols of task {task!r} ({file}) cannot be read: {first_error(error)}.") from error
    for name, variant in data.variants.items():
        if variant.protocol not in data.protocols:
            raise UsageError(f"{file}: variant {name!r} names the unknown protocol {variant.protocol!r}.")
    for name, protocol in data.protocols.items():
        for key, searched in protocol.search.items():
            try:
                for value in searched.probes:
                    with_values(protocol, {key: value})
            except UsageError as error:
                raise UsageError(f"The search space of protocol {name!r} of task {task!r}: {error}") from error
    for score in data.scores.values():
        for named in score.variants:
            if named not in data.variants:
                raise UsageError(f"{file}: the score {score.title!r} names the unknown variant {named!r}.")
    for word, key in data.words.items():
        for protocol in data.protocols.values():
            try:
                _place(protocol.model_dump(), key)
            except UsageError as error:
                raise UsageError(f"The word {word!r} of task {task!r}: {error}") from error
    return data


def resolve(task: str, variant: str | None, protocol: str | None, overrides: dict[str, Any]) -> tuple[str, Protocol]:
    """The variant (the first one if None) and its protocol (the variant's own if None) with `overrides` applied.

    Args:
        task: its registry name.
        variant: one of the task's variants.
        protocol: one of the protocols that are for the variant.
        overrides: dotted keys of the protocol to new values, such as `{"optimizer.lr": 0.01}`.

    Raises:
        UsageError: a name or key that does not exist, or a value that the protocol does not allow.
    """
    data = task_data(task)
    variant = variant or next(iter(data.variants))
    if variant not in data.variants:
        raise unknown(f"variant of {task}:", variant, data.variants)
    chosen = protocol or data.variants[variant].protocol
    allowed = [name for name, p in data.protocols.items() if variant in p.variants]
    if chosen not in allowed:
        raise unknown(f"protocol of {task}/{variant}:", chosen, allowed)
    base = data.protocols[chosen]
    found = _overridden(base, overrides) if overrides else base
    if found.single_task_budget and not data.own_data:
        raise UsageError(
            f"protocol.single_task_budget={found.single_task_budget} is not allowed: the objectives of {task} share "
            "their input, so that single-task models see whole steps anyway. Leave it out; a task whose objectives "
            "have data of their own states own_data: true beside its protocols."
        )
    return variant, found


def compared_with(task: str, variant: str, word: str | None = None) -> str | None:
    """The method that others are compared with: what `against=word` says, else the variant; None for no method.

    Raises:
        UsageError: there is no such method, task or variant.
    """
    name = task_data(task).variants[variant].against if word is None else word
    if name in ("", "none"):
        return None
    methods.entry(name)
    return name
