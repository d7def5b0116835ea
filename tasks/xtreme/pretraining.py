"""The encoder `tiny`: its subwords and its weights, both learnt from unlabelled text, made once and kept."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from tokenizers.implementations import BertWordPieceTokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from torch import Tensor
from torch.nn import functional
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from mtlbench.errors import UsageError

from .._cache import kept
from .encoders import Encoder, load, quiet
from .encoding import IGNORED, Vocabulary, Windows, batches, drawn, padded
from .options import Options
from .tagging.sentences import Sentence
from .unlabelled import Text

SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 256,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.1,  # BERT's 0.02 is for a width of 768; so narrow a model hardly begins to learn with it
}
SPECIAL = ("PAD", "UNK", "CLS", "SEP", "MASK")
BOUNDARY = "\u2581"
"""What SentencePiece puts before a word."""
MASKED = 0.15
"""Share of subwords that are to be found; of these, 8 in 10 are masked, 1 is another one, 1 stays (BERT, 3.1)."""
WARMUP = 0.1
"""Of the steps, over which the learning rate rises; it falls to 0 over the others."""
WEIGHT_DECAY = 0.01
CLIP = 1.0
TELL_SECONDS = 1.0

_log = logging.getLogger(__name__)


def tiny(text: Text, o: Options) -> Encoder:
    """The encoder `tiny` for some text, from the cache if it was made before.

    It is a BERT of `SHAPE` with WordPiece subwords, cased. Its content, which names it in the cache, is all that it
    depends on: the text, the options `vocabulary`, `max_length`, `temperature` and those of pre-training, and the
    versions of the libraries. One process makes it while others that want it wait.

    Raises:
        UsageError: a vocabulary that is too small for the characters of the text.
    """
    settings = {
        "shape": SHAPE,
        "options": {key: value for key, value in o.model_dump().items() if key.startswith("pretrain_")},
        "made_of": [o.vocabulary, o.max_length, o.temperature, MASKED, WARMUP, WEIGHT_DECAY, CLIP],
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers", "sentencepiece")},
    }
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for language, sentences in text.items():
        key.update(f"\0{language}\0".encode())
        key.update("\n".join(" ".join(words) for words in sentences).encode())
    folder = kept(f"encoder-{key.hexdigest()}", "the encoder", lambda place: _make(place, text, o))
    return load("tiny", o.max_length, folder)


def _make(folder: Path, text: Text, o: Options) -> None:
    sentences = drawn(text, o.temperature)
    tokenizer = _tokenizer(sentences, o.vocabulary)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(o.pretrain_seed)
        config = BertConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=o.max_length,
            pad_token_id=tokenizer.pad_token_id,
            **SHAPE,
        )
        model = BertForMaskedLM(config)
        if o.pretrain_steps:
            _pretrain(model, tokenizer, sentences, o)
    with quiet():
        model.bert.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _tokenizer(sentences: Sequence[Sequence[str]], vocabulary: int) -> PreTrainedTokenizerFast:
    """BERT's tokeniser, cased, with the pieces that SentencePiece's byte-pair encoding finds in the text.

    The trainers of the library `tokenizers` break ties by the order of a hash table, so that two runs learn different
    vocabularies; SentencePiece learns the same one. Every character of the text is a subword at the beginning of a
    word and, but for Chinese ones, which are always words of their own, inside, so that no word of the text is unknown.
    """
    normalizer, splitter = BertNormalizer(lowercase=False, strip_accents=False), BertPreTokenizer()
    words: dict[str, list[str]] = {word: [] for sentence in sentences for word in sentence}
    for word in words:
        words[word] = [part for part, _ in splitter.pre_tokenize_str(normalizer.normalize_str(word))]
    parts = [[part for word in sentence for part in words[word]] for sentence in sentences]
    known = {part for found in words.values() for part in found}
    first = sorted({character for part in known for character in part})
    inside = sorted({character for part in known if len(part) > 1 for character in part})
    pieces = [*(f"[{kind}]" for kind in SPECIAL), *first, *(f"##{character}" for character in inside)]
    if len(pieces) > vocabulary:
        raise UsageError(
            f"protocol.options.vocabulary={vocabulary} is too small: the characters of the text alone are "
            f"{len(pieces)} subwords."
        )
    if room := vocabulary - len(pieces):
        pieces += _longer_pieces(parts, room, len(first) + len(inside))
    made = BertWordPieceTokenizer({piece: n for n, piece in enumerate(pieces)}, lowercase=False, strip_accents=False)
    names = {f"{kind.lower()}_token": f"[{kind}]" for kind in SPECIAL}
    return PreTrainedTokenizerFast(tokenizer_object=made._tokenizer, **names)


def _longer_pieces(parts: Sequence[Sequence[str]], room: int, characters: int) -> list[str]:
    """At most `room` pieces of more than one character, in WordPiece's notation, the most useful first."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(" ".join(part for part in found if BOUNDARY not in part) for found in parts),
        model_writer=model,
        model_type="bpe",
        vocab_size=room + characters + 2,  # more than can be used: single characters and markers do not count
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name="identity",
        max_sentence_length=1 << 30,
        bos_id=-1,
        eos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    trained = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    found = (trained.id_to_piece(n) for n in range(1, trained.get_piece_size()))  # 0 is for unknown ones
    named = (piece[1:] if piece.startswith(BOUNDARY) else f"##{piece}" for piece in found)
    return [piece for piece in named if len(piece.removeprefix("##")) > 1][:room]


