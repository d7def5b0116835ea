"""The speed of fine-tuning: whole steps of the task against a plain loop of `transformers` on the same batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated

import pydantic
import torch
from torch import Tensor, nn

import mtlbench
from mtlbench.bench.result import Bench, Environment, Progress, Row, Spread, medians
from mtlbench.bench.sampling import Sampler
from mtlbench.catalogue import building, data
from mtlbench.catalogue.variants import resolve
from mtlbench.cells.words import read_words
from mtlbench.errors import UsageError
from mtlbench.strict import Strict, refused

from . import XTREME
from .encoders import quiet
from .encoding import IGNORED, Batch
from .tagging.problem import Tagging

try:
    from transformers import AutoConfig, AutoModelForTokenClassification
except ImportError as error:
    raise UsageError('The task xtreme needs transformers: pip install "mtlbench[nlp]".') from error

PLAIN = "transformers"
"""The loop that others are compared with."""
BATCHES = 8
"""Different steps of a sample, one after the other."""

Count = Annotated[int, pydantic.Field(ge=1)]


class Settings(Strict):
    """What `mtlbench bench xtreme` reads from its words."""

    variant: str = "families-pos"
    """One that tags."""
    encoder: str = "tiny"
    K: Annotated[int, pydantic.Field(ge=2)] = 8
    """The first so many languages."""
    sentences: Annotated[tuple[Count, ...], pydantic.Field(min_length=1)] = (8,)
    """Of a language in a step; every number is measured."""
    method: tuple[str, ...] = ("uniform", "gradvac")
    granularity: str = "whole_model"
    repeats: Count = 5
    device: Annotated[str, pydantic.Field(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"


def bench(words: Sequence[str], progress: Progress | None = None) -> Bench:
    """Time whole training steps of K languages: forward and backward passes, clipping, AdamW.

    The plain loop is `AutoModelForTokenClassification` with the encoder's configuration: for each language
    `model(**batch).loss.backward()`, then the same clipping and the same optimiser. Weights are random, which no time
    depends on; batches are made beforehand. Rows have, with times in seconds of a step:

    - labels `method`, `K`, `sentences`, `subwords` (the mean of a step, padding not counted), `parameters`;
    - ratios `speed/transformers` and `speed/uniform`: subwords per second against the plain loop and against `uniform`;
    - seconds `step`.

    Args:
        words: `key=value`, of the keys of `Settings`.
        progress: told of every sample.

    Raises:
        UsageError: an unknown key, a bad value, a variant that is no tagging, fewer than K languages.
    """
    settings = _settings(words)
    device = torch.device(settings.device)
    synchronize = partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None
    sampler = Sampler(synchronize, 0.0)
    done = 0

    def tell(what: str) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, len(settings.sentences) * (1 + len(_methods(settings))) * settings.repeats, what)

    rows = [row for sentences in settings.sentences for row in _rows(settings, sentences, device, sampler, tell)]
    return Bench(
        kind="fine-tuning",
        settings=settings.model_dump(),
        environment=Environment.here(device, None),
        disturbed=sampler.disturbed_share,
        rows=rows,
    )


def _methods(settings: Settings) -> list[str]:
    return list(dict.fromkeys(("uniform", *settings.method)))


def _rows(
    settings: Settings, sentences: int, device: torch.device, sampler: Sampler, tell: Callable[[str], object]
) -> list[Row]:
    """The plain loop and every method, with so many sentences of a language in a step."""
    task = _task(settings, sentences, device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        batches = _batches(task)
        calls: dict[str, Callable[[], object]] = {PLAIN: _plain(task, batches)}
        for name in _methods(settings):
            calls[name] = _step(task, name, settings.granularity, batches)
    found = sampler.interleave(calls, settings.repeats, tell)
    samples = {name: [seconds / BATCHES for seconds in found[name]] for name in calls}
    subwords = sum(int(batch.mask.sum()) for step in batches for batch in step.values()) / len(batches)
    return [
        Row(
            labels={
                "method": name,
                "K": settings.K,
                "sentences": sentences,
                "subwords": round(subwords),
                "parameters": int(task.facts["parameters"]),
            },
            ratios={
                f"speed/{other}": None if other == name else Spread.of(samples, other, name)
                for other in (PLAIN, "uniform")
            },
            seconds=medians({"step": samples[name]}, {"step": "step"}),
            samples={"step": samples[name], PLAIN: samples[PLAIN], "uniform": samples["uniform"]},
        )
        for name in calls
    ]


def _task(settings: Settings, sentences: int, device: torch.device) -> XTREME:
    changed = {"batch_size": sentences, "options.encoder": settings.encoder}
    variant, protocol = resolve("xtreme", settings.variant, None, changed)
    protocol = protocol.model_copy(update={"options": {**protocol.options, "pretrain_steps": 0}})
    languages = XTREME(variant, protocol, data.data_root(), device).problem.languages
    if len(languages) < settings.K:
        raise UsageError(f"K={settings.K} is too many: xtreme/{variant} has {len(languages)} languages.")
    chosen = {**protocol.options, "languages": languages[: settings.K]}
    task = XTREME(variant, protocol.model_copy(update={"options": chosen}), data.data_root(), device)
    if not isinstance(task.problem, Tagging):
        raise UsageError(f"variant={settings.variant} is no tagging, which alone is timed: take udpos or panx.")
    return task


def _batches(task: XTREME) -> list[dict[int, Batch]]:
    steps = task.batches(0, torch.Generator().manual_seed(0))
    return [next(steps) for _ in range(BATCHES)]


def _plain(task: XTREME, batches: Sequence[dict[int, Batch]]) -> Callable[[], object]:
    """The loop that people write."""
    assert isinstance(task.problem, Tagging)
    encoder = task.problem.encoder
    with quiet():
        config = AutoConfig.from_pretrained(encoder.folder, num_labels=len(task.problem.tags), local_files_only=True)
        model = AutoModelForTokenClassification.from_config(config).to(task.problem.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    given = [[(b.ids, b.mask, _labels(b)) for b in step.values()] for step in batches]

    def run() -> None:
        for step in given:
            optimizer.zero_grad()
            for ids, mask, labels in step:
                model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    return run


def _labels(batch: Batch) -> Tensor:
    """(N, T) labels, as `transformers` takes them."""
    flat = torch.full_like(batch.ids, IGNORED).flatten()
    flat[batch.places] = batch.labels
    return flat.view_as(batch.ids)


def _step(task: XTREME, name: str, granularity: str, batches: Sequence[dict[int, Batch]]) -> Callable[[], object]:
    """The steps of the task under a method, as the runner makes them."""
    model = task.model().to(task.problem.device).train()
    objectives = range(len(task.objectives))
    backward = mtlbench.Backward(
        building.method(name), task.shared(model), granularity=granularity, objectives=len(objectives)
    )
    optimizer = torch.optim.AdamW([*model.parameters(), *backward.method.parameters()], 1e-4)

    def run() -> None:
        for step in batches:
            optimizer.zero_grad()
            backward(task.losses(model, step, objectives))
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    return run


def _settings(words: Sequence[str]) -> Settings:
    axes = read_words(words, Settings.model_fields)
    given: dict[str, object] = {}
    for key, values in axes.items():
        several = key in ("method", "sentences")
        if len(values) != 1 and not several:
            raise UsageError(f"{key} takes one value, not {len(values)}.")
        given[key] = tuple(values) if several else values[0]
    try:
        return Settings.model_validate(given)
    except pydantic.ValidationError as error:
        raise refused(error) from error
