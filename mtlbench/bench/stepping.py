"""The cost of whole training steps: every method against `uniform`, the plain summed loss, and TorchJD."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mtlbench.bench import memory, peers, workloads
from mtlbench.bench.result import Bench, Environment, Progress, Row, Spread, medians
from mtlbench.bench.sampling import Sampler
from mtlbench.bench.workloads import SMALLEST, BuiltIn, Scale, Workload
from mtlbench.catalogue import building, registry
from mtlbench.engine.backward import Backward
from mtlbench.engine.kinds import GramianWeighting, JacobianAggregator, LossWeighting
from mtlbench.engine.representation import WRT, Wrt
from mtlbench.errors import UsageError, unknown

PLAIN = "(plain sum)"
"""The loop that one would write by hand: the sum of the losses, or one `backward()` for each separate graph."""
GRADS = "(K x autograd.grad)"
"""K plain `torch.autograd.grad` calls on one graph, nothing combined."""
KEPT = "(gradvac, K graphs kept)"
"""GradVac given the list of all K losses, where a generator would free each graph before the next."""
TORCHJD = "(torchjd gradvac)"
"""TorchJD's `mtl_backward` or `backward`, and its GradVac."""

_BUILT_IN_OBJECTIVES = (4, 8)

Step = Callable[[], object]
Losses = Sequence[Tensor] | Iterator[Tensor]


def steps(
    shapes: Sequence[str] = workloads.SHAPES,
    objectives: Sequence[int] | None = None,
    methods: Sequence[str] | None = None,
    task: str | None = None,
    variant: str | None = None,
    protocol: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    data_root: str | None = None,
    granularity: str = "whole_model",
    refresh: int = 1,
    wrt: Wrt = "parameters",
    scale: Scale = Scale(),  # noqa: B008 (frozen)
    device: str = "cpu",
    repeats: int = 7,
    sample_seconds: float = 0.2,
    measure_memory: bool = True,
    compare: bool = True,
    plugins: Sequence[str] = (),
    progress: Progress | None = None,
) -> Bench:
    """Time whole steps: zero_grad, forward, backward, combination, clipping, optimiser.

    Learning rates are zero, so that every step does the same work. A step of a method with separate models is that
    of K models, each on its own loss. A task's steps run in the precision of its training. Rows have, with times in
    seconds and memory in bytes:

    - labels `workload`, `K`, `P` (shared parameters), `method`: a method (`NAME refresh=N` where it keeps weights,
      `NAME wrt=representation` where it does not see the gradients of parameters), or
      in parentheses something to compare with (`PLAIN`, `GRADS`, `KEPT`, `TORCHJD`);
    - ratios: `throughput/uniform`, steps (and so tokens) in a second by those of `uniform`; and of step times
      `/uniform`, its inverse, `/plain sum`, `/K x autograd.grad`;
    - seconds `step`;
    - bytes `peak`: growth beyond model and batches; the Jacobian, the gradients and what the optimiser remembers
      included;
    - bytes ratios `(peak - uniform)/4KP`, what a method needs beyond `uniform` in units of a K x P matrix of float32,
      and `peak/K graphs kept`.

    Args:
        shapes: built-in workloads, of `workloads.SHAPES`; none if only a task is wanted.
        objectives: the numbers K of objectives. By default 4 and 8 in the built-in workloads, and all in a task's
            batch, of which smaller numbers take the first ones.
        methods: registry names; by default all that can be used. `uniform` is always measured.
        task: also time the steps of this task, on its first batch.
        variant: of the task; by default its first.
        protocol: of the task; by default the variant's.
        overrides: dotted keys of the protocol to new values.
        data_root: the folder of the real data sets; None for MTLBENCH_DATA. The record does not have it.
        granularity: of the methods that have groups.
        refresh: n: methods that weigh by Gramians do so in every n-th step (`Backward`). Times are means over n steps.
        wrt: `representation`: methods that need gradients see those with respect to what all heads read (`Backward`).
        scale: of the built-in workloads.
        device: a torch device.
        repeats: samples of each subject.
        sample_seconds: a sample repeats its call until it lasts about this long.
        measure_memory: also measure memory, in a process of its own for each row (seconds each).
        compare: also time TorchJD on the built-in workloads, if it is installed.
        plugins: files that the memory processes must load to know the methods.
        progress: told of every sample.

    Raises:
        UsageError: an unknown name, a number below 1, more objectives than the task's batch holds, or nothing to time.
        DataMissing: the task's data are not there.
    """
    arguments = {key: value for key, value in locals().items() if key not in ("progress", "scale")}
    if wrt not in WRT:
        raise unknown("wrt", wrt, WRT)
    names = list(dict.fromkeys(["uniform", *(registry.methods.names() if methods is None else methods)]))
    for name in names:
        registry.methods.load(name)
    counts = _BUILT_IN_OBJECTIVES if objectives is None else objectives
    if min([repeats, refresh, *counts]) < 1 or not ((shapes and counts) or task):
        raise UsageError("a benchmark needs a workload or a task, and each number at least 1.")
    chosen = [workloads.built_in(shape, k, scale, device) for shape in shapes for k in counts]
    peer = peers.version() if compare and chosen and peers.autojac() else None
    count = len(chosen) * (len(names) + 2 + (peer is not None))
    if task is not None:
        of_task = partial(workloads.of_task, task, variant, protocol, overrides or {}, data_root, device)
        of_tasks = [of_task(k) for k in objectives] if objectives else [of_task()]
        chosen += of_tasks
        count += len(of_tasks) * (len(names) + 2)
    where = torch.device(device)
    synchronize = partial(torch.cuda.synchronize, where) if where.type == "cuda" else lambda: None
    sampler = Sampler(synchronize, sample_seconds=sample_seconds, warm=False)
    advance = _Advance(progress, count * (repeats + measure_memory))
    rows: list[Row] = []
    for settings, workload in zip(chosen, workloads.build_all(chosen), strict=True):
        cell: dict[str, str | int] = {
            "workload": workload.label,
            "K": workload.objectives,
            "P": workload.parameters,
        }
        subjects, notes = _subjects(workload, names, granularity, refresh, wrt, peer is not None)
        samples = sampler.interleave(subjects, repeats, partial(advance, cell))
        samples = {name: [seconds / period(name, refresh) for seconds in samples[name]] for name in samples}
        del subjects  # before other processes need the memory
        peaks: dict[str, int] = {}
        for subject in samples if measure_memory else ():
            question: dict[str, Any] = {"settings": settings, "subject": subject, "granularity": granularity}
            question |= {"refresh": refresh, "wrt": wrt}
            try:
                peaks[subject] = memory.peak("mtlbench.bench.stepping:prepared", question, device, plugins)
            except RuntimeError as error:
                notes[subject] = str(error)
            advance(cell, f"{subject} memory")
        labels = {subject: _label(subject, refresh, wrt) for subject in {**samples, **notes}}
        rows += [_row(cell, subject, label, samples, peaks, notes) for subject, label in labels.items()]
    return Bench(
        kind="steps",
        settings={**{k: v for k, v in arguments.items() if k != "data_root"}, "scale": asdict(scale)},
        environment=Environment.here(where, peer),
        disturbed=sampler.disturbed_share,
        rows=rows,
    )


