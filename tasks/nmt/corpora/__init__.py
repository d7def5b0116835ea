"""The corpora of the task: from files under the data root, or from nothing, to parallel text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mtlbench.errors import unknown

from ..corpus import REQUIRED, Corpus
from . import bible, families, multi30k, ntrex, opus100, ted8

EXTRA = ("ntrex", *(name for name in multi30k.SPLITS if name not in REQUIRED))
"""The extra test sets that a corpus may have."""

VARIANTS = (*families.WORLDS, "multi30k", "bible", "ted8-related", "ted8-diverse", "opus100")


def load(variant: str, root: Path | None, languages: Sequence[str] | None) -> Corpus:
    """The corpus of one of `VARIANTS`; real ones get the extra test set `ntrex` in the languages whose files are there.

    Args:
        variant: its name.
        root: the data root, or None where none was given.
        languages: codes as the corpus has them; None for all.

    Raises:
        UsageError: an unknown variant or language, or a file that is damaged; names file and line.
        DataMissing: files of the corpus are not under the data root.
    """
    wanted_by = f"nmt/{variant}"
    match variant:
        case "families" | "families-private" | "families-crossed":
            return families.load(variant, wanted_by, languages)
        case "multi30k":
            corpus = multi30k.load(root, wanted_by, languages)
        case "bible":
            corpus = bible.load(root, wanted_by, languages)
        case "ted8-related" | "ted8-diverse":
            corpus = ted8.load(root, wanted_by, languages, ted8.GROUPS[variant])
        case "opus100":
            corpus = opus100.load(root, wanted_by, languages)
        case _:
            raise unknown("corpus", variant, VARIANTS)
    news = ntrex.extra(root, corpus.languages)
    return replace(corpus, splits={**corpus.splits, "ntrex": news}) if news else corpus
