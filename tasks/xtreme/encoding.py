"""Words to subwords: the label of a word stands at its first subword, and every word has one.

As in XTREME's preprocessing, words are cut one by one. A word of which the tokeniser leaves nothing, or with more
subwords than a window holds, becomes the unknown subword. A sentence with more subwords than a window holds is cut
before a word into several windows, whose predictions are joined again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .corpus import Example
from .tagging.sentences import Sentence

IGNORED = -100
"""The label of a subword that is not the first one of its word."""

POOL = 32
"""Batches that are drawn at random and then sorted by length together."""

WordCutter = Callable[[Sequence[str]], list[list[int]]]
"""Words into the subwords of each."""


class Symbols(NamedTuple):
    """The ids with a meaning of their own."""

    pad: int
    start: int
    end: int
    unknown: int


class Windows(NamedTuple):
    """W windows of text: window w is `ids[offsets[w] : offsets[w + 1]]`, without the special subwords around it."""

    ids: NDArray[np.int32]
    labels: NDArray[np.int16]
    """Beside each subword the index of its word's tag, or `IGNORED`."""
    offsets: NDArray[np.int64]
    """(W + 1,)"""
    sentences: NDArray[np.int64]
    """(W,) which sentence each is a part of."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(W,) subwords, the two special ones included."""
        return np.diff(self.offsets) + 2


class Batch(NamedTuple):
    """Padded windows on a device: ids and mask (N, T), and the places and labels of the words, flattened (n,)."""

    ids: Tensor
    mask: Tensor
    places: Tensor
    labels: Tensor
    kinds: Tensor | None = None
    """(N, T) token types, where a row holds two texts and the encoder has types for them."""

    def share(self, part: int, parts: int) -> tuple[Batch, int]:
        """The rows that one of several processes takes, and how many labels they have, which a loss is the mean of."""
        kept, places = shared_places(self.ids, self.places, part, parts)
        ids, mask = self.ids[part::parts], self.mask[part::parts]
        kinds = None if self.kinds is None else self.kinds[part::parts]
        return Batch(ids, mask, places, self.labels[kept], kinds), len(places)


def shared_places(ids: Tensor, places: Tensor, part: int, parts: int) -> tuple[Tensor, Tensor]:
    """Of the places of a batch those in its rows `part`, `part + parts`, ..., and where they are among these rows.

    Rows are shared out in turn, since those of a batch are sorted by length.

    Args:
        ids: (N, T).
        places: (n,) counted over the rows.
        part: from 0.
        parts: that together are the batch.

    Returns:
        (n,) bool which, and the places counted over the rows that are taken.
    """
    rows, columns = places // ids.shape[1], places % ids.shape[1]
    kept = rows % parts == part
    return kept, (rows // parts * ids.shape[1] + columns)[kept]


class Vocabulary:
    """Words to subwords, each distinct word cut once."""

    def __init__(self, cut: WordCutter, symbols: Symbols, max_length: int) -> None:
        self._cut = cut
        self.symbols = symbols
        self._room = max_length - 2
        self._known: dict[str, list[int]] = {}
        self._replaced: set[str] = set()

    def encode(self, sentences: Sequence[Sequence[str]]) -> list[list[list[int]]]:
        """Sentence -> word -> its subwords, of which there is at least one."""
        new = list(dict.fromkeys(word for words in sentences for word in words if word not in self._known))
        for word, ids in zip(new, self._cut(new) if new else [], strict=True):
            if not ids or len(ids) > self._room:
                self._replaced.add(word)
                ids = [self.symbols.unknown]
            self._known[word] = ids
        return [[self._known[word] for word in words] for words in sentences]

    def replaced(self, sentences: Sequence[Sentence]) -> int:
        """How many words of encoded sentences stand as the unknown subword for the reasons that the module gives."""
        return sum(word in self._replaced for sentence in sentences for word in sentence.words)

    def windows(self, sentences: Sequence[Sentence], tags: Sequence[str]) -> Windows:
        """Tagged sentences as windows."""
        index = {tag: place for place, tag in enumerate(tags)}
        ids: list[int] = []
        labels: list[int] = []
        offsets, owners = [0], []
        for number, (words, sentence) in enumerate(
            zip(self.encode([s.words for s in sentences]), sentences, strict=True)
        ):
            for subwords, tag in zip(words, sentence.tags, strict=True):
                if len(ids) - offsets[-1] + len(subwords) > self._room:
                    offsets.append(len(ids))
                    owners.append(number)
                ids += subwords
                labels += [index[tag], *[IGNORED] * (len(subwords) - 1)]
            offsets.append(len(ids))
            owners.append(number)
        return Windows(
            np.array(ids, np.int32), np.array(labels, np.int16), np.array(offsets, np.int64), np.array(owners, np.int64)
        )


def batches(lengths: NDArray[np.int64], size: int, generator: torch.Generator) -> Iterator[NDArray[np.int64]]:
    """Endless batches of row indices; every pass over the rows takes a new random order.

    Pools of `POOL` batches are sorted by length and cut, and their batches shuffled, so that a batch holds rows of
    similar length. A pass holds every row once; its last batch may be smaller.
    """
    while True:
        order = torch.randperm(len(lengths), generator=generator).numpy()
        for start in range(0, len(order), POOL * size):
            rows = order[start : start + POOL * size]
            rows = rows[np.argsort(-lengths[rows], kind="stable")]
            for place in torch.randperm(-(-len(rows) // size), generator=generator).tolist():
                yield rows[place * size : (place + 1) * size]


def padded(windows: Windows, rows: NDArray[np.int64], symbols: Symbols, device: torch.device) -> Batch:
    """The windows at `rows` as a batch."""
    lengths = windows.lengths[rows]
    columns = np.arange(int(lengths.max()))
    ids = np.full((len(rows), len(columns)), symbols.pad, dtype=np.int64)
    labels = np.full(ids.shape, IGNORED, dtype=np.int64)
    inside = (columns >= 1) & (columns < lengths[:, None] - 1)
    places = (windows.offsets[rows][:, None] + columns - 1)[inside]
    ids[inside], labels[inside] = windows.ids[places], windows.labels[places]
    ids[:, 0] = symbols.start
    ids[np.arange(len(rows)), lengths - 1] = symbols.end
    flat = labels.ravel()
    where = np.flatnonzero(flat != IGNORED)
    arrays = ids, columns < lengths[:, None], where, flat[where]
    return Batch(*(torch.from_numpy(array).to(device) for array in arrays))


def spread(examples: Sequence[Example], limit: int | None) -> Sequence[Example]:
    """At most `limit` of them, spread evenly."""
    if limit is None or limit >= len(examples):
        return examples
    return [examples[row * len(examples) // limit] for row in range(limit)]


def drawn(text: Mapping[str, Sequence[Sequence[str]]], temperature: float) -> list[Sequence[str]]:
    """The sentences that an encoder is made from: languages in proportion to D_i^(1/T), always the same ones.

    As many of each as leave none of the largest language out; those of a smaller one are repeated.
    """
    sizes = np.array([len(sentences) for sentences in text.values()], np.float64)
    counts = np.rint(sizes.max() * (sizes / sizes.max()) ** (1 / temperature)).astype(int)
    found: list[Sequence[str]] = []
    for sentences, count in zip(text.values(), counts, strict=True):
        found += [sentences[row % len(sentences)] for row in range(count)]
    return found