def period(subject: str, refresh: int) -> int:
    """How many steps of `subject` differ in cost: `refresh` for methods that keep weights, 1 for everything else."""
    known = subject in registry.methods.entries()
    return refresh if known and issubclass(registry.methods.load(subject), GramianWeighting) else 1


def _label(subject: str, refresh: int, wrt: Wrt) -> str:
    """A subject as its row is called."""
    sees = subject in registry.methods.entries() and issubclass(
        registry.methods.load(subject), GramianWeighting | JacobianAggregator
    )
    kept = f"{subject} refresh={refresh}" if period(subject, refresh) > 1 else subject
    return f"{kept} wrt={wrt}" if sees and wrt != "parameters" else kept


def step(
    workload: Workload,
    subject: str,
    granularity: str,
    watched: bool = False,
    refresh: int = 1,
    wrt: Wrt = "parameters",
) -> Step:
    """A whole step of `subject`, on a model of its own; or `period` steps.

    Args:
        workload: what is trained.
        subject: a method's registry name, or `PLAIN`, `GRADS`, `KEPT`, `TORCHJD`.
        granularity: of the methods that have groups.
        watched: also sum up what the method does to the gradients.
        refresh: methods that weigh by Gramians do so in every so many steps.
        wrt: what methods that need gradients see those with respect to.

    Raises:
        UsageError: the method does not fit the workload.
    """
    references = {PLAIN: _Training.plain, GRADS: _Training.autograd, TORCHJD: _Training.torchjd}
    if subject in references:
        return partial(_all, workload, [partial(references[subject], _Training(workload))])
    method = building.method("gradvac" if subject == KEPT else subject)
    method.steps_per_epoch = 1  # those that count epochs are soon past their first ones
    if method.separate_models:
        trainings = [_Training(workload, [k]) for k in range(workload.objectives)]
        return partial(_all, workload, [training.plain for training in trainings])
    training = _Training(workload)
    steps = period(subject, refresh)
    shared, count = workload.shared(training.model), workload.objectives
    if on_representation := wrt == "representation" and not isinstance(method, LossWeighting) and subject != KEPT:
        workload.represented(training.model, range(count))  # one that has none says so
    wrt = "representation" if on_representation else "parameters"
    backward = Backward(method, shared, granularity, count, refresh=steps, wrt=wrt)
    if watched:
        backward.watch()
    if on_representation:
        return partial(_all, workload, steps * [partial(training.at_representation, backward)])
    return partial(_all, workload, steps * [partial(training.combined, backward, subject == KEPT)])


def prepared(
    settings: dict[str, Any], subject: str, granularity: str, refresh: int = 1, wrt: Wrt = "parameters"
) -> memory.Action:
    """A step, to measure its memory; a small one has run, so that libraries are loaded."""
    workload = workloads.build(settings)
    shape = "heads" if workload.one_graph else "separate"
    smallest = workloads.built_in(shape, workload.objectives, SMALLEST, settings["device"])
    step(workloads.build(smallest), subject, "whole_model")()
    return memory.Action(step(workload, subject, granularity, refresh=refresh, wrt=wrt))


