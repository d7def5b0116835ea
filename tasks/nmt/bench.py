"""The speed and memory of decoding: the decoder's cache against running the decoder over all that is written."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

import pydantic
import torch
from torch import Tensor

from mtlbench.bench import memory
from mtlbench.bench.result import Bench, Environment, Progress, Row, Spread, medians
from mtlbench.bench.sampling import Sampler
from mtlbench.cells.words import read_words
from mtlbench.errors import UsageError
from mtlbench.strict import Strict, refused

from .decoding import Hypothesis, decode
from .model import SIZES, Transformer
from .sampling import Symbols

SYMBOLS = Symbols(pad=0, bos=1, eos=2)
WAYS = {"cached": True, "uncached": False}

Count = Annotated[int, pydantic.Field(ge=1)]


class Settings(Strict):
    """What `mtlbench bench nmt` reads from its words."""

    size: Literal["tiny", "small", "base", "big"] = "tiny"
    length: Count = 40
    """Subwords of every source and every translation, the end among them."""
    beams: Count = 4
    """Of beam search, which is timed beside greedy decoding."""
    sentences: Count = 32
    """In the batch."""
    vocabulary: Annotated[int, pydantic.Field(ge=len(SYMBOLS) + 1)] = 8000
    repeats: Count = 5
    device: Annotated[str, pydantic.Field(pattern=r"^(cpu|cuda(:\d+)?)$")] = "cpu"
    memory: bool = True
    """Also measure memory, in a process of its own for each number."""


class Endless(Transformer):
    """A Transformer that would rather write anything than the end."""

    def logits(self, features: Tensor) -> Tensor:
        """Those of the model, that of the end lowered out of reach."""
        logits = super().logits(features)
        logits[..., SYMBOLS.eos] = -1e4
        return logits


def bench(words: Sequence[str], progress: Progress | None = None) -> Bench:
    """Time the decoding of one batch of random sources by a Transformer of random weights, in float32.

    Translations end at `length` and not before, so that both ways write the same number of subwords. Rows have, with
    times in seconds and memory in bytes:

    - labels `search` (`greedy` or `beam`), `beams`, `length`, `sentences`;
    - ratios `uncached/cached`;
    - seconds `cached`, `uncached`: of the batch;
    - bytes `cached`, `uncached`: growth beyond model and sources, and bytes ratio `uncached/cached memory`.

    Args:
        words: `key=value`, of the keys of `Settings`.
        progress: told of every sample.

    Raises:
        UsageError: an unknown key or a bad value; nothing has been measured.
    """
    settings = _settings(words)
    device = torch.device(settings.device)
    sampler = Sampler(partial(torch.cuda.synchronize, device) if device.type == "cuda" else _nothing, 0.0, warm=False)
    rows = []
    searches = {"greedy": 1} | ({"beam": settings.beams} if settings.beams > 1 else {})
    total = len(searches) * len(WAYS) * (settings.repeats + settings.memory)
    done = 0

    def tell(search: str, what: str) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total, f"{search} {what}")

    for search, beams in searches.items():
        calls = {way: Decoding(settings, beams, cached) for way, cached in WAYS.items()}
        samples = sampler.interleave(calls, settings.repeats, partial(tell, search))
        peaks: dict[str, int] = {}
        note = ""
        for way, cached in WAYS.items() if settings.memory else ():
            question = {"settings": settings.model_dump(), "beams": beams, "cached": cached}
            try:
                peaks[way] = memory.peak(f"{__name__}:prepared", question, settings.device)
            except RuntimeError as error:
                note = str(error)
            tell(search, f"{way} memory")
        rows.append(
            Row(
                labels={"search": search, "beams": beams, "length": settings.length, "sentences": settings.sentences},
                ratios={"uncached/cached": Spread.of(samples, "uncached", "cached")},
                seconds=medians(samples, WAYS),
                bytes={way: peaks.get(way) for way in WAYS},
                bytes_ratios={
                    "uncached/cached memory": peaks["uncached"] / peaks["cached"] if len(peaks) == len(WAYS) else None
                },
                samples=samples,
                note=note,
            )
        )
    return Bench(
        kind="decoding",
        settings=settings.model_dump(),
        environment=Environment.here(device, None),
        disturbed=sampler.disturbed_share,
        rows=rows,
    )


class Decoding:
    """A model and a batch of sources; a call decodes it.

    Args:
        settings: size of model and batch.
        beams: 1 is greedy.
        cached: whether the decoder remembers what it has computed.
    """

    def __init__(self, settings: Settings, beams: int, cached: bool) -> None:
        self._beams, self._cached, self._length = beams, cached, settings.length
        device = torch.device(settings.device)
        generator = torch.Generator().manual_seed(0)
        shape = (settings.sentences, settings.length)
        source = torch.randint(len(SYMBOLS), settings.vocabulary, shape, generator=generator)
        source[:, -1] = SYMBOLS.eos
        self._source = source.to(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self._model = Endless(settings.vocabulary, SIZES[settings.size], 0.0, SYMBOLS.pad).to(device).eval()

    def __call__(self) -> list[Hypothesis]:
        """A translation of each sentence: `length` subwords, the end among them."""
        return decode(
            self._model,
            self._source,
            beams=self._beams,
            length_penalty=1.0,
            longest=self._length,
            symbols=SYMBOLS,
            cached=self._cached,
        )


def prepared(settings: dict[str, Any], beams: int, cached: bool) -> memory.Action:
    """A call of `Decoding`, to measure its memory; a short one has run, so that libraries are loaded."""
    chosen = Settings.model_validate(settings)
    Decoding(chosen.model_copy(update={"length": 2, "sentences": 1, "size": "tiny"}), beams, cached)()
    return memory.Action(Decoding(chosen, beams, cached))


def _settings(words: Sequence[str]) -> Settings:
    axes = read_words(words, Settings.model_fields)
    for key, values in axes.items():
        if len(values) != 1:
            raise UsageError(f"{key} takes one value, not {len(values)}.")
    try:
        return Settings.model_validate({key: values[0] for key, values in axes.items()})
    except pydantic.ValidationError as error:
        raise refused(error) from error


def _nothing() -> None: ...
