"""Multilingual translation: one Transformer, one objective per language pair, each with its own mini-batch.

The setting of Wang et al., ICLR 2021 (arXiv:2010.05874). All parameters are shared. A step holds every objective or
`objectives_per_step` sampled ones, and a budget of `batch_size` positions (subwords with padding, of the longer
side). With D_i training pairs of language i and temperature T, p_i is proportional to D_i^(1/T). Where a step holds
every objective, objective i gets the share p_i of the budget, and its loss is K p_i times its mean loss per subword:
the sum of the K losses is K times the loss of a joint batch in which p_i of the subwords are of language i. Where m
objectives are sampled, i is among them with probability m p_i (at most 1), all of them get 1/m of the budget, and a
loss is the plain mean. A strategy (`sampling=NAME`) gives other p_i, epoch by epoch, for all of this: budgets,
factors K p_i, inclusion. K stays the number of all objectives, those without a share included, so that the sum of the
losses is K times a joint loss whatever the strategy; and the p_i that subwords are learnt with stay those of T. A
strategy's share may be less than the longest sentence of an objective: it then has room for one, and the factor K p_i
as before, so that the update is the joint one on average, while steps are somewhat larger and rare text is seen more
often. Single-task models have whole steps of their own where the protocol says so (`single_task_budget`), and the
plain mean as well. Losses are label-smoothed cross-entropies in nats per subword. The source of a pair whose target
language is not the same for all objectives begins with a tag that names it (Johnson et al., TACL 2017).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

import mtlbench
from mtlbench.catalogue.protocol import Protocol
from mtlbench.catalogue.relation import Relation
from mtlbench.catalogue.sampling import Shares, Supply
from mtlbench.catalogue.task import Metric, Objective, Probes, Task
from mtlbench.catalogue.variants import task_data
from mtlbench.errors import unknown

from .decoding import forced_log_probabilities, translate
from .loss import smoothed_cross_entropy
from .model import SIZES, Transformer
from .objectives import Split
from .options import options
from .preparing import prepare
from .probing import Probe, draw_probes
from .relations import known_relations
from .sampling import GRAIN, Pairs, batches, cut, padded

Batch = dict[int, Pairs]
"""Objective -> its mini-batch."""


class Whole(dict[int, Pairs]):
    """A step that one objective has for itself; its loss is the plain mean, whatever its share."""


DECODED_POSITIONS = 6_000
"""Of a batch that is translated, all beams counted."""
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
        self.batch_size = protocol.batch_size
        self.data = d = prepare(variant, o, protocol.batch_size, data_root)
        self._portions = d.portions
        self.steps_per_epoch = o.steps_per_epoch
        self.objectives = tuple(Objective(pair.name, self._metrics(pair.target)) for pair in d.pairs)
        self.extra_splits = d.extra_splits
        self.groups = d.groups(o.high_resource)
        self.data_digest = d.digest
        self.notices = d.notices(o.max_length)
        with torch.device("meta"):
            parameters = sum(p.numel() for p in self.model().parameters())
        self.facts = {"parameters": parameters, **d.facts()}

    def model(self) -> torch.nn.Module:
        """A Transformer of the protocol's size."""
        return Transformer(
            self.data.subwords.size, SIZES[self.options.size], self.options.dropout, self.data.symbols.pad
        )

    def shared(self, model: torch.nn.Module) -> Iterable[tuple[str, torch.nn.Parameter]]:
        """All parameters."""
        return model.named_parameters()

    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[Batch]:
        """Steps of all or of sampled objectives; everything is drawn from `generator`."""
        d, train, portions = self.data, self.data.train, self._portions
        rows = {k: batches(train[k], portions.budgets[k], generator) for k in train}
        for _ in range(self.steps_per_epoch):
            present = portions.present(generator)
            yield {k: padded(train[k], next(rows[k]), d.symbols, self.device) for k in present}

    def batches_of(self, objective: int, epoch: int, generator: torch.Generator) -> Iterator[Batch]:
        """Steps of one objective, which has the whole budget of `batch_size` positions, or all its pairs in less."""
        d, examples = self.data, self.data.train[objective]
        rows = batches(examples, self.batch_size, generator)
        for _ in range(self.steps_per_epoch):
            yield Whole({objective: padded(examples, next(rows), d.symbols, self.device)})

    def supply(self) -> Supply:
        """Training pairs, and their positions without padding, of which a step has `batch_size`."""
        train = [self.data.train[k] for k in range(len(self.data.pairs))]
        return Supply(
            sizes=np.array([examples.size for examples in train], dtype=np.float64),
            amounts=np.array([examples.lengths.sum() for examples in train], dtype=np.float64),
            step=float(self.batch_size),
            temperature=self.options.temperature,
        )

    def share_out(self, shares: Shares | None) -> Shares:
        """Budgets, factors and inclusion from other shares than those of the temperature; see the module."""
        d = self.data
        self._portions = d.portions if shares is None else d.shared_out(shares, self.batch_size)
        return self._portions.factors

    def divide(self, batch: Batch, part: int, parts: int) -> tuple[Batch, dict[int, float]]:
        """Sentences are shared out in turn, since batches are sorted by length; a loss is the mean over subwords."""
        found = type(batch)({k: Pairs(*(rows[part::parts] for rows in pairs)) for k, pairs in batch.items()})
        pad = self.data.symbols.pad
        return found, {k: float((target != pad).sum()) for k, (_, _, target) in found.items()}

    def present(self, batch: Batch) -> Sequence[int]:
        """The objectives of this step."""
        return list(batch)

    def losses(self, model: torch.nn.Module, batch: Batch, objectives: Sequence[int]) -> Iterator[Tensor]:
        """The losses (nats per subword, see the module), each built when it is asked for."""
        d, transformer = self.data, cast("Transformer", model)
        factors = self._portions.factors
        is_plain = isinstance(batch, Whole | Probe) or self._portions.inclusion is not None
        for k in objectives:
            source, target_in, target_out = batch[k]
            where, target = _counted(target_out, d.symbols.pad)
            features = transformer(source, target_in).flatten(0, 1).index_select(0, where)
            loss = smoothed_cross_entropy(transformer.logits(features), target, self.options.label_smoothing)
            del features
            yield loss if is_plain else loss * float(factors[k])

    def evaluate(
        self, model: torch.nn.Module, split: str, objectives: Sequence[int]
    ) -> Mapping[str, Mapping[str, float]]:
        """BLEU and chrF of beam search, and nats per subword of the references without label smoothing.

        Objectives that the split does not have are left out. On a CPU everything is scored in float32: sentences that
        end leave their batch, so shapes never repeat, and each costs bfloat16 a kernel of its own in time and memory.
        """
        d, transformer = self.data, cast("Transformer", model)
        found = d.splits[split]
        chosen = [k for k in objectives if k in found.examples]
        sources = {k: self._sources(found, k) for k in chosen}
        scores: dict[str, dict[str, float]] = {}
        with torch.autocast("cpu", enabled=False):
            ratios = [d.length_ratios[k] for k in chosen for _ in sources[k]]
            hypotheses = iter(self.translate(transformer, [s for k in chosen for s in sources[k]], ratios))
            for k in chosen:
                written = [next(hypotheses) for _ in sources[k]]
                by_metric = d.scorers[d.pairs[k].target].score(written, found.references[k])
                scores[d.pairs[k].name] = {**by_metric, "nll": self._nll(transformer, found, k)}
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
            symbols=self.data.symbols,
            forbidden=self.data.tags,
            device=self.device,
            length_ratio=length_ratio,
        )
        return self.data.subwords.decode(written)

    def probes(self, count: int, examples: int, generator: torch.Generator) -> Probes:
        """Sentences that say the same in all languages where there are enough, of `val` rather than of training.

        `probing.draw_probes` has the rule. Every batch has all objectives, and each loss is the plain mean per subword.
        """
        return draw_probes(self.data, count, examples, self.options.max_length, generator, self.device)

    def relations(self) -> Sequence[Relation]:
        """Amounts of training text, overlap of subwords, and family trees, known or of the genealogical table."""
        return known_relations(self.data)

    def _sources(self, split: Split, k: int) -> list[list[int]]:
        examples = split.examples[k]
        before = [] if examples.tag is None else [examples.tag]
        return [[*before, *ids, self.data.symbols.eos] for ids in examples.source.lists()]

    def _nll(self, model: Transformer, split: Split, k: int) -> float:
        examples = split.examples[k]
        order = np.argsort(examples.lengths)[::-1]
        total, count = 0.0, 0
        for span in cut(examples.lengths[order], FORCED_POSITIONS):
            pairs_ = padded(examples, order[span], self.data.symbols, self.device)
            total -= forced_log_probabilities(model, *pairs_, self.data.symbols.pad).sum().item()
            count += int((pairs_.target_out != self.data.symbols.pad).sum())
        return total / count

    def _metrics(self, target: str) -> tuple[Metric, ...]:
        signatures = self.data.scorers[target].signatures()
        return (
            Metric(name="bleu", higher_is_better=True, signature=signatures["bleu"]),
            Metric(name="chrf", higher_is_better=True, signature=signatures["chrf"]),
            Metric(name="nll", higher_is_better=False, unit="nats"),
        )


def _counted(target: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    """Where a flattened (N, T) target has subwords, and these; filled up to a round number, with -1 as the target.

    Only there logits are worth their cost, and their rows are a round number for the same reason as `GRAIN`.
    """
    flat = target.flatten()
    where = (flat != padding).nonzero()[:, 0]
    missing = -len(where) % GRAIN**2
    answers = torch.cat([flat[where], flat.new_full((missing,), -1)])
    return torch.cat([where, where.new_zeros(missing)]), answers
