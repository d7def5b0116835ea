"""Questions to rows of subwords: each context is cut into windows that overlap, and each subword knows its characters.

As XTREME's `run_squad.py` does: a row is `[CLS] question [SEP] window [SEP]`, with XLM-R's two end symbols between the
two; a question keeps its first subwords, and windows begin every `stride` subwords until one reaches the end of the
context. Where an answer does not lie wholly in a window, its start and end are at the row's first place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlbench.errors import UsageError

from ..encoders import Encoder, quiet
from ..encoding import shared_places
from .questions import Answer, Question

CHUNK = 1000
"""Texts that the tokeniser takes at once."""


class Subwords(NamedTuple):
    """A text: its n subwords, and the characters `text[begins[i] : ends[i]]` of each, without space around them."""

    ids: NDArray[np.int32]
    begins: NDArray[np.int32]
    ends: NDArray[np.int32]

    def places(self, answer: Answer) -> tuple[int, int] | None:
        """The first and the last subword of an answer; None where the tokeniser leaves nothing of it."""
        start = answer.start + len(answer.text) - len(answer.text.lstrip())
        end = answer.start + len(answer.text.rstrip())
        inside = np.flatnonzero((self.ends > start) & (self.begins < end) & (self.begins < self.ends))
        return (int(inside[0]), int(inside[-1])) if len(inside) else None

    def characters(self, first: int, last: int) -> slice:
        """Where the text from one subword to another stands."""
        return slice(int(self.begins[first]), int(self.ends[last]))


class Windows(NamedTuple):
    """W windows of Q questions."""

    questions: Sequence[NDArray[np.int32]]
    """The subwords of each question."""
    contexts: Sequence[Subwords]
    """The context of each question."""
    owners: NDArray[np.int64]
    """(W,) the question of each."""
    begins: NDArray[np.int64]
    """(W,) the first subword of the context that is in it."""
    sizes: NDArray[np.int64]
    """(W,) how many are in it."""
    before: NDArray[np.int64]
    """(W,) how many places stand before them in its row."""
    answers: NDArray[np.int64]
    """(W, 2) the places in its row where the first answer starts and ends; 0 where it is not wholly in it."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(W,) places of each row."""
        return self.before + self.sizes + 1


class Batch(NamedTuple):
    """Rows of windows on a device: ids, mask and token types (N, T), all N * T places, and the answers' (N,) places."""

    ids: Tensor
    mask: Tensor
    places: Tensor
    kinds: Tensor | None
    starts: Tensor
    ends: Tensor

    def share(self, part: int, parts: int) -> tuple[Batch, int]:
        """The rows that one of several processes takes, and how many, which a loss is the mean of."""
        _, places = shared_places(self.ids, self.places, part, parts)
        ids, mask, starts, ends = (rows[part::parts] for rows in (self.ids, self.mask, self.starts, self.ends))
        kinds = None if self.kinds is None else self.kinds[part::parts]
        return Batch(ids, mask, places, kinds, starts, ends), len(ids)


class Cutter:
    """Questions into windows.

    Args:
        encoder: whose tokeniser and symbols are used.
        max_length: places of a row.
        stride: subwords between the beginnings of two windows.
        question_length: subwords of a question that are kept.

    Raises:
        UsageError: a tokeniser that does not tell characters, or a stride that windows are too short for.
    """

    def __init__(self, encoder: Encoder, max_length: int, stride: int, question_length: int) -> None:
        if not getattr(encoder.tokenizer, "is_fast", False):
            raise UsageError(
                f"The tokeniser of {encoder.told} does not tell which characters a subword stands for. Questions need "
                "one of the library tokenizers: a checkpoint with a tokenizer.json."
            )
        special = 2 + encoder.separators
        if stride > max_length - question_length - special:
            raise UsageError(
                f"protocol.options.answers.stride={stride} would leave text between two windows unread: of "
                f"max_length={max_length} places {question_length} are the question's and {special} special, so that "
                f"windows hold {max(0, max_length - question_length - special)} subwords."
            )
        self._encoder = encoder
        self._max_length = max_length
        self._stride = stride
        self._question_length = question_length

    def subwords(self, texts: Sequence[str]) -> list[Subwords]:
        """The subwords of some texts."""
        found: list[Subwords] = []
        for start in range(0, len(texts), CHUNK):
            chunk = list(texts[start : start + CHUNK])
            with quiet():
                made = self._encoder.tokenizer(chunk, add_special_tokens=False, return_offsets_mapping=True)
            for text, ids, spans in zip(chunk, made["input_ids"], made["offset_mapping"], strict=True):
                stripped = [_stripped(text, begin, end) for begin, end in spans]
                begins, ends = zip(*stripped, strict=True) if stripped else ((), ())
                found.append(Subwords(*(np.array(row, np.int32) for row in (ids, begins, ends))))
        return found

    def windows(self, questions: Sequence[Question]) -> Windows:
        """The windows of some questions, in their order."""
        contexts = list(dict.fromkeys(question.context for question in questions))
        by_context = dict(zip(contexts, self.subwords(contexts), strict=True))
        asked = [q.ids[: self._question_length] for q in self.subwords([question.text for question in questions])]
        rows: list[tuple[int, int, int, int, int, int]] = []
        for number, (question, ids) in enumerate(zip(questions, asked, strict=True)):
            context = by_context[question.context]
            before = 1 + len(ids) + self._encoder.separators
            room = self._max_length - before - 1
            answer = context.places(question.answers[0]) if question.answers else None
            for begin in range(0, max(1, len(context.ids) - room + self._stride), self._stride):
                size = min(room, len(context.ids) - begin)
                start = end = 0
                if answer and begin <= answer[0] and answer[1] < begin + size:
                    start, end = (before + place - begin for place in answer)
                rows.append((number, begin, size, before, start, end))
        owners, begins, sizes, befores, *answers = np.array(rows, np.int64).reshape(-1, 6).T
        texts = [by_context[question.context] for question in questions]
        return Windows(asked, texts, owners, begins, sizes, befores, np.stack(answers, axis=1))


def _stripped(text: str, begin: int, end: int) -> tuple[int, int]:
    """A part of a text without the space around it; of nothing but space, the empty part at its end."""
    while begin < end and text[begin].isspace():
        begin += 1
    while begin < end and text[end - 1].isspace():
        end -= 1
    return begin, end


def padded(windows: Windows, rows: NDArray[np.int64], encoder: Encoder, device: torch.device) -> Batch:
    """The windows at `rows` as a batch."""
    symbols = encoder.symbols
    lengths = windows.lengths[rows]
    columns = np.arange(int(lengths.max()))
    ids = np.full((len(rows), len(columns)), symbols.pad, dtype=np.int64)
    for line, row in zip(ids, rows.tolist(), strict=True):
        owner, begin, size, before = (
            int(values[row]) for values in (windows.owners, windows.begins, windows.sizes, windows.before)
        )
        question = windows.questions[owner]
        line[0] = symbols.start
        line[1 : 1 + len(question)] = question
        line[1 + len(question) : before] = symbols.end
        line[before : before + size] = windows.contexts[owner].ids[begin : begin + size]
        line[before + size] = symbols.end
    mask = columns < lengths[:, None]
    kinds = ((columns >= windows.before[rows][:, None]) & mask).astype(np.int64) if encoder.kinds else None
    starts, ends = np.ascontiguousarray(windows.answers[rows].T)

    def sent(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(device)

    known = None if kinds is None else sent(kinds)
    return Batch(sent(ids), sent(mask), sent(np.arange(ids.size)), known, sent(starts), sent(ends))
