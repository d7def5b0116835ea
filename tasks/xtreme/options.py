"""What the task reads from a protocol's `options`."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic

from mtlbench.catalogue.protocol import Protocol
from mtlbench.strict import Strict, refused

Count = Annotated[int, pydantic.Field(ge=1)]


class Shares(Strict):
    """In which proportion a file is cut that serves more than one split; see `corpora.parts`."""

    train: Count = 2
    val: Count = 1
    test: Count = 1


class Limits(Strict):
    """How many sentences of a split are scored in each language, spread evenly over it; None for all."""

    val: Count | None = None
    test: Count | None = None


class Answering(Strict):
    """How questions are asked and answered; the defaults are those of XTREME's scripts."""

    stride: Count = 128
    """Subwords between the beginnings of two windows of a context."""
    question_length: Count = 64
    """Subwords of a question that are kept."""
    n_best: Count = 20
    """Places of a window that are looked at as starts and as ends of answers, those with the highest scores."""
    length: Count = 30
    """Subwords of an answer at most."""


class Options(Strict):
    """Data, encoder, heads and batches."""

    languages: tuple[str, ...] | None = None
    """Codes of the languages, each once; None for all that the data has."""
    encoder: Annotated[str, pydantic.Field(min_length=1)] = "tiny"
    """`tiny`, which is made from the training text; a folder with a checkpoint; or a name on the Hugging Face hub."""
    heads: Literal["shared", "per_language"] = "shared"
    """One linear head for all languages, or one for each."""
    max_length: Annotated[int, pydantic.Field(ge=8)]
    """Subwords of a window with the two special ones; longer sentences are cut at words and scored whole."""
    steps_per_epoch: Count | None = None
    """None for one pass over the language with the most training windows."""
    high_resource: Count = 1000
    """Training sentences from which on a language belongs to the group `hrl`; the others are `lrl`."""
    retrieval: Literal["cosine", "margin"] = "cosine"
    """How translations are looked for: by cosine, or by its ratio to the mean over the nearest neighbours' cosines."""
    layer: Annotated[int, pydantic.Field(ge=0)] | None = None
    """The block of the encoder whose answers are averaged for retrieval, from 1; 0 for the embeddings before the first;
    None for the last."""
    special: bool = False
    """Whether the two special subwords count in that average."""
    answers: Answering = Answering()
    """For questions."""
    sentences: Limits = Limits()
    shares: Shares = Shares()
    """How a file is cut that has to serve more than one split, because another is missing or has no labels."""
    vocabulary: Annotated[int, pydantic.Field(ge=200)] = 2000
    """Subwords of `tiny`."""
    bibles: Annotated[int, pydantic.Field(ge=0)] = 0
    """Verses of each language's Bible that `tiny` is made from beside the training text, spread evenly; languages
    without one below the data root have none."""
    pretrain_steps: Annotated[int, pydantic.Field(ge=0)] = 0
    """Steps of masked language modelling that `tiny` has behind it; 0 for random weights."""
    pretrain_batch: Count = 64
    """Sentences of such a step."""
    pretrain_lr: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)] = 1e-3
    """Its highest learning rate."""
    pretrain_seed: Annotated[int, pydantic.Field(ge=0)] = 0
    """Of weights, masks and order; the same encoder serves every seed of a grid."""
    temperature: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)] = 2.0
    """T in p_i proportional to D_i^(1/T), the share of language i in the text that `tiny` is made from."""


def options(protocol: Protocol) -> Options:
    """The validated options; raises `UsageError` that names the key."""
    try:
        return Options.model_validate(protocol.options)
    except pydantic.ValidationError as error:
        raise refused(error, "protocol.options.") from error
