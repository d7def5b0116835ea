"""XTREME: one multilingual encoder, fine-tuned on one problem in K languages, one objective per language.

The second setting of Wang et al., ICLR 2021 (arXiv:2010.05874), on the problems of Hu et al., ICML 2020
(arXiv:2003.11080). A step holds one batch of `batch_size` rows of every language, or, with a strategy
(`sampling=NAME`), K p_i `batch_size` of them, at least one, and its loss times K p_i: the sum of the losses is K
times that of a joint batch with these shares. With `heads=shared` all parameters are shared, with `per_language` the
encoder alone. The variants `...-zeroshot` are XTREME's official protocol: only English is trained on, and every
language's validation score is English's, so that selection sees no other language's labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

import mtlbench
from mtlbench.catalogue.protocol import Protocol
from mtlbench.catalogue.relation import Relation
from mtlbench.catalogue.sampling import Shares, Supply
from mtlbench.catalogue.task import Estimate, Objective, Probes, Task
from mtlbench.errors import UsageError

from .encoding import batches
from .model import Classifier
from .options import options
from .problem import ZERO_SHOT
from .problems import kind_of
from .relations import known_relations

Step = dict[int, Any]
"""Objective -> its mini-batch."""


class Whole(dict[int, Any]):
    """A step that one objective has for itself, or a probe; losses are plain means, whatever the shares."""


@mtlbench.register_task("xtreme", paper="Wang et al., ICLR 2021, arXiv:2010.05874")
class XTREME(Task):
    """One of XTREME's problems in K languages with one multilingual encoder.

    An epoch is `options.steps_per_epoch` steps, or one pass over the language with the most training rows.
    """

    packages = ("transformers", "tokenizers", "seqeval")

    def __init__(self, variant: str, protocol: Protocol, data_root: Path | None, device: torch.device) -> None:
        kind = kind_of(variant)
        self.options = o = options(protocol)
        if variant.endswith(ZERO_SHOT) and o.heads == "per_language":
            raise UsageError(
                f"heads=per_language is not allowed for xtreme/{variant}: only English would train its head."
            )
        self.variant = variant
        self.batch_size = protocol.batch_size
        self.problem = p = kind(variant, o, data_root, device)
        self.objectives = tuple(Objective(name, p.metrics(name)) for name in p.languages)
        if protocol.trains and not p.trained:
            raise UsageError(f"xtreme/{variant} is only scored, with epochs=0: leave protocol.epochs out.")
        largest = max((len(p.lengths(k)) for k in p.trained), default=0)
        self.steps_per_epoch = largest and (o.steps_per_epoch or -(-largest // protocol.batch_size))
        self._factors: Shares | None = None
        self.groups = p.groups(o.high_resource)
        self.data_digest = p.digest
        self.notices = p.notices
        self.facts = {"parameters": sum(q.numel() for q in self.model().parameters()), **p.facts()}

    def model(self) -> torch.nn.Module:
        """The encoder with its checkpoint's weights, and new heads."""
        return self.problem.model(1 if self.options.heads == "shared" else len(self.objectives))

    def shared(self, model: torch.nn.Module) -> Iterable[tuple[str, torch.nn.Parameter]]:
        """The encoder, and the head where all languages have one."""
        return cast("Classifier", model).shared()

    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[Step]:
        """Steps of one batch of every language that is trained on and has a share, in orders drawn from `generator`."""
        p, factors = self.problem, self._factors
        sizes = {k: self.batch_size if factors is None else round(self.batch_size * factors[k]) for k in p.trained}
        there = [k for k in p.trained if factors is None or factors[k] > 0]
        rows = {k: batches(p.lengths(k), max(1, sizes[k]), generator) for k in there}
        for _ in range(self.steps_per_epoch):
            yield {k: p.batch(k, next(rows[k])) for k in rows}

    def batches_of(self, objective: int, epoch: int, generator: torch.Generator) -> Iterator[Step]:
        """Steps of one language, of as many rows as a step of all; empty ones where it is not trained on."""
        p = self.problem
        if objective not in p.trained:
            yield from (Whole() for _ in range(self.steps_per_epoch))
            return
        rows = batches(p.lengths(objective), self.batch_size * len(p.trained), generator)
        for _ in range(self.steps_per_epoch):
            yield Whole({objective: p.batch(objective, next(rows))})

    def supply(self) -> Supply:
        """Training rows, of which a step has `batch_size` times the number of languages."""
        p, count = self.problem, len(self.objectives)
        if len(p.trained) < count:
            raise UsageError(
                f"sampling= is not allowed for xtreme/{self.variant}: of {count} languages only {len(p.trained)} are "
                "trained on."
            )
        rows = np.array([len(p.lengths(k)) for k in range(count)], dtype=np.float64)
        return Supply(sizes=rows, amounts=rows, step=float(count * self.batch_size), temperature=np.inf)

    def share_out(self, shares: Shares | None) -> Shares:
        """Rows and factors in proportion to the shares, instead of equal ones; see the module."""
        self._factors = None if shares is None else len(shares) * shares
        return np.ones(len(self.objectives)) if self._factors is None else self._factors

    def probes(self, count: int, examples: int, generator: torch.Generator) -> Probes:
        """Rows of `val`, no row twice, or training rows where a language has too few there; not aligned.

        Raises:
            UsageError: a language has too few of both, or is not trained on.
        """
        p, wanted = self.problem, count * examples
        everyone = range(len(self.objectives))
        if len(p.trained) < len(self.objectives):
            return super().probes(count, examples, generator)
        most = {split: min(len(p.lengths(k, split)) for k in everyone) for split in ("val", "train")}
        split = next((name for name, rows in most.items() if rows >= wanted), None)
        if split is None:
            raise UsageError(
                f"The geometry of gradients needs {wanted} rows of every language ({count} batches of {examples}), and "
                f"one has {max(most.values())}: give geometry.batches and geometry.examples whose product is not "
                "larger."
            )
        rows = {k: torch.randperm(len(p.lengths(k, split)), generator=generator).numpy() for k in everyone}
        spans = [slice(b * examples, (b + 1) * examples) for b in range(count)]
        batches = [Whole({k: p.batch(k, rows[k][span], split) for k in everyone}) for span in spans]
        return Probes(batches, aligned=False, examples=examples, split=split)

    def relations(self) -> Sequence[Relation]:
        """See `relations.py`."""
        return known_relations(self.problem)

    def divide(self, batch: Step, part: int, parts: int) -> tuple[Step, dict[int, float]]:
        """Rows are shared out in turn, as batches are sorted by length; losses are means over words, or over rows."""
        shares = {k: own.share(part, parts) for k, own in batch.items()}
        found = type(batch)({k: share for k, (share, _) in shares.items()})
        return found, {k: float(amount) for k, (_, amount) in shares.items()}

    def present(self, batch: Step) -> Sequence[int]:
        """The languages that are trained on."""
        return list(batch)

    def losses(self, model: torch.nn.Module, batch: Step, objectives: Sequence[int]) -> Iterator[Tensor]:
        """The mean losses, times K p_i where a strategy gives shares, each built when it is asked for."""
        for k in objectives:
            loss = self.problem.loss(model, batch[k], k)
            yield loss if self._factors is None or isinstance(batch, Whole) else loss * float(self._factors[k])

    def evaluate(
        self, model: torch.nn.Module, split: str, objectives: Sequence[int]
    ) -> Mapping[str, Mapping[str, float | Estimate]]:
        """The problem's official scores, in percent; in zero-shot transfer English's on `val`, for all languages."""
        p = self.problem
        if split == "val" and self.variant.endswith(ZERO_SHOT):
            return dict.fromkeys((p.languages[k] for k in objectives), p.scores(model, split, p.trained[0]))
        return {p.languages[k]: p.scores(model, split, k) for k in objectives}

    def predictions(self, model: torch.nn.Module, split: str, objectives: Sequence[int]) -> Mapping[str, str]:
        """Files as XTREME takes them in submissions: `PROBLEM/test-LANGUAGE.tsv`, or `.json` for answers."""
        p = self.problem
        folder = self.variant.removesuffix(ZERO_SHOT)
        return {
            f"{folder}/{split}-{p.languages[k]}.{p.predictions_end}": p.predictions(model, split, k) for k in objectives
        }
