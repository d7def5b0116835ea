"""The cost of a method's own mathematics: the weights for a Gramian, or for losses."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from mtlbench.bench.result import Bench, Environment, Progress, Row, medians
from mtlbench.bench.sampling import Sampler
from mtlbench.catalogue import building, registry
from mtlbench.engine.kinds import GramianWeighting, JacobianAggregator, LossWeighting, Method
from mtlbench.errors import UsageError

DRAWS = 8
"""Gramians that a subject meets in turn, since what a solver takes depends on what it gets."""

_COLUMNS, _LATENT, _NOISE = 200, 4, 0.5


def weights(
    methods: Sequence[str] = (),
    objectives: Sequence[int] = (2, 8, 32),
    groups: Sequence[int] = (1, 100),
    repeats: int = 7,
    sample_seconds: float = 0.05,
    progress: Progress | None = None,
) -> Bench:
    """Time the weights of every method for every K and number of groups, Gramian and combination apart.

    The rows behind the Gramians mix four latent directions with noise, so that about half of the pairs conflict. A
    method meets `DRAWS` of them in turn, and keeps its state from one to the next as in training. Methods of losses
    have no groups.

    Rows have, with times in seconds, labels `K`, `groups`, `method`, and seconds `weights`.

    Args:
        methods: registry names; by default all that answer weights and need no model.
        objectives: the numbers K.
        groups: the numbers of groups.
        repeats: samples of each subject.
        sample_seconds: a sample repeats its call until it lasts about this long.
        progress: told of every sample.

    Raises:
        UsageError: an unknown method, one that answers no weights, or a number below 1.
    """
    arguments = {key: value for key, value in locals().items() if key != "progress"}
    if min((*objectives, *groups, repeats), default=0) < 1:
        raise UsageError("a benchmark of weights needs at least one K and number of groups, each at least 1.")
    for name in methods:
        if not _weighs(building.method(name)):
            raise UsageError(f"{name} answers no weights that could be timed alone: time whole steps.")
    chosen = list(methods) or [name for name in registry.methods.names() if _weighs(building.method(name))]
    subjects = {
        (k, g, name): _subject(name, k, g)
        for k, g in itertools.product(objectives, groups)
        for name in chosen
        if _meaningful(building.method(name), k, g)
    }
    sampler = Sampler(lambda: None, sample_seconds)
    finished = 0

    def tell(label: str) -> None:
        nonlocal finished
        finished += 1
        if progress is not None:
            progress(finished, len(subjects) * repeats, label)

    named = {f"K={k} G={g} {name}": call for (k, g, name), call in subjects.items()}
    samples = sampler.interleave(named, repeats, tell)
    rows = []
    for (k, g, name), label in zip(subjects, named, strict=True):
        own = {"weights": samples[label]}
        rows.append(
            Row(labels={"K": k, "groups": g, "method": name}, seconds=medians(own, ["weights"]), samples=own),
        )
    return Bench(
        kind="weights",
        settings={**arguments, "methods": chosen},
        environment=Environment.here(torch.device("cpu"), None),
        disturbed=sampler.disturbed_share,
        rows=rows,
    )


def gramians(objectives: int, groups: int) -> list[Tensor]:
    """`DRAWS` Gramians (G, K, K) in float64, the same in every call."""
    generator = torch.Generator().manual_seed(0)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    found = []
    for _ in range(DRAWS):
        rows = draw(groups, objectives, _LATENT) @ draw(groups, _LATENT, _COLUMNS)
        rows += _NOISE * draw(groups, objectives, _COLUMNS)
        found.append(rows @ rows.mT)
    return found


def _subject(name: str, objectives: int, groups: int) -> Callable[[], object]:
    method = building.method(name)
    method.steps_per_epoch = DRAWS
    losses = torch.linspace(0.5, 1.5, objectives, dtype=torch.float64)
    if isinstance(method, LossWeighting):
        return partial(_learning, method, losses) if method.reviews else partial(method.weights, losses)
    assert isinstance(method, GramianWeighting)
    drawn = itertools.cycle(gramians(objectives, groups))
    return lambda: method.weights(next(drawn), losses)


def _learning(method: LossWeighting, losses: Tensor) -> None:
    method.weights(losses)
    method.review(losses)


def _weighs(method: Method) -> bool:
    return not isinstance(method, JacobianAggregator) and not method.separate_models


def _meaningful(method: Method, objectives: int, groups: int) -> bool:
    """Whether the method combines so many objectives, and has so many groups."""
    grouped = isinstance(method, GramianWeighting) and method.scope == "shared"
    return (method.supports is None or objectives in method.supports) and (grouped or groups == 1)
