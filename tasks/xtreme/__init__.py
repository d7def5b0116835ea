"""XTREME tagging: one multilingual encoder, fine-tuned on one problem in K languages, one objective per language.

The second setting of Wang et al., ICLR 2021 (arXiv:2010.05874), on the problems of Hu et al., ICML 2020
(arXiv:2003.11080): parts of speech (`udpos`) and named entities (`panx`). A step holds one batch of `batch_size`
windows of every language; a loss is the mean cross-entropy in nats over the words of its batch. The label of a word is
predicted at its first subword. With `heads=shared` all parameters are shared, with `per_language` the encoder alone.
The variants `...-zeroshot` are XTREME's official protocol: only English is trained on, and every language's validation
score is English's, so that selection sees no other language's labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

import mtlbench
from mtlbench.catalogue.protocol import Protocol
from mtlbench.catalogue.task import Objective, Task
from mtlbench.catalogue.variants import task_data
from mtlbench.errors import UsageError, unknown

from .corpora import zero_shot
from .encoding import Batch, batches, padded
from .model import Tagger
from .options import options
from .preparing import Scored, prepare
from .scoring import metrics, scores

Step = dict[int, Batch]
"""Objective -> its mini-batch."""

SCORED_WINDOWS = 64
"""Of a batch that is scored."""


@mtlbench.register_task("xtreme", paper="Wang et al., ICLR 2021, arXiv:2010.05874")
class XTREME(Task):
    """Tag words in K languages with one multilingual encoder.

    An epoch is `options.steps_per_epoch` steps, or one pass over the language with the most training windows.
    """

    packages = ("transformers", "tokenizers", "seqeval")

    def __init__(self, variant: str, protocol: Protocol, data_root: Path | None, device: torch.device) -> None:
        if variant not in (known := task_data("xtreme").variants):
            raise unknown("variant of xtreme:", variant, known)
        self.options = o = options(protocol)
        if zero_shot(variant) and o.heads == "per_language":
            raise UsageError(
                f"heads=per_language is not allowed for xtreme/{variant}: only English would train its head."
            )
        self.device = device
        self.batch_size = protocol.batch_size
        self.data = d = prepare(variant, o, data_root)
        self.objectives = tuple(Objective(name, metrics(d.kind, d.scored_on(name))) for name in d.languages)
        largest = max(len(windows.lengths) for windows in d.train.values())
        self.steps_per_epoch = o.steps_per_epoch or -(-largest // protocol.batch_size)
        self.groups = d.groups(o.high_resource)
        self.data_digest = d.digest
        self.notices = d.notices
        self.facts = {"parameters": sum(p.numel() for p in self.model().parameters()), **d.facts()}

    def model(self) -> torch.nn.Module:
        """The encoder with its checkpoint's weights, and new heads."""
        heads = 1 if self.options.heads == "shared" else len(self.objectives)
        return Tagger(self.data.encoder.model(), len(self.data.tags), heads)

    def shared(self, model: torch.nn.Module) -> Iterable[tuple[str, torch.nn.Parameter]]:
        """The encoder, and the head where all languages have one."""
        return cast("Tagger", model).shared()

    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[Step]:
        """Steps of one batch of every language that is trained on, in orders drawn from `generator`."""
        d = self.data
        rows = {k: batches(windows.lengths, self.batch_size, generator) for k, windows in d.train.items()}
        for _ in range(self.steps_per_epoch):
            yield {k: padded(d.train[k], next(rows[k]), d.symbols, self.device) for k in rows}

    def present(self, batch: Step) -> Sequence[int]:
        """The languages that are trained on."""
        return list(batch)

    def losses(self, model: torch.nn.Module, batch: Step, objectives: Sequence[int]) -> Iterator[Tensor]:
        """The mean cross-entropies (nats per word), each built when it is asked for."""
        for k in objectives:
            yield functional.cross_entropy(model(batch[k], k), batch[k].labels)

    def evaluate(
        self, model: torch.nn.Module, split: str, objectives: Sequence[int]
    ) -> Mapping[str, Mapping[str, float]]:
        """F1 and accuracy in percent; see `scoring.scores`."""
        found = {}
        for k in objectives:
            scored = self.data.scored[split][k]
            found[self.data.languages[k]] = scores(self.data.kind, scored.gold, self.predict(model, scored, k))
        return found

    def predict(self, model: torch.nn.Module, scored: Scored, language: int) -> list[list[str]]:
        """The most probable tag of every word of some sentences."""
        windows, d = scored.windows, self.data
        by_window: dict[int, list[int]] = {}
        order = windows.lengths.argsort(kind="stable")[::-1]
        for start in range(0, len(order), SCORED_WINDOWS):
            rows = order[start : start + SCORED_WINDOWS]
            batch = padded(windows, rows, d.symbols, self.device)
            best = model(batch, language).argmax(1).cpu()
            in_row = (batch.places.cpu() // batch.ids.shape[1]).bincount(minlength=len(rows)).tolist()
            by_window.update(zip(rows.tolist(), (part.tolist() for part in best.split(in_row)), strict=True))
        predicted: list[list[str]] = [[] for _ in scored.gold]
        for window, sentence in enumerate(windows.sentences.tolist()):
            predicted[sentence] += [d.tags[place] for place in by_window[window]]
        return predicted
