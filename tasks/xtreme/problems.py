"""Which variants there are, and the kind of problem that each one is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtlbench.errors import unknown

from .answers.problem import Answers
from .pairs.problem import Pairs
from .problem import Problem
from .retrieval.problem import Bucc, Tatoeba
from .tagging.problem import Tagging

VARIANTS: Mapping[str, type[Problem[Any]]] = {
    "families-pos": Tagging,
    "families-ner": Tagging,
    "udpos": Tagging,
    "panx": Tagging,
    "udpos-zeroshot": Tagging,
    "panx-zeroshot": Tagging,
    "tatoeba": Tatoeba,
    "bucc2018": Bucc,
    "xnli": Pairs,
    "pawsx": Pairs,
    "xnli-zeroshot": Pairs,
    "pawsx-zeroshot": Pairs,
    "xquad": Answers,
    "mlqa": Answers,
    "tydiqa": Answers,
    "xquad-zeroshot": Answers,
    "mlqa-zeroshot": Answers,
    "tydiqa-zeroshot": Answers,
}


def kind_of(variant: str) -> type[Problem[Any]]:
    """The class of a variant; raises `UsageError` for an unknown one."""
    if variant not in VARIANTS:
        raise unknown("variant of xtreme:", variant, VARIANTS)
    return VARIANTS[variant]
