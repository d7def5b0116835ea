"""Which languages a step holds and which sentences: inclusion probabilities, token budgets, buckets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlbench.errors import UsageError

WINDOW = 64
"""Batches that are drawn at random and then sorted by length together."""

GRAIN = 4
"""Columns of batches are multiples of it, and rows where so many fit and the window does not end, so that few shapes
occur: torch's bfloat16 kernels for CPUs are compiled anew for every shape, which takes longer than to run them."""


class Side(NamedTuple):
    """Sentences of one side as subwords: sentence i is `ids[starts[i] : starts[i] + lengths[i]]`."""

    ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> Side:
        """The sentences at these indices, which may share their subwords with others."""
        return Side(self.ids, self.starts[rows], self.lengths[rows])

    def lists(self) -> list[list[int]]:
        """Every sentence as a list of subwords."""
        ends = self.starts + self.lengths
        return [self.ids[a:b].tolist() for a, b in zip(self.starts.tolist(), ends.tolist(), strict=True)]


class Examples(NamedTuple):
    """The sentence pairs of one objective in one split."""

    source: Side
    target: Side
    tag: int | None
    """The subword before every source that names the target language, where there is a choice."""

    @property
    def size(self) -> int:
        """Sentence pairs."""
        return len(self.source.lengths)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(n,) positions that each pair takes on its longer side, with end and tag."""
        return np.maximum(self.source.lengths + 1 + (self.tag is not None), self.target.lengths + 1)

    def take(self, rows: NDArray[np.int64]) -> Examples:
        """The pairs at these indices."""
        return Examples(self.source.take(rows), self.target.take(rows), self.tag)


class Pairs(NamedTuple):
    """One objective's batch, padded: source (N, S), what the decoder reads and what it must answer, (N, T) int64."""

    source: Tensor
    target_in: Tensor
    target_out: Tensor


class Symbols(NamedTuple):
    """The ids with a meaning of their own."""

    pad: int
    bos: int
    eos: int


class Portions(NamedTuple):
    """How steps are shared out."""

    shares: NDArray[np.float64]
    """(K,) p_i, the share of each objective."""
    inclusion: NDArray[np.float64] | None
    """(K,) the probabilities that an objective is in a step; None where all that have a share always are."""
    budgets: Sequence[int]
    """The positions of a step that each objective gets."""

    @property
    def factors(self) -> NDArray[np.float64]:
        """(K,) what losses are multiplied with over their means: K p_i, or 1 where objectives are sampled."""
        return len(self.shares) * self.shares if self.inclusion is None else np.ones(len(self.shares))

    def present(self, generator: torch.Generator) -> Sequence[int]:
        """The objectives of a step."""
        if self.inclusion is None:
            return np.flatnonzero(self.shares).tolist()
        return sampled(self.inclusion, generator)


def positions(budget: int, shares: NDArray[np.float64], count: int | None) -> NDArray[np.float64]:
    """(K,) the positions of a step that each objective has when it is there.

    Args:
        budget: of the step.
        shares: (K,) p_i.
        count: how many objectives are sampled, which have equal parts; None where each has its share.
    """
    return budget * shares if count is None else np.full(len(shares), budget / count)


