"""Subwords: one SentencePiece vocabulary for all languages, trained on the training split and cached by its content."""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import warnings
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtlbench.errors import UsageError, unknown
from mtlbench.storage import read_regular, write_atomically

from .._cache import ENVIRONMENT, cache_folder
from .._sampling.temperature import shares
from .corpus import Corpus

try:
    import sentencepiece
except ImportError as error:
    raise UsageError('The task nmt needs SentencePiece: pip install "mtlbench[nlp]".') from error

OPTIONS: dict[str, Any] = {
    # 8,000 subwords of 60,000 verses in 25 languages: 0.9 s, where the unigram model takes 16 s.
    "model_type": "bpe",
    "character_coverage": 0.9995,
    "byte_fallback": True,
    "pad_id": 0,
    "bos_id": 1,
    "eos_id": 2,
    "unk_id": 3,
    "max_sentence_length": 1 << 30,  # bytes; longer ones would be left out without a word
    "num_threads": 1,
}
"""SentencePiece's options that are the same for every corpus."""

LARGEST_CACHED = 1 << 26
"""Bytes of a cache file; a model of 8,000 subwords has 130 thousand."""

OFTEN = 1_000_000
"""Times that each letter is read as a word, of languages without a letter in common: more than any two letters meet."""

BATCH = 8192
"""Sentences that are encoded at a time, so that only few ids exist as Python objects at once."""


class Encoded(NamedTuple):
    """N sentences as subwords: sentence n is `ids[offsets[n] : offsets[n + 1]]`."""

    ids: NDArray[np.int32]
    """(subwords of all sentences,)"""
    offsets: NDArray[np.int64]
    """(N + 1,), from 0 to the number of subwords."""


