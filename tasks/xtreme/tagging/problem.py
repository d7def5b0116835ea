"""Tagging as a problem: every word of a sentence has a label, which is predicted at its first subword."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mtlbench.catalogue.task import Metric

from ..corpus import Corpus
from ..encoding import Batch, Vocabulary, Windows, padded
from ..model import Classifier
from ..options import Options
from ..problem import ZERO_SHOT, Problem, Scores, by_split, once
from . import families
from .files import TaggingFiles
from .scoring import baselines, metrics, scores
from .sentences import TAGS, Kind, Sentence

SCORED_WINDOWS = 64
"""Of a batch that is scored."""

KINDS: Mapping[str, Kind] = {"families-pos": "pos", "families-ner": "ner", "udpos": "pos", "panx": "ner"}
"""Problem -> what its tags are."""


class Scored(NamedTuple):
    """Sentences of one language in one split that are scored."""

    windows: Windows
    gold: list[Sequence[str]]


class Tagging(Problem[Sentence]):
    """Parts of speech or named entities."""

    unit = "sentences"

    def __init__(self, variant: str, o: Options, root: Path | None, device: torch.device) -> None:
        self.kind = KINDS[variant.removesuffix(ZERO_SHOT)]
        self.tags = TAGS[self.kind]
        super().__init__(variant, o, root, device)
        self._vocabulary = vocabulary = Vocabulary(self.encoder.cut, self.encoder.symbols, o.max_length)
        self._windows = {
            split: once(by_language, lambda sentences: vocabulary.windows(sentences, self.tags))
            for split, by_language in self.kept.items()
        }
        self.scored = {
            split: {
                k: Scored(self._windows[split][name], [sentence.tags for sentence in self.kept[split][name]])
                for k, name in enumerate(self.languages)
            }
            for split in ("val", "test")
        }

    def read(self, variant: str, root: Path | None) -> Corpus[Sentence]:
        """From files, or the embedded languages."""
        wanted_by, o = f"xtreme/{variant}", self.options
        if variant.startswith("families"):
            return families.load(self.kind, wanted_by, o.languages)
        problem = variant.removesuffix(ZERO_SHOT)
        return TaggingFiles(problem, root, wanted_by).load(o.languages, o.shares, problem != variant)

    def metrics(self, language: str) -> tuple[Metric, ...]:
        """F1, then accuracy."""
        return metrics(self.kind, self.scored_on(language))

    def model(self, heads: int) -> nn.Module:
        """A linear head over the first subwords."""
        return Classifier(self.encoder.model(), len(self.tags), heads)

    def lengths(self, language: int, split: str = "train") -> NDArray[np.int64]:
        """Of the windows."""
        return self._windows[split][self.languages[language]].lengths

    def batch(self, language: int, rows: NDArray[np.int64], split: str = "train") -> Batch:
        """Padded windows."""
        return padded(self._windows[split][self.languages[language]], rows, self.encoder.symbols, self.device)

    def loss(self, model: nn.Module, batch: Batch, language: int) -> Tensor:
        """The mean cross-entropy in nats over the words of the batch."""
        return functional.cross_entropy(model(batch, language), batch.labels)

    def scores(self, model: nn.Module, split: str, language: int) -> Scores:
        """See `scoring.scores`."""
        scored = self.scored[split][language]
        return scores(self.kind, scored.gold, self.predict(model, scored, language))

    def predict(self, model: nn.Module, scored: Scored, language: int) -> list[list[str]]:
        """The most probable tag of every word of some sentences."""
        windows = scored.windows
        by_window: dict[int, list[int]] = {}
        order = windows.lengths.argsort(kind="stable")[::-1]
        for start in range(0, len(order), SCORED_WINDOWS):
            rows = order[start : start + SCORED_WINDOWS]
            batch = padded(windows, rows, self.encoder.symbols, self.device)
            best = model(batch, language).argmax(1).cpu()
            in_row = (batch.places.cpu() // batch.ids.shape[1]).bincount(minlength=len(rows)).tolist()
            by_window.update(zip(rows.tolist(), (part.tolist() for part in best.split(in_row)), strict=True))
        predicted: list[list[str]] = [[] for _ in scored.gold]
        for window, sentence in enumerate(windows.sentences.tolist()):
            predicted[sentence] += [self.tags[place] for place in by_window[window]]
        return predicted

    def predictions(self, model: nn.Module, split: str, language: int) -> str:
        """A tag on each line, and an empty line after each sentence."""
        predicted = self.predict(model, self.scored[split][language], language)
        return "".join("".join(f"{tag}\n" for tag in tags) + "\n" for tags in predicted)

    def text(self, example: Sentence) -> str:
        """Words and tags, one pair on a line."""
        return "\n".join(f"{word}\t{tag}" for word, tag in zip(*example, strict=True))

    def details(self) -> dict[str, Any]:
        """Windows, words that stand as the unknown subword, and the scores of taggers without a model."""
        train = self.kept["train"]
        return {
            "windows": {name: by_split(self._windows, name, lambda w: len(w.lengths)) for name in self.languages},
            "unknown_words": self._unknown_words,
            "baselines": {
                name: baselines(self.kind, train.get(name) or next(iter(train.values())), self.kept["test"][name])
                for name in self.languages
            },
        }

    @property
    def notices(self) -> Sequence[str]:
        """Also of words that the tokeniser leaves nothing of."""
        replaced = {name: number for name, number in self._unknown_words.items() if number}
        if not replaced:
            return self.corpus.notices
        listed = ", ".join(f"{name} {number:,}" for name, number in replaced.items())
        told = f"words that the tokeniser leaves nothing of stand as its unknown subword: {listed}"
        return [*self.corpus.notices, told]

    @property
    def _unknown_words(self) -> dict[str, int]:
        return {
            name: sum(
                self._vocabulary.replaced(by_language[name])
                for by_language in self.kept.values()
                if name in by_language
            )
            for name in self.languages
        }
