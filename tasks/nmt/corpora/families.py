"""Artificial languages of a known family tree: the embedded corpus, whose truth goes into the record."""

from __future__ import annotations

from collections.abc import Sequence

from ..._families import generate
from ..._text.languages import chosen
from ..corpus import REQUIRED, Bitext, Corpus


def load(wanted_by: str, languages: Sequence[str] | None) -> Corpus:
    """The text of `mtlbench.tasks._families` in its default sizes; facts: the true tree and all distances.

    Raises:
        UsageError: a language that is not among them.
    """
    families = generate()
    codes = chosen(languages, families.languages, wanted_by)
    splits = {split: {code: Bitext(*families.bitext(code, split)) for code in codes} for split in REQUIRED}
    return Corpus(splits, families.centre, facts={"families": families.as_dict()})
