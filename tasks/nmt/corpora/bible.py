"""The Bible, verse by verse: English (American Standard Version) and every other language under the data root.

Two public layouts are read: `Book,Chapter,Verse,Text` in CSV (https://github.com/scrollmapper/bible_databases) and
CES XML (https://github.com/christos-c/bible-corpus; Christodouloupoulos and Steedman, 2015). Verses are paired by book,
chapter and verse, after the rules in `_text.bibles.texts` (marks, notes, titles, numbering of the Psalms) and
`bible_alignment` (verses that are shifted or of another length).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtlbench.catalogue.data import datasets, locate
from mtlbench.errors import UsageError

from ..._text.bibles.files import found, rank, read
from ..._text.bibles.layouts import Text, Verse, read_csv
from ..._text.bibles.texts import CENTRE, Translation, repaired
from ..._text.languages import chosen
from ..corpus import REQUIRED, Bitext, Corpus
from .bible_alignment import of_other_length, shifted

HELD_OUT = 0.0225
"""Share of the verses in `val`, and in `test`: some 680 of a whole Bible, 160 of a New Testament."""


def load(root: Path | None, wanted_by: str, languages: Sequence[str] | None = None) -> Corpus:
    """Every language under the data root, by ISO 639-3 code in alphabetical order, paired with English.

    A verse's split follows from its English text alone (`split`), so that it is the same in every language. A
    language's texts are joined: a further text gives the verses that the ones before it lack, unless its text of a
    verse stands there under another number. A training pair is left out where its foreign text is also in the
    language's `val` or `test`, beside another English verse. Files of unknown language, English ones and those with
    `-tok` in their name (tokenised copies) are left out. `counts` has the verses that each rule changed or left out,
    `facts` the name, script (ISO 15924) and texts of each language.

    Args:
        root: the data root, or None where none was given.
        wanted_by: the `task/variant` that needs the corpus, for messages.
        languages: ISO 639-3 codes; None for all that are there.

    Raises:
        DataMissing: no data root, or no English text in it.
        UsageError: a damaged file (see `_text.bibles.layouts`), a language without files, or no language at all.
    """
    tables, corpus = datasets("nmt")["bible_databases"], datasets("nmt")["bible_corpus"]
    english_path = locate(tables, f"{CENTRE}.csv", root, wanted_by)
    assert root is not None
    counts: dict[str, int] = {}
    texts: dict[str, list[tuple[str, Translation, Path]]] = {}
    for stem, known, path in found(tables, corpus, root):
        if stem == CENTRE:
            continue
        if known:
            texts.setdefault(known.language, []).append((stem, known, path))
        else:
            counts[f"files left out: {path.name}"] = 1
    if not texts:
        raise UsageError(
            f"{wanted_by} found the English text {english_path} and no other language. Put further texts beside it, "
            f"from {tables.source} or {corpus.source}, or run `mtlbench data fetch {wanted_by}`."
        )
    text = read_csv(english_path)
    english, rules = repaired(text.verses, Translation("eng", "English", "Latn"))
    counts |= {f"{rule}: eng": number for rule, number in {**text.counts, **rules}.items() if number}
    splits_of = {verse: split(text) for verse, text in english.items()}
    splits: dict[str, dict[str, Bitext]] = {name: {} for name in REQUIRED}
    facts: dict[str, Any] = {}
    for language in chosen(languages, sorted(texts), wanted_by):
        ranked = sorted(texts[language], key=lambda text: rank(text[0]))
        verses, rules = _joined([(known, read(path)) for _, known, path in ranked], english)
        pairs, leaked = _paired(verses, english, splits_of)
        rules["training pairs left out for their text in val or test"] = leaked
        counts |= {f"{rule}: {language}": number for rule, number in rules.items() if number}
        first = ranked[0][1]
        facts[language] = {"name": first.name, "script": first.script, "texts": [stem for stem, _, _ in ranked]}
        for name in REQUIRED:
            if not pairs[name].foreign:
                raise UsageError(
                    f"{language} has too few verses that English has too: none for {name!r}. Its files: "
                    f"{', '.join(str(path) for _, _, path in ranked)}. Leave it out with languages=."
                )
            splits[name][language] = pairs[name]
    return Corpus(splits, counts=counts, facts={"languages": facts})


def split(english: str) -> str:
    """`train`, `val` or `test`: the split of a verse, by a hash of its English words.

    Verses with the same letters, such as "And Jehovah spake unto Moses, saying,", share a split, whatever their
    punctuation, hyphens and capitals.
    """
    letters = "".join(re.findall(r"[^\W_]+", english.casefold()))
    place = int.from_bytes(hashlib.sha256(letters.encode()).digest()[:8], "big") / 2**64
    return "val" if place < HELD_OUT else "test" if place < 2 * HELD_OUT else "train"


def _joined(
    texts: Sequence[tuple[Translation, Text]], english: Mapping[Verse, str]
) -> tuple[dict[Verse, str], dict[str, int]]:
    """The verses of one language that English has too, and the number of verses that each rule touched."""
    verses: dict[Verse, str] = {}
    counts: dict[str, int] = {}

    def count(rule: str, number: int) -> None:
        counts[rule] = counts.get(rule, 0) + number

    for known, text in texts:
        clean = repaired(text.verses, known)
        for rule, number in (*text.counts.items(), *clean.counts.items()):
            count(rule, number)
        shared = {verse: words for verse, words in clean.verses.items() if verse in english}
        count("verses that are not in the English text", len(clean.verses) - len(shared))
        for rule, wrong in (
            ("verses under a shifted number", shifted(shared, english)),
            ("verses of another length", of_other_length(shared, english)),
        ):
            count(rule, len(wrong & shared.keys()))
            shared = {verse: words for verse, words in shared.items() if verse not in wrong}
        if not verses:
            verses = shared
            continue
        before = set(verses.values())
        new = {verse: words for verse, words in shared.items() if verse not in verses}
        fitting = {verse: words for verse, words in new.items() if words not in before}
        count("verses of a further text that the language has", len(shared) - len(new))
        count("verses of a further text under another number", len(new) - len(fitting))
        count("verses of a further text joined", len(fitting))
        verses |= fitting
    return verses, counts


def _paired(
    verses: Mapping[Verse, str], english: Mapping[Verse, str], splits_of: Mapping[Verse, str]
) -> tuple[dict[str, Bitext], int]:
    """One language's splits, in the order of the English verses, and how many training pairs were left out."""
    pairs = {name: Bitext([], []) for name in REQUIRED}
    held_out = {text for verse, text in verses.items() if splits_of[verse] != "train"}
    leaked = 0
    for verse, central in english.items():
        if verse not in verses:
            continue
        foreign, name = verses[verse], splits_of[verse]
        if name == "train" and foreign in held_out:
            leaked += 1
            continue
        pairs[name].foreign.append(foreign)
        pairs[name].central.append(central)
    return pairs, leaked
