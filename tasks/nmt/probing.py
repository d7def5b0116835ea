"""Probe batches: sentences on which the gradients of all objectives are looked at while a model trains."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray

from mtlbench.catalogue.task import Probes
from mtlbench.errors import UsageError

from .objectives import full_sides, paired
from .preparing import Prepared
from .sampling import Examples, Pairs, Side, padded

Rows = Mapping[int, NDArray[np.int64]]
"""Objective -> rows of its sentence pairs."""


class Probe(dict[int, Pairs]):
    """Objective -> its mini-batch, as training batches are; its losses are plain means, whatever the shares."""


def draw_probes(
    data: Prepared, count: int, examples: int, max_length: int, generator: torch.Generator, device: torch.device
) -> Probes:
    """`count` batches without a common sentence, each with `examples` sentence pairs of every objective.

    Of the following the first one that has enough is taken: sentences of `val` that all objectives have, training
    sentences that all have, any sentences of `val`, any training sentences. In the first two batch b says the same in
    every language. What counts as the same is the central sentence; one that a language has twice is left out, and so
    are pairs that training would leave out for their length.

    Args:
        data: of the task.
        count: of batches.
        examples: of each objective in a batch.
        max_length: subwords of a side, with end and tag.
        generator: draws the sentences.
        device: where the batches lie.

    Raises:
        UsageError: an objective has too few sentences.
    """
    wanted = count * examples
    pairs = {"val": _validation(data), "train": data.train}
    splits = {name: _Fitting(data, own, max_length) for name, own in pairs.items()}
    for aligned in (True, False):
        for name, split in splits.items():
            rows = split.same(wanted, generator) if aligned else split.any(wanted, generator)
            if rows:
                spans = [slice(b * examples, (b + 1) * examples) for b in range(count)]
                batches = [
                    Probe({k: padded(split.pairs[k], rows[k][span], data.symbols, device) for k in rows})
                    for span in spans
                ]
                return Probes(batches, aligned, examples, name)
    most = max(min(map(len, split.rows.values())) for split in splits.values())
    raise UsageError(
        f"The geometry of gradients needs {wanted} sentence pairs of every objective ({count} batches of {examples}), "
        f"and one has {most}: give geometry.batches and geometry.examples whose product is not larger."
    )


def _validation(data: Prepared) -> dict[int, Examples]:
    """All of `val`, of which the protocol may score a part."""
    return paired(data.validation, data.pairs, data.centre, data.subwords).examples


class _Fitting:
    """The sentence pairs of a split that probes may hold."""

    def __init__(self, data: Prepared, pairs: Mapping[int, Examples], max_length: int) -> None:
        self.pairs = pairs
        self.rows = {k: np.flatnonzero(full_sides(e) & (e.lengths <= max_length)) for k, e in pairs.items()}
        # Equal central sentences of a split are one place in memory.
        self._said = {k: self._central(data, k).starts[rows] for k, rows in self.rows.items()}

    def same(self, wanted: int, generator: torch.Generator) -> Rows:
        """So many sentences that all objectives have exactly once, in one order for all; empty if there are fewer."""
        common = reduce(np.intersect1d, map(_once, self._said.values()))
        if len(common) < wanted:
            return {}
        chosen = common[_drawn(len(common), wanted, generator)]
        rows = {}
        for k, said in self._said.items():
            order = np.argsort(said)
            rows[k] = self.rows[k][order[np.searchsorted(said[order], chosen)]]
        return rows

    def any(self, wanted: int, generator: torch.Generator) -> Rows:
        """So many sentence pairs of each objective; empty if one has fewer."""
        if min(map(len, self.rows.values())) < wanted:
            return {}
        return {k: rows[_drawn(len(rows), wanted, generator)] for k, rows in self.rows.items()}

    def _central(self, data: Prepared, k: int) -> Side:
        return self.pairs[k].target if data.pairs[k].target == data.centre else self.pairs[k].source


def _once(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The values that occur once, in increasing order."""
    found, counts = np.unique(values, return_counts=True)
    return found[counts == 1]


def _drawn(number: int, wanted: int, generator: torch.Generator) -> NDArray[np.int64]:
    return torch.randperm(number, generator=generator)[:wanted].numpy()
