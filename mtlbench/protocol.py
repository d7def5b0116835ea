"""Protocols: everything that fixes a variant's training and scoring, as versioned data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic
import yaml

from mtlbench.errors import UsageError, unknown
from mtlbench.registry import tasks
from mtlbench.search import Choice, Range


class Strict(pydantic.BaseModel):
    """Data with exactly the declared keys."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Optimizer(Strict):
    """The optimiser of the model, by its torch name."""

    name: Literal["sgd", "adam", "adamw"]
    lr: Annotated[float, pydantic.Field(gt=0)]
    momentum: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: Annotated[float, pydantic.Field(ge=0)] = 0.0


class Schedule(Strict):
    """The learning rate's factor over time.

    `constant`: 1. `step`: `factor` to the power of the number of completed spans of `every_epochs`.
    `cosine`: from 1 to 0 over the whole run. `inverse_sqrt`: after the warm-up, sqrt(warmup / step).
    All of them rise linearly from 0 to 1 over the first `warmup_steps`.
    """

    name: Literal["constant", "step", "cosine", "inverse_sqrt"] = "constant"
    every_epochs: Annotated[int, pydantic.Field(ge=1)] = 1
    factor: Annotated[float, pydantic.Field(gt=0, le=1)] = 1.0
    warmup_steps: Annotated[int, pydantic.Field(ge=0)] = 0


class Protocol(Strict):
    """Everything that fixes a variant's training and scoring.

    Tables refuse to mix versions. `modified` names the keys that a user overrode; such runs never share a
    table with the protocol as published.
    """

    name: str
    version: Annotated[int, pydantic.Field(ge=1)]
    description: str
    variants: tuple[str, ...]
    """The variants this protocol is for."""
    epochs: Annotated[int, pydantic.Field(ge=1)]
    batch_size: Annotated[int, pydantic.Field(ge=1)]
    optimizer: Optimizer
    schedule: Schedule = Schedule()
    clip_norm: Annotated[float, pydantic.Field(gt=0)] | None = None
    """Gradients are scaled down to this norm (over all parameters) before the optimiser's step."""
    autocast: bool = False
    """bfloat16 autocast on devices that have it."""
    threads: Annotated[int, pydantic.Field(ge=1)] = 1
    """CPU threads of a cell; part of the protocol because the last bits of CPU results depend on it."""
    evaluate_every: Annotated[int, pydantic.Field(ge=1)] = 1
    """Epochs between two evaluations; the last epoch is always evaluated."""
    selection: Annotated[str, pydantic.Field(pattern=r"^(best-val|last|mean-last-[1-9]\d*)$")] = "best-val"
    """The official rule that chooses the scores which tables report (`mtlbench.selection`)."""
    options: dict[str, Any] = {}
    """What only the task understands."""
    search: Annotated[dict[str, Range | Choice], pydantic.Field(exclude=True)] = {}
    """Where the tuned regime searches, by dotted key such as `optimizer.lr`; it changes no cell, so no version."""
    modified: dict[str, Any] = {}

    @property
    def label(self) -> str:
        """`cpu@1`, and the overridden keys if any: `cpu@1+epochs=2`."""
        return protocol_label(self.name, self.version, self.modified)


def protocol_label(name: str, version: int, modified: Mapping[str, Any]) -> str:
    """`cpu@1`, and the overridden keys if any: `cpu@1+epochs=2`."""
    return f"{name}@{version}" + "".join(f"+{key}={value}" for key, value in sorted(modified.items()))


def protocol_folder(name: str, version: int, modified: Mapping[str, Any], tuned: bool) -> str:
    """The folder of a protocol's cells: `cpu@1`, `cpu@1-tuned`, `cpu@1-modified`, `cpu@1-tuned-modified`."""
    return f"{name}@{version}{'-tuned' if tuned else ''}{'-modified' if modified else ''}"


class Variant(Strict):
    """A task on one data source and scale."""

    description: str
    protocol: str
    """The protocol that runs when none is named."""
    needs: str = ""
    """The data set it reads from the data root; empty for embedded data."""
    against: str = ""
    """What a lone method is compared with: a method that is trained too, at the same seeds, unless it is asked for."""


