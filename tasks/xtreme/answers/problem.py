"""Extractive question answering as a problem: where in a context does the answer start, and where does it end?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mtlbench.catalogue.task import Metric

from ..corpus import Corpus
from ..files import SOURCE
from ..model import Classifier
from ..options import Options
from ..problem import ZERO_SHOT, Problem, Scores, by_split, once
from .files import FILES
from .prediction import Rule, Span, best, most_context
from .questions import Question
from .scoring import likeliest_sentence, metrics, scores
from .windows import Batch, Cutter, Windows, padded

SCORED_WINDOWS = 32
"""Of a batch that is scored."""


class Scored(NamedTuple):
    """Questions of one language in one split that are scored."""

    questions: Sequence[Question]
    language: str
    """Whose evaluation they have."""
    windows: Windows
    starts: list[NDArray[np.bool_]]
    """For each window where an answer may start: at the subwords of which no other one has more context."""


class Answers(Problem[Question]):
    """XQuAD, MLQA or TyDiQA."""

    unit = "questions"
    predictions_end = "json"

    def __init__(self, variant: str, o: Options, root: Path | None, device: torch.device) -> None:
        self.name = variant.removesuffix(ZERO_SHOT)
        super().__init__(variant, o, root, device)
        a = o.answers
        self.rule = Rule(a.n_best, a.length)
        cutter = Cutter(self.encoder, o.max_length, a.stride, a.question_length)
        self.train = {k: cutter.windows(self.kept["train"][self.languages[k]]) for k in self.trained}
        self.scored: dict[str, dict[int, Scored]] = {}
        for split in ("val", "test"):
            windows = once(self.kept[split], cutter.windows)
            starts = once(windows, most_context)
            self.scored[split] = {}
            for k, name in enumerate(self.languages):
                language = SOURCE if split == "val" and self.name != variant else name
                self.scored[split][k] = Scored(self.kept[split][name], language, windows[name], starts[name])

    def read(self, variant: str, root: Path | None) -> Corpus[Question]:
        """From files."""
        zero_shot = self.name != variant
        files = FILES[self.name](self.name, root, f"xtreme/{variant}", zero_shot)
        return files.load(self.options.languages, self.options.shares, zero_shot)

    def metrics(self, language: str) -> tuple[Metric, ...]:
        """F1, then exact match."""
        return metrics(self.name, language, self.scored_on(language))

    def model(self, heads: int) -> nn.Module:
        """A linear head with two outputs at every place, and no dropout before it, as BERT's class has none."""
        return Classifier(self.encoder.model(), 2, heads, dropout=0.0)

    def lengths(self, language: int, split: str = "train") -> NDArray[np.int64]:
        """Of the windows."""
        return self._windows(language, split).lengths

    def batch(self, language: int, rows: NDArray[np.int64], split: str = "train") -> Batch:
        """Padded windows."""
        return padded(self._windows(language, split), rows, self.encoder, self.device)

    def _windows(self, language: int, split: str) -> Windows:
        return self.train[language] if split == "train" else self.scored[split][language].windows

    def loss(self, model: nn.Module, batch: Batch, language: int) -> Tensor:
        """The mean over windows of the cross-entropies in nats of start and end, each over the places of the window."""
        logits = self._logits(model, batch, language)
        return (
            functional.cross_entropy(logits[..., 0], batch.starts)
            + functional.cross_entropy(logits[..., 1], batch.ends)
        ) / 2

    def _logits(self, model: nn.Module, batch: Batch, language: int) -> Tensor:
        """(N, T, 2), minus infinity at the padding."""
        logits: Tensor = model(batch, language).view(*batch.ids.shape, 2)
        return logits.masked_fill(~batch.mask[..., None], -torch.inf)

    def scores(self, model: nn.Module, split: str, language: int) -> Scores:
        """See `scoring.scores`."""
        scored = self.scored[split][language]
        return scores(scored.questions, self.predict(model, scored, language), self.name, scored.language)

    def predict(self, model: nn.Module, scored: Scored, language: int) -> list[str]:
        """The best answer to each question: characters of its context, or nothing where no part of it may be one."""
        windows = scored.windows
        spans: list[Span | None] = [None] * len(windows.owners)
        order = windows.lengths.argsort(kind="stable")[::-1]
        for start in range(0, len(order), SCORED_WINDOWS):
            rows = order[start : start + SCORED_WINDOWS]
            batch = padded(windows, rows, self.encoder, self.device)
            logits = self._logits(model, batch, language).double().cpu().numpy()
            for row, values in zip(rows.tolist(), logits, strict=True):
                before, begin = int(windows.before[row]), int(windows.begins[row])
                length = int(windows.lengths[row])
                spans[row] = best(values[:length], before, begin, scored.starts[row], self.rule)
        chosen: list[Span | None] = [None] * len(scored.questions)
        for owner, span in zip(windows.owners.tolist(), spans, strict=True):
            known = chosen[owner]
            if span and (known is None or span.score > known.score):
                chosen[owner] = span
        return [
            question.context[context.characters(span.first, span.last)] if span else ""
            for question, context, span in zip(scored.questions, windows.contexts, chosen, strict=True)
        ]

    def predictions(self, model: nn.Module, split: str, language: int) -> str:
        """An object of question ids and answers."""
        scored = self.scored[split][language]
        names = [question.name for question in scored.questions]
        answered = dict(zip(names, self.predict(model, scored, language), strict=True))
        return json.dumps(answered, ensure_ascii=False, indent=2) + "\n"

    def text(self, example: Question) -> str:
        """Its id, the question and its answers, with the context at the first question on it."""
        answers = "\n".join(f"{answer.start}\t{answer.text}" for answer in example.answers)
        return "\n".join([example.name, example.text, answers, example.context if example.leads else ""])

    def details(self) -> dict[str, Any]:
        """Windows, training questions without a window that has the answer, the scores of the sentence that is most
        like the question, and those of the answers themselves in whole subwords, which a model can reach.
        """
        windows = {
            "train": {self.languages[k]: made for k, made in self.train.items()},
            **{
                split: {self.languages[k]: scored.windows for k, scored in by_language.items()}
                for split, by_language in self.scored.items()
            },
        }
        test = {self.languages[k]: scored for k, scored in self.scored["test"].items()}
        return {
            "windows": {name: by_split(windows, name, lambda made: len(made.owners)) for name in self.languages},
            "unanswerable": {self.languages[k]: unanswerable(made) for k, made in self.train.items()},
            "baselines": {
                name: {"sentence": self._values(scored, [likeliest_sentence(one) for one in scored.questions])}
                for name, scored in test.items()
            },
            "reachable": {name: self._values(scored, in_subwords(scored)) for name, scored in test.items()},
        }

    def _values(self, scored: Scored, predicted: Sequence[str]) -> dict[str, float]:
        found = scores(scored.questions, predicted, self.name, scored.language)
        return {metric: estimate.value for metric, estimate in found.items()}


def unanswerable(windows: Windows) -> int:
    """Questions of which no window has the whole answer."""
    answered = np.zeros(len(windows.questions), bool)
    answered[windows.owners[windows.answers[:, 1] > 0]] = True
    return int((~answered).sum())


def in_subwords(scored: Scored) -> list[str]:
    """The first answer to each question with all characters of the subwords that it begins and ends in."""
    found = []
    for question, context in zip(scored.questions, scored.windows.contexts, strict=True):
        places = context.places(question.answers[0])
        found.append(question.context[context.characters(*places)] if places else "")
    return found
