"""The conformance battery of strategies of sampling: what every one must do whatever shares it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray

from mtlbench.catalogue.sampling import Sampling, Shares, Supply
from mtlbench.catalogue.task import Task
from mtlbench.engine.conformance.finding import Finding, Inapplicable, judged
from mtlbench.engine.conformance.memory import through_file
from mtlbench.engine.conformance.properties import exceptions
from mtlbench.errors import UsageError
from mtlbench.running.sampled import Sampler

MakeSampling = Callable[[], Sampling]

PROMISES = {
    "order": "permuting the objectives permutes the shares",
    "unit": "does not depend on the unit that data and steps are counted in",
    "everyone": "gives every objective a share in some epoch",
}
"""What strategies promise unless their class says otherwise: the names that `Sampling.exceptions` may hold."""
CLOSE = 1e-9
STEPS = 5
"""Of an epoch."""


class Training(NamedTuple):
    """What a strategy is told of a training, and the losses that it sees."""

    supply: Supply
    epochs: int
    groups: Mapping[str, Sequence[int]]
    losses: NDArray[np.float64]
    """(epochs, STEPS, K): NaN where a step lacks an objective."""

    def permuted(self, order: NDArray[np.int64]) -> Training:
        """With the objectives in another order."""
        old, place = self.supply, np.argsort(order)
        supply = Supply(old.sizes[order], old.amounts[order], old.step, old.temperature)
        groups = {name: sorted(place[list(members)].tolist()) for name, members in self.groups.items()}
        return Training(supply, self.epochs, groups, self.losses[..., order])


def battery(make: MakeSampling) -> Iterator[Finding]:
    """Try a strategy on trainings of 2 to 60 objectives whose data differ up to nine orders of magnitude.

    A training that the strategy refuses (`UsageError`) is left out; one must be left.

    Args:
        make: builds it anew; called several times.

    Raises:
        UsageError: it declares an exception from what is no promise, or without a reason.
    """
    declared = exceptions(make(), PROMISES)
    taken, refused = [], ""
    for training in _trainings():
        try:
            _begun(make, training)
        except UsageError as error:
            refused = str(error)
        except Exception:  # found, and told, by every property
            taken.append(training)
        else:
            taken.append(training)
    if not taken:
        yield Finding("takes some training", "violated", f"it refuses all that were tried: {refused}")
        return
    for name, check in REQUIRED.items():
        yield judged(name, partial(check, make, taken))
    for key, check in PROMISED.items():
        yield judged(PROMISES[key], partial(check, make, taken), key, declared.get(key, ""))


def _trainings() -> Iterator[Training]:
    random = np.random.default_rng(0)
    cases: list[tuple[list[float], int, float, float]] = [
        ([100.0, 100.0, 100.0], 6, 90.0, np.inf),
        ([1.0, 30.0, 5000.0], 6, 60.0, 5.0),
        ([7.0, 1e9], 3, 100.0, 1.0),
        (np.exp(random.normal(8, 2, 60)).round().tolist(), 10, 4000.0, 2.0),
        ([50.0, 20.0], 2, 10.0, 5.0),
    ]
    for sizes, epochs, step, temperature in cases:
        count = len(sizes)
        amounts = np.array(sizes) * random.uniform(8, 20, count)
        half = np.argsort(sizes)[count // 2 :].tolist()
        groups = {"hrl": sorted(half), "lrl": sorted(set(range(count)) - set(half))}
        losses = random.uniform(0.5, 5.0, (epochs, STEPS, count)) * 10 ** random.uniform(-1, 1, count)
        losses[random.random(losses.shape) < 0.2] = np.nan
        yield Training(Supply(np.array(sizes), amounts, step, temperature), epochs, groups, losses)


class _Stub(SimpleNamespace):
    """As much of a task as takes shares."""

    def share_out(self, shares: Shares | None) -> Shares:
        return np.ones(len(self.objectives))


def _begun(make: MakeSampling, training: Training) -> Sampler:
    strategy, old = make(), training.supply
    supply = Supply(old.sizes.copy(), old.amounts.copy(), old.step, old.temperature)
    strategy.begin(supply, epochs=training.epochs, steps_per_epoch=STEPS, groups=dict(training.groups))
    named = [SimpleNamespace(name=f"objective {k}") for k in range(len(old.sizes))]
    return Sampler(strategy, cast("Task", _Stub(objectives=named, steps_per_epoch=STEPS)))


def _epoch(sampler: Sampler, training: Training, epoch: int, steps: int = STEPS) -> Shares:
    """The shares of an epoch, after which it has seen the losses of its steps."""
    sampler.enter(epoch)
    shares = sampler.shares.copy()
    for losses in training.losses[epoch, :steps]:
        seen = {k: torch.tensor(loss) for k, loss in enumerate(losses.tolist()) if loss == loss and shares[k] > 0}
        sampler.observe(seen)
    return shares


def _all(make: MakeSampling, training: Training) -> Shares:
    """(epochs, K)."""
    sampler = _begun(make, training)
    return np.stack([_epoch(sampler, training, epoch) for epoch in range(training.epochs)])


def _proper(make: MakeSampling, trainings: Sequence[Training]) -> str:
    for training in trainings:
        _all(make, training)  # refuses what are no shares
    return ""


def _extremes(make: MakeSampling, trainings: Sequence[Training]) -> str:
    """Losses that differ by twelve orders of magnitude, are all equal, or are all zero."""
    if not make().observes:
        raise Inapplicable("it sees no losses")
    for training in trainings:
        spread = 10 ** np.linspace(-6, 6, training.losses.shape[-1])
        for losses in (training.losses * spread, np.ones_like(training.losses), np.zeros_like(training.losses)):
            _all(make, training._replace(losses=losses))
    return ""


def _deterministic(make: MakeSampling, trainings: Sequence[Training]) -> str:
    states = np.random.get_state(), torch.get_rng_state()
    try:
        for training in trainings:
            found = []
            for seed in (1, 2):
                np.random.seed(seed)
                torch.manual_seed(seed)
                found.append(_all(make, training))
            if not np.array_equal(found[0], found[1]):
                return f"{_of(training)}: shares differ by {np.abs(found[0] - found[1]).max():.1e} the second time"
    finally:
        np.random.set_state(states[0])
        torch.set_rng_state(states[1])
    return ""


def _resumes(make: MakeSampling, trainings: Sequence[Training]) -> str:
    """Through a file, in the middle of every epoch, with shares that its beginning gave."""
    for training in trainings:
        plain = _all(make, training)
        for epoch in range(training.epochs - 1):
            first, fresh = _begun(make, training), _begun(make, training)
            for earlier in range(epoch):
                _epoch(first, training, earlier)
            _epoch(first, training, epoch, steps=2)
            fresh.load_state_dict(through_file(first.state_dict()), epoch * STEPS + 2)
            rest = training.losses.copy()
            rest[epoch] = np.roll(rest[epoch], -2, axis=0)
            found = [_epoch(fresh, training._replace(losses=rest), epoch, STEPS - 2)]
            found += [_epoch(fresh, training, later) for later in range(epoch + 1, training.epochs)]
            if not np.array_equal(np.stack(found), plain[epoch:]):
                return f"{_of(training)}: interrupted in epoch {epoch}, it gives other shares afterwards"
    return ""


def _leaves_supply(make: MakeSampling, trainings: Sequence[Training]) -> str:
    for training in trainings:
        sampler = _begun(make, training)
        for epoch in range(training.epochs):
            _epoch(sampler, training, epoch)
        there, given = sampler.strategy.supply, training.supply
        if not (np.array_equal(there.sizes, given.sizes) and np.array_equal(there.amounts, given.amounts)):
            return f"{_of(training)}: sizes or amounts of the supply are other numbers afterwards"
    return ""


def _order(make: MakeSampling, trainings: Sequence[Training]) -> str:
    for training in trainings:
        order = np.random.default_rng(1).permutation(len(training.supply.sizes))
        off = np.abs(_all(make, training)[:, order] - _all(make, training.permuted(order))).max()
        if off > CLOSE:
            return f"{_of(training)}: shares differ by {off:.1e} in another order"
    return ""


def _unit(make: MakeSampling, trainings: Sequence[Training]) -> str:
    for training in trainings:
        other = training._replace(supply=_in_units(training.supply, 100.0))
        off = np.abs(_all(make, training) - _all(make, other)).max()
        if off > CLOSE:
            return f"{_of(training)}: shares differ by {off:.1e} where data are counted in hundredths"
    return ""


def _in_units(supply: Supply, factor: float) -> Supply:
    return Supply(supply.sizes, supply.amounts * factor, supply.step * factor, supply.temperature)


def _everyone(make: MakeSampling, trainings: Sequence[Training]) -> str:
    for training in trainings:
        most = _all(make, training).max(0)
        if (most == 0).any():
            return f"{_of(training)}: objective {int(most.argmin())} has a share in no epoch"
    return ""


def _of(training: Training) -> str:
    sizes = training.supply.sizes
    return f"{len(sizes)} objectives of {sizes.min():g} to {sizes.max():g} examples, {training.epochs} epochs"


Check = Callable[[MakeSampling, Sequence[Training]], str]
REQUIRED: dict[str, Check] = {
    "gives shares in every epoch: none negative, of one for each objective, summing to 1": _proper,
    "copes with losses of any size, equal ones, and zeros": _extremes,
    "gives the same shares again from the same losses": _deterministic,
    "goes on from a state that is saved in the middle of an epoch": _resumes,
    "leaves what it is told of the data as it is": _leaves_supply,
}
"""What every strategy must do."""
PROMISED: dict[str, Check] = {"order": _order, "unit": _unit, "everyone": _everyone}
"""What strategies promise unless their class says otherwise."""
