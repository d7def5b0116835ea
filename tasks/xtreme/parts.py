"""Which file of a language serves which split, and how one that serves several is cut.

XTREME publishes `train`, `dev` and `test`. A split whose file is missing, or has no labels, is cut from another one:
`train` from `dev`, `val` from `train`, `test` from `dev`, else from `train`. A file that serves several splits is cut
in the proportion of the protocol's `shares`. The SHA-256 of an example's key, such as the words of a sentence, says
which cut it belongs to, so that a cut depends on no order and no seed, and what has the same key stays together.
Where row i of a file is the same example in every language, all languages cut it in the same proportion, that of the
splits that it serves in any of them, and leave alone what others need: else one would train on translations of what
another is scored on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

from .corpus import SPLITS, Example
from .options import Shares

FILES = {"train": ("train", "dev"), "val": ("dev", "train"), "test": ("test", "dev", "train")}
"""Split -> the files that it is taken from, the first one that is there."""


class Part(NamedTuple):
    """Examples of a file whose hash, as a fraction of its range, is at least `low` and below `high`."""

    file: str
    low: Fraction
    high: Fraction

    @property
    def told(self) -> str:
        """`dev`, or `1/2 of dev`."""
        return self.told_of(self.file)

    def told_of(self, file: str) -> str:
        """The same for a file that has another name."""
        share = self.high - self.low
        return file if share == 1 else f"{share} of {file}"

    def of(self, examples: Sequence[Example], key: Callable[[Example], str]) -> list[Example]:
        """Those of a file's examples that are in this part, in their order."""
        if self.high - self.low == 1:
            return list(examples)
        return [example for example in examples if self.low <= position(key(example)) < self.high]


def position(key: str) -> Fraction:
    """Where a key lies between 0 and 1."""
    hashed = hashlib.sha256(key.encode()).digest()
    return Fraction(int.from_bytes(hashed[:8], "big"), 1 << 64)


def serving(files: Sequence[str], splits: Sequence[str]) -> Mapping[str, Sequence[str]] | None:
    """File -> the splits that it serves; None where a split has nothing to be taken from.

    Args:
        files: those with labels that a language has, of `train`, `dev` and `test`.
        splits: those that are needed, of `train`, `val` and `test`.
    """
    served: dict[str, list[str]] = {}
    for split in SPLITS:
        if split in splits:
            file = next((name for name in FILES[split] if name in files), None)
            if file is None:
                return None
            served.setdefault(file, []).append(split)
    return served


def together(served: Iterable[Mapping[str, Sequence[str]] | None]) -> Mapping[str, Sequence[str]]:
    """File -> the splits that it serves in any of several languages, from what `serving` tells of each."""
    by_file = [item for files in served if files for item in files.items()]
    return {
        file: [split for split in SPLITS if any(split in splits for name, splits in by_file if name == file)]
        for file, _ in by_file
    }


def parts(served: Mapping[str, Sequence[str]], shares: Shares, cut: Mapping[str, Sequence[str]]) -> Mapping[str, Part]:
    """Split -> what serves it.

    Args:
        served: what `serving` tells of a language.
        shares: see the module.
        cut: file -> the splits that it is cut for, those of `served` among them.
    """
    found: dict[str, Part] = {}
    for file, splits in served.items():
        total = sum(getattr(shares, split) for split in cut[file])
        low = Fraction(0)
        for split in cut[file]:
            high = low + Fraction(getattr(shares, split), total)
            if split in splits:
                found[split] = Part(file, low, high)
            low = high
    return {split: found[split] for split in SPLITS if split in found}
