"""What tasks may have and need not: a representation, shares, probes, relations; tried where there are some."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mtlbench.catalogue.relation import require_of
from mtlbench.catalogue.sampling import Shares, Supply
from mtlbench.catalogue.task import Task
from mtlbench.engine.conformance.finding import Inapplicable
from mtlbench.errors import UsageError
from mtlbench.running import representing
from mtlbench.running.task_trial import SEEN, Tried, Wrong, digest, require_close

PROBES, EXAMPLES = 2, 4
"""Batches that are asked for, and examples of one objective in each."""


def represents(tried: Tried) -> str:
    """What all heads read, on the way from the shared parameters to every loss."""
    if not tried.task.has_representation:
        raise Inapplicable("it does not say what its heads read (Task.losses_and_representation)")
    batch = next(tried.batches())
    return representing.problem(tried.task, tried.model(), batch, list(tried.task.present(batch)))


def sharing(tried: Tried) -> None:
    """Shares that leave an objective out are followed, and the task's own way comes back."""
    task, count = tried.task, len(tried.task.objectives)
    supply = _supply(task)
    _require_supply(supply, count)
    own = _first(tried)
    everyone = np.full(count, 1 / count)
    fewer = np.r_[np.full(count - 1, 1 / (count - 1)), 0.0] if count > 1 else everyone
    try:
        whole = _factors(task, everyone)
        if _first(tried) != _first(tried):
            raise Wrong("under given shares batches differ between equal generators")
        part = _factors(task, fewer)
        batches = list(itertools.islice(tried.batches(), SEEN))
        strange = [n for n, batch in enumerate(batches) if count > 1 and count - 1 in task.present(batch)]
        if strange:
            raise Wrong(f"{tried.name(count - 1)} has no share, and is in batch {strange[0]}")
        _require_multiplied(tried, batches[0], (everyone, whole), (fewer, part))
    finally:
        task.share_out(None)
    if _first(tried) != own:
        raise Wrong("after share_out(None) the batches are not what they were before shares were given")


def _supply(task: Task) -> Supply:
    if type(task).supply is Task.supply:
        raise Inapplicable("it shares its steps out in one way only (Task.supply)")
    try:
        return task.supply()
    except UsageError as error:
        raise Inapplicable(str(error)) from error


def _require_supply(supply: Supply, count: int) -> None:
    for name, values in (("sizes", supply.sizes), ("amounts", supply.amounts)):
        if np.shape(values) != (count,) or not (np.isfinite(values).all() and (np.asarray(values) > 0).all()):
            raise Wrong(f"{name} of supply should be {count} finite numbers above 0, and are {np.asarray(values)}")
    if not 0 < supply.step < math.inf or not supply.temperature > 0:
        raise Wrong(f"supply has step={supply.step} and temperature={supply.temperature}; both should be above 0")


def _factors(task: Task, shares: Shares) -> Shares:
    factors = np.asarray(task.share_out(shares), dtype=np.float64)
    if factors.shape != shares.shape or not (np.isfinite(factors) & ((factors > 0) | (shares == 0))).all():
        raise Wrong(f"share_out({shares.tolist()}) gives the factors {factors.tolist()}; each share has one above 0")
    return factors


def _first(tried: Tried) -> list[tuple[str, list[int]]]:
    """The first batches of an epoch, and whom they hold."""
    found = itertools.islice(tried.batches(), SEEN)
    return [(digest(batch), list(tried.task.present(batch))) for batch in found]


def _require_multiplied(tried: Tried, batch: Any, one: tuple[Shares, Shares], other: tuple[Shares, Shares]) -> None:
    """On one batch a loss changes with the shares as its factor does."""
    model, held = tried.model(), list(tried.task.present(batch))
    values = []
    for shares, factors in (one, other):
        tried.task.share_out(shares)
        values.append({k: loss.item() / factors[k] for k, loss in tried.losses(model, batch, held)})
    for k in held:
        what = f"over its factor the loss of {tried.name(k)}"
        require_close(values[0][k], values[1][k], what, "under some shares", "under others")


def probes(tried: Tried) -> None:
    """Batches with every objective, the same from equal generators, on which losses are finite."""
    task, everyone = tried.task, list(range(len(tried.task.objectives)))
    try:
        found = [task.probes(PROBES, EXAMPLES, torch.Generator().manual_seed(0)) for _ in range(2)]
    except UsageError as error:
        raise Inapplicable(str(error)) from error
    one, other = (list(each.batches) for each in found)
    if len(one) != PROBES:
        raise Wrong(f"probes gives {len(one)} batches, and {PROBES} were asked for")
    if [*map(digest, one)] != [*map(digest, other)]:
        raise Wrong("probes differ between equal generators")
    model = tried.model()
    for number, batch in enumerate(one):
        if lacking := [tried.name(k) for k in everyone if k not in task.present(batch)]:
            raise Wrong(f"probe {number} lacks {', '.join(lacking)}")
        for k, loss in tried.losses(model, batch, everyone):
            if not math.isfinite(loss.item()):
                raise Wrong(f"the loss of {tried.name(k)} on probe {number} is {loss.item()}")


def relations(tried: Tried) -> None:
    """Of as many objectives as there are, under names of their own."""
    known: Sequence[Any] = tried.task.relations()
    if not known:
        raise Inapplicable("it knows of none (Task.relations)")
    require_of(known, len(tried.task.objectives))
