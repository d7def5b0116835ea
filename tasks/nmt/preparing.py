"""What training and scoring use, made once: objectives, subwords, encoded splits, shares and budgets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlbench.errors import UsageError, unknown

from .._sampling.temperature import shares
from . import corpora, subwords
from .corpus import REQUIRED, Bitext, Corpus
from .objectives import LeftOut, Pair, Split, digest, encoded, pairs
from .options import Options
from .sampling import Examples, Portions, Symbols, inclusion, longest, positions, require_budget
from .scoring import Scorer
from .subwords import Subwords

LENGTH_RATIO = 2.0
"""Limit of a translation over its source, times the mean ratio of the training pairs where that is above 1."""


@dataclass(frozen=True)
class Prepared:
    """All that the task holds in memory."""

    pairs: Sequence[Pair]
    """The K objectives."""
    subwords: Subwords
    symbols: Symbols
    tags: Sequence[int]
    """The subwords that name a target language, which no translation may hold."""
    splits: Mapping[str, Split]
    validation: Mapping[str, Bitext]
    """The text of `val`, all of it, by language."""
    centre: str
    """The central language."""
    portions: Portions
    """How steps are shared out at the protocol's temperature."""
    per_step: int | None
    """How many objectives are sampled for a step; None where all that have a share are in every step."""
    length_ratios: Sequence[float]
    """How much longer than its source a translation may be, by objective."""
    scorers: Mapping[str, Scorer]
    """By target language."""
    left_out: LeftOut
    repairs: Mapping[str, int]
    """What the corpus's reader repaired or left out, by rule."""
    corpus_facts: Mapping[str, Any]
    digest: str
    """SHA-256 (hex) over all text of all splits."""

    @property
    def train(self) -> Mapping[int, Examples]:
        """The training pairs of each objective."""
        return self.splits["train"].examples

    @property
    def extra_splits(self) -> tuple[str, ...]:
        """The test sets beside `test`."""
        return tuple(name for name in self.splits if name not in REQUIRED)

    def shared_out(self, p: NDArray[np.float64], budget: int) -> Portions:
        """How steps of `budget` positions are shared out where the shares are p.

        An objective that has a share has at least the positions of its longest sentence; one that has none, none.
        """
        count = None if self.per_step is None else min(self.per_step, int(np.count_nonzero(p)))
        parts = positions(budget, p, count)
        budgets = [max(int(parts[k]), longest(self.train[k])) if p[k] > 0 else 0 for k in range(len(p))]
        return Portions(p, None if count is None else inclusion(p, count), budgets)

    def facts(self) -> dict[str, Any]:
        """What a record tells of the data."""
        return {
            "subwords": self.subwords.size,
            "subwords_digest": self.subwords.digest,
            "training_pairs": {pair.name: self.train[k].size for k, pair in enumerate(self.pairs)},
            "longer_than_max_length": self.left_out.too_long,
            "without_subwords": self.left_out.without_subwords,
            "corpus_repairs": dict(self.repairs),
            **self.corpus_facts,
        }

    def notices(self, max_length: int) -> list[str]:
        """How many training pairs are left out and what was repaired, where there is something to tell."""
        found = []
        kept = sum(examples.size for examples in self.train.values())
        total = kept + sum(sum(counts.values()) for counts in self.left_out)
        for counts, why, fact in (
            (self.left_out.too_long, f"are longer than max_length={max_length} subwords", "longer_than_max_length"),
            (self.left_out.without_subwords, "have a side without any subword", "without_subwords"),
        ):
            if number := sum(counts.values()):
                found.append(f"{number:,} of {total:,} training pairs {why} and are left out ({fact} in the record)")
        by_rule: Counter[str] = Counter()
        for rule, number in self.repairs.items():
            by_rule[rule.partition(": ")[0]] += number
        if by_rule:
            told = "; ".join(f"{rule} {number:,}" for rule, number in by_rule.most_common())
            found.append(f"what its reader repaired or left out (corpus_repairs in the record): {told}")
        return found

    def groups(self, high_resource: int) -> dict[str, list[int]]:
        """The objectives with at least and with fewer than so many training pairs; nothing where one has none."""
        high = [k for k in range(len(self.pairs)) if self.train[k].size >= high_resource]
        low = [k for k in range(len(self.pairs)) if k not in high]
        return {"hrl": high, "lrl": low} if high and low else {}


def prepare(variant: str, o: Options, batch_size: int, data_root: Path | None) -> Prepared:
    """Read the corpus of `variant`, learn its subwords, encode it and share a step of `batch_size` positions out.

    Raises:
        DataMissing: files of the corpus are not below `data_root`.
        UsageError: a language, split or number that does not fit the corpus, or a damaged file.
    """
    corpus = _chosen_splits(corpora.load(variant, data_root, o.languages), o)
    objectives = pairs(corpus.languages, corpus.centre, o.direction)
    targets = list(dict.fromkeys(pair.target for pair in objectives))
    learnt = subwords.train(corpus, corpus.languages, o.vocabulary, o.temperature, o.subword_sentences, targets)
    splits, left_out = encoded(corpus, objectives, learnt, o.sentences, o.max_length)
    train = [splits["train"].examples[k] for k in range(len(objectives))]
    probabilities = shares([examples.size for examples in train], o.temperature)
    sampled = o.objectives_per_step if (o.objectives_per_step or len(train)) < len(train) else None
    return Prepared(
        pairs=objectives,
        subwords=learnt,
        symbols=Symbols(learnt.pad, learnt.bos, learnt.eos),
        tags=[learnt.tag(target) for target in targets],
        splits=splits,
        validation=corpus.splits["val"],
        centre=corpus.centre,
        portions=Portions(
            probabilities,
            None if sampled is None else inclusion(probabilities, sampled),
            _budgets(batch_size, probabilities, sampled, objectives, train, learnt),
        ),
        per_step=sampled,
        length_ratios=[LENGTH_RATIO * max(1.0, e.target.lengths.sum() / e.source.lengths.sum()) for e in train],
        scorers={target: Scorer(target) for target in targets},
        left_out=left_out,
        repairs=corpus.counts,
        corpus_facts=corpus.facts,
        digest=digest(corpus),
    )


def _budgets(
    budget: int,
    probabilities: NDArray[np.float64],
    sampled: int | None,
    objectives: Sequence[Pair],
    train: Sequence[Examples],
    learnt: Subwords,
) -> list[int]:
    """The positions of a step that each objective gets: its share, or an equal part where `sampled` are in a step."""
    parts = positions(budget, probabilities, sampled)
    told = f"protocol.batch_size={budget}"

    def text(ids: list[int]) -> str:
        return learnt.decode([ids])[0]

    return [require_budget(pair.name, train[k], parts[k], told, text) for k, pair in enumerate(objectives)]


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
