"""Pairs of texts as a problem: one label for both, which is predicted at the first place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mtlbench.catalogue.task import Metric

from ..corpus import Corpus
from ..encoding import Batch
from ..model import TextClassifier
from ..options import Options
from ..problem import ZERO_SHOT, Problem, Scores, by_split, once
from .encoding import PairRows, encoded, padded
from .files import PairFiles
from .labels import LABELS, Pair
from .scoring import baselines, metrics, scores

SCORED_PAIRS = 64
"""Of a batch that is scored."""


class Pairs(Problem[Pair]):
    """Entailment or paraphrase."""

    unit = "pairs"

    def __init__(self, variant: str, o: Options, root: Path | None, device: torch.device) -> None:
        self.labels = LABELS[variant.removesuffix(ZERO_SHOT)]
        super().__init__(variant, o, root, device)
        self.rows = {
            split: once(by_language, lambda pairs: encoded(pairs, self.labels, self.encoder, o.max_length))
            for split, by_language in self.kept.items()
        }
        """Split -> language -> pairs that are trained on or scored."""

    def read(self, variant: str, root: Path | None) -> Corpus[Pair]:
        """From XTREME's files."""
        o = self.options
        problem = variant.removesuffix(ZERO_SHOT)
        return PairFiles(problem, root, f"xtreme/{variant}").load(o.languages, o.shares, problem != variant)

    def metrics(self, language: str) -> tuple[Metric, ...]:
        """Accuracy."""
        return metrics(self.scored_on(language))

    def model(self, heads: int) -> nn.Module:
        """A head over the first place, such as the encoder's class has it in `transformers`."""
        return TextClassifier(self.encoder.model(pooler=True), len(self.labels), heads)

    def lengths(self, language: int, split: str = "train") -> NDArray[np.int64]:
        """Of the pairs."""
        return self.rows[split][self.languages[language]].lengths

    def batch(self, language: int, rows: NDArray[np.int64], split: str = "train") -> Batch:
        """Padded pairs."""
        return padded(self.rows[split][self.languages[language]], rows, self.encoder, self.device)

    def loss(self, model: nn.Module, batch: Batch, language: int) -> Tensor:
        """The mean cross-entropy in nats over the pairs of the batch."""
        return functional.cross_entropy(model(batch, language), batch.labels)

    def scores(self, model: nn.Module, split: str, language: int) -> Scores:
        """See `scoring.scores`."""
        name = self.languages[language]
        return scores(self.kept[split][name], self.predict(model, self.rows[split][name], language))

    def predict(self, model: nn.Module, rows: PairRows, language: int) -> list[str]:
        """The most probable label of every pair."""
        best = np.zeros(len(rows.labels), np.int64)
        order = rows.lengths.argsort(kind="stable")[::-1]
        for start in range(0, len(order), SCORED_PAIRS):
            chosen = order[start : start + SCORED_PAIRS]
            batch = padded(rows, chosen, self.encoder, self.device)
            best[chosen] = model(batch, language).argmax(1).cpu().numpy()
        return [self.labels[place] for place in best.tolist()]

    def predictions(self, model: nn.Module, split: str, language: int) -> str:
        """A label on each line."""
        found = self.predict(model, self.rows[split][self.languages[language]], language)
        return "".join(f"{label}\n" for label in found)

    def text(self, example: Pair) -> str:
        """Both texts and the label."""
        return "\t".join((example.first, example.second, example.label))

    def details(self) -> dict[str, Any]:
        """Unknown subwords, and the score of the most frequent label."""
        train = self.kept["train"]
        return {
            "unknown_subwords": {name: by_split(self.rows, name, lambda rows: rows.unknown) for name in self.languages},
            "baselines": {
                name: baselines(train.get(name) or next(iter(train.values())), self.kept["test"][name])
                for name in self.languages
            },
        }
