"""The conformance battery of tasks: what every task must do whatever it is about, tried on its data and its model."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from mtlbench.catalogue import building
from mtlbench.catalogue.task import Estimate, Task
from mtlbench.catalogue.variants import resolve
from mtlbench.engine.conformance.finding import Finding, Inapplicable, Verdict
from mtlbench.errors import UsageError
from mtlbench.running import scored, task_slots
from mtlbench.running.declared import TaskInfo
from mtlbench.running.streams import process_of_a_cell
from mtlbench.running.task_trial import Tried, Wrong, digest, require_close, some
from mtlbench.running.untouched import as_it_was, seed_everything


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
    tried = Tried(lambda: cls(chosen, protocol, data_root, torch.device("cpu")), protocol.trains)
    of_training = (_batches, _present, _losses, _shares, task_slots.represents, task_slots.sharing, task_slots.probes)
    checks = (
        ("is built, and declares what a record can hold", _declares),
        ("has the same data whenever it is built", _data),
        ("starts from the same weights at the same seed", _weights),
        ("yields steps_per_epoch batches, the same from the same generator", _batches),
        ("holds in every batch some of its objectives, each once", _present),
        ("gives one finite loss for each objective, in their order", _losses),
        ("shares the parameters that several objectives reach, and no others", _shares),
        ("gives what all heads read, where it says that it does", task_slots.represents),
        ("takes shares of a step, and goes back to its own way", task_slots.sharing),
        ("gives probes that hold every objective, the same from the same generator", task_slots.probes),
        ("relates its objectives and no others", task_slots.relations),
        ("scores every objective by all of its metrics, alone as together", _scores),
        ("leaves the process as it was", _leaves_alone),
    )
    for name, check in checks:
        if check in of_training and not protocol.trains:
            yield Finding(name, "not applicable", "its protocol trains nothing")
            continue
        verdict: Verdict = "violated"
        with process_of_a_cell(protocol.threads), as_it_was():
            try:
                told = check(tried) or ""
                verdict = "violated" if told else "holds"
            except Inapplicable as why:
                verdict, told = "not applicable", str(why)
            except Exception as error:
                if isinstance(error, UsageError) and not hasattr(tried, "task"):
                    raise
                told = str(error) if isinstance(error, Wrong) else f"{type(error).__name__}: {error}"
        yield Finding(name, verdict, told)
        if not hasattr(tried, "task"):
            return


def _declares(tried: Tried) -> None:
    task = tried.watched("its constructor", tried.make)
    tried.task = task
    TaskInfo.of(task)
    if not task.objectives or not all(objective.metrics for objective in task.objectives):
        raise Wrong("it needs an objective, and each objective a metric")
    least = 1 if tried.trains else 0
    if not isinstance(task.steps_per_epoch, int) or task.steps_per_epoch < least:
        raise Wrong(f"steps_per_epoch is {task.steps_per_epoch!r}, and should be a whole number from {least} on")


def _data(tried: Tried) -> None:
    own = tried.task.data_digest
    if not re.fullmatch("[0-9a-f]{64}", own):
        raise Wrong(f"data_digest is {own!r}, and should be a SHA-256 in 64 hexadecimal digits")
    for seed in (1, 2):
        seed_everything(seed)
        again = tried.make()
        if again.data_digest != own:
            raise Wrong(f"data_digest is {own[:12]}... and, built again, {again.data_digest[:12]}...")
        if (a := again.steps_per_epoch) != (b := tried.task.steps_per_epoch):
            raise Wrong(f"steps_per_epoch is {b} and, built again, {a}")


def _weights(tried: Tried) -> None:
    one, other = tried.model().state_dict(), tried.model().state_dict()
    for name, value in one.items():
        if name not in other or not torch.equal(value, other[name]):
            raise Wrong(f"{name} differs between two models from one seed of torch's generator")


def _batches(tried: Tried) -> None:
    passes = []
    for seed in (1, 2):
        seed_everything(seed)
        passes.append(tried.watched("batches", lambda: [*map(digest, tried.batches())]))
    one, other = passes
    if len(one) != tried.task.steps_per_epoch:
        raise Wrong(f"an epoch has {len(one)} batches, and steps_per_epoch is {tried.task.steps_per_epoch}")
    for number, (a, b) in enumerate(zip(one, other, strict=True)):
        if a != b:
            raise Wrong(f"batch {number} differs between two passes with equal generators")
    _whole_steps(tried)


def _whole_steps(tried: Tried) -> None:
    """The same of batches of one objective alone, of the first and the last one: those of all may take long."""
    task = tried.task
    if type(task).batches_of is Task.batches_of:
        return
    for k in sorted({0, len(task.objectives) - 1}):
        found = [task.batches_of(k, 0, torch.Generator().manual_seed(0)) for _ in range(2)]
        one, other = ([(digest(batch), list(task.present(batch))) for batch in batches] for batches in found)
        if len(one) != task.steps_per_epoch:
            raise Wrong(
                f"batches_of {tried.name(k)} yields {len(one)} batches, not steps_per_epoch={task.steps_per_epoch}"
            )
        if one != other:
            raise Wrong(f"batches_of {tried.name(k)} differs between equal generators")
        if strangers := [held for _, held in one if held not in ([k], [])]:
            raise Wrong(f"batches_of {tried.name(k)} holds the objectives {strangers[0]}")


def _present(tried: Tried) -> None:
    count = len(tried.task.objectives)
    for number, batch in enumerate(tried.batches()):
        held = list(tried.task.present(batch))
        if not held or len(set(held)) < len(held) or not all(0 <= k < count for k in held):
            raise Wrong(f"present says {held} of batch {number}; objectives are 0 to {count - 1}")


def _losses(tried: Tried) -> None:
    model = tried.model()
    batch = max(some(tried), key=lambda batch: len(tried.task.present(batch)))
    held = list(tried.task.present(batch))
    together = {}
    for k, loss in tried.losses(model, batch, held):
        if not loss.requires_grad:
            raise Wrong(f"the loss of {tried.name(k)} has no gradient")
        together[k] = loss.item()
        if not math.isfinite(together[k]):
            raise Wrong(f"the loss of {tried.name(k)} is {together[k]} before any training")
    for order in ([k] for k in held):
        for k, loss in tried.losses(model, batch, order):
            require_close(loss.item(), together[k], f"the loss of {tried.name(k)}")


def _shares(tried: Tried) -> None:
    model, task = tried.model(), tried.task
    names = {p: name for name, p in model.named_parameters() if p.requires_grad}
    known = set(model.parameters())
    shared = [p for _, p in task.shared(model)]
    for name, p in task.shared(model):
        if p not in known:
            raise Wrong(f"{name} of shared is no parameter of the model")
    reached: dict[nn.Parameter, set[int]] = {p: set() for p in names}
    for batch in some(tried):
        for k, loss in tried.losses(model, batch, list(task.present(batch))):
            gradients = torch.autograd.grad(loss, list(names), retain_graph=True, allow_unused=True)
            for p, gradient in zip(names, gradients, strict=True):
                if gradient is not None:
                    reached[p].add(k)
    for p, by in reached.items():
        told = " and ".join(sorted(tried.name(k) for k in by)) or "no objective"
        if len(by) > 1 and not any(p is q for q in shared):
            raise Wrong(f"{names[p]} is reached by {told}, and shared leaves it out")
        if len(by) < 2 <= len(task.objectives) and any(p is q for q in shared):
            raise Wrong(f"{names[p]} of shared is reached by {told} only: leave it to its head")


def _scores(tried: Tried) -> None:
    model, task = tried.model(), tried.task
    everyone = range(len(task.objectives))
    with torch.no_grad():
        for split in ("val", "test", *task.extra_splits):
            scores = tried.watched("evaluate", lambda split=split: task.evaluate(model, split, everyone))  # type: ignore[misc]
            lacking = {o.name for o in task.objectives} - set(scores)
            if lacking and split not in task.extra_splits:
                raise Wrong(f"{split} has no scores of {', '.join(sorted(lacking))}")
            _require_scores(task, split, scores)
            if split == "val":
                last = task.objectives[-1].name
                alone = task.evaluate(model, split, everyone[-1:])
                if set(alone) != {last}:
                    raise Wrong(f"asked for {last} alone, evaluate scores {', '.join(alone)}")
                for metric, score in alone[last].items():
                    one, other = scored.value(score), scored.value(scores[last][metric])
                    require_close(one, other, f"{metric} of {last} on val")


def _require_scores(task: Task, split: str, scores: scored.Answer) -> None:
    metrics = {o.name: [m.name for m in o.metrics] for o in task.objectives}
    for name, values in scores.items():
        if name not in metrics:
            raise Wrong(f"{split} scores {name!r}, which is no objective")
        if set(values) != set(metrics[name]):
            raise Wrong(f"{split} scores {name} by {', '.join(values)}; its metrics are {', '.join(metrics[name])}")
        for metric, score in values.items():
            value = scored.value(score)
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise Wrong(f"{metric} of {name} on {split} is {value!r}, and should be a finite number")
            if isinstance(score, Estimate) and (what := scored.problem(score)):
                raise Wrong(f"{metric} of {name} on {split} has {what}")


def _leaves_alone(tried: Tried) -> str:
    return "; ".join(dict.fromkeys(tried.touched))
