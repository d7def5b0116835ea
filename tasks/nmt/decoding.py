"""Batched beam search over the decoder's cache, and the log-probabilities of given translations.

A hypothesis y of L subwords, its end among them, is scored log p(y | x) / L^alpha, with alpha the length penalty (0:
none; 1: the mean per subword). A step extends every hypothesis of a beam by every subword and ranks all candidates by
log p. Those with an end among the first `beams` are finished; the first `beams` of the others make the next beam. A
sentence is decoded when `beams` hypotheses have finished, or when no unfinished one can beat the best finished one any
more. A hypothesis one subword short of the limit can only end, so that every score is the model's own of a complete
translation. Probabilities of what may not be written are not shared out among the rest. Among candidates of equal
log p ends come first, then the earlier hypothesis, then the lower subword; among finished ones the shorter wins. One
beam is greedy decoding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mtlbench.errors import UsageError

from .model import Transformer
from .sampling import Symbols, cut


class Hypothesis(NamedTuple):
    """A finished translation."""

    subwords: list[int]
    """Without beginning and end."""
    log_probability: float
    """Of the subwords and the end, in nats."""
    score: float
    """The log-probability over L^alpha."""


def translate(
    model: Transformer,
    sources: Sequence[Sequence[int]],
    *,
    batch_positions: int,
    beams: int,
    length_penalty: float,
    symbols: Symbols,
    forbidden: Sequence[int] = (),
    device: torch.device,
    length_ratio: Sequence[float],
    length_extra: int = 10,
    length_max: int = 500,
) -> list[list[int]]:
    """The best hypothesis of each source, in the order of the sources, decoded in batches of similar length.

    Args:
        model: in evaluation mode.
        sources: subwords, the end among them.
        batch_positions: source positions of a batch, padding and all beams counted; one sentence at least.
        beams: hypotheses of a sentence.
        length_penalty: alpha.
        symbols: ids of padding, beginning and end.
        forbidden: further ids that are never written.
        device: where the model is.
        length_ratio: of each source; with `length_extra` and `length_max` the limit of the translation of S subwords,
            min(length_ratio S + length_extra, length_max), the end counted.
        length_extra: see `length_ratio`.
        length_max: see `length_ratio`.

    Raises:
        UsageError: an empty source, or a limit below one.
    """
    if empty := [row for row, source in enumerate(sources) if len(source) == 0]:
        raise UsageError(f"source {empty[0]} has no subwords; an empty sentence is its end symbol alone.")
    translations: list[list[int]] = [[] for _ in sources]
    every = np.array([len(source) for source in sources], dtype=np.int64)
    most = np.minimum(np.multiply(length_ratio, every) + length_extra, length_max).astype(np.int64)
    order = np.argsort(-every, kind="stable")
    for span in cut(every[order], batch_positions // beams):
        rows = order[span].tolist()
        source = pad_sequence([torch.tensor(sources[row]) for row in rows], True, symbols.pad)
        hypotheses = decode(
            model,
            source.to(device),
            beams=beams,
            length_penalty=length_penalty,
            longest=torch.from_numpy(most[order[span]]),
            symbols=symbols,
            forbidden=forbidden,
        )
        for row, hypothesis in zip(rows, hypotheses, strict=True):
            translations[row] = hypothesis.subwords
    return translations


@torch.no_grad()
def decode(
    model: Transformer,
    source: Tensor,
    *,
    beams: int,
    length_penalty: float,
    longest: Tensor | int,
    symbols: Symbols,
    forbidden: Sequence[int] = (),
    cached: bool = True,
) -> list[Hypothesis]:
    """The best hypothesis of each sentence of a batch by beam search, as the module describes it.

    Args:
        model: in evaluation mode.
        source: (N, S) int64, filled up with the model's padding.
        beams: hypotheses of a sentence.
        length_penalty: alpha.
        longest: the most subwords that a hypothesis may have, its end counted; (N,) int64 or one for all.
        symbols: ids of padding, beginning and end.
        forbidden: ids that are never written; padding and beginning never are.
        cached: False runs the decoder, not the encoder, over all that is written in every step: the same search,
            slowly.

    Raises:
        UsageError: `beams` or a limit below one.
    """
    sentences, device = len(source), source.device
    limit = torch.as_tensor(longest, device=device).expand(sentences)
    if beams < 1 or (sentences and int(limit.min()) < 1):
        raise UsageError("beam search needs at least one beam and room for at least one subword, the end.")
    if not sentences:
        return []
    most = int(limit.max())
    following: _Following = (_Cached if cached else _Recomputed)(model, source, beams, most)
    search = _Search.start(limit, beams)
    unwritten = torch.tensor(sorted({*symbols, *forbidden}), device=device)
    winners: list[Hypothesis] = [Hypothesis([], -torch.inf, -torch.inf)] * sentences
    last = source.new_full((sentences * beams,), symbols.bos)
    for length in range(1, most + 1):
        log_p = following.log_probabilities(last)
        ends = search.total + log_p[:, symbols.eos].view(-1, beams)
        log_p[:, unwritten] = -torch.inf
        done = search.step(ends, *_largest(log_p, min(beams, log_p.shape[1])), length, length_penalty)
        if bool(done.any()):
            for row, winner in search.winners(done):
                winners[row] = winner
            left = (~done).nonzero()[:, 0]
            if not len(left):
                break
            search.keep(left)
            following.keep(left)
        if beams > 1:
            following.reorder(search.origins())
        last = search.written[:, :, -1].flatten()
    return winners


def forced_log_probabilities(
    model: Transformer, source: Tensor, target_in: Tensor, target_out: Tensor, pad: int
) -> Tensor:
    """(N,) the log-probabilities of given translations, in nats, ends included.

    Args:
        model: in evaluation mode.
        source: (N, S) int64.
        target_in: (N, T) the translations behind the beginning.
        target_out: (N, T) the translations before the end; what is `pad` there does not count.
        pad: the id that fills rows up.
    """
    there = target_out != pad
    log_p = model.logits(model(source, target_in)[there]).log_softmax(-1)
    hit = log_p.gather(1, target_out[there][:, None])[:, 0]
    return hit.new_zeros(there.shape).masked_scatter(there, hit).sum(1)


@dataclass
class _Search:
    """The unfinished hypotheses of the sentences that are not decoded yet, and the best finished one of each."""

    sentence: Tensor
    """(n,) which row of the source."""
    limit: Tensor
    """(n,)"""
    total: Tensor
    """(n, beams) float64 log-probabilities of the unfinished, best first; -inf where there is none."""
    written: Tensor
    """(n, beams, length) their subwords."""
    origin: Tensor
    """(n, beams) the place in the previous beam of what they extend."""
    finished: Tensor
    """(n,) how many."""
    best: Tensor
    """(n, 2) float64 log-probability and score of the best finished one, -inf before there is one."""
    best_written: Tensor
    """(n, longest) its subwords, of which `best_length` count."""
    best_length: Tensor
    """(n,)"""

    @classmethod
    def start(cls, limit: Tensor, beams: int) -> _Search:
        """One empty hypothesis of each sentence."""
        n, device = len(limit), limit.device
        total = torch.full((n, beams), -torch.inf, dtype=torch.float64, device=device)
        total[:, 0] = 0
        return cls(
            sentence=torch.arange(n, device=device),
            limit=limit,
            total=total,
            written=limit.new_empty((n, beams, 0)),
            origin=limit.new_zeros((n, beams)),
            finished=limit.new_zeros(n),
            best=torch.full((n, 2), -torch.inf, dtype=torch.float64, device=device),
            best_written=limit.new_zeros((n, int(limit.max()))),
            best_length=limit.new_zeros(n),
        )

    def step(self, ends: Tensor, log_p: Tensor, subwords: Tensor, length: int, alpha: float) -> Tensor:
        """Rank all candidates of one step, finish and extend.

        Args:
            ends: (n, beams) log-probabilities of the hypotheses with an end.
            log_p: (n * beams, k) of the best next subwords of each hypothesis.
            subwords: (n * beams, k) these subwords.
            length: of the candidates, from 1 on.
            alpha: the length penalty.

        Returns:
            (n,) True where the sentence is decoded.
        """
        n, beams = ends.shape
        k = log_p.shape[1]
        longer = (self.total[:, :, None] + log_p.view(n, beams, k)).flatten(1)
        longer.masked_fill_((self.limit == length)[:, None], -torch.inf)
        ranked, place = torch.sort(torch.cat([ends, longer], 1), dim=1, descending=True, stable=True)
        ended = (place[:, :beams] < beams) & (ranked[:, :beams] > -torch.inf)
        self.finished = self.finished + ended.sum(1)
        self._finish(ends, ended.any(1), length, alpha)

        ranked, place = torch.sort(longer, dim=1, descending=True, stable=True)
        self.total, place = ranked[:, :beams], place[:, :beams]
        self.origin = place // k
        extended = self.written.gather(1, self.origin[:, :, None].expand(-1, -1, length - 1))
        self.written = torch.cat([extended, subwords.view(n, -1).gather(1, place)[:, :, None]], 2)

        # Log-probabilities only fall: no extension scores more than it would at the length that favours it most.
        powers = torch.stack([torch.full_like(self.limit, length + 1), self.limit]).to(ends.dtype) ** alpha
        beaten = self.total[:, 0] / powers.amax(0) <= self.best[:, 1]
        return (self.finished >= beams) | (self.limit == length) | beaten

    def _finish(self, ends: Tensor, ended: Tensor, length: int, alpha: float) -> None:
        """Keep the best of `ends` (n, beams) where some `ended` (n,) and it beats what is kept."""
        log_p, place = ends.max(1)
        score = log_p / length**alpha
        better = (ended & (score > self.best[:, 1])).nonzero()[:, 0]
        self.best[better] = torch.stack([log_p, score], 1)[better]
        self.best_written[better, : length - 1] = self.written[better, place[better]]
        self.best_length[better] = length - 1

    def winners(self, done: Tensor) -> Iterator[tuple[int, Hypothesis]]:
        """Rows of the source and their best hypotheses."""
        chosen = (x[done].tolist() for x in (self.sentence, self.best, self.best_written, self.best_length))
        for row, (log_p, score), subwords, length in zip(*chosen, strict=True):
            yield row, Hypothesis(subwords[:length], log_p, score)

    def keep(self, rows: Tensor) -> None:
        """Forget all sentences but those at these places."""
        for name, value in vars(self).items():
            setattr(self, name, value.index_select(0, rows))

    def origins(self) -> Tensor:
        """(n * beams,) the row that each row extends."""
        n, beams = self.origin.shape
        return (torch.arange(0, n * beams, beams, device=self.origin.device)[:, None] + self.origin).flatten()


class _Following(Protocol):
    """What follows (rows,) hypotheses, sentences times beams."""

    def log_probabilities(self, last: Tensor) -> Tensor:
        """(rows, V) of the next subword, once `last` (rows,) is written; the caller may overwrite them."""
        ...

    def reorder(self, rows: Tensor) -> None:
        """Let row i go on from row `rows[i]`."""
        ...

    def keep(self, sentences: Tensor) -> None:
        """Forget all sentences but those at these places."""
        ...


class _Cached:
    def __init__(self, model: Transformer, source: Tensor, beams: int, longest: int) -> None:
        self.model = model
        self.cache = model.start(source, beams, longest)
        self.reorder = self.cache.reorder
        self.keep = self.cache.keep

    def log_probabilities(self, last: Tensor) -> Tensor:
        return self.model.logits(self.model.step(last, self.cache)).log_softmax(-1)


class _Recomputed:
    def __init__(self, model: Transformer, source: Tensor, beams: int, longest: int) -> None:
        self.model = model
        self.beams = beams
        memory, mask = model.encode(source)
        self.memory = memory.repeat_interleave(beams, 0)
        self.mask = None if mask is None else mask.repeat_interleave(beams, 0)
        self.written = source.new_empty((len(self.memory), 0))

    def log_probabilities(self, last: Tensor) -> Tensor:
        self.written = torch.cat([self.written, last[:, None]], 1)
        return self.model.logits(self.model.decode(self.written, self.memory, self.mask)[:, -1]).log_softmax(-1)

    def reorder(self, rows: Tensor) -> None:
        self.written = self.written[rows]

    def keep(self, sentences: Tensor) -> None:
        def kept(x: Tensor) -> Tensor:
            return x.unflatten(0, (-1, self.beams))[sentences].flatten(0, 1)

        self.memory, self.written = kept(self.memory), kept(self.written)
        self.mask = None if self.mask is None else kept(self.mask)


def _largest(log_p: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest numbers of each row, overwritten by -inf, and their places: of equals the first, unlike topk."""
    found = []
    for _ in range(k):
        found.append(log_p.max(1, keepdim=True))
        log_p.scatter_(1, found[-1].indices, -torch.inf)
    return torch.cat([x.values for x in found], 1), torch.cat([x.indices for x in found], 1)
