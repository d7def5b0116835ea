"""Multilingual translation: one Transformer, one objective per language pair, each with its own mini-batch.

The setting of Wang et al., ICLR 2021 (arXiv:2010.05874). All parameters are shared. A step holds every objective or
`objectives_per_step` sampled ones, and a budget of `batch_size` positions (subwords with padding, of the longer side).
With D_i training pairs of language i and temperature T, p_i is proportional to D_i^(1/T). Where a step holds every
objective, objective i gets the share p_i of the budget, and its loss is K p_i times its mean loss per subword: the
sum of the K losses is K times the loss of a joint batch in which p_i of the subwords are of language i. Where m
objectives are sampled, i is among them with probability m p_i (at most 1), all of them get 1/m of the budget, and a
loss is the plain mean. Losses are label-smoothed cross-entropies in nats per subword. The source of a pair whose
target language is not the same for all objectives begins with a tag that names it (Johnson et al., TACL 2017).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

import mtlbench
from mtlbench.catalogue.protocol import Protocol
from mtlbench.catalogue.task import Metric, Objective, Task
from mtlbench.catalogue.variants import task_data
from mtlbench.errors import UsageError, unknown

from . import corpora, subwords
from .corpus import REQUIRED, Corpus
from .decoding import forced_log_probabilities, translate
from .loss import smoothed_cross_entropy
from .model import SIZES, Transformer
from .objectives import LeftOut, Split, digest, encoded, pairs
from .options import Options, options
from .sampling import GRAIN, Pairs, Symbols, batches, cut, inclusion, padded, require_budget, sampled, shares
from .scoring import Scorer

Batch = dict[int, Pairs]
"""Objective -> its mini-batch."""

DECODED_POSITIONS = 6_000
"""Of a batch that is translated, all beams counted."""
LENGTH_RATIO = 2.0
"""Limit of a translation over its source, times the mean ratio of the training pairs where that is above 1."""
FORCED_POSITIONS = 1_000
"""Of a batch whose references are scored; each position has as many logits as there are subwords."""


@mtlbench.register_task("nmt", paper="Wang et al., ICLR 2021, arXiv:2010.05874")
class NMT(Task):
    """Translate between K languages and one central language with one Transformer.

    An epoch is `options.steps_per_epoch` steps. Validation and test sentences of any length are translated; training
    pairs over `options.max_length` or with a side without subwords are left out, counted in `facts` and told in
    `notices`.
    """

    packages = ("sentencepiece",)  # another version may learn other subwords; sacreBLEU's is in the signatures

    def __init__(self, variant: str, protocol: Protocol, data_root: Path | None, device: torch.device) -> None:
        if variant not in (known := task_data("nmt").variants):
            raise unknown("variant of nmt:", variant, known)
        self.options = o = options(protocol)
        self.device = device
        corpus = _chosen_splits(corpora.load(variant, data_root, o.languages), o)
        self.pairs = pairs(corpus.languages, corpus.centre, o.direction)
        count = len(self.pairs)
        targets = list(dict.fromkeys(pair.target for pair in self.pairs))
        self.subwords = subwords.train(
            corpus, corpus.languages, o.vocabulary, o.temperature, o.subword_sentences, targets
        )
        self._tags = [self.subwords.tag(target) for target in targets]
        self.symbols = Symbols(self.subwords.pad, self.subwords.bos, self.subwords.eos)
        self._splits, left_out = encoded(corpus, self.pairs, self.subwords, o.sentences, o.max_length)
        self.extra_splits = tuple(name for name in corpus.splits if name not in REQUIRED)
        train = self._splits["train"].examples
        sizes = [train[k].size for k in range(count)]
        self.probabilities = shares(sizes, o.temperature)
        self.steps_per_epoch = o.steps_per_epoch
        self._length_ratios = [
            LENGTH_RATIO * max(1.0, train[k].target.lengths.sum() / train[k].source.lengths.sum()) for k in range(count)
        ]
        self._inclusion = None
        if o.objectives_per_step is not None and o.objectives_per_step < count:
            self._inclusion = inclusion(self.probabilities, o.objectives_per_step)
        self._budgets = self._shared_out(protocol.batch_size)
        self._scorers = {target: Scorer(target) for target in targets}
        self.objectives = tuple(Objective(pair.name, self._metrics(pair.target)) for pair in self.pairs)
        high = [k for k, size in enumerate(sizes) if size >= o.high_resource]
        low = [k for k in range(count) if k not in high]
        self.groups = {"hrl": high, "lrl": low} if high and low else {}
        self.data_digest = digest(corpus)
        with torch.device("meta"):
            parameters = sum(p.numel() for p in self.model().parameters())
        self.notices = _notices(left_out, sum(sizes), o.max_length, corpus.counts)
        self.facts: dict[str, Any] = {
            "parameters": parameters,
            "subwords": self.subwords.size,
            "subwords_digest": self.subwords.digest,
            "training_pairs": {pair.name: size for pair, size in zip(self.pairs, sizes, strict=True)},
            "longer_than_max_length": left_out.too_long,
            "without_subwords": left_out.without_subwords,
            "corpus_repairs": dict(corpus.counts),
            **corpus.facts,
        }

    def model(self) -> torch.nn.Module:
        """A Transformer of the protocol's size."""
        return Transformer(self.subwords.size, SIZES[self.options.size], self.options.dropout, self.symbols.pad)

    def shared(self, model: torch.nn.Module) -> Iterable[tuple[str, torch.nn.Parameter]]:
        """All parameters."""
        return model.named_parameters()

    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[Batch]:
        """Steps of all or of sampled objectives; everything is drawn from `generator`."""
        train = self._splits["train"].examples
        rows = {k: batches(train[k], self._budgets[k], generator) for k in train}
        for _ in range(self.steps_per_epoch):
            present = range(len(self.pairs)) if self._inclusion is None else sampled(self._inclusion, generator)
            yield {k: padded(train[k], next(rows[k]), self.symbols, self.device) for k in present}

    def present(self, batch: Batch) -> Sequence[int]:
        """The objectives of this step."""
        return list(batch)

    def losses(self, model: torch.nn.Module, batch: Batch, objectives: Sequence[int]) -> Iterator[Tensor]:
        """The losses (nats per subword, see the module), each built when it is asked for."""
        transformer = cast("Transformer", model)
        for k in objectives:
            source, target_in, target_out = batch[k]
            where, target = _counted(target_out, self.symbols.pad)
            features = transformer(source, target_in).flatten(0, 1).index_select(0, where)
            loss = smoothed_cross_entropy(transformer.logits(features), target, self.options.label_smoothing)
            del features
            yield loss if self._inclusion is not None else loss * (len(self.pairs) * float(self.probabilities[k]))

    def evaluate(
        self, model: torch.nn.Module, split: str, objectives: Sequence[int]
    ) -> Mapping[str, Mapping[str, float]]:
        """BLEU and chrF of beam search, and nats per subword of the references without label smoothing.

        Objectives that the split does not have are left out. On a CPU everything is scored in float32: sentences that
        end leave their batch, so shapes never repeat, and each costs bfloat16 a kernel of its own in time and memory.
        """
        transformer = cast("Transformer", model)
        found = self._splits[split]
        chosen = [k for k in objectives if k in found.examples]
        sources = {k: self._sources(found, k) for k in chosen}
        scores: dict[str, dict[str, float]] = {}
        with torch.autocast("cpu", enabled=False):
            ratios = [self._length_ratios[k] for k in chosen for _ in sources[k]]
            hypotheses = iter(self.translate(transformer, [s for k in chosen for s in sources[k]], ratios))
            for k in chosen:
                written = [next(hypotheses) for _ in sources[k]]
                by_metric = self._scorers[self.pairs[k].target].score(written, found.references[k])
                scores[self.pairs[k].name] = {**by_metric, "nll": self._nll(transformer, found, k)}
        return scores

    def translate(
        self, model: Transformer, sources: Sequence[Sequence[int]], length_ratio: Sequence[float]
    ) -> list[str]:
        """Sources as subwords, with their tag where there is a choice of targets, into text: `decoding.translate`."""
        o = self.options
        written = translate(
            model,
            sources,
            batch_positions=DECODED_POSITIONS,
            beams=o.beams,
            length_penalty=o.length_penalty,
            symbols=self.symbols,
            forbidden=self._tags,
            device=self.device,
            length_ratio=length_ratio,
        )
        return self.subwords.decode(written)

    def _sources(self, split: Split, k: int) -> list[list[int]]:
        examples = split.examples[k]
        before = [] if examples.tag is None else [examples.tag]
        return [[*before, *ids, self.symbols.eos] for ids in examples.source.lists()]

    def _nll(self, model: Transformer, split: Split, k: int) -> float:
        examples = split.examples[k]
        order = np.argsort(examples.lengths)[::-1]
        total, count = 0.0, 0
        for span in cut(examples.lengths[order], FORCED_POSITIONS):
            pairs_ = padded(examples, order[span], self.symbols, self.device)
            total -= forced_log_probabilities(model, *pairs_, self.symbols.pad).sum().item()
            count += int((pairs_.target_out != self.symbols.pad).sum())
        return total / count

    def _metrics(self, target: str) -> tuple[Metric, ...]:
        signatures = self._scorers[target].signatures()
        return (
            Metric(name="bleu", higher_is_better=True, signature=signatures["bleu"]),
            Metric(name="chrf", higher_is_better=True, signature=signatures["chrf"]),
            Metric(name="nll", higher_is_better=False, unit="nats"),
        )

    def _shared_out(self, budget: int) -> list[int]:
        """The positions of a step that each objective gets."""
        train, m = self._splits["train"].examples, self.options.objectives_per_step
        told = f"protocol.batch_size={budget}"
        parts = budget * self.probabilities if self._inclusion is None else [budget / cast("int", m)] * len(train)

        def text(subwords: list[int]) -> str:
            return self.subwords.decode([subwords])[0]

        return [require_budget(pair.name, train[k], parts[k], told, text) for k, pair in enumerate(self.pairs)]


