"""The files of the problems on pairs, which are the same pairs in every language: a cut keeps translations together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ..._text.lines import unusable
from ..files import SOURCE, Files, Found
from . import tsv
from .labels import Pair

_TSV = re.compile(r"(train|dev|test)-([a-z]{2,3})\.tsv(\.gz)?")

DIFFERING = 0.1
"""The share of rows above which other labels than English has say that rows are no translations of each other. In
PAWS-X, whose translations were judged anew, some 2 % differ; in files that are out of step at least half do."""


class PairFiles(Files[Pair]):
    """Pairs of `xnli` or `pawsx`."""

    layout = "SPLIT-LANGUAGE.tsv"
    parallel = True

    def find(self) -> dict[str, dict[str, Found]]:
        """XTREME's own files."""
        found: dict[str, dict[str, Found]] = {}
        for match, path in self.named("*.tsv*", _TSV):
            found.setdefault(match[2], {}).setdefault(match[1], Found(match[2], [path]))
        return found

    def read(self, found: Found) -> list[Pair]:
        """All pairs."""
        return tsv.read(found.paths[0], self.problem)

    def is_labelled(self, example: Pair) -> bool:
        """Whether it has a label."""
        return bool(example.label)

    def key(self, example: Pair) -> str:
        """Its row, or that of a pair with the same text."""
        return str(example.origin)

    def aligned(
        self, file: str, by_language: Mapping[str, list[Pair]]
    ) -> tuple[Mapping[str, list[Pair]], Sequence[str]]:
        """Pairs with their `origin`, which is that of English, or of the first language without an English file,
        whichever languages are asked for. Tells how many labels differ from there.

        Raises:
            UsageError: another number of rows than there, or labels of which more than `DIFFERING` differ.
        """
        found = {language: files[file] for language, files in self.find().items() if file in files}
        first = SOURCE if SOURCE in found else min(found)
        rows = by_language.get(first) or self.read(found[first])
        origins = linked(rows)
        differing: dict[str, int] = {}
        for language, pairs in by_language.items():
            path, other = found[language].paths[0], found[first].paths[0]
            why = "so row i cannot be the same pair in both, as it must be where parts for training are cut out of it"
            if len(pairs) != len(rows):
                raise unusable(path, f"it has {len(pairs):,} rows and {other} has {len(rows):,}, {why}")
            count = sum(pair.label != row.label for pair, row in zip(pairs, rows, strict=True) if row.label)
            if count > DIFFERING * len(rows):
                raise unusable(path, f"{count:,} of {len(rows):,} labels differ from those of {other}, {why}")
            if count:
                differing[language] = count
        told = ", ".join(f"{language} {count:,}" for language, count in differing.items())
        notices = [f"labels of {file} differ from those of {first} in some of {len(rows):,} rows: {told}"]
        return {
            language: [pair._replace(origin=origin) for pair, origin in zip(pairs, origins, strict=True)]
            for language, pairs in by_language.items()
        }, notices if differing else []

    def sentences(self, example: Pair) -> Sequence[Sequence[str]]:
        """Both texts, as words between spaces."""
        return [example.first.split(), example.second.split()]


def linked(pairs: Sequence[Pair]) -> list[int]:
    """For each row the first row that it hangs together with: rows that share a text, and what these share texts with.

    XNLI has three hypotheses for each premise, and PAWS-X many pairs for one sentence, so that a cut between single
    rows would train on half of what is scored.
    """
    parent = list(range(len(pairs)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    seen: dict[str, int] = {}
    for row, pair in enumerate(pairs):
        for text in (pair.first, pair.second):
            low, high = sorted((root(seen.setdefault(text, row)), root(row)))
            parent[high] = low
    return [root(row) for row in range(len(pairs))]
