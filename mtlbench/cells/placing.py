"""Where the cells of a run are trained: `on=` and the words of each place. None of it is in an identity."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from mtlbench.errors import UsageError

On = Literal["local", "slurm", "ray"]

SBATCH = (
    *("account", "comment", "constraint", "cpus_per_task", "exclude", "exclusive", "gpus_per_node", "gres", "licenses"),
    *("mail_type", "mail_user", "mem", "mem_per_cpu", "mem_per_gpu", "nice", "nodelist", "partition", "prefer", "qos"),
    *("reservation", "time", "tmp", "wckey"),
)
"""Options of sbatch that can be given, with `_` where those have `-`; their values are sbatch's own."""

PLACE_KEYS = (
    "on",
    *(f"slurm.{name}" for name in (*SBATCH, "setup", "grace", "poll")),
    *(f"ray.{name}" for name in ("address", "cpus", "gpus", "memory", "tries")),
)
"""Keys whose value is one text, with whatever commas it has."""


@dataclass(frozen=True)
class SlurmWords:
    """How cells are sent to Slurm."""

    options: Mapping[str, str] = field(default_factory=dict)
    """Of sbatch; `SBATCH` has their names."""
    setup: str = ""
    """A line of shell that comes before each cell, such as `module load python`."""
    grace: int = 120
    """Seconds before the job's time limit at which the cell saves a checkpoint and goes back to the queue."""
    poll: float = 15.0
    """Seconds between questions to Slurm."""


@dataclass(frozen=True)
class RayWords:
    """How cells are sent to Ray."""

    address: str | None = None
    """Of a cluster that runs; None starts one on this machine, for this run."""
    cpus: float | None = None
    """Of a cell; None is as many as it computes with."""
    gpus: float | None = None
    """Of a cell; None is one where the device is cuda, else none."""
    memory: float | None = None
    """GiB of a cell that Ray sets aside."""
    tries: int = 10
    """How often a cell whose worker or node is lost is tried, from its checkpoint."""


@dataclass(frozen=True)
class Place:
    """Where cells are trained, and how."""

    on: On = "local"
    slurm: SlurmWords = SlurmWords()
    ray: RayWords = RayWords()


def place(given: Mapping[str, Any]) -> Place:
    """The place that words name.

    Args:
        given: those of `PLACE_KEYS` that were given, with their values.

    Raises:
        UsageError: an unknown place, a word of another place than the one named, a bad value.
    """
    on = str(given.get("on", "local"))
    if on not in get_args(On):
        raise UsageError(f"on={on} is not allowed: it is one of {', '.join(get_args(On))}.")
    for key in given:
        if key != "on" and key.partition(".")[0] != on:
            raise UsageError(f"{key}= means nothing with on={on}; say on={key.partition('.')[0]}, or leave it out.")
    own = {key.partition(".")[2]: str(value) for key, value in given.items() if key != "on"}
    if on == "slurm":
        return Place("slurm", slurm=_slurm(own))
    return Place("ray", ray=_ray(own)) if on == "ray" else Place()


def _slurm(own: Mapping[str, str]) -> SlurmWords:
    for name, value in own.items():
        if "\n" in value or "\0" in value:
            raise UsageError(f"slurm.{name} is not allowed: it has more than one line.")
    found: dict[str, Any] = {"options": {name: value for name, value in own.items() if name in SBATCH}}
    if "setup" in own:
        found["setup"] = own["setup"]
    if "grace" in own:
        found["grace"] = int(_number("slurm.grace", own["grace"], least=0, most=65535, whole=True))
    if "poll" in own:
        found["poll"] = _number("slurm.poll", own["poll"], least=0.1)
    return SlurmWords(**found)


def _ray(own: Mapping[str, str]) -> RayWords:
    found: dict[str, Any] = {"address": own["address"]} if "address" in own else {}
    for name, least in (("cpus", 0.0), ("gpus", 0.0), ("memory", 2.0**-10)):
        if name in own:
            found[name] = _number(f"ray.{name}", own[name], least)
    if "tries" in own:
        found["tries"] = int(_number("ray.tries", own["tries"], least=1, whole=True))
    return RayWords(**found)


def devices(named: Sequence[str]) -> tuple[str, ...]:
    """The devices that `device=` names, such as `cuda:0,cuda:1`: each trains one cell at a time.

    Raises:
        UsageError: an unknown device, one that is named twice, several kinds.
    """
    for name in named:
        if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", name):
            raise UsageError(f"device={name} is not allowed: it is cpu, cuda, cuda:0, cuda:0,cuda:1 or mps.")
    if len(named) > 1 and ({*named} & {"cpu", "mps", "cuda"} or len({*named}) < len(named)):
        together = ",".join(named)
        raise UsageError(f"device={together} is not allowed: several are GPUs by their numbers, such as cuda:0,cuda:1.")
    return tuple(named)


def _number(key: str, text: str, least: float, most: float = math.inf, whole: bool = False) -> float:
    kind = "a whole number" if whole else "a number"
    try:
        number = int(text) if whole else float(text)
    except ValueError:
        number = math.nan
    if not least <= number <= most or math.isinf(number):
        bounds = f"at least {least:g}" if not number > most else f"at most {most:g}"
        raise UsageError(f"{key}={text[:40]} is not allowed: it is {kind}, {bounds}.")
    return number
