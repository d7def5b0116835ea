"""One cell: what is trained, its identity and its name."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from mtlbench.catalogue.protocol import Protocol, protocol_folder
from mtlbench.catalogue.search import Space
from mtlbench.cells.axes import AXES, as_data, from_data, told
from mtlbench.cells.parameters import default_parameters, plain


class Tuning(pydantic.BaseModel, extra="forbid", frozen=True):
    """What a cell has to do with the tuned regime."""

    design: Literal[1, 2] = 1
    """How values are chosen for trials (`cells.trials`), and the winner among them. 1, of which no word is in a cell
    and which is made no more: points of a Halton sequence, the best of which was rerun at once."""
    space: Space
    """By key of the cell, such as `protocol.optimizer.lr` or `method.beta`; the order is that of the dimensions."""
    fixed: tuple[str, ...] = ()
    """Hyper-parameters that the method would search and the user fixed, such as `method.beta`."""
    trial: Annotated[int, pydantic.Field(ge=0)]
    """Which point of the space: this trial's, or that of the trial which was selected."""
    runoff: Annotated[int, pydantic.Field(ge=0, le=1000)] = 0
    """In the run-off between the best trials, which run of its trial it is, from 1; 0 elsewhere, of which there is no
    word in a cell."""
    budget: Annotated[int, pydantic.Field(ge=2)] | None = None
    """None in the search; for a rerun, the number of trials that its trial was selected from."""

    @pydantic.model_validator(mode="after")
    def _is_one_thing(self) -> Tuning:
        if self.runoff and not (self.has_runoff and self.is_trial):
            raise ValueError("a cell of the run-off has no budget, and the first design has no run-off")
        return self

    @property
    def is_trial(self) -> bool:
        """Whether the cell is part of the search, a trial or one of the run-off, and no rerun of the selected trial."""
        return self.budget is None

    @property
    def has_runoff(self) -> bool:
        """Whether a run-off decides between the best trials of the search."""
        return self.design > 1

    @pydantic.model_serializer(mode="wrap")
    def _without_what_came_later(self, inner: pydantic.SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Identities from before there were several designs are what they were."""
        content: dict[str, Any] = inner(self)
        came_later = {"design": 1, "runoff": 0}
        return {key: value for key, value in content.items() if (key, value) not in came_later.items()}


@dataclass(frozen=True)
class Cell:
    """One (method and its parameters, task/variant, protocol, seed): what is trained, and nothing else."""

    method: str
    parameters: dict[str, Any]
    task: str
    variant: str
    protocol: Protocol
    seed: int = 0
    axes: Mapping[str, Any] = field(default_factory=dict)
    """The value of every axis (`cells.axes`); None for one that means nothing to the method."""
    tuning: Tuning | None = None
    """None in the fixed regime."""

    def canonical(self) -> dict[str, Any]:
        """The configuration that the identity is made of: no paths, hosts, commits or descriptions."""
        content = {
            "method": self.method,
            "parameters": self.parameters,
            "task": self.task,
            "variant": self.variant,
            "protocol": self.protocol.content,
            "seed": self.seed,
            **as_data(self.axes),
        }
        if self.tuning:
            content["tuning"] = self.tuning.model_dump(mode="json")
        return content

    def to_data(self) -> dict[str, Any]:
        """The cell as JSON holds it, with the whole protocol; see `from_data`."""
        return {**self.canonical(), "protocol": self.protocol.model_dump(mode="json")}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Cell:
        """The cell that `to_data` told."""
        values = {name: value for name, value in data.items() if name not in AXES}
        return cls(
            **{
                **values,
                "protocol": Protocol(**data["protocol"]),
                "axes": from_data(data),
                "tuning": Tuning(**data["tuning"]) if data.get("tuning") else None,
            }
        )

    @property
    def id(self) -> str:
        """The first 12 hex digits of the SHA-256 of the canonical configuration."""
        return identity(self.canonical())

    @property
    def setting_id(self) -> str:
        """What seeds, trials and reruns of one setting have in common, as a hash; see `setting_id`."""
        return setting_id(self.canonical())

    @property
    def name(self) -> str:
        """For people: `gradvac(beta=0.1) on multimnist/digits, seed 0`."""
        if self.tuning is None:
            return f"{self.setting_name}, seed {self.seed}"
        if self.tuning.is_trial:
            again = f", run-off {self.tuning.runoff}" if self.tuning.runoff else ""
            return f"{self.setting_name}, trial {self.tuning.trial}{again}"
        return f"{self.setting_name}, tuned on {self.tuning.budget} trials, seed {self.seed}"

    @property
    def setting_name(self) -> str:
        """For people: `gradvac(beta=0.1) on multimnist/digits`."""
        return f"{self.label} on {self.task}/{self.variant}"

    @property
    def label(self) -> str:
        """The method with what differs from its defaults."""
        return method_label(self.method, self.parameters, self.axes, self.tuning)

    def folder(self, results: Path) -> Path:
        """Where the cell's record stands under `results`."""
        p = self.protocol
        protocol = protocol_folder(p.name, p.version, p.modified, self.tuning is not None)
        return results / self.task / self.variant / protocol / self.method / f"seed{self.seed}-{self.id}"


def identity(canonical: Mapping[str, Any]) -> str:
    """The identity of a canonical configuration."""
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def setting_id(canonical: Mapping[str, Any]) -> str:
    """The identity of a canonical configuration without seed, trial, budget and the values that were searched."""
    return identity({key: value for key, value in unsearched(canonical).items() if key != "seed"})


def unsearched(canonical: Mapping[str, Any]) -> dict[str, Any]:
    """A canonical configuration without trial, budget and the values that were searched."""
    content = dict(canonical)
    if tuning := content.get("tuning"):
        content = copy.deepcopy(content)
        design = tuning.get("design", 1)
        content["tuning"] = [*tuning["space"].items(), *([("design", design)] if design > 1 else [])]
        for key in tuning["space"]:
            room, *path, last = key.split(".")
            place = content["parameters" if room == "method" else "protocol"]
            for part in path:
                place = place.get(part, {})
            place.pop(last, None)
    return content


def method_label(
    method: str,
    parameters: Mapping[str, Any],
    values: Mapping[str, Any],
    tuning: Tuning | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> str:
    """The method with what differs from its defaults: `gradvac(beta=0.1, all_layer, treated=lrl)`.

    In the tuned regime, what was searched is left out and what was fixed instead of searched is told. Defaults are
    those of the method as it is installed here, unless others are given.
    """
    if defaults is None:
        defaults = default_parameters(method)
    if tuning is not None:
        parameters = {k: v for k, v in parameters.items() if f"method.{k}" not in tuning.space}
        defaults = {k: v for k, v in defaults.items() if f"method.{k}" not in tuning.fixed}
    changed = [f"{k}={_short(v)}" for k, v in parameters.items() if k not in defaults or defaults[k] != plain(v)]
    changed += [AXES[name].label(value) for name, value in told(values).items()]
    return f"{method}({', '.join(changed)})" if changed else method


def _short(value: Any) -> str:
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value).replace(" ", "")
