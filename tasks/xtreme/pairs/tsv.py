"""XTREME's files of pairs: two texts and a label on a line, tabs between; test sets are published without labels."""

from __future__ import annotations

from pathlib import Path

from mtlbench.errors import unknown

from ..._text.lines import stream, unusable
from .labels import LABELS, SYNONYMS, Pair


def read(path: Path, problem: str) -> list[Pair]:
    """The pairs of a file, plain or `.gz`, in the order of its lines.

    A file of two columns gives pairs without labels. Line ends, byte order mark and what is not UTF-8: see
    `lines.stream`. The files are written with the quoting of CSV, and XTREME's scripts read them without: quotation
    marks around and doubled ones within a text stay, as what official scores were trained on. Spaces around a label do
    not count.

    Args:
        path: the file.
        problem: a key of `LABELS`.

    Raises:
        UsageError: names file and line: another number of columns than two texts and a label, or than the lines before,
            a text or a label that is empty, a label that is not one of the problem's. Or a file without any line.
    """
    labels, synonyms = LABELS[problem], SYNONYMS[problem]
    pairs: list[Pair] = []
    expected = 0
    for number, line in enumerate(stream(path), 1):
        columns = line.split("\t")
        where = f"line {number} ({line[:60]!r})"
        if len(columns) != (expected or len(columns)) or len(columns) not in (2, 3):
            wanted = {0: "two texts and a label", 2: "two texts alone, as in the lines before"}
            told = wanted.get(expected, "two texts and a label, as in the lines before")
            raise unusable(path, f"{where} has {len(columns)} columns, and expected are {told}")
        expected = len(columns)
        for column, name in zip(columns, ("first text", "second text", "label"), strict=False):
            if not column.strip():
                raise unusable(path, f"{where} has an empty {name}")
        label = columns[2].strip() if expected == 3 else ""
        label = synonyms.get(label, label)
        if label and label not in labels:
            raise unusable(path, f"line {number}: {unknown('label', label, labels)}".rstrip("."))
        pairs.append(Pair(columns[0], columns[1], label))
    if not pairs:
        raise unusable(path, "it has no pair")
    return pairs
