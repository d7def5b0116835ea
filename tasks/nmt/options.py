"""What the task reads from a protocol's `options`."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic

from mtlbench.catalogue.protocol import Protocol
from mtlbench.strict import Strict, refused

Direction = Literal["x2en", "en2x", "both"]


class Options(Strict):
    """Data, batches, model and decoding."""

    direction: Direction = "x2en"
    """Into the central language, out of it, or both: then K doubles."""
    languages: tuple[str, ...] | None = None
    """Codes of the languages, each once; None for all that the data has."""
    vocabulary: Annotated[int, pydantic.Field(ge=300)]
    """Subwords, shared by all languages."""
    subword_sentences: Annotated[int, pydantic.Field(ge=100)] = 100_000
    """Sentences of the training split that the subwords are learnt from, at most."""
    temperature: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
    """T in p_i proportional to D_i^(1/T), the share of language i in training and in learning the subwords."""
    objectives_per_step: Annotated[int, pydantic.Field(ge=1)] | None = None
    """Objectives that are sampled for a step; None, or no fewer than there are, for all of them in every step."""
    steps_per_epoch: Annotated[int, pydantic.Field(ge=1)]
    """An epoch is so many steps, whatever the data: between two evaluations lie `evaluate_every` of them."""
    max_length: Annotated[int, pydantic.Field(ge=4)]
    """Subwords with end and tag; longer training pairs are counted and left out."""
    size: Literal["mini", "tiny", "small", "base", "big"]
    dropout: Annotated[float, pydantic.Field(ge=0, lt=1)]
    label_smoothing: Annotated[float, pydantic.Field(ge=0, lt=1)]
    beams: Annotated[int, pydantic.Field(ge=1)] = 4
    """1 decodes greedily."""
    length_penalty: Annotated[float, pydantic.Field(ge=-10, le=10)] = 1.0
    """alpha of `decoding`."""
    high_resource: Annotated[int, pydantic.Field(ge=1)] = 10_000
    """Training pairs from which on a language belongs to the group `hrl`; the others are `lrl`."""
    sentences: dict[str, Annotated[int, pydantic.Field(ge=1)]] = pydantic.Field(default_factory=dict)
    """Split -> how many of its sentences are scored, spread evenly over it; all where it is not named."""
    leave_out: tuple[str, ...] = ()
    """Extra test sets that are not scored."""


def options(protocol: Protocol) -> Options:
    """The validated options; raises `UsageError` that names the key."""
    try:
        return Options.model_validate(protocol.options)
    except pydantic.ValidationError as error:
        raise refused(error, "protocol.options.") from error
