"""The tuned regime: the same number of trials for every method, selected on validation, rerun on fresh seeds."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mtlbench.catalogue.protocol import Protocol, with_values
from mtlbench.catalogue.search import Choice, Range, Space
from mtlbench.cells.cell import Cell, Tuning
from mtlbench.cells.parameters import checked_parameters, searchable
from mtlbench.errors import UsageError


def sample(space: Mapping[str, Range | Choice], trial: int) -> dict[str, Any]:
    """The values of a trial (from 0): point `trial + 1` of the Halton sequence, a dimension for each key.

    Where two spaces begin with the same keys, these get the same values in both. The points of a small budget are
    the first ones of a large one.
    """
    return {
        key: searched.at(radical_inverse(trial + 1, base))
        for (key, searched), base in zip(space.items(), _primes(len(space)), strict=True)
    }


def radical_inverse(index: int, base: int) -> float:
    """The digits of `index` in `base`, mirrored at the point: 6 = 110 in base 2 becomes 0.011 = 0.375."""
    numerator, denominator = 0, 1
    while index:
        index, digit = divmod(index, base)
        numerator, denominator = numerator * base + digit, denominator * base
    return numerator / denominator


def _primes(count: int) -> list[int]:
    found: list[int] = []
    candidates = itertools.count(2)
    while len(found) < count:
        candidate = next(candidates)
        if all(candidate % prime for prime in found):
            found.append(candidate)
    return found


TRIAL_SEEDS = 1_000_000
"""Trial i has the seed `TRIAL_SEEDS + i`; those of reruns are below."""


def trials(settings: Sequence[Cell], given: Iterable[str], count: int) -> list[Cell]:
    """The trials of each setting, ordered by task, trial and setting.

    Every setting searches what the protocol states, then what its method declares, without what the user fixed. So at
    equal trial all methods have the same learning rate and regularisation.

    Args:
        settings: cells whose seed means nothing.
        given: the keys that the user gave, such as `method.beta` or `protocol.optimizer.lr`.
        count: trials of each setting.

    Raises:
        UsageError: nothing to search, or a value of a search space that the method does not allow.
    """
    given = {key for key in given if "." in key}  # not `protocol`, which names one
    made = []
    for _, group in itertools.groupby(settings, key=lambda cell: (cell.task, cell.variant, cell.protocol)):
        bases = [_base(cell, given) for cell in group]
        made += [_trial(base, index) for index in range(count) for base in bases]
    return made


def _base(cell: Cell, given: set[str]) -> Cell:
    """The setting with its space; what is fixed of the protocol's space counts as modified, whatever its value."""
    protocol, own = cell.protocol, searchable(cell.method)
    if not protocol.search:
        raise UsageError(
            f"tune: protocol {protocol.name} of task {cell.task} states no search space, so nothing can be tuned the "
            "same way for all methods. State one in the protocol: "
            "search: {optimizer.lr: {low: 0.0003, high: 0.03, scale: log}}."
        )
    shared = {key: searched for key, searched in protocol.search.items() if f"protocol.{key}" not in given}
    fixed = {key: _value(protocol, key) for key in protocol.search if key not in shared}
    space: Space = {f"protocol.{key}": searched for key, searched in shared.items()}
    space |= {f"method.{key}": searched for key, searched in own.items() if f"method.{key}" not in given}
    if not space:
        keys = ", ".join(f"protocol.{key}" for key in fixed)
        raise UsageError(f"tune: nothing is left to search for {cell.method}. Leave out one of {keys}.")
    return replace(
        cell,
        protocol=protocol.model_copy(update={"modified": {**fixed, **protocol.modified}}),
        tuning=Tuning(space=space, fixed=tuple(f"method.{k}" for k in own if f"method.{k}" in given), trial=0),
    )


def _value(protocol: Protocol, key: str) -> object:
    value: object = protocol.model_dump()
    for part in key.split("."):
        assert isinstance(value, dict)
        value = value[part]
    return value


def _trial(base: Cell, index: int) -> Cell:
    assert base.tuning is not None
    values: dict[str, dict[str, object]] = {"protocol": {}, "method": {}}
    for key, value in sample(base.tuning.space, index).items():
        room, _, name = key.partition(".")
        values[room][name] = value
    return replace(
        base,
        parameters=checked_parameters(base.method, {**base.parameters, **values["method"]}),
        protocol=with_values(base.protocol, values["protocol"]),
        seed=TRIAL_SEEDS + index,
        tuning=base.tuning.model_copy(update={"trial": index}),
    )


def reruns(selected: Cell, budget: int, seeds: Iterable[int]) -> list[Cell]:
    """The configuration of the trial that was selected among the first `budget` ones, on seeds of its own."""
    assert selected.tuning is not None
    tuning = selected.tuning.model_copy(update={"budget": budget})
    return [replace(selected, seed=seed, tuning=tuning) for seed in seeds]
