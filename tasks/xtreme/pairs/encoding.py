"""Pairs to subwords: `[CLS] a [SEP] b [SEP]` for BERT, `<s> a </s></s> b </s>` for XLM-R."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..encoders import Encoder, quiet
from ..encoding import Batch
from .labels import Pair


class PairRows(NamedTuple):
    """R pairs: pair r is `ids[offsets[r] : offsets[r + 1]]`, with its special subwords."""

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    """(R + 1,)"""
    seconds: NDArray[np.int64]
    """(R,) where in a row the second text begins."""
    labels: NDArray[np.int64]
    """(R,) indices of labels."""
    unknown: int
    """How many subwords are the unknown one."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(R,) subwords."""
        return np.diff(self.offsets)


def encoded(pairs: Sequence[Pair], labels: Sequence[str], encoder: Encoder, max_length: int) -> PairRows:
    """Labelled pairs as rows of at most `max_length` subwords, special ones included."""
    texts = list(dict.fromkeys(text for pair in pairs for text in (pair.first, pair.second)))
    with quiet():  # transformers tells of texts that are longer than the encoder's positions; they are cut here
        cut = dict(zip(texts, encoder.cut(texts), strict=True))
    symbols = encoder.symbols
    between = [symbols.end] * encoder.separators
    room = max_length - len(between) - 2
    index = {label: place for place, label in enumerate(labels)}
    ids: list[int] = []
    offsets, seconds = [0], []
    for pair in pairs:
        first, second = longest_first(cut[pair.first], cut[pair.second], room)
        row = [symbols.start, *first, *between]
        seconds.append(len(row))
        ids += [*row, *second, symbols.end]
        offsets.append(len(ids))
    return PairRows(
        np.array(ids, np.int32),
        np.array(offsets, np.int64),
        np.array(seconds, np.int64),
        np.array([index[pair.label] for pair in pairs], np.int64),
        ids.count(symbols.unknown),
    )


def longest_first(first: list[int], second: list[int], room: int) -> tuple[list[int], list[int]]:
    """Two texts cut to `room` subwords together, as the tokenisers of XTREME's scripts cut them.

    The last subword of the longer one is removed again and again, that of the second where both are of one length.
    """
    if len(first) + len(second) <= room:
        return first, second
    half = room // 2
    kept = room - min(len(second), half) if len(first) > room - half else len(first)
    return first[:kept], second[: room - kept]


def padded(rows: PairRows, chosen: NDArray[np.int64], encoder: Encoder, device: torch.device) -> Batch:
    """The pairs at `chosen` as a batch, whose places are the first ones of its rows."""
    lengths = rows.lengths[chosen]
    columns = np.arange(int(lengths.max()))
    inside = columns < lengths[:, None]
    ids = np.full(inside.shape, encoder.symbols.pad, dtype=np.int64)
    ids[inside] = rows.ids[(rows.offsets[chosen][:, None] + columns)[inside]]
    places = np.arange(len(chosen)) * len(columns)
    arrays = [ids, inside, places, rows.labels[chosen]]
    if encoder.kinds:
        arrays.append(((columns >= rows.seconds[chosen][:, None]) & inside).astype(np.int64))
    return Batch(*(torch.from_numpy(array).to(device) for array in arrays))