def inclusion(p: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """(K,) probabilities, summing to `count`, that an objective is in a step: `count` p_i, capped at 1.

    What the capped ones cannot use goes to the others in proportion to their p. Where at most `count` have a share, all
    of these are in every step.
    """
    if np.count_nonzero(p) <= count:
        return np.where(p > 0, 1.0, 0.0)
    found = np.minimum(1.0, p * count)
    while True:
        full = found >= 1.0
        left = count - full.sum()
        if full.all() or left <= 0:
            return np.where(full, 1.0, 0.0)
        rest = p * ~full
        new = np.where(full, 1.0, rest / rest.sum() * left)
        if (new <= 1.0 + 1e-12).all():
            return np.minimum(new, 1.0)
        found = np.minimum(new, 1.0)


def sampled(probabilities: NDArray[np.float64], generator: torch.Generator) -> list[int]:
    """Distinct objectives, each with exactly its probability, in increasing order.

    Systematic sampling over a random order (Madow, 1949): the same number of objectives in every step.
    """
    count = round(probabilities.sum())
    order = torch.randperm(len(probabilities), generator=generator).numpy()
    ends = np.cumsum(probabilities[order])
    start = torch.rand((), generator=generator, dtype=torch.float64).item()
    places = np.minimum(np.searchsorted(ends, start + np.arange(count), side="right"), len(order) - 1)
    return sorted(order[places].tolist())


def batches(examples: Examples, budget: int, generator: torch.Generator) -> Iterator[NDArray[np.int64]]:
    """Endless batches of row indices, each of at most `budget` positions (rows times the longest of them).

    Every pass over the data takes a new random order. Windows of it are sorted by length and cut, so that a batch
    holds sentences of similar length, and their batches are shuffled. A window ends with the pass, so that a pass
    holds every sentence once.
    """
    lengths = examples.lengths
    window = max(1, int(WINDOW * budget / lengths.mean()))
    while True:
        order = torch.randperm(examples.size, generator=generator).numpy()
        for start in range(0, len(order), window):
            rows = order[start : start + window]
            rows = rows[np.lexsort((examples.target.lengths[rows], lengths[rows]))[::-1]]
            spans = cut(lengths[rows], budget)
            for place in torch.randperm(len(spans), generator=generator).tolist():
                yield rows[spans[place]]


def cut(descending: NDArray[np.int64], budget: int) -> list[slice]:
    """Spans of `descending` lengths whose first, the longest, padded, times their number stays within `budget`.

    A sentence that is longer than the budget is a span of its own.
    """
    spans = []
    start = 0
    while start < len(descending):
        fit = max(1, budget // _rounded(int(descending[start])))
        end = min(len(descending), start + (fit - fit % GRAIN or fit))
        spans.append(slice(start, end))
        start = end
    return spans


def longest(examples: Examples) -> int:
    """Positions of the longest sentence, with padding."""
    return _rounded(int(examples.lengths.max()))


def require_budget(name: str, examples: Examples, budget: float, told: str, text: Callable[[list[int]], str]) -> int:
    """The whole positions of `budget`; raises `UsageError` if the longest sentence of `name` does not fit in.

    Args:
        name: of the objective, for the message, as are the others.
        examples: its training pairs.
        budget: its positions of a step.
        told: what was asked for.
        text: subwords into text.
    """
    if budget < (most := longest(examples)):
        row = np.array([examples.lengths.argmax()])
        source, target = (side.take(row).lists()[0] for side in (examples.source, examples.target))
        sentence = text(max(source, target, key=len))
        raise UsageError(
            f"{told} leaves {budget:.0f} positions of a step to {name}, whose longest sentence takes {most} with "
            f"padding: {sentence[:80]!r}. Choose a larger protocol.batch_size, a smaller protocol.options.max_length, "
            "or fewer objectives_per_step."
        )
    return int(budget)


def padded(examples: Examples, rows: NDArray[np.int64], symbols: Symbols, device: torch.device) -> Pairs:
    """The sentences at `rows` as a batch on `device`."""
    source = _matrix(examples.source.take(rows), [] if examples.tag is None else [examples.tag], symbols)
    target_out = _matrix(examples.target.take(rows), [], symbols)
    target_in = np.roll(target_out, 1, axis=1)
    target_in[target_in == symbols.eos] = symbols.pad
    target_in[:, 0] = symbols.bos
    return Pairs(*(torch.from_numpy(matrix).to(device) for matrix in (source, target_in, target_out)))


def _matrix(side: Side, before: list[int], symbols: Symbols) -> NDArray[np.int64]:
    """(n, longest, rounded) int64: `before`, the sentence, the end symbol, padding."""
    lengths = side.lengths + len(before) + 1
    columns = np.arange(_rounded(int(lengths.max())))
    out = np.full((len(lengths), len(columns)), symbols.pad, dtype=np.int64)
    out[:, : len(before)] = before
    inside = (columns >= len(before)) & (columns < (side.lengths + len(before))[:, None])
    out[inside] = side.ids[(side.starts[:, None] + columns - len(before))[inside]]
    out[np.arange(len(lengths)), lengths - 1] = symbols.eos
    return out


def _rounded(length: int) -> int:
    return -(-length // GRAIN) * GRAIN
