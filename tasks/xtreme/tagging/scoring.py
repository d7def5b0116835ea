"""The official scores of tagging, and what a tagger without context gets."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from importlib.metadata import version

from mtlbench.catalogue.task import Estimate, Metric
from mtlbench.errors import UsageError
from mtlbench.statistics import ratio_error

from .sentences import Kind, Sentence

try:
    from seqeval.metrics import f1_score
    from seqeval.metrics.sequence_labeling import get_entities
except ImportError as error:
    raise UsageError('The task xtreme needs seqeval: pip install "mtlbench[nlp]".') from error

Tags = Sequence[Sequence[str]]
"""The tags of sentences."""


def metrics(kind: Kind, scored_on: str) -> tuple[Metric, ...]:
    """What an objective is scored by, F1 first, as XTREME ranks both problems.

    Args:
        kind: of the tags.
        scored_on: what the test split is, where that is not a test file of its own.
    """
    what = "runs of equal tags, as XTREME counts udpos" if kind == "pos" else "entities"
    signature = f"seqeval {version('seqeval')}, micro-averaged, {what}"
    f1 = Metric(name="f1", higher_is_better=True, unit="%", signature=f"{signature}{scored_on and f'; {scored_on}'}")
    return (f1, Metric(name="accuracy", higher_is_better=True, unit="%"))


def scores(kind: Kind, gold: Tags, predicted: Tags) -> dict[str, Estimate]:
    """F1 and accuracy in percent, with the standard errors that the choice of sentences leaves.

    `f1` is the F1 of spans. For entities these are seqeval's, in its default mode. XTREME's `evaluate.py` hands parts
    of speech to seqeval too, which takes the first letter of a tag for its place in a span: a run of equal tags is one
    span, but `SCONJ` and `SYM` begin and end one at every word. seqeval 0.0.12, the release of XTREME's time, takes the
    whole tag for the type of the span; 1.x drops its first letter, and would confuse `CCONJ` with `SCONJ`. Here the
    tag is the type, with every release.

    Args:
        kind: of the tags.
        gold: the right tags.
        predicted: others, as many in each sentence.
    """
    right = [sum(g == p for g, p in zip(*rows, strict=True)) for rows in zip(gold, predicted, strict=True)]
    words = [len(row) for row in gold]
    if kind == "pos":
        gold, predicted = _as_spans(gold), _as_spans(predicted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # seqeval does not know the letters of parts of speech
        f1 = float(f1_score([list(row) for row in gold], [list(row) for row in predicted]))
        spans = [(set(get_entities(list(g))), set(get_entities(list(p)))) for g, p in zip(gold, predicted, strict=True)]
    f1_error = ratio_error([200 * len(g & p) for g, p in spans], [len(g) + len(p) for g, p in spans])
    accuracy_error = ratio_error([100 * count for count in right], words)
    return {
        "f1": Estimate(100 * f1, f1_error, len(words)),
        "accuracy": Estimate(100 * sum(right) / sum(words), accuracy_error, len(words)),
    }


def _as_spans(tags: Tags) -> list[list[str]]:
    return [[f"{tag[0]}-{tag}" for tag in row] for row in tags]


def baselines(kind: Kind, train: Sequence[Sentence], scored: Sequence[Sentence]) -> dict[str, dict[str, float]]:
    """What is scored without a model: `tag`, the most frequent tag of training everywhere, and `word`, the most
    frequent one of each word, and for words that training does not have the most frequent one of all.
    """
    by_word: dict[str, Counter[str]] = defaultdict(Counter)
    for sentence in train:
        for word, tag in zip(*sentence, strict=True):
            by_word[word][tag] += 1
    overall = sum(by_word.values(), Counter[str]()).most_common(1)[0][0]
    best = {word: counts.most_common(1)[0][0] for word, counts in by_word.items()}
    gold = [sentence.tags for sentence in scored]
    taggers = {
        "tag": [[overall] * len(row) for row in gold],
        "word": [[best.get(word, overall) for word in sentence.words] for sentence in scored],
    }
    return {
        name: {metric: found.value for metric, found in scores(kind, gold, predicted).items()}
        for name, predicted in taggers.items()
    }
