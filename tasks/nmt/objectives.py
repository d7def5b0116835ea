"""From parallel text to the K objectives: directions, encoded sentence pairs, and what was left out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtlbench.errors import UsageError

from .corpus import Bitext, Corpus
from .options import Direction
from .sampling import Examples, Side
from .subwords import Subwords


@dataclass(frozen=True)
class Pair:
    """One objective: a language and the direction of translation."""

    language: str
    """The one beside the central one."""
    source: str
    target: str

    @property
    def name(self) -> str:
        """`de-en`."""
        return f"{self.source}-{self.target}"


@dataclass(frozen=True)
class Split:
    """The sentence pairs of one split by objective, with the references to score against."""

    examples: dict[int, Examples]
    references: dict[int, list[str]] = field(default_factory=dict)
    """Empty for the training split."""


class LeftOut(NamedTuple):
    """Training pairs that are not trained on, by objective; one without any has no number."""

    without_subwords: dict[str, int]
    """A side of them is empty, or of characters that leave nothing, such as a lone zero-width space."""
    too_long: dict[str, int]


def pairs(languages: Iterable[str], centre: str, direction: Direction) -> list[Pair]:
    """The objectives: every language into the centre, out of it, or first the one and then the other."""
    into = [Pair(x, x, centre) for x in languages]
    out = [Pair(x, centre, x) for x in languages]
    return {"x2en": into, "en2x": out, "both": into + out}[direction]


def encoded(
    corpus: Corpus, objectives: Sequence[Pair], subwords: Subwords, limits: Mapping[str, int], max_length: int
) -> tuple[dict[str, Split], LeftOut]:
    """All splits as subwords, and how many training pairs of each objective were left out.

    Args:
        corpus: the text.
        objectives: K of them.
        subwords: what it is cut into.
        limits: split -> how many of its sentences are kept, spread evenly over it.
        max_length: positions of either side, with end and tag.

    Raises:
        UsageError: an objective of which no training pair is left.
    """
    found: dict[str, Split] = {}
    left_out = LeftOut({}, {})
    for name, by_language in corpus.splits.items():
        split = paired(by_language, objectives, corpus.centre, subwords, limits.get(name))
        if name == "train":
            split = Split(
                {k: _trainable(split.examples[k], objectives[k], max_length, left_out) for k in split.examples}
            )
        found[name] = split
    return found, left_out


def paired(
    by_language: Mapping[str, Bitext],
    objectives: Sequence[Pair],
    centre: str,
    subwords: Subwords,
    limit: int | None = None,
) -> Split:
    """One split as subwords, of its objectives those whose language it has, each with at most `limit` sentences.

    Central sentences that are the same are the same place of `ids`, whatever the objective.
    """
    tagged = len({pair.target for pair in objectives}) > 1 or objectives[0].target != centre
    sides = _sides(by_language, limit, subwords)
    split = Split({})
    for k, pair in enumerate(objectives):
        if pair.language not in sides:
            continue
        foreign, central, text = sides[pair.language]
        into = pair.target == centre
        source, target = (foreign, central) if into else (central, foreign)
        split.examples[k] = Examples(source, target, subwords.tag(pair.target) if tagged else None)
        split.references[k] = text.central if into else text.foreign
    return split


def _trainable(examples: Examples, objective: Pair, max_length: int, left_out: LeftOut) -> Examples:
    """The pairs that are trained on; those that are not are counted in `left_out`."""
    full = full_sides(examples)
    fits = np.flatnonzero(full & (examples.lengths <= max_length))
    for counts, number in zip(left_out, ((~full).sum(), full.sum() - len(fits)), strict=True):
        if number:
            counts[objective.name] = int(number)
    if len(fits) == 0:
        raise UsageError(
            f"{objective.name} has no training pair left: {full.sum()} are longer than {max_length} subwords "
            f"(protocol.options.max_length), {(~full).sum()} have a side without any."
        )
    return examples.take(fits)


def full_sides(examples: Examples) -> NDArray[np.bool_]:
    """(n,) whether both sides of a pair have a subword."""
    return (examples.source.lengths > 0) & (examples.target.lengths > 0)


def digest(corpus: Corpus) -> str:
    """SHA-256 (hex) over all text of all splits."""
    hashed = hashlib.sha256(corpus.centre.encode())
    for split, by_language in corpus.splits.items():
        for language, text in by_language.items():
            hashed.update(f"\0{split}\0{language}".encode())
            for side in text:
                hashed.update("\n".join(side).encode())
    return hashed.hexdigest()


def _sides(
    by_language: Mapping[str, Bitext], limit: int | None, subwords: Subwords
) -> dict[str, tuple[Side, Side, Bitext]]:
    """Both sides of every language, limited; a central sentence that many languages share is cut up once."""
    texts = {language: _limited(text, limit) for language, text in by_language.items()}
    places: dict[str, int] = {}
    for text in texts.values():
        for sentence in text.central:
            places.setdefault(sentence, len(places))
    shared = _side(list(places), subwords)
    sides = {}
    for language, text in texts.items():
        rows = np.fromiter((places[s] for s in text.central), dtype=np.int64, count=len(text.central))
        sides[language] = (_side(text.foreign, subwords), shared.take(rows), text)
    return sides


def _limited(text: Bitext, limit: int | None) -> Bitext:
    if limit is None or limit >= len(text.foreign):
        return text
    rows: NDArray[np.int64] = np.arange(limit) * len(text.foreign) // limit
    return Bitext(*([side[row] for row in rows] for side in text))


def _side(sentences: list[str], subwords: Subwords) -> Side:
    ids, offsets = subwords.encode_flat(sentences)
    return Side(ids, offsets[:-1], np.diff(offsets))