class TaskData(Strict):
    """The contents of a `protocols.yaml`; the first variant is the default one."""

    variants: dict[str, Variant]
    protocols: dict[str, Protocol]
    words: dict[Annotated[str, pydantic.Field(pattern=r"^[A-Za-z]\w*$")], str] = {}
    """Short words for keys that every protocol has: `direction=en2x` for `protocol.options.direction=en2x`."""


@cache
def task_data(task: str) -> TaskData:
    """The variants and protocols of `task`; raises `UsageError` for an unknown task or a malformed file."""
    entry = tasks.entry(task)
    source = entry.protocols
    if source is None:
        raise UsageError(f"The task {task!r} cannot be used: {entry.error or 'it states no protocols'}.")
    try:
        raw = yaml.safe_load(source.read_text(encoding="utf-8")) if isinstance(source, Path) else source
        protocols = {name: {"name": name, **body} for name, body in raw["protocols"].items()}
        data = TaskData.model_validate({**raw, "protocols": protocols})
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, pydantic.ValidationError) as error:
        raise UsageError(f"The protocols of task {task!r} ({source}) cannot be read: {error}") from error
    for name, variant in data.variants.items():
        if variant.protocol not in data.protocols:
            raise UsageError(f"{source}: variant {name!r} names the unknown protocol {variant.protocol!r}.")
    for name, protocol in data.protocols.items():
        for key, searched in protocol.search.items():
            try:
                for value in searched.probes:
                    with_values(protocol, {key: value})
            except UsageError as error:
                raise UsageError(f"The search space of protocol {name!r} of task {task!r}: {error}") from error
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
    return variant, _overridden(base, overrides) if overrides else base


def with_values(base: Protocol, values: Mapping[str, Any]) -> Protocol:
    """A protocol with other values at some dotted keys, unchanged in what counts as modified by a user.

    Raises:
        UsageError: a key that does not exist, or a value that the protocol does not allow.
    """
    content = base.model_dump()
    for dotted, value in values.items():
        place, last = _place(content, dotted)
        if dotted.startswith("options."):
            place[last] = _like(place[last], value, dotted)
        else:
            place[last] = None if value in ("none", "null") else value
    try:
        return Protocol.model_validate(content).model_copy(update={"search": base.search})
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UsageError(f"protocol.{key}={first['input']!r} is not allowed: {first['msg'].lower()}.") from error


def _overridden(base: Protocol, overrides: dict[str, Any]) -> Protocol:
    changed = with_values(base, overrides)
    before, after = _flat(base.model_dump()), _flat(changed.model_dump())
    modified = {key: after[key] for key in after if after[key] != before.get(key)}
    return changed.model_copy(update={"modified": modified})


def _place(content: dict[str, Any], dotted: str) -> tuple[dict[str, Any], str]:
    """Where in the content of a protocol a dotted key has its value: a dictionary and the key in it."""
    fixed = {"name", "version", "description", "variants", "modified"}
    keys = [k for k in content if k not in fixed]
    place: Any = content
    *path, last = dotted.split(".")
    for part in path:
        place = place.get(part) if isinstance(place, dict) else None
    if not isinstance(place, dict) or last not in place or dotted in fixed:
        nested = [f"{k}.{n}" for k in keys if isinstance(content[k], dict) for n in content[k]]
        raise unknown(f"key of protocol {content['name']}:", dotted, [*keys, *nested])
    return place, last


def _like(base: Any, value: Any, key: str) -> Any:
    """An overridden option, which no schema describes, in the type of the value that it replaces."""
    if base is None or not isinstance(base, bool | int | float | str):
        return [_scalar(item) for item in value] if isinstance(value, list) else _scalar(value)
    try:
        return pydantic.TypeAdapter(type(base)).validate_python(value)
    except pydantic.ValidationError as error:
        raise UsageError(
            f"protocol.{key}={value} is not allowed: it is {type(base).__name__}, such as {base}."
        ) from error


def _scalar(value: Any) -> Any:
    """A value of unknown type that was typed as a word, so that `2` is the 2 of a YAML file."""
    if not isinstance(value, str):
        return value
    if value in ("none", "null"):
        return None
    if value.lower() in ("true", "false"):  # not `no`, the code of a language
        return value.lower() == "true"
    if re.fullmatch(r"[-+]?\d+", value):
        return int(value)
    if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", value):  # not `nan`, another one
        return float(value)
    return value


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
