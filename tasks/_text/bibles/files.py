"""The Bibles below a data root, and their verses as sentences of words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path

from mtlbench.catalogue.data import DataSet, visible

from .layouts import Text, read_ces, read_csv
from .texts import CENTRE, SPECIFIC_CODES, TRANSLATIONS, Translation, repaired

ENGLISH = Translation("eng", "English", "Latn")
INSIDE = frozenset("-'\u2019\u2010\u02bc\u200c\u200d")
"""What may stand between two letters of a word."""


def found(tables: DataSet, corpus: DataSet, root: Path) -> Iterator[tuple[str, Translation | None, Path]]:
    """Name, what is known of it, and path of every text in the folders of two data sets.

    Args:
        tables: of CSV files.
        corpus: of CES XML files.
        root: the data root.

    Yields:
        None in the second place for a text of unknown language, for one in English other than `CENTRE`, and for copies
        that are tokenised (`-tok`).
    """
    for stem, path in (*_files(tables, root, ".csv"), *_files(corpus, root, ".xml")):
        yield stem, ENGLISH if stem == CENTRE else _known(stem, path), path


def verses(
    tables: DataSet, corpus: DataSet, root: Path, languages: Collection[str], most: int
) -> dict[str, list[list[str]]]:
    """Language -> verses of its first text as words, at most so many, spread evenly; for languages that have a text.

    Punctuation marks are words of their own, as in treebanks.

    Args:
        tables: see `found`.
        corpus: see `found`.
        root: the data root.
        languages: ISO 639-3 codes.
        most: verses of a language.

    Raises:
        UsageError: a damaged file (see `layouts`).
    """
    texts: dict[str, list[tuple[tuple[int, str], Translation, Path]]] = {}
    for stem, known, path in found(tables, corpus, root):
        if known and known.language in languages:
            texts.setdefault(known.language, []).append((rank(stem), known, path))
    said: dict[str, list[list[str]]] = {}
    for language in sorted(texts):
        _, known, path = min(texts[language])
        kept = list(repaired(read(path).verses, known).verses.values())
        count = min(most, len(kept))
        said[language] = [words(kept[row * len(kept) // count]) for row in range(count)]
    return said


def words(text: str) -> list[str]:
    """The words of a text; marks and symbols are words of their own, except inside a word (`don't`)."""
    cut: list[str] = []
    for word in text.split():
        start = 0
        for place, character in enumerate(word):
            if unicodedata.category(character)[0] not in "PS":
                continue
            if character in INSIDE and 0 < place < len(word) - 1 and word[place - 1].isalpha():
                continue
            cut += [word[start:place], character]
            start = place + 1
        cut.append(word[start:])
    return [word for word in cut if word]


def rank(stem: str) -> tuple[int, str]:
    """Which of two texts in one language goes first."""
    known = list(TRANSLATIONS)
    return (known.index(stem) if stem in known else len(known), stem)


def read(path: Path) -> Text:
    """A text in either layout."""
    return read_ces(path) if ".xml" in path.suffixes else read_csv(path)


def _files(dataset: DataSet, root: Path, suffix: str) -> Iterator[tuple[str, Path]]:
    """Names without suffix and paths, sorted; a plain file goes before its `.gz`."""
    found: dict[str, Path] = {}
    for folder in dataset.folders:
        for path in (*visible(root / folder, f"*{suffix}"), *visible(root / folder, f"*{suffix}.gz")):
            if path.is_file():
                found.setdefault(path.name.removesuffix(".gz").removesuffix(suffix), path)
    yield from sorted(found.items())


def _known(stem: str, path: Path) -> Translation | None:
    """What is known of a text, from the table or from the header of a CES file; None for one that is left out."""
    if stem in TRANSLATIONS:
        return TRANSLATIONS[stem]
    if ".xml" not in path.suffixes or stem.endswith("-tok"):
        return None
    text = read_ces(path)
    code = SPECIFIC_CODES.get(text.language, text.language)
    if code == "eng" or not re.fullmatch("[a-z]{3}", code):
        return None
    # Nobody has looked at how it numbers the Psalms.
    return Translation(code, text.name, "", english_psalms=False)
