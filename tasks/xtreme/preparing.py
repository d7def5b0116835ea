"""What training and scoring use, made once: the encoder, windows of subwords, gold tags, baselines, the digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from . import corpora, encoders, pretraining
from .encoders import Encoder
from .encoding import Symbols, Vocabulary, Windows, spread
from .options import Options
from .scoring import baselines
from .tagging import TAGS, Corpus, Kind, Sentence


class Scored(NamedTuple):
    """Sentences of one language in one split that are scored."""

    windows: Windows
    gold: list[Sequence[str]]


@dataclass(frozen=True)
class Prepared:
    """All that the task holds in memory."""

    kind: Kind
    tags: Sequence[str]
    languages: Sequence[str]
    """The K objectives."""
    encoder: Encoder
    train: Mapping[int, Windows]
    """Of the languages that are trained on."""
    scored: Mapping[str, Mapping[int, Scored]]
    """`val` and `test` -> language."""
    corpus: Corpus
    counts: Mapping[str, Any]
    """Sentences, windows and words by language, for the record."""
    baselines: Mapping[str, Any]
    """Language -> baseline -> scores on the test split."""
    digest: str
    """SHA-256 (hex) over words and tags of all splits and the encoder."""

    @property
    def symbols(self) -> Symbols:
        """The special subwords."""
        return self.encoder.symbols

    @property
    def notices(self) -> Sequence[str]:
        """What people should know before training."""
        replaced = {name: number for name, number in self.counts["unknown_words"].items() if number}
        told = list(self.corpus.notices)
        if replaced:
            listed = ", ".join(f"{name} {number:,}" for name, number in replaced.items())
            told.append(f"words that the tokeniser leaves nothing of stand as its unknown subword: {listed}")
        return told

    def scored_on(self, language: str) -> str:
        """What the test split of a language is, where it is no test file of XTREME's; for the metric's definition."""
        source = self.corpus.sources.get(language, {}).get("test", "")
        return source and f"scored on {source}"

    def facts(self) -> dict[str, Any]:
        """What a record tells of data and encoder."""
        return {
            "encoder": {
                "name": self.encoder.told,
                "sha256": self.encoder.digest,
                "subwords": len(self.encoder.tokenizer),
            },
            "sources": {language: dict(splits) for language, splits in self.corpus.sources.items()},
            **self.counts,
            "baselines": dict(self.baselines),
            **self.corpus.facts,
        }

    def groups(self, high_resource: int) -> dict[str, list[int]]:
        """The languages with at least and with fewer than so many training sentences; or those that are only scored."""
        if len(self.train) < len(self.languages):
            return {"unseen": [k for k in range(len(self.languages)) if k not in self.train]}
        sizes = [self.counts["sentences"][name]["train"] for name in self.languages]
        high = [k for k, size in enumerate(sizes) if size >= high_resource]
        low = [k for k in range(len(sizes)) if k not in high]
        return {"hrl": high, "lrl": low} if high and low else {}


def prepare(variant: str, o: Options, data_root: Path | None) -> Prepared:
    """Read the corpus of `variant`, get or make its encoder and cut all text into windows of subwords.

    Raises:
        DataMissing: files of the corpus are not below `data_root`.
        UsageError: a language or encoder that does not fit, or a damaged file.
    """
    corpus = corpora.load(variant, data_root, o)
    encoder = pretraining.tiny(corpus.unlabelled, o) if o.encoder == "tiny" else encoders.load(o.encoder, o.max_length)
    tags = TAGS[corpus.kind]
    vocabulary = Vocabulary(encoder.cut, encoder.symbols, o.max_length)
    languages = corpus.languages
    limits = o.sentences.model_dump()
    kept = {
        split: {name: spread(by_language[name], limits.get(split)) for name in languages if name in by_language}
        for split, by_language in corpus.splits.items()
    }
    windows = {
        split: {name: vocabulary.windows(sentences, tags) for name, sentences in by_language.items()}
        for split, by_language in kept.items()
    }
    scored = {
        split: {
            k: Scored(windows[split][name], [sentence.tags for sentence in kept[split][name]])
            for k, name in enumerate(languages)
        }
        for split in ("val", "test")
    }
    train = kept["train"]
    return Prepared(
        kind=corpus.kind,
        tags=tags,
        languages=languages,
        encoder=encoder,
        train={k: windows["train"][name] for k, name in enumerate(languages) if name in train},
        scored=scored,
        corpus=corpus,
        counts={
            "sentences": {name: _by_split(kept, name, len) for name in languages},
            "windows": {name: _by_split(windows, name, lambda w: len(w.lengths)) for name in languages},
            "unknown_words": {
                name: sum(vocabulary.replaced(kept[split][name]) for split in kept if name in kept[split])
                for name in languages
            },
        },
        baselines={
            name: baselines(corpus.kind, train.get(name) or next(iter(train.values())), kept["test"][name])
            for name in languages
        },
        digest=digest(corpus, encoder),
    )


def digest(corpus: Corpus, encoder: Encoder) -> str:
    """SHA-256 (hex) over words and tags of all splits, and over the encoder."""
    hashed = hashlib.sha256(encoder.digest.encode())
    for split, by_language in corpus.splits.items():
        for language, sentences in by_language.items():
            hashed.update(f"\0{split}\0{language}\0".encode())
            hashed.update("\n\n".join(map(_text, sentences)).encode())
    return hashed.hexdigest()


def _text(sentence: Sentence) -> str:
    return "\n".join(f"{word}\t{tag}" for word, tag in zip(*sentence, strict=True))


def _by_split(found: Mapping[str, Mapping[str, Any]], language: str, size: Any) -> dict[str, int]:
    return {split: size(by_language[language]) for split, by_language in found.items() if language in by_language}
