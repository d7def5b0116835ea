"""Exact match and F1 as XTREME's `evaluate.py` counts them, and what is scored without a model.

`xquad` and `tydiqa` have the evaluation of SQuAD v1.1 in every language: ASCII punctuation and English articles are
removed and words stand between spaces, so that a Thai or Chinese answer is mostly one word. `mlqa` has MLQA's own:
Unicode's punctuation and the articles of the language are removed, and a Chinese character is a word.
"""

from __future__ import annotations

import re
import string
import sys
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache

from mtlbench.catalogue.task import Estimate, Metric
from mtlbench.statistics import mean_error

from .questions import Question, words

ARTICLES: Mapping[str, str] = {
    "en": r"\b(a|an|the)\b",
    "es": r"\b(un|una|unos|unas|el|la|los|las)\b",
    "vi": r"\b(của|là|cái|chiếc|những)\b",
    "de": r"\b(ein|eine|einen|einem|eines|einer|der|die|das|den|dem|des)\b",
    "ar": "ال",  # the scorer's pattern also has an alternative that matches nothing
}
"""Language -> what MLQA's evaluation takes for articles; in Arabic the two letters anywhere. Hindi and Chinese have
none."""

MLQA = "mlqa"

_SENTENCE = re.compile(r"[^.!?\u061f\u0964\u06d4\u3002\uff01\uff1f\n]*[.!?\u061f\u0964\u06d4\u3002\uff01\uff1f\n]*")
_CHINESE = re.compile(r"([\u4e00-\u9fa5])")
_ASCII = str.maketrans("", "", string.punctuation)


@cache
def _punctuation() -> dict[int, None]:
    """What MLQA's evaluation removes: all that Unicode calls punctuation, and ASCII's."""
    marks = (code for code in range(sys.maxunicode) if unicodedata.category(chr(code)).startswith("P"))
    return dict.fromkeys([*marks, *map(ord, string.punctuation)])


def normalised(text: str, problem: str, language: str) -> str:
    """What of a text is compared, words with one space between them."""
    text = text.lower()
    if problem != MLQA:
        return " ".join(re.sub(ARTICLES["en"], " ", text.translate(_ASCII)).split())
    text = text.translate(_punctuation())
    if language in ARTICLES:
        text = re.sub(ARTICLES[language], " ", text)
    if language == "zh":
        text = _CHINESE.sub(r" \1 ", text)
    return " ".join(text.split())


def f1(predicted: str, gold: str) -> float:
    """F1 over the words of two normalised texts, from 0 to 1; 0 where they share none."""
    one, other = predicted.split(), gold.split()
    same = (Counter(one) & Counter(other)).total()
    return 2 * same / (len(one) + len(other)) if same else 0.0


def metrics(problem: str, language: str, scored_on: str) -> tuple[Metric, ...]:
    """F1, then exact match, both in percent.

    Args:
        problem: whose evaluation it is.
        language: of the answers.
        scored_on: what the test split is, where that is not a test file of its own.
    """
    evaluation = f"MLQA's evaluation, {language}" if problem == MLQA else "SQuAD v1.1's evaluation"
    signature = f"{evaluation}{scored_on and f'; {scored_on}'}"
    return tuple(
        Metric(name=name, higher_is_better=True, unit="%", signature=signature) for name in ("f1", "exact_match")
    )


def scores(questions: Sequence[Question], predicted: Sequence[str], problem: str, language: str) -> dict[str, Estimate]:
    """F1 and exact match in percent, each question's by the one of its answers that suits it best, with the standard
    errors that the choice of questions leaves.

    Args:
        questions: with their answers.
        predicted: an answer to each.
        problem: whose evaluation it is.
        language: of the answers.
    """
    overlap, exact = [], []
    for question, text in zip(questions, predicted, strict=True):
        found = normalised(text, problem, language)
        gold = [normalised(answer.text, problem, language) for answer in question.answers]
        overlap.append(100 * max(f1(found, one) for one in gold))
        exact.append(100.0 * (found in gold))
    n = len(questions)
    return {
        "f1": Estimate(sum(overlap) / n, mean_error(overlap), n),
        "exact_match": Estimate(sum(exact) / n, mean_error(exact), n),
    }


def likeliest_sentence(question: Question) -> str:
    """The sentence of the context that shares most words with the question, the first of several."""
    asked = Counter(words(question.text.lower().translate(_ASCII)))
    sentences = [found for found in _SENTENCE.findall(question.context) if found.strip()] or [question.context]
    shared = [(asked & Counter(words(sentence.lower().translate(_ASCII)))).total() for sentence in sentences]
    return sentences[shared.index(max(shared))].strip()
