"""What a method carries from step to step: seeds, saved states, weights that are kept."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtlbench.engine.conformance.finding import Inapplicable, Make, sizes, usual_size
from mtlbench.engine.conformance.regressions import Regressions, flat
from mtlbench.engine.conformance.trial import STEPS, Run, ordinary
from mtlbench.engine.kinds import GramianWeighting

SAVED_AFTER = (0, 1, 7, 12)
"""Steps before a state is saved; methods that count epochs are within one, and at the end of one."""
REFRESH = 3


def deterministic(make: Make) -> str:
    """Twice from one seed, with the generators that all code shares in another state."""
    steps = ordinary(make(), max(sizes(make())), groups=2)
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    found = []
    try:
        for seed in (1, 2):
            torch.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            found.append(Run(make, seed=5).steps(steps))
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
    for number, (one, other) in enumerate(zip(*found, strict=True)):
        if not torch.equal(one.update, other.update):
            return f"step {number + 1} differs between two runs from one seed"
    return ""


def resumes(make: Make) -> str:
    """Through a file, before the first step and in the middle of training, into a fresh object."""
    steps = ordinary(make(), max(sizes(make())), groups=2)
    for saved in SAVED_AFTER:
        run = Run(make, seed=5)
        run.steps(steps[:saved])
        fresh = Run(make).load(through_file(run.method.state_dict()))
        for number in range(saved, STEPS):
            one, other = run.step(steps[number]), fresh.step(steps[number])
            if not torch.equal(one.update, other.update):
                return f"saved after {saved} steps: step {number + 1} is another after loading"
    return ""


def kept(make: Make) -> str:
    """`refresh=3`: in kept steps neither state nor generator moves, and a checkpoint of one goes on the same."""
    method = make()
    if not isinstance(method, GramianWeighting):
        raise Inapplicable("it has no weights to keep: refresh= means nothing to it")
    if len(method.batch_shares) > 1:
        raise Inapplicable("weights of several batches are not kept: refresh= is refused")
    problem = Regressions(usual_size(method))
    run = problem.start(make, refresh=REFRESH)
    for number in range(5):
        before = flat(run.backward.method.state_dict())
        run.step()
        if number % REFRESH and not _equal(before, flat(run.backward.method.state_dict())):
            return f"step {number + 1} keeps the weights, and the state moves"
    fresh = problem.start(make, refresh=REFRESH)
    fresh.backward.load_state_dict(through_file(run.backward.state_dict()))
    fresh.number = run.number
    for number in range(5, 9):
        if not all(map(torch.equal, run.step(), fresh.step())):
            return f"saved between two refreshes: step {number + 1} is another after loading"
    return ""


def through_file(state: Mapping[str, Any]) -> Any:
    """What comes back of a state that is written to a file and read without executing anything."""
    with tempfile.TemporaryFile() as file:
        torch.save(state, file)
        file.seek(0)
        return torch.load(file, weights_only=True)


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(a.nan_to_num(nan=-1.0), other[name].nan_to_num(nan=-1.0)) for name, a in one.items()
    )
