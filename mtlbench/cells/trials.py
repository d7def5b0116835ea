"""The tuned regime: equal trials for every method, a run-off of the best on validation, reruns on fresh seeds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from mtlbench.catalogue.protocol import Protocol, with_values
from mtlbench.catalogue.search import Choice, Range, Space
from mtlbench.cells.cell import Cell, Tuning
from mtlbench.cells.parameters import checked_parameters, searchable
from mtlbench.errors import UsageError

DESIGN: Final = 2
"""That of the trials which are made (`cell.Tuning.design`)."""

AXIS = "protocol.optimizer.lr"
"""The learning rate is an axis of its own: first it alone is varied."""

SWEEP = (1 / 2, 1 / 3, 2 / 3, 1 / 6, 5 / 6)
"""Its levels in the first trials, on the scale of its range; later trials stay between the outermost."""

TRIAL_SEEDS = 1_000_000
"""Trial i has the seed `TRIAL_SEEDS + i`; those of reruns are below."""

FINALISTS = 2
"""So many of the best trials go into the run-off."""

RUNOFF_SEEDS = 2_000_000
"""Run r of the run-off, from 1, has the seed `RUNOFF_SEEDS + r` for every finalist of every method."""

RUNOFF_RUNS = 2
"""Of each finalist."""

_GOLDEN = (math.sqrt(5) - 1) / 2

# Where the recurrence of later trials begins: from its first point on, the learning rate and the first keys rise and
# fall together (correlation -0.99 over three trials); from here on by 0.66 at most, and each takes low, middle and high
# values at once.
_START = 21


def sample(space: Mapping[str, Range | Choice], trial: int) -> dict[str, Any]:
    """The values of a trial (from 0); keys that it does not name keep their defaults.

    The first trials are a sweep of the learning rate (`AXIS`) over `SWEEP` with everything else at its default; without
    that axis, the first trial is the defaults. Trials after these are points of an additive recurrence, k times an
    irrational number modulo 1 (Richtmyer's sequence): the golden ratio for the learning rate, within the sweep's
    outermost levels, and the square roots of the primes for the other keys in their order.

    Where two spaces begin with the same keys, these get the same values in both. The points of a small budget are
    the first ones of a large one.
    """
    swept = len(SWEEP) if AXIS in space else 1
    number = trial - swept + 1
    if number < 1:
        return {AXIS: space[AXIS].at(SWEEP[trial])} if AXIS in space else {}
    point = _START + number
    others = [key for key in space if key != AXIS]
    values = {
        key: space[key].at(point * math.sqrt(prime) % 1)
        for key, prime in zip(others, _primes(len(others)), strict=True)
    }
    if AXIS in space:
        low, high = min(SWEEP), max(SWEEP)
        values[AXIS] = space[AXIS].at(low + (high - low) * (point * _GOLDEN % 1))
    return values


def _primes(count: int) -> list[int]:
    found: list[int] = []
    candidates = itertools.count(2)
    while len(found) < count:
        candidate = next(candidates)
        if all(candidate % prime for prime in found):
            found.append(candidate)
    return found


def trials(settings: Sequence[Cell], given: Iterable[str], count: int) -> list[Cell]:
    """The trials of each setting, ordered by task, trial and setting.

    Every setting searches what the protocol states, then what its method declares, without what the user fixed. So at
    equal trial all methods have the same values of the protocol.

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
        tuning=Tuning(
            design=DESIGN, space=space, fixed=tuple(f"method.{k}" for k in own if f"method.{k}" in given), trial=0
        ),
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


def runoff(finalists: Sequence[Cell]) -> list[Cell]:
    """The run-off between trials: each one's configuration on the same seeds, which are those of no trial or rerun.

    A budget is in none of these cells, so that a finalist of several budgets runs once.
    """
    made = []
    for run, cell in itertools.product(range(1, RUNOFF_RUNS + 1), finalists):
        assert cell.tuning is not None
        tuning = cell.tuning.model_copy(update={"runoff": run})
        made.append(replace(cell, seed=RUNOFF_SEEDS + run, tuning=tuning))
    return made


def after(seeds: Sequence[int]) -> int:
    """How many cells follow on the trials of one setting: the run-off, and reruns on these seeds."""
    return FINALISTS * RUNOFF_RUNS + len(seeds)
