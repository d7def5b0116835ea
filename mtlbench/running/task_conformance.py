"""The conformance battery of tasks: what every task must do whatever it is about, tried on its data and its model."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from mtlbench.catalogue import building
from mtlbench.catalogue.task import Estimate, Task
from mtlbench.catalogue.variants import resolve
from mtlbench.engine.conformance.finding import Finding
from mtlbench.errors import UsageError
from mtlbench.running import representing, scored
from mtlbench.running.declared import TaskInfo
from mtlbench.running.streams import process_of_a_cell

T = TypeVar("T")

SEEN = 64
"""Batches, at most, over which it is looked for who reaches which parameter."""
CLOSE = 1e-3
"""Relative difference up to which a loss or a score counts as the same: sums in another order."""


class _Wrong(Exception):
    """What does not hold."""


def battery(task: str, variant: str | None = None, data_root: Path | None = None) -> Iterator[Finding]:
    """Try a task on one of its variants, with the variant's own protocol, on the CPU; one finding per property.

    Nothing is trained. An epoch of batches is drawn twice, and `val`, `test` and the extra splits are scored once.
    Where the protocol has no epochs, neither batches nor losses are asked for.

    Args:
        task: its registry name.
        variant: one of its variants; the first one if None.
        data_root: the folder of the real data sets.

    Raises:
        UsageError: there is no such task or variant, its data are missing, or it refuses its own protocol.
    """
    chosen, protocol = resolve(task, variant, None, {})
    cls = building.task_class(task)
    tried = _Tried(lambda: cls(chosen, protocol, data_root, torch.device("cpu")), protocol.trains)
    of_training = (_batches, _present, _losses, _shares, _represents)
    checks = (
        ("is built, and declares what a record can hold", _declares),
        ("has the same data whenever it is built", _data),
        ("starts from the same weights at the same seed", _weights),
        ("yields steps_per_epoch batches, the same from the same generator", _batches),
        ("holds in every batch some of its objectives, each once", _present),
        ("gives one finite loss for each objective, in their order", _losses),
        ("shares the parameters that several objectives reach, and no others", _shares),
        ("gives what all heads read, where it says that it does", _represents),
        ("scores every objective by all of its metrics, alone as together", _scores),
        ("leaves the process as it was", _leaves_alone),
    )
    for name, check in checks:
        if check in of_training and not protocol.trains:
            continue
        with process_of_a_cell(protocol.threads), _as_it_was():
            try:
                problem = check(tried) or ""
            except Exception as error:
                if isinstance(error, UsageError) and not hasattr(tried, "task"):
                    raise
                problem = str(error) if isinstance(error, _Wrong) else f"{type(error).__name__}: {error}"
        yield Finding(name, "violated" if problem else "holds", problem)
        if not hasattr(tried, "task"):
            return


class _Tried:
    """A task under trial, and what it was seen to change around it."""

    task: Task

    def __init__(self, make: Callable[[], Task], trains: bool) -> None:
        self.make = make
        self.trains = trains
        self.touched: list[str] = []

    def watched(self, what: str, action: Callable[[], T]) -> T:
        """The result of `action`; what it changes of the process is noted, but for what the first time alone does.

        A library may do so when it is imported.
        """
        with _as_it_was() as changed:
            result = action()
        if changed:
            with _as_it_was() as again:
                result = action()
            self.touched += [f"{what} changes {part.name}" for part in again]
        return result

    def model(self) -> nn.Module:
        """A model from a fixed seed, without what is random in training only."""
        torch.manual_seed(0)
        return self.task.model().eval()

    def batches(self, epoch: int = 0) -> Iterator[Any]:
        """The batches of an epoch, from a fixed seed."""
        return self.task.batches(epoch, torch.Generator().manual_seed(epoch))

    def losses(self, model: nn.Module, batch: Any, objectives: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """Each of `objectives` with its loss, one at a time, so that a graph can be freed before the next is built."""
        asked = f"the {len(objectives)} that objectives={list(objectives)} asks for"
        found = iter(self.task.losses(model, batch, objectives))
        for k in objectives:
            loss = next(found, None)
            if loss is None:
                raise _Wrong(f"losses gives fewer than {asked}")
            if not isinstance(loss, Tensor) or loss.ndim:
                what = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
                raise _Wrong(f"the loss of {self.name(k)} is {what}, and should be a tensor of one number")
            yield k, loss
            del loss
        if next(found, None) is not None:
            raise _Wrong(f"losses gives more than {asked}")

    def name(self, k: int) -> str:
        """Of an objective."""
        return self.task.objectives[k].name


def _declares(tried: _Tried) -> None:
    task = tried.watched("its constructor", tried.make)
    tried.task = task
    TaskInfo.of(task)
    if not task.objectives or not all(objective.metrics for objective in task.objectives):
        raise _Wrong("it needs an objective, and each objective a metric")
    least = 1 if tried.trains else 0
    if not isinstance(task.steps_per_epoch, int) or task.steps_per_epoch < least:
        raise _Wrong(f"steps_per_epoch is {task.steps_per_epoch!r}, and should be a whole number from {least} on")


def _data(tried: _Tried) -> None:
    digest = tried.task.data_digest
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise _Wrong(f"data_digest is {digest!r}, and should be a SHA-256 in 64 hexadecimal digits")
    for seed in (1, 2):
        _seed_everything(seed)
        again = tried.make()
        if again.data_digest != digest:
            raise _Wrong(f"data_digest is {digest[:12]}... and, built again, {again.data_digest[:12]}...")
        if (a := again.steps_per_epoch) != (b := tried.task.steps_per_epoch):
            raise _Wrong(f"steps_per_epoch is {b} and, built again, {a}")


def _weights(tried: _Tried) -> None:
    one, other = tried.model().state_dict(), tried.model().state_dict()
    for name, value in one.items():
        if name not in other or not torch.equal(value, other[name]):
            raise _Wrong(f"{name} differs between two models from one seed of torch's generator")


def _batches(tried: _Tried) -> None:
    passes = []
    for seed in (1, 2):
        _seed_everything(seed)
        passes.append(tried.watched("batches", lambda: [*map(_digest, tried.batches())]))
    one, other = passes
    if len(one) != tried.task.steps_per_epoch:
        raise _Wrong(f"an epoch has {len(one)} batches, and steps_per_epoch is {tried.task.steps_per_epoch}")
    for number, (a, b) in enumerate(zip(one, other, strict=True)):
        if a != b:
            raise _Wrong(f"batch {number} differs between two passes with equal generators")
    _whole_steps(tried)


def _whole_steps(tried: _Tried) -> None:
    """The same of batches of one objective alone, of the first and the last one: those of all may take long."""
    task = tried.task
    if type(task).batches_of is Task.batches_of:
        return
    for k in sorted({0, len(task.objectives) - 1}):
        found = [task.batches_of(k, 0, torch.Generator().manual_seed(0)) for _ in range(2)]
        one, other = ([(_digest(batch), list(task.present(batch))) for batch in batches] for batches in found)
        if len(one) != task.steps_per_epoch:
            raise _Wrong(
                f"batches_of {tried.name(k)} yields {len(one)} batches, not steps_per_epoch={task.steps_per_epoch}"
            )
        if one != other:
            raise _Wrong(f"batches_of {tried.name(k)} differs between equal generators")
        if strangers := [held for _, held in one if held not in ([k], [])]:
            raise _Wrong(f"batches_of {tried.name(k)} holds the objectives {strangers[0]}")


def _present(tried: _Tried) -> None:
    count = len(tried.task.objectives)
    for number, batch in enumerate(tried.batches()):
        held = list(tried.task.present(batch))
        if not held or len(set(held)) < len(held) or not all(0 <= k < count for k in held):
            raise _Wrong(f"present says {held} of batch {number}; objectives are 0 to {count - 1}")


def _losses(tried: _Tried) -> None:
    model = tried.model()
    batch = max(_some(tried), key=lambda batch: len(tried.task.present(batch)))
    held = list(tried.task.present(batch))
    together = {}
    for k, loss in tried.losses(model, batch, held):
        if not loss.requires_grad:
            raise _Wrong(f"the loss of {tried.name(k)} has no gradient")
        together[k] = loss.item()
        if not math.isfinite(together[k]):
            raise _Wrong(f"the loss of {tried.name(k)} is {together[k]} before any training")
    for order in ([k] for k in held):
        for k, loss in tried.losses(model, batch, order):
            _require_close(loss.item(), together[k], f"the loss of {tried.name(k)}")


def _shares(tried: _Tried) -> None:
    model, task = tried.model(), tried.task
    names = {p: name for name, p in model.named_parameters() if p.requires_grad}
    known = set(model.parameters())
    shared = [p for _, p in task.shared(model)]
    for name, p in task.shared(model):
        if p not in known:
            raise _Wrong(f"{name} of shared is no parameter of the model")
    reached: dict[nn.Parameter, set[int]] = {p: set() for p in names}
    for batch in _some(tried):
        for k, loss in tried.losses(model, batch, list(task.present(batch))):
            gradients = torch.autograd.grad(loss, list(names), retain_graph=True, allow_unused=True)
            for p, gradient in zip(names, gradients, strict=True):
                if gradient is not None:
                    reached[p].add(k)
    for p, by in reached.items():
        told = " and ".join(sorted(tried.name(k) for k in by)) or "no objective"
        if len(by) > 1 and not any(p is q for q in shared):
            raise _Wrong(f"{names[p]} is reached by {told}, and shared leaves it out")
        if len(by) < 2 <= len(task.objectives) and any(p is q for q in shared):
            raise _Wrong(f"{names[p]} of shared is reached by {told} only: leave it to its head")


def _represents(tried: _Tried) -> str:
    if not tried.task.has_representation:
        return ""
    batch = next(tried.batches())
    return representing.problem(tried.task, tried.model(), batch, list(tried.task.present(batch)))


def _scores(tried: _Tried) -> None:
    model, task = tried.model(), tried.task
    everyone = range(len(task.objectives))
    with torch.no_grad():
        for split in ("val", "test", *task.extra_splits):
            scores = tried.watched("evaluate", lambda split=split: task.evaluate(model, split, everyone))  # type: ignore[misc]
            lacking = {o.name for o in task.objectives} - set(scores)
            if lacking and split not in task.extra_splits:
                raise _Wrong(f"{split} has no scores of {', '.join(sorted(lacking))}")
            _require_scores(task, split, scores)
            if split == "val":
                last = task.objectives[-1].name
                alone = task.evaluate(model, split, everyone[-1:])
                if set(alone) != {last}:
                    raise _Wrong(f"asked for {last} alone, evaluate scores {', '.join(alone)}")
                for metric, score in alone[last].items():
                    one, other = scored.value(score), scored.value(scores[last][metric])
                    _require_close(one, other, f"{metric} of {last} on val")


def _require_scores(task: Task, split: str, scores: scored.Answer) -> None:
    metrics = {o.name: [m.name for m in o.metrics] for o in task.objectives}
    for name, values in scores.items():
        if name not in metrics:
            raise _Wrong(f"{split} scores {name!r}, which is no objective")
        if set(values) != set(metrics[name]):
            raise _Wrong(f"{split} scores {name} by {', '.join(values)}; its metrics are {', '.join(metrics[name])}")
        for metric, score in values.items():
            value = scored.value(score)
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise _Wrong(f"{metric} of {name} on {split} is {value!r}, and should be a finite number")
            if isinstance(score, Estimate) and (what := scored.problem(score)):
                raise _Wrong(f"{metric} of {name} on {split} has {what}")


def _leaves_alone(tried: _Tried) -> str:
    return "; ".join(dict.fromkeys(tried.touched))


def _seed_everything(seed: int) -> None:
    """Bring the generators that all code shares to another state: nothing of a task may come from them."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def _some(tried: _Tried) -> Iterator[Any]:
    """Batches until every objective was among them, at most so many as SEEN."""
    missing = set(range(len(tried.task.objectives)))
    for _, batch in zip(range(SEEN), tried.batches(), strict=False):
        yield batch
        missing -= set(tried.task.present(batch))
        if not missing:
            return


