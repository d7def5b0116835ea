"""The memory of the exact median, and the share that loading and augmenting views have in a training step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray

import mtlbench
from mtlbench.bench import memory
from mtlbench.bench.result import Bench, Environment, Progress, Row, Spread, medians
from mtlbench.bench.sampling import Sampler
from mtlbench.catalogue import building
from mtlbench.cells.words import read_words
from mtlbench.errors import UsageError
from mtlbench.strict import Strict, refused

from . import LOSSES
from .augmentation import augment
from .median import Median
from .models import build
from .views import CLASSES, Batch, Views

PART = 8 * 288 * 384
"""Values that come together: those of eight images of the published size."""
POOL = 64
"""Views that batches are drawn from."""
SCALES = (1.0, 1.2, 1.5)

Count = Annotated[int, pydantic.Field(ge=1)]
Side = Annotated[int, pydantic.Field(ge=16)]
Calls = dict[str, Callable[[], object]]
Tell = Callable[[str], object]


class Settings(Strict):
    """What `mtlbench bench nyuv2` reads from its words."""

    part: tuple[Literal["median", "input"], ...] = ("median", "input")
    values: Count = 654 * 288 * 384
    """Of the median: the pixels of the official test set at the published size."""
    views: Annotated[int, pydantic.Field(ge=2)] = 8
    """In a batch of the training step."""
    height: Side = 96
    width: Side = 128
    trunk: str = "small"
    method: str = "uniform"
    repeats: Count = 5
    device: Annotated[str, pydantic.Field(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"
    """Of the training step; the median is taken on the CPU."""
    memory: bool = True
    """Also measure memory, in a process of its own for each number."""


def bench(words: Sequence[str], progress: Progress | None = None) -> Bench:
    """Measure the parts that are asked for, a row each; times in seconds, memory in bytes.

    `median` is that of angles that come batch by batch, as metrics take it (`streaming`), and by joining them and
    calling NumPy (`joined`). Memory is all growth, the values included:

    - labels `part`, `values`;
    - ratios `joined/streaming`; seconds and bytes `streaming`, `joined`; bytes ratio `joined/streaming memory`.

    `input` is the making of an augmented batch, as training takes it from arrays in memory, beside a whole step: that,
    forward and backward passes under a method, and Adam:

    - labels `part`, `trunk`, `method`, `views`, `size`;
    - ratios `input/step`, which is a share; seconds `input`, `step`.

    Args:
        words: `key=value`, of the keys of `Settings`.
        progress: told of every sample.

    Raises:
        UsageError: an unknown key, a bad value, an unknown trunk or method.
    """
    settings = _settings(words)
    device = torch.device(settings.device)
    synchronize = partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None
    samplers = {"median": Sampler(synchronize, 0.0, warm=False), "input": Sampler(synchronize, 0.2)}
    parts = tuple(dict.fromkeys(settings.part))
    total = 2 * settings.repeats * len(parts) + 2 * (settings.memory and "median" in parts)
    done = 0

    def tell(what: str) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total, what)

    measure = {"median": _median, "input": _input}
    rows = [measure[part](settings, samplers[part], tell) for part in parts]
    kept = sum(samplers[part].kept for part in parts)
    return Bench(
        kind="dense prediction",
        settings=settings.model_dump(),
        environment=Environment.here(device, None),
        disturbed=sum(samplers[part].disturbed for part in parts) / max(1, kept),
        rows=rows,
    )


# --- the median


def streaming(count: int) -> float:
    """The median of `angles(count)` as metrics take it."""
    found = Median()
    for part in angles(count):
        found.add(part)
    return found.result()


def joined(count: int) -> float:
    """The same by one array of all values, which NumPy copies to sort parts of it."""
    return float(np.median(np.concatenate(list(angles(count)))))


def angles(count: int) -> Iterator[NDArray[np.float32]]:
    """`count` float32 values from 0 to 180, in parts; cheap to make, and different from part to part."""
    first = 90 * np.random.default_rng(0).random(min(count, PART), dtype=np.float32) ** 2
    for start in range(0, count, PART):
        part = first[: count - start]
        yield part * np.float32(1 + start / count)


WAYS: dict[str, Callable[[int], float]] = {"streaming": streaming, "joined": joined}


def prepared(way: str, count: int) -> memory.Action:
    """A call of one of the ways, to measure its memory; a short one has run, so that libraries are loaded."""
    WAYS[way](2)
    return memory.Action(partial(WAYS[way], count))


def _median(settings: Settings, sampler: Sampler, tell: Tell) -> Row:
    calls: Calls = {way: partial(call, settings.values) for way, call in WAYS.items()}
    samples = sampler.interleave(calls, settings.repeats, tell)
    peaks: dict[str, int] = {}
    note = ""
    for way in WAYS if settings.memory else ():
        try:
            peaks[way] = memory.peak(f"{__name__}:prepared", {"way": way, "count": settings.values}, "cpu")
        except RuntimeError as error:
            note = str(error)
        tell(f"{way} memory")
    return Row(
        labels={"part": "median", "values": settings.values},
        ratios={"joined/streaming": Spread.of(samples, "joined", "streaming")},
        seconds=medians(samples, WAYS),
        bytes={way: peaks.get(way) for way in WAYS},
        bytes_ratios={
            "joined/streaming memory": peaks["joined"] / peaks["streaming"] if len(peaks) == len(WAYS) else None
        },
        samples=samples,
        note=note,
    )


# --- the input of training


def _input(settings: Settings, sampler: Sampler, tell: Tell) -> Row:
    with torch.random.fork_rng(devices=[settings.device] if settings.device != "cpu" else []):
        torch.manual_seed(0)
        batch = Batches(settings)
        calls: Calls = {"input": batch, "step": training(settings, batch)}
    samples = sampler.interleave(calls, settings.repeats, tell)
    return Row(
        labels={
            "part": "input",
            "trunk": settings.trunk,
            "method": settings.method,
            "views": settings.views,
            "size": f"{settings.height}x{settings.width}",
        },
        ratios={"input/step": Spread.of(samples, "input", "step")},
        seconds=medians(samples, calls),
        samples=samples,
    )


class Batches:
    """A call makes the next batch, from views of noise: images of bytes, some pixels without a known truth."""

    def __init__(self, settings: Settings) -> None:
        self._device, self._size = torch.device(settings.device), settings.views
        noise = np.random.default_rng(0)
        shape = (max(POOL, settings.views), settings.height, settings.width)
        images = noise.integers(0, 256, (shape[0], 3, *shape[1:]), dtype=np.uint8)
        labels = noise.integers(-1, len(CLASSES), shape, dtype=np.int8)
        depths = (1 + noise.random(shape, dtype=np.float32)) * (labels >= 0)
        normals = noise.normal(size=(shape[0], 3, *shape[1:])).astype(np.float32)
        normals *= (labels >= 0)[:, None] / np.linalg.norm(normals, axis=1, keepdims=True)
        self._views = Views(list(images), list(labels), list(depths), list(normals))
        self._generator = torch.Generator().manual_seed(0)

    def __call__(self) -> Batch:
        """Drawn, read, moved to the device and augmented, as the task does it."""
        chosen = torch.randperm(len(self._views), generator=self._generator)[: self._size].tolist()
        batch = Batch(*(values.to(self._device) for values in self._views.batch(chosen)))
        return augment(batch, SCALES, True, self._generator)


def training(settings: Settings, batches: Callable[[], Batch]) -> Callable[[], None]:
    """A training step on the next batch, as the runner makes it."""
    model: Any = build(settings.trunk).to(settings.device).train()
    backward = mtlbench.Backward(building.method(settings.method), model.shared(), objectives=len(LOSSES))
    optimizer = torch.optim.Adam([*model.parameters(), *backward.method.parameters()], 1e-4)

    def step() -> None:
        batch = batches()
        optimizer.zero_grad()
        truths = (batch.labels, batch.depths, batch.normals)
        predictions = model(batch.images, tuple(LOSSES))
        backward([loss(p, truth) for loss, p, truth in zip(LOSSES.values(), predictions, truths, strict=True)])
        optimizer.step()

    return step


def _settings(words: Sequence[str]) -> Settings:
    axes = read_words(words, Settings.model_fields)
    single = {}
    for key, values in axes.items():
        if len(values) != 1 and key != "part":
            raise UsageError(f"{key} takes one value, not {len(values)}.")
        single[key] = tuple(values) if key == "part" else values[0]
    try:
        return Settings.model_validate(single)
    except pydantic.ValidationError as error:
        raise refused(error) from error
