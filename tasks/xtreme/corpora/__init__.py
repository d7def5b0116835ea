"""The tagging problems: from files under the data root, or from nothing, to tagged sentences."""

from __future__ import annotations

from pathlib import Path

from mtlbench.errors import unknown

from ..options import Options
from ..tagging import Corpus
from . import families, files

VARIANTS = ("families-pos", "families-ner", "udpos", "panx", "udpos-zeroshot", "panx-zeroshot")


def zero_shot(variant: str) -> bool:
    """Whether a variant is trained on English alone."""
    return variant.endswith("-zeroshot")


def load(variant: str, root: Path | None, o: Options) -> Corpus:
    """The corpus of one of `VARIANTS`.

    Args:
        variant: its name.
        root: the data root, or None where none was given.
        o: of which `languages` and `shares` count.

    Raises:
        UsageError: an unknown variant or language, or a file that is damaged; names file and line.
        DataMissing: files of the corpus are not under the data root.
    """
    wanted_by = f"xtreme/{variant}"
    match variant.removesuffix("-zeroshot"):
        case "families-pos":
            return families.load("pos", wanted_by, o.languages)
        case "families-ner":
            return families.load("ner", wanted_by, o.languages)
        case "udpos" | "panx" as problem:
            return files.load(problem, root, wanted_by, o.languages, o.shares, zero_shot(variant))
        case _:
            raise unknown("corpus", variant, VARIANTS)
