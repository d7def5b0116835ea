"""Treebanks of Universal Dependencies, CoNLL-U, read as XTREME's preprocessing reads them.

XTREME (`utils_preprocess.py`, `third_party/ud-conversion-tools`) gives a multi-word token, such as French `du`, its own
form and the part of speech of the one of its words that stands highest in the basic dependency tree; of several that
stand equally high, that of the first in `PRECEDENCE`, or of the first word. Empty nodes and enhanced dependencies are
not read. Spaces and U+200C inside forms are removed. A sentence of which all words or all but one are `_` is left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mtlbench.errors import unknown

from ..._text.lines import stream, unusable
from .sentences import UPOS, Sentence

PRECEDENCE: Mapping[str, Sequence[str]] = {
    "": [
        "VERB",
        "NOUN",
        "PROPN",
        "PRON",
        "ADJ",
        "NUM",
        "ADV",
        "INTJ",
        "AUX",
        "ADP",
        "DET",
        "PART",
        "CCONJ",
        "SCONJ",
        "X",
        "PUNCT",
    ],
    "es": ["VERB", "AUX", "PRON", "ADP", "DET"],
    "fr": ["VERB", "AUX", "PRON", "NOUN", "ADJ", "ADV", "ADP", "DET", "PART", "SCONJ", "CONJ"],
    "it": ["VERB", "AUX", "ADV", "PRON", "ADP", "DET", "INTJ"],
}
"""Language, or nothing for all others -> parts of speech, the one that a multi-word token takes first."""

COLUMNS = 10
_ID = re.compile(r"(\d+)(?:([-.])(\d+))?")


class _Word(NamedTuple):
    form: str
    tag: str
    head: int


class _Fused(NamedTuple):
    form: str
    first: int
    last: int


def read(path: Path, language: str, tags: Collection[str] = UPOS) -> list[Sentence]:
    """The sentences of a treebank file, plain or `.gz`, as XTREME would have them.

    Args:
        path: the file.
        language: its code, for `PRECEDENCE`.
        tags: parts of speech that a word may have.

    Raises:
        UsageError: names file and line: another number of columns, an id out of order, a range that overlaps another
            or ends after its sentence, a head that is no word, a form that is empty, an unknown part of speech. Or
            a file without any sentence.
    """
    sentences: list[Sentence] = []
    words: list[_Word] = []
    fused: list[_Fused] = []
    number = 0

    def close() -> None:
        if fused and fused[-1].last > len(words):
            raise unusable(path, f"line {number}: the range {fused[-1].first}-{fused[-1].last} ends after its sentence")
        for place, word in enumerate(words, 1):
            if word.head > len(words):
                raise unusable(path, f"line {number}: word {place} of the sentence before has the head {word.head}")
        if words and (sentence := _sentence(words, fused, PRECEDENCE.get(language, PRECEDENCE[""]))):
            sentences.append(sentence)
        words.clear()
        fused.clear()

    for number, line in enumerate(stream(path), 1):
        if not line.strip(" "):
            close()
            continue
        if line.startswith("#"):
            continue
        cells = line.split("\t")
        if len(cells) != COLUMNS:
            raise unusable(path, f"line {number} ({line[:60]!r}) has {len(cells)} columns, and expected are {COLUMNS}")
        found = _ID.fullmatch(cells[0])
        form = cells[1].replace(" ", "").replace("\u200c", "")
        if found is None or not form:
            wrong = "no form" if found else f"the id {cells[0]!r}"
            raise unusable(path, f"line {number} ({line[:60]!r}) has {wrong}")
        first, kind, last = int(found[1]), found[2], int(found[3] or 0)
        if kind == ".":
            continue
        if first != len(words) + 1 or (kind == "-" and (last < first or (fused and fused[-1].last >= first))):
            raise unusable(path, f"line {number} ({line[:60]!r}): the id {cells[0]} does not follow on {len(words)}")
        if kind == "-":
            fused.append(_Fused(form, first, last))
            continue
        if cells[3] not in tags:
            raise unusable(path, f"line {number}: {unknown('part of speech', cells[3], tags)}".rstrip("."))
        if not cells[6].isdecimal() and cells[6] != "_":
            raise unusable(path, f"line {number} ({line[:60]!r}) has the head {cells[6]!r}, which is no number")
        words.append(_Word(form, cells[3], int(cells[6]) if cells[6] != "_" else 0))
    number += 1
    close()
    if not sentences:
        raise unusable(path, "it has no sentence")
    return sentences


def _sentence(words: Sequence[_Word], fused: Sequence[_Fused], precedence: Sequence[str]) -> Sentence | None:
    """The sentence with multi-word tokens in the place of their words; None where XTREME leaves it out."""
    pairs: list[tuple[str, str]] = []
    place = 1
    for token in (*fused, _Fused("", len(words) + 1, len(words))):
        pairs += [(word.form, word.tag) for word in words[place - 1 : token.first - 1]]
        if token.form:
            pairs.append((token.form, _tag(words, range(token.first, token.last + 1), precedence)))
        place = token.last + 1
    unwritten = sum(form == "_" for form, _ in pairs)
    if unwritten and unwritten >= len(pairs) - 1:
        return None
    forms, tags = zip(*pairs, strict=True)
    return Sentence(forms, tags)


def _tag(words: Sequence[_Word], span: Sequence[int], precedence: Sequence[str]) -> str:
    depths = {place: _depth(words, place) for place in span}
    highest = [place for place in span if depths[place] == min(depths.values())]

    def rank(place: int) -> int:
        tag = words[place - 1].tag
        return precedence.index(tag) if tag in precedence else len(precedence)

    return words[min(highest, key=rank) - 1].tag


def _depth(words: Sequence[_Word], place: int) -> int:
    """The number of different words above the one at `place`, counted from 1; the same where heads form a circle."""
    above: set[int] = set()
    at = place
    while at and (at := words[at - 1].head) not in above and at != place:
        above.add(at)
    return len(above)