class Subwords:
    """Sentences to ids and back; no marker of beginning or end is added, and no text encodes to a marker or tag.

    Args:
        model: a serialised SentencePiece model.
    """

    pad, bos, eos, unk = 0, 1, 2, 3

    def __init__(self, model: bytes) -> None:
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        self.size: int = self._processor.get_piece_size()
        self.digest = hashlib.sha256(model).hexdigest()

    def tag(self, language: str) -> int:
        """The id that asks for a translation into `language`.

        Raises:
            UsageError: the vocabulary was trained without a tag of this language.
        """
        found: int = self._processor.piece_to_id(_tag(language))
        if found == self.unk:
            pieces = (self._processor.id_to_piece(i) for i in range(self.size) if self._processor.is_control(i))
            raise unknown("target language", language, [piece[2:-1] for piece in pieces if piece.startswith("<2")])
        return found

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """The ids of each sentence; characters outside the vocabulary become their bytes."""
        return self._processor.encode(list(sentences), out_type=int, num_threads=1)

    def encode_flat(self, sentences: Sequence[str]) -> Encoded:
        """The ids of all sentences in one array."""
        parts, lengths = [np.empty(0, np.int32)], [0]
        for start in range(0, len(sentences), BATCH):
            rows = self.encode(sentences[start : start + BATCH])
            lengths += map(len, rows)
            parts.append(np.fromiter(chain.from_iterable(rows), np.int32))
        return Encoded(np.concatenate(parts), np.cumsum(lengths, dtype=np.int64))

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each sequence of ids; markers and tags have none, bytes that are no UTF-8 become U+FFFD."""
        return [self._processor.decode(list(map(int, row))) for row in ids]


def train(
    corpus: Corpus, languages: Sequence[str], vocabulary: int, temperature: float, sentences: int, tags: Sequence[str]
) -> Subwords:
    """The subwords of `languages` and of the centre, from the cache if they were trained before.

    Where only the central language is written, text is folded to NFKC, so that forms of one character share subwords.
    Where others are written too, it is left as it is: what folding removes, such as the full-width punctuation of
    Chinese and the joiners of Persian, could never be written, and references have it.

    Languages without a letter in common (`Corpus.letters`) have no subword in common: all their letters are subwords,
    alone and after a space, so that the space is not left over as a subword of its own. They have equal shares of the
    text, as no one profits from another's, so that all of them are cut equally fine.

    Args:
        corpus: of which only the training split is read.
        languages: those of the corpus that count.
        vocabulary: number of subwords, with 4 markers, one tag for each of `tags` and 256 bytes.
        temperature: T of the sampling; see `sample`.
        sentences: at most this many are read.
        tags: target languages; each gets an id that no text encodes to.

    Raises:
        UsageError: the vocabulary is too large or too small for the sampled text; the message says by how much. Or
            there is no text.
    """
    text = sample(corpus, languages, math.inf if corpus.letters else temperature, sentences)
    options = {
        **OPTIONS,
        "normalization_rule_name": "nmt_nfkc" if set(tags) == {corpus.centre} else "identity",
        "vocab_size": vocabulary,
        "control_symbols": [_tag(language) for language in tags],
    }
    if letters := "".join(corpus.letters.values()):
        options["input_format"] = "tsv"
        text = [f"{sentence}\t1" for sentence in text] + [f"{letter}\t{OFTEN}" for letter in letters]
    key = hashlib.sha256(json.dumps([sentencepiece.__version__, options]).encode())
    for sentence in text:
        key.update(b"\n" + sentence.encode())
    path = _path(key.hexdigest())
    model = _cached(path)
    if model is None:
        model = _trained(text, vocabulary, options)
        _keep(path, model)
    return Subwords(model)


def sample(corpus: Corpus, languages: Sequence[str], temperature: float, sentences: int) -> list[str]:
    """The sentences that subwords are trained on, always the same ones.

    Language i, with D_i training pairs, gives a share of the drawn pairs proportional to D_i^(1 / T), as it does of
    training itself; a language whose share exceeds its pairs has them repeated. Pairs are drawn up to half of
    `sentences`, or until the largest language is used up. Every drawn pair gives its foreign sentence, and all of them
    together give each distinct central sentence once: at most half of the text is in the central language, and
    multi-way parallel corpora do not repeat it.

    Raises:
        UsageError: a language has no training pairs.
    """
    bitexts = [corpus.splits["train"][language] for language in languages]
    sizes = [len(bitext.foreign) for bitext in bitexts]
    if not sizes or not all(sizes):
        without = ", ".join(language for language, size in zip(languages, sizes, strict=True) if not size)
        raise UsageError(f"Subwords need training pairs, and there are none of {without or 'any language'}.")
    p = shares(sizes, temperature)
    drawn = min(sentences // 2, round(max(sizes / p)))
    counts = np.diff(np.rint(np.cumsum(p) * drawn), prepend=0).astype(int)
    foreign: list[str] = []
    central: dict[str, None] = {}
    for language, bitext, count in zip(languages, bitexts, counts, strict=True):
        seed = int.from_bytes(hashlib.sha256(language.encode()).digest()[:4], "little")
        # RandomState's streams are frozen by NumPy (NEP 19), so that the sample is the same under every version.
        order = np.random.RandomState(seed).permutation(len(bitext.foreign))
        for row in np.resize(order, count):
            foreign.append(bitext.foreign[row])
            central[bitext.central[row]] = None
    return foreign + list(central)


def _tag(language: str) -> str:
    return f"<2{language}>"


def _trained(text: Sequence[str], vocabulary: int, options: dict[str, Any]) -> bytes:
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(text), model_writer=model, minloglevel=2, **options
        )
    except RuntimeError as error:
        raise _refused(str(error), vocabulary, len(text)) from error
    return model.getvalue()


def _refused(message: str, vocabulary: int, sentences: int) -> UsageError:
    if largest := re.search(r"value <= (\d+)", message):
        reason = f"is too large for the training text: it can be at most {largest[1]}"
    elif least := re.search(rf"{vocabulary} vs (\d+)", message):
        reason = f"is too small for its markers, tags, bytes and characters: it must be at least {least[1]}"
    else:
        reason = f"cannot be trained: SentencePiece says {message}"
    return UsageError(
        f"A vocabulary of {vocabulary} subwords {reason} ({sentences} sampled sentences). "
        "Change protocol.options.vocabulary, or train it on more text."
    )


def _path(key: str) -> Path | None:
    folder = cache_folder()
    return None if folder is None else folder / f"subwords-{key}"


def _cached(path: Path | None) -> bytes | None:
    """The model in a cache file, which is its SHA-256 and the model; None if it is absent or damaged."""
    if path is None:
        return None
    try:
        content = read_regular(path, LARGEST_CACHED)
    except OSError:
        return None
    digest, model = content[:32], content[32:]
    return model if hashlib.sha256(model).digest() == digest else None


def _keep(path: Path | None, model: bytes) -> None:
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, hashlib.sha256(model).digest() + model)
    except OSError as error:
        warnings.warn(
            f"The subwords are not cached and will be trained again: {path.parent} cannot be written "
            f"({error.strerror}). {ENVIRONMENT}=DIR names another folder.",
            stacklevel=3,
        )