def _require_close(alone: float, together: float, what: str) -> None:
    if not math.isclose(alone, together, rel_tol=CLOSE, abs_tol=1e-6):
        raise _Wrong(f"{what} is {together:g} among all objectives and {alone:g} when it is asked for alone")


class _Part(NamedTuple):
    """A part of the process that a task must not change."""

    name: str
    get: Callable[[], Any]
    """Its state, comparable."""
    put: Callable[[Any], object]
    """Brings a state back."""


def _get_numpy() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state()
    return (name, np.asarray(keys).tobytes(), *rest)


def _put_numpy(state: tuple[Any, ...]) -> None:
    name, keys, *rest = state
    np.random.set_state((name, np.frombuffer(keys, dtype=np.uint32), *rest))


def _put_torch(state: bytes) -> None:
    torch.set_rng_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))


def _put_environment(state: dict[str, str]) -> None:
    if dict(os.environ) != state:
        os.environ.clear()
        os.environ.update(state)


PROCESS = (
    _Part("torch's global random state", lambda: torch.get_rng_state().numpy().tobytes(), _put_torch),
    _Part("NumPy's global random state", _get_numpy, _put_numpy),
    _Part("Python's global random state", random.getstate, random.setstate),
    _Part("torch's number of threads", torch.get_num_threads, torch.set_num_threads),
    _Part("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
    _Part("whether gradients are recorded", torch.is_grad_enabled, torch.set_grad_enabled),
    _Part("the working directory", os.getcwd, os.chdir),
    _Part("the environment", lambda: dict(os.environ), _put_environment),
)


@contextlib.contextmanager
def _as_it_was() -> Iterator[list[_Part]]:
    """Put the process back as it was, and fill the list with what had changed."""
    before = [part.get() for part in PROCESS]
    changed: list[_Part] = []
    try:
        yield changed
    finally:
        changed += [part for part, state in zip(PROCESS, before, strict=True) if part.get() != state]
        for part, state in zip(PROCESS, before, strict=True):
            part.put(state)


def _digest(value: Any) -> str:
    """A hash of a batch: of the tensors, arrays and numbers in it, however they are nested."""
    hashed = hashlib.sha256()

    def add(part: Any) -> None:
        if isinstance(part, Tensor):
            hashed.update(f"{part.dtype}{tuple(part.shape)}".encode())
            part = part.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy()
        if isinstance(part, np.ndarray):
            hashed.update(f"{part.dtype}{part.shape}".encode())
            hashed.update(part.tobytes())
        elif isinstance(part, Mapping):
            for key, inner in part.items():
                hashed.update(repr(key).encode())
                add(inner)
        elif isinstance(part, list | tuple):
            hashed.update(f"{len(part)}".encode())
            for inner in part:
                add(inner)
        elif is_dataclass(part):
            add([getattr(part, field.name) for field in fields(part)])
        else:
            hashed.update(repr(part).encode())

    add(value)
    return hashed.hexdigest()
