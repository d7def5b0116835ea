"""Parallel text in files of one sentence per line, plain or `.gz`: strict reading, and pairing line by line."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ..._text.lines import stream, unusable
from ..corpus import Bitext


class Text(NamedTuple):
    """The sentences of one file; sentence n stands in its line n + 1."""

    path: Path
    sentences: list[str]


def read(path: Path) -> Text:
    """The lines of a file as sentences, without white space at their ends; see `stream` for what is refused.

    Raises:
        UsageError: also for a file without any line.
    """
    sentences = [line.strip() for line in stream(path)]
    if not sentences:
        raise unusable(path, "it is empty")
    return Text(path, sentences)


def bitext(foreign: Text, central: Text) -> Bitext:
    """Line n of one text beside line n of the other, for texts that have a sentence in every line.

    Raises:
        UsageError: the texts differ in their number of lines, or a line is empty; names files and line.
    """
    _same_length(foreign, central)
    for text in (foreign, central):
        if not all(text.sentences):
            raise unusable(text.path, f"line {text.sentences.index('') + 1} is empty and has nothing to be paired with")
    return Bitext(foreign.sentences, central.sentences)


def bitext_without_gaps(foreign: Text, central: Text) -> tuple[Bitext, int]:
    """Like `bitext`, for texts that may have empty lines: pairs with an empty side are left out, and counted.

    Raises:
        UsageError: the texts differ in their number of lines, or nothing is left.
    """
    _same_length(foreign, central)
    pairs = [(f, c) for f, c in zip(foreign.sentences, central.sentences, strict=True) if f and c]
    if not pairs:
        raise unusable(foreign.path, f"no line has a sentence both there and in {central.path}")
    return Bitext([f for f, _ in pairs], [c for _, c in pairs]), len(foreign.sentences) - len(pairs)


def _same_length(foreign: Text, central: Text) -> None:
    lengths = len(foreign.sentences), len(central.sentences)
    if lengths[0] != lengths[1]:
        longer = foreign if lengths[0] > lengths[1] else central
        raise unusable(
            foreign.path,
            f"it has {lengths[0]} lines and {central.path}, which it is paired with line by line, has {lengths[1]}: "
            f"line {min(lengths) + 1} of {longer.path.name} has nothing to be paired with",
        )