def _notices(left_out: LeftOut, kept: int, max_length: int, repairs: Mapping[str, int]) -> list[str]:
    found = []
    total = kept + sum(sum(counts.values()) for counts in left_out)
    for counts, why, fact in (
        (left_out.too_long, f"are longer than max_length={max_length} subwords", "longer_than_max_length"),
        (left_out.without_subwords, "have a side without any subword", "without_subwords"),
    ):
        if number := sum(counts.values()):
            found.append(f"{number:,} of {total:,} training pairs {why} and are left out ({fact} in the record)")
    by_rule: Counter[str] = Counter()
    for rule, number in repairs.items():
        by_rule[rule.partition(": ")[0]] += number
    if by_rule:
        told = "; ".join(f"{rule} {number:,}" for rule, number in by_rule.most_common())
        found.append(f"what its reader repaired or left out (corpus_repairs in the record): {told}")
    return found


def _counted(target: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    """Where a flattened (N, T) target has subwords, and these; filled up to a round number, with -1 as the target.

    Only there logits are worth their cost, and their rows are a round number for the same reason as `GRAIN`.
    """
    flat = target.flatten()
    where = (flat != padding).nonzero()[:, 0]
    missing = -len(where) % GRAIN**2
    answers = torch.cat([flat[where], flat.new_full((missing,), -1)])
    return torch.cat([where, where.new_zeros(missing)]), answers


def _chosen_splits(corpus: Corpus, o: Options) -> Corpus:
    """The splits that are not left out; names that no split can have are refused."""
    extra = list(dict.fromkeys(name for name in (*corpus.splits, *corpora.EXTRA) if name not in REQUIRED))
    for name in o.leave_out:
        if name in REQUIRED:
            raise UsageError(f"protocol.options.leave_out={name} is not allowed: only extra test sets can be left out.")
        if name not in extra:
            raise unknown("extra test set in protocol.options.leave_out:", name, extra)
    scored = [name for name in (*REQUIRED, *extra) if name != "train"]
    for name in o.sentences:
        if name not in scored:
            raise unknown("split in protocol.options.sentences:", name, scored)
    return replace(corpus, splits={name: text for name, text in corpus.splits.items() if name not in o.leave_out})
