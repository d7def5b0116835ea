"""Multi30k, task 1: English image captions and their translations into German, French and Czech.

The official raw files are read as they are (https://github.com/multi30k/dataset, `data/task1/raw`): lines of text
that correspond across languages, with 29,000 for training and 1,014 for validation. No line is empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mtlbench.catalogue.data import datasets, locate

from ..._text.languages import chosen
from ..corpus import Corpus
from .lines import Text, bitext, read

LANGUAGES = ("de", "fr", "cs")

SPLITS = {
    "train": ("train", LANGUAGES),
    "val": ("val", LANGUAGES),
    "test": ("test_2016_flickr", LANGUAGES),
    "test_2017_flickr": ("test_2017_flickr", ("de", "fr")),
    "test_2017_mscoco": ("test_2017_mscoco", ("de", "fr")),
    "test_2018_flickr": ("test_2018_flickr", LANGUAGES),
}
"""Split -> the stem of its files, and the languages that it exists in."""


def load(root: Path | None, wanted_by: str, languages: Sequence[str] | None = None) -> Corpus:
    """All splits in some of the languages; extra test sets are those of `SPLITS` that hold one of them.

    Args:
        root: the data root, or None where none was given.
        wanted_by: the `task/variant` that needs the corpus, for messages.
        languages: some of `LANGUAGES`; None for all.

    Raises:
        UsageError: an unknown language, or a file that is damaged (see `lines`).
        DataMissing: a file that is not there.
    """
    dataset = datasets("nmt")["multi30k"]
    wanted = chosen(languages, LANGUAGES, wanted_by)

    def text(stem: str, language: str) -> Text:
        return read(locate(dataset, f"{stem}.{language}.gz", root, wanted_by))

    splits = {}
    for split, (stem, available) in SPLITS.items():
        if held := [language for language in wanted if language in available]:
            english = text(stem, "en")
            splits[split] = {language: bitext(text(stem, language), english) for language in held}
    return Corpus(splits)
