"""XTREME's tagging files: a word, a tab and its tag on a line, an empty line after each sentence."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from mtlbench.errors import unknown

from ..._text.lines import stream, unusable
from .sentences import Sentence


def read(path: Path, tags: Collection[str]) -> list[Sentence]:
    """The sentences of a file, plain or `.gz`.

    A file of words alone, as XTREME publishes test sets, gives sentences without tags. Line ends, byte order mark and
    what is not UTF-8: see `lines.stream`. A line of nothing but spaces is empty.

    Args:
        path: the file.
        tags: those that a word may have.

    Raises:
        UsageError: names file and line: more than one tab, none where other lines have one, a word or tag that is
            empty, a space in a word, a tag that is not one of `tags`. Or a file without any sentence.
    """
    sentences: list[Sentence] = []
    words: list[str] = []
    found: list[str] = []
    labelled: bool | None = None
    for number, line in enumerate(stream(path), 1):
        if not line.strip(" "):
            if words:
                sentences.append(Sentence(tuple(words), tuple(found)))
                words, found = [], []
            continue
        word, *rest = line.split("\t")
        where = f"line {number} ({line[:60]!r})"
        if labelled is None:
            labelled = bool(rest)
        if len(rest) != labelled:
            expected = "a word, one tab and a tag" if labelled else "a word alone, as the lines before it"
            raise unusable(path, f"{where} has {len(rest)} tabs, and expected is {expected}")
        if not word or " " in word:
            raise unusable(path, f"{where} has {'a space in' if word else 'no text for'} its word")
        words.append(word)
        if rest:
            if rest[0] not in tags:
                raise unusable(path, f"line {number}: {unknown('tag', rest[0], tags)}".rstrip("."))
            found.append(rest[0])
    if words:
        sentences.append(Sentence(tuple(words), tuple(found)))
    if not sentences:
        raise unusable(path, "it has no sentence")
    return sentences
