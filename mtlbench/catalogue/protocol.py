"""Protocols: everything that fixes a variant's training and scoring, as versioned data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pydantic

from mtlbench.catalogue.search import Choice, Range
from mtlbench.errors import UsageError, unknown
from mtlbench.strict import Strict, refused

Count = Annotated[int, pydantic.Field(ge=1, le=10**9)]
Positive = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]


class Optimizer(Strict):
    """The optimiser of the model, by its torch name."""

    name: Literal["sgd", "adam", "adamw"]
    lr: Positive
    momentum: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)] = 0.0


class Schedule(Strict):
    """The learning rate's factor over time.

    `constant`: 1. `step`: `factor` to the power of the number of completed spans of `every_epochs`.
    `cosine`, `linear`: from 1 to 0 over the whole run. `inverse_sqrt`: after the warm-up, sqrt(warmup / step).
    All of them rise linearly from 0 to 1 over the first `warmup_steps`.
    """

    name: Literal["constant", "step", "cosine", "linear", "inverse_sqrt"] = "constant"
    every_epochs: Count = 1
    factor: Annotated[float, pydantic.Field(gt=0, le=1)] = 1.0
    warmup_steps: Annotated[int, pydantic.Field(ge=0)] = 0


class Protocol(Strict):
    """Everything that fixes a variant's training and scoring.

    Tables refuse to mix versions. `modified` names the keys that a user overrode; such runs never share a
    table with the protocol as published.
    """

    name: str
    version: Count
    description: str
    variants: tuple[str, ...]
    """The variants this protocol is for."""
    epochs: Annotated[int, pydantic.Field(ge=0, le=10**9)]
    """0 to train nothing: the model is scored once, as it is."""
    batch_size: Count
    optimizer: Optimizer
    schedule: Schedule = Schedule()
    clip_norm: Positive | None = None
    """Gradients are scaled down to this norm (over all parameters) before the optimiser's step."""
    autocast: bool = False
    """bfloat16 autocast on devices that have it."""
    threads: Count = 1
    """CPU threads of a cell; part of the protocol because the last bits of CPU results depend on it."""
    evaluate_every: Count = 1
    """Epochs between two evaluations; the last epoch is always evaluated."""
    selection: Annotated[str, pydantic.Field(pattern=r"^(best-val|last|mean-last-[1-9]\d*)$")] = "best-val"
    """The official rule that chooses the scores which tables report (`mtlbench.record.selection`)."""
    single_task_budget: Literal["same_step", "same_share"] | None = None
    """What each model of single-task training gets of a step, where objectives have data of their own: `same_step`, as
    much as the joint model gets of all objectives together; `same_share`, what the joint model gets of its objective.
    None, as in protocols from before there was a choice, is `same_share`, and identities do not tell of it."""
    options: dict[str, Any] = pydantic.Field(default_factory=dict)
    """What only the task understands."""
    search: Annotated[dict[str, Range | Choice], pydantic.Field(exclude=True, default_factory=dict)]
    """Where the tuned regime searches, by dotted key such as `optimizer.lr`; it changes no cell, so no version."""
    modified: dict[str, Any] = pydantic.Field(default_factory=dict)

    @property
    def trains(self) -> bool:
        """Whether there is an epoch to train."""
        return self.epochs > 0

    @property
    def content(self) -> dict[str, Any]:
        """What a cell's identity tells of it, as JSON holds it."""
        left_out = {"description", "variants"} | ({"single_task_budget"} if self.single_task_budget is None else set())
        return self.model_dump(mode="json", exclude=left_out)

    @property
    def is_of_a_fixed_model(self) -> bool:
        """Whether it is made for a model that is only scored, so that no seed changes a thing."""
        return not self.trains and "epochs" not in self.modified

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
        raise refused(error, "protocol.") from error


def _overridden(base: Protocol, overrides: dict[str, Any]) -> Protocol:
    changed = with_values(base, overrides)
    before, after = flat(base.model_dump()), flat(changed.model_dump())
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


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one with dotted keys: `optimizer.lr`."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found
