"""Sentences as vectors: the mean over a sentence's subwords of what one block of an encoder answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mtlbench.errors import UsageError

from ..encoders import Encoder
from ..encoding import Batch, Windows, padded

ROWS = 100
"""Sentences that are encoded together."""


class Embedder(nn.Module):
    """An encoder whose answers are averaged over a sentence.

    Args:
        encoder: its checkpoint.
        layer: the block whose answer counts, from 1; 0 for the embeddings before the first; None for the last one.
        special: whether the two special subwords count too.
        max_length: subwords of a sentence with the special ones; what is longer is cut.

    Raises:
        UsageError: a block that the encoder does not have.
    """

    def __init__(self, encoder: Encoder, layer: int | None, special: bool, max_length: int) -> None:
        super().__init__()
        self.encoder = encoder.model()
        self._checkpoint = encoder
        blocks: int = self.encoder.config.num_hidden_layers  # type: ignore[union-attr, assignment]
        if layer is not None and layer > blocks:
            raise UsageError(
                f"protocol.options.layer={layer} is not allowed: the encoder {encoder.told} has {blocks} blocks."
            )
        self._layer = blocks if layer is None else layer
        self._special = special
        self._room = max_length - 2

    def shared(self) -> Iterator[tuple[str, nn.Parameter]]:
        """All parameters: there is no head."""
        return self.named_parameters()

    def forward(self, batch: Batch) -> Tensor:
        """(N, width) of the rows of a batch, whose places are those of the text."""
        answer = self.encoder(input_ids=batch.ids, attention_mask=batch.mask, output_hidden_states=True)
        hidden = answer.hidden_states[self._layer]
        counted = batch.mask
        if not self._special:
            counted = torch.zeros_like(batch.mask)
            counted.view(-1)[batch.places] = True
        weights = counted.to(hidden.dtype)
        found: Tensor = torch.einsum("ntw,nt->nw", hidden, weights) / weights.sum(1, keepdim=True)
        return found

    def embed(self, texts: Sequence[str]) -> Tensor:
        """(n, width) float32 on the CPU, rows of length 1. A text of which no subword is left is the unknown one."""
        symbols = self._checkpoint.symbols
        ids = [found[: self._room] or [symbols.unknown] for found in self._checkpoint.cut(texts)]
        offsets = np.cumsum([0, *map(len, ids)], dtype=np.int64)
        flat = np.fromiter((number for row in ids for number in row), np.int32, int(offsets[-1]))
        windows = Windows(flat, np.zeros(len(flat), np.int16), offsets, np.arange(len(ids)))
        order = windows.lengths.argsort(kind="stable")[::-1]
        device = next(self.parameters()).device
        made: Tensor | None = None
        for start in range(0, len(order), ROWS):
            rows = order[start : start + ROWS]
            answer = self(padded(windows, rows, symbols, device)).float().cpu()
            if made is None:
                made = torch.empty(len(ids), answer.shape[1])
            made[torch.from_numpy(rows.copy())] = answer
        assert made is not None
        return nn.functional.normalize(made, dim=1)