def _pretrain(
    model: BertForMaskedLM, tokenizer: PreTrainedTokenizerFast, sentences: Sequence[Sequence[str]], o: Options
) -> None:
    """Masked language modelling on the CPU, in float32, in the threads that the protocol states."""
    windows = _windows(tokenizer, sentences, o.max_length)
    symbols = Encoder(Path(), "tiny", tokenizer, "").symbols
    generator = torch.Generator().manual_seed(o.pretrain_seed)
    rows = batches(windows.lengths, o.pretrain_batch, generator)
    optimizer = torch.optim.AdamW(model.parameters(), o.pretrain_lr, weight_decay=WEIGHT_DECAY)
    warm = max(1, round(WARMUP * o.pretrain_steps))
    model.eval()  # no dropout: so short a training does not overfit
    total, counted = 0.0, 0
    began = told = time.monotonic()
    _log.info("pre-training the encoder by masked language modelling: %d steps", o.pretrain_steps)
    for step in range(o.pretrain_steps):
        rate = min((step + 1) / warm, (o.pretrain_steps - step) / max(1, o.pretrain_steps - warm))
        optimizer.param_groups[0]["lr"] = o.pretrain_lr * rate
        batch = padded(windows, next(rows), symbols, torch.device("cpu"))
        ids, wanted = _masked(batch.ids, batch.mask, tokenizer, generator)
        optimizer.zero_grad()
        hidden = model.bert(input_ids=ids, attention_mask=batch.mask).last_hidden_state
        places = wanted.flatten().ne(IGNORED).nonzero()[:, 0]
        logits = model.cls(hidden.flatten(0, 1).index_select(0, places))
        loss = functional.cross_entropy(logits, wanted.flatten()[places])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        total, counted = total + loss.item(), counted + 1
        now = time.monotonic()
        if now - told > TELL_SECONDS or step + 1 == o.pretrain_steps:
            left = (now - began) / (step + 1) * (o.pretrain_steps - step - 1)
            _log.info(
                "pre-training the encoder: step %d of %d, loss %.2f, %.0f s left",
                step + 1, o.pretrain_steps, total / counted, left,
                extra={"progress": (step + 1, o.pretrain_steps)},
            )  # fmt: skip
            total, counted, told = 0.0, 0, now


def _windows(tokenizer: PreTrainedTokenizerFast, sentences: Sequence[Sequence[str]], max_length: int) -> Windows:
    encoder = Encoder(Path(), "tiny", tokenizer, "")
    vocabulary = Vocabulary(encoder.cut, encoder.symbols, max_length)
    return vocabulary.windows([Sentence(tuple(words), ("",) * len(words)) for words in sentences], [""])


def _masked(
    ids: Tensor, mask: Tensor, tokenizer: PreTrainedTokenizerFast, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Ids with some hidden, and what they were; `IGNORED` where nothing is asked. At least one is asked for."""
    special = torch.tensor(tokenizer.all_special_ids)
    open_ = mask & ~torch.isin(ids, special)
    draw = torch.rand(ids.shape, generator=generator).masked_fill(~open_, 2.0)
    asked = draw < max(MASKED, draw.min().item() + 1e-6)
    wanted = torch.where(asked, ids, IGNORED)
    how = torch.rand(ids.shape, generator=generator)
    others = torch.randint(len(special), len(tokenizer), ids.shape, generator=generator)
    hidden = torch.where(how < 0.8, torch.full_like(ids, tokenizer.mask_token_id), torch.where(how < 0.9, others, ids))
    return torch.where(asked, hidden, ids), wanted