def _all(workload: Workload, calls: Sequence[Step]) -> None:
    for call in calls:
        with workload.precision():
            call()


class _Training:
    """A new model with its optimiser, and the ways to make a step of it."""

    def __init__(self, workload: Workload, objectives: Sequence[int] | None = None) -> None:
        self._workload = workload
        self._objectives = range(workload.objectives) if objectives is None else objectives
        self.model = workload.model()
        self._optimizer = workload.optimizer(self.model)

    def plain(self) -> None:
        losses = self._start()
        if isinstance(losses, Sequence):
            torch.stack(list(losses)).sum().backward()
        else:
            for loss in losses:
                loss.backward()
                del loss
        self._finish()

    def autograd(self) -> None:
        losses = list(self._start())
        parameters = list(self.model.parameters())
        for row, loss in enumerate(losses):
            keep = row < len(losses) - 1
            gradients = torch.autograd.grad(loss, parameters, retain_graph=keep, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        self._finish()

    def combined(self, backward: Backward, keep_graphs: bool) -> None:
        losses = self._start()
        if isinstance(backward.method, GramianWeighting) and (more := len(backward.method.batch_shares) - 1):
            others = (self._workload.losses(self.model, self._objectives) for _ in range(more))
            backward(itertools.chain([losses], others))
        else:
            backward(list(losses) if keep_graphs else losses)
        self._finish()
        if isinstance(backward.method, LossWeighting) and backward.method.reviews:
            with torch.no_grad():
                backward.review(self._workload.losses(self.model, self._objectives))

    def at_representation(self, backward: Backward) -> None:
        self._optimizer.zero_grad()
        losses, representation = self._workload.represented(self.model, self._objectives)
        backward(losses, representation=representation)
        self._finish()

    def torchjd(self) -> None:
        autojac, aggregator = peers.autojac(), peers.aggregator("gradvac")
        workload = self._workload
        assert isinstance(workload, BuiltIn)
        shared = [parameter for _, parameter in workload.shared(self.model)]
        self._optimizer.zero_grad()
        if workload.one_graph:
            features = workload.features(self.model)
            autojac.mtl_backward(workload.head_losses(self.model, features, self._objectives), features)
        else:
            autojac.backward(list(workload.losses(self.model, self._objectives)))
        autojac.jac_to_grad(shared, aggregator)
        self._finish()

    def _start(self) -> Losses:
        self._optimizer.zero_grad()
        return self._workload.losses(self.model, self._objectives)

    def _finish(self) -> None:
        if self._workload.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self._workload.clip_norm)
        self._optimizer.step()


class _Advance:
    """Counts finished samples."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, cell: dict[str, str | int], subject: str) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total, f"{cell['workload']} K={cell['K']} {subject}")


def _subjects(
    workload: Workload, methods: Sequence[str], granularity: str, refresh: int, wrt: Wrt, compare: bool
) -> tuple[dict[str, Step], dict[str, str]]:
    """What is timed on a workload, and why some methods are not."""
    references = [PLAIN, GRADS if workload.one_graph else KEPT]
    if compare and isinstance(workload, BuiltIn):
        references.append(TORCHJD)
    subjects: dict[str, Step] = {}
    notes: dict[str, str] = {}
    for subject in [*methods, *references]:
        try:
            subjects[subject] = step(workload, subject, granularity, refresh=refresh, wrt=wrt)
        except UsageError as error:
            notes[subject] = str(error)
    return subjects, notes


def _row(
    cell: dict[str, str | int],
    subject: str,
    label: str,
    samples: dict[str, list[float]],
    peaks: dict[str, int],
    notes: dict[str, str],
) -> Row:
    own = {"step": samples[subject]} if subject in samples else {}
    others = {"uniform": "uniform", "plain sum": PLAIN, "K x autograd.grad": GRADS}
    own |= {short: samples[long] for short, long in others.items() if long in samples}
    ratios = {"throughput/uniform": Spread.of(own, "uniform", "step")}
    ratios |= {f"/{short}": Spread.of(own, "step", short) for short in others}
    return Row(
        labels={**cell, "method": label},
        ratios=ratios,
        seconds=medians(own, ["step"]),
        bytes={"peak": peaks.get(subject)},
        bytes_ratios=_memory_ratios(cell, subject, peaks),
        samples=own,
        note=notes.get(subject, ""),
    )


def _memory_ratios(cell: dict[str, str | int], subject: str, peaks: dict[str, int]) -> dict[str, float | None]:
    peak, uniform, kept = peaks.get(subject), peaks.get("uniform"), peaks.get(KEPT)
    matrix = 4 * int(cell["K"]) * int(cell["P"])
    return {
        "(peak - uniform)/4KP": None if peak is None or uniform is None else (peak - uniform) / matrix,
        "peak/K graphs kept": peak / kept if peak is not None and kept else None,
    }
