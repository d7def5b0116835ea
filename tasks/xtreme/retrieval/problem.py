"""Retrieval as a problem: nothing is trained, and an encoder is scored as it is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mtlbench.catalogue.task import Metric
from mtlbench.errors import UsageError

from ..corpus import Corpus, Example
from ..encoders import Encoder
from ..options import Options
from ..problem import Problem, Scores
from . import bucc, fuse, tatoeba
from .bucc import Lists, Side
from .embedding import Embedder
from .nearest import Best, best, mined, threshold
from .scoring import accuracy, bucc_metrics, pair_scores, tatoeba_metrics
from .tatoeba import Pair


class Embeds(Protocol):
    """A model that makes vectors of sentences."""

    def embed(self, texts: Sequence[str]) -> Tensor:
        """(n, width) float32 on the CPU, rows of length 1."""


class Retrieval(Problem[Example]):
    """Sentences whose translations are looked for by cosine or margin."""

    def __init__(self, variant: str, o: Options, root: Path | None, device: torch.device) -> None:
        if o.heads != "shared":
            raise UsageError(f"heads={o.heads} is not allowed for xtreme/{variant}: it has no heads.")
        super().__init__(variant, o, root, device)
        self._found: WeakKeyDictionary[nn.Module, tuple[Any, dict[int, Any]]] = WeakKeyDictionary()

    def checkpoint(self) -> Encoder:
        """Also of the package that `fuse` names."""
        return fuse.load() if self.options.encoder == fuse.NAME else super().checkpoint()

    @property
    def text_languages(self) -> Sequence[str]:
        """English among them."""
        return [*self.languages, "en"]

    @property
    def how(self) -> str:
        """How neighbours are told, for the definition of a metric."""
        return "by cosine" if self.options.retrieval == "cosine" else "by the ratio margin over 4 neighbours"

    def model(self, heads: int) -> nn.Module:
        """The encoder without a head."""
        if self.options.encoder == fuse.NAME:
            return fuse.Fuse()
        return Embedder(self.encoder, self.options.layer, self.options.special, self.options.max_length)

    def groups(self, high_resource: int) -> dict[str, list[int]]:
        """None."""
        return {}

    def lengths(self, language: int, split: str = "train") -> NDArray[np.int64]:
        """There are no training rows."""
        return np.zeros(0, np.int64)

    def batch(self, language: int, rows: NDArray[np.int64], split: str = "train") -> NoReturn:
        """There is none."""
        raise NotImplementedError("nothing is trained")

    def loss(self, model: nn.Module, batch: Any, language: int) -> NoReturn:
        """There is none."""
        raise NotImplementedError("nothing is trained")

    def found(self, model: nn.Module, examples: Sequence[Example]) -> Any:
        """What `find` finds, which is looked for once for each state of a model: nothing is trained."""
        state = [p._version for p in model.parameters()]
        if model not in self._found or self._found[model][0] != state:
            self._found[model] = state, {}
        known = self._found[model][1]
        if id(examples) not in known:
            known[id(examples)] = self.find(cast("Embeds", model), examples)
        return known[id(examples)]

    @abstractmethod
    def find(self, model: Embeds, examples: Sequence[Example]) -> Any:
        """The translations that are found among the examples of a language and split."""

    def best(self, model: Embeds, own: Sequence[str], english: Sequence[str]) -> tuple[Best, Best]:
        """The English sentence that each sentence chooses, and the other way round."""
        margin = self.options.retrieval == "margin"
        return best(model.embed(own), model.embed(english), margin, self.device)


class Tatoeba(Retrieval[Pair]):
    """The translation of each sentence among up to 1,000."""

    unit = "pairs"

    def read(self, variant: str, root: Path | None) -> Corpus[Pair]:
        """From files or their archive."""
        return tatoeba.load(root, self.options.languages, f"xtreme/{variant}")

    def metrics(self, language: str) -> tuple[Metric, ...]:
        """Accuracy in both directions."""
        return tatoeba_metrics(self.how)

    def scores(self, model: nn.Module, split: str, language: int) -> Scores:
        """See `scoring.tatoeba_metrics`."""
        to_english, from_english = self.found(model, self.kept[split][self.languages[language]])
        return {
            "accuracy": accuracy(from_english.candidates),
            "accuracy_to_english": accuracy(to_english.candidates),
        }

    def predictions(self, model: nn.Module, split: str, language: int) -> str:
        """For each English sentence, in the order of the alphabet, the line from 0 of the sentence that it chose."""
        pairs = self.kept[split][self.languages[language]]
        _, chosen = self.found(model, pairs)
        order = sorted(range(len(pairs)), key=lambda n: pairs[n].english)
        return "".join(f"{chosen.candidates[n]}\n" for n in order)

    def find(self, model: Embeds, examples: Sequence[Pair]) -> tuple[Best, Best]:
        """The best ones in both directions."""
        own, english = zip(*examples, strict=True)
        return self.best(model, own, english)

    def text(self, example: Pair) -> str:
        """Both sentences."""
        return "\t".join(example)

    def details(self) -> dict[str, Any]:
        """Nothing more."""
        return {}


class Bucc(Retrieval[Lists]):
    """Pairs of translations in two lists of sentences, by a threshold that is chosen on dev."""

    unit = "lists"

    def __init__(self, variant: str, o: Options, root: Path | None, device: torch.device) -> None:
        if o.sentences.val or o.sentences.test:
            raise UsageError(
                f"protocol.options.sentences is not allowed for xtreme/{variant}: most of the translations would go."
            )
        super().__init__(variant, o, root, device)

    def read(self, variant: str, root: Path | None) -> Corpus[Lists]:
        """From files."""
        return bucc.load(root, self.options.languages, f"xtreme/{variant}")

    def metrics(self, language: str) -> tuple[Metric, ...]:
        """F1, then precision and recall."""
        return bucc_metrics(self.how)

    def scores(self, model: nn.Module, split: str, language: int) -> Scores:
        """See `scoring.pair_scores`."""
        (lists,) = self.kept[split][self.languages[language]]
        return pair_scores(lists.own.ids, self._predicted(model, split, language), lists.gold)

    def predictions(self, model: nn.Module, split: str, language: int) -> str:
        """The ids of each pair, with a tab between them."""
        return "".join(f"{own}\t{english}\n" for own, english in sorted(self._predicted(model, split, language)))

    def _predicted(self, model: nn.Module, split: str, language: int) -> list[tuple[str, str]]:
        """The pairs above the threshold that is best on dev."""
        val, scored = (self.kept[part][self.languages[language]] for part in ("val", split))
        on_dev = self.found(model, val)
        gold = val[0].gold
        least = threshold([*on_dev.values()], [pair in gold for pair in on_dev], len(gold))
        return [pair for pair, score in self.found(model, scored).items() if score >= least]

    def find(self, model: Embeds, examples: Sequence[Lists]) -> dict[tuple[str, str], float]:
        """Ids of the pairs that may be translations, with their scores, the highest first.

        Equal sentences are looked up once; a sentence that a list has twice has no id, and no pair.
        """
        (lists,) = examples
        own, english = _once(lists.own), _once(lists.english)
        forward, backward = self.best(model, [*own], [*english])
        ids = [*own.values()], [*english.values()]
        named = ((ids[0][pair.row], ids[1][pair.column], pair.score) for pair in mined(forward, backward))
        return {(a, b): score for a, b, score in named if a is not None and b is not None}

    def text(self, example: Lists) -> str:
        """Sentences, ids and translations."""
        sides = (f"{name}\t{said}" for side in (example.own, example.english) for name, said in zip(*side, strict=True))
        return "\n".join([*sides, *("\t".join(pair) for pair in sorted(example.gold))])

    def details(self) -> dict[str, Any]:
        """How many sentences and translations there are, by language and split."""
        return {
            "sentences": {
                name: {
                    split: {name: len(lists.own.ids), "en": len(lists.english.ids), "pairs": len(lists.gold)}
                    for split in ("val", "test")
                    for lists in self.kept[split][name]
                }
                for name in self.languages
            }
        }


def _once(side: Side) -> dict[str, str | None]:
    """Each different sentence -> its id; None where it stands twice."""
    found: dict[str, str | None] = {}
    for name, text in zip(*side, strict=True):
        found[text] = None if text in found else name
    return found
