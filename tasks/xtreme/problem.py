"""What a problem is to the task: examples as rows of subwords, batches, a loss, scores and predictions.

One class for each kind of problem says how its examples are read, encoded, predicted and scored; what is the same for
all stands here. A row is what a batch is made of: a window of a sentence, a pair, a window of a paragraph.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mtlbench.catalogue.task import Estimate, Metric
from mtlbench.errors import UsageError

from . import encoders, pretraining
from .corpus import Corpus, Example
from .encoding import spread
from .options import Options
from .unlabelled import bibles, joined

ZERO_SHOT = "-zeroshot"
"""Ends the name of a variant that is trained on English alone."""

Scores = Mapping[str, float | Estimate]
"""Metric -> value."""


Made = TypeVar("Made")


class Problem(ABC, Generic[Example]):
    """One problem in K languages, with its encoder; everything that the task holds in memory.

    Args:
        variant: its name.
        o: the protocol's options.
        root: the data root, or None where none was given.
        device: where batches live.

    Raises:
        DataMissing: files of the corpus are not below `root`.
        UsageError: a language or encoder that does not fit, or a damaged file; names file and line.
    """

    unit: ClassVar[str]
    """What the examples are, in the plural."""
    predictions_end: ClassVar[str] = "tsv"
    """How the names of files with predictions end."""

    def __init__(self, variant: str, o: Options, root: Path | None, device: torch.device) -> None:
        self.variant = variant
        self.options = o
        self.device = device
        self.corpus = self.read(variant, root)
        self.languages = self.corpus.languages
        self.bibles: Mapping[str, int] = {}
        """Language -> verses of its Bible that `tiny` is made from."""
        if o.encoder == "tiny":
            more = bibles(root, self.text_languages, o.bibles)
            self.bibles = {name: len(verses) for name, verses in more.items()}
            text = joined(self.corpus.unlabelled, more)
            if not any(text.values()):
                raise UsageError(
                    f"encoder=tiny is made from text, and xtreme/{variant} has none to train on. Give encoder=FOLDER "
                    "or a hub's name; or protocol.options.bibles=N with Bibles in its languages below the data root."
                )
            self.encoder = pretraining.tiny(text, o)
        else:
            self.encoder = self.checkpoint()
        limits = o.sentences.model_dump()
        self.kept: Mapping[str, Mapping[str, Sequence[Example]]] = {
            split: once(
                {name: by_language[name] for name in self.languages if name in by_language},
                partial(spread, limit=limits.get(split)),
            )
            for split, by_language in self.corpus.splits.items()
        }
        """Split -> language -> examples that are trained on or scored."""
        self.trained = [k for k, name in enumerate(self.languages) if name in self.kept["train"]]
        """The languages that are trained on."""

    @abstractmethod
    def read(self, variant: str, root: Path | None) -> Corpus[Example]:
        """The examples of a variant."""

    @abstractmethod
    def metrics(self, language: str) -> tuple[Metric, ...]:
        """What a language is scored by, the main one first."""

    @abstractmethod
    def model(self, heads: int) -> nn.Module:
        """A new model with this number of heads (1: the same for all languages), and a method `shared`."""

    @abstractmethod
    def lengths(self, language: int, split: str = "train") -> NDArray[np.int64]:
        """(rows,) subwords of each row of a language."""

    @abstractmethod
    def batch(self, language: int, rows: NDArray[np.int64], split: str = "train") -> Any:
        """Rows of a language, on the device."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any, language: int) -> Tensor:
        """() the mean loss of a batch."""

    @abstractmethod
    def scores(self, model: nn.Module, split: str, language: int) -> Scores:
        """The scores of a language on a split, of all metrics; the model is in evaluation mode, gradients are off."""

    @abstractmethod
    def predictions(self, model: nn.Module, split: str, language: int) -> str:
        """What is predicted for a language on a split, as a file in XTREME's format for submissions."""

    @abstractmethod
    def text(self, example: Example) -> str:
        """An example as text, for the digest of the data: everything that training and scoring read of it."""

    @abstractmethod
    def details(self) -> dict[str, Any]:
        """What a record tells beside encoder, sources and numbers of examples: counts and baselines by language."""

    def checkpoint(self) -> encoders.Encoder:
        """What `encoder=` names, where that is not `tiny`."""
        return encoders.load(self.options.encoder, self.options.max_length)

    @property
    def text_languages(self) -> Sequence[str]:
        """The languages of its text, in which `tiny` is made from Bibles."""
        return self.languages

    @property
    def notices(self) -> Sequence[str]:
        """What people should know before training."""
        return self.corpus.notices

    def scored_on(self, language: str) -> str:
        """What the test split of a language is, where it is no test file of XTREME's; for a metric's definition."""
        source = self.corpus.sources.get(language, {}).get("test", "")
        return source and f"scored on {source}"

    def facts(self) -> dict[str, Any]:
        """What a record tells of data and encoder."""
        return {
            "encoder": {
                "name": self.encoder.told,
                "sha256": self.encoder.digest,
                "subwords": len(self.encoder.tokenizer),
                **({"verses": dict(self.bibles)} if self.bibles else {}),
            },
            "sources": {language: dict(splits) for language, splits in self.corpus.sources.items()},
            self.unit: {name: by_split(self.kept, name, len) for name in self.languages},
            **self.details(),
            **self.corpus.facts,
        }

    def groups(self, high_resource: int) -> dict[str, list[int]]:
        """The languages with at least and with fewer than so many training examples; or those that are only scored."""
        if len(self.trained) < len(self.languages):
            return {"unseen": [k for k in range(len(self.languages)) if k not in self.trained]}
        sizes = [len(self.kept["train"][name]) for name in self.languages]
        high = [k for k, size in enumerate(sizes) if size >= high_resource]
        low = [k for k in range(len(sizes)) if k not in high]
        return {"hrl": high, "lrl": low} if high and low else {}

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) over the examples of all splits, and over the encoder."""
        hashed = hashlib.sha256(self.encoder.digest.encode())
        for split, by_language in self.corpus.splits.items():
            for language, examples in by_language.items():
                hashed.update(f"\0{split}\0{language}\0".encode())
                hashed.update("\n\n".join(map(self.text, examples)).encode())
        return hashed.hexdigest()


def once(examples: Mapping[str, Any], make: Callable[[Any], Made]) -> dict[str, Made]:
    """Language -> what `make` makes of its examples, made once for languages that share them, as in zero-shot `val`."""
    made: dict[int, Made] = {}
    for own in examples.values():
        if id(own) not in made:
            made[id(own)] = make(own)
    return {language: made[id(own)] for language, own in examples.items()}


def by_split(found: Mapping[str, Mapping[str, Any]], language: str, size: Any) -> dict[str, int]:
    """Split -> the size of what a language has there."""
    return {split: size(by_language[language]) for split, by_language in found.items() if language in by_language}
