"""A pre-norm Transformer encoder-decoder with one embedding matrix for source, target and output.

The module tree gives the granularities their groups: `embedding`, `encoder.layers.N`, `encoder.norm`,
`decoder.layers.N`, `decoder.norm`; queries, keys, values and outputs of an attention are matrices of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Size:
    """The shape of a Transformer."""

    layers: int
    """Of the encoder, and as many of the decoder."""
    width: int
    inner: int
    """Units of the feed-forward layers."""
    heads: int


SIZES = {
    "mini": Size(layers=2, width=128, inner=512, heads=4),
    "tiny": Size(layers=2, width=192, inner=768, heads=4),
    "small": Size(layers=4, width=256, inner=1024, heads=4),
    "base": Size(layers=6, width=512, inner=2048, heads=8),
    "big": Size(layers=6, width=1024, inner=8192, heads=16),
}
"""`base` and the depth, width and heads of `big`: Vaswani et al., NeurIPS 2017, Table 3."""


class Attention(nn.Module):
    """Multi-head attention; Vaswani et al., NeurIPS 2017, section 3.2."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        # A bias would add the same to all scores of a query, so its gradient is zero up to rounding: a group of noise.
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (N, heads, S, width / heads) of (N, S, width)."""
        return self._split(self.key(x)), self._split(self.value(x))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, causal: bool = False) -> Tensor:
        """(N, T, width) from queries of (N, T, width); `mask` (N, 1, 1, S) is True where keys may be seen."""
        query = self._split(self.query(x))
        seen = _attend(query, keys, values, mask, causal)
        return self.out(seen.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


def _attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    attend = functional.scaled_dot_product_attention
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return attend(query, keys, values, attn_mask=mask, is_causal=causal)
    # On short sentences the backward pass of torch's CPU kernel takes ten times as long in bfloat16 as in float32.
    with torch.autocast("cpu", enabled=False):
        return attend(query.float(), keys.float(), values.float(), attn_mask=mask, is_causal=causal)


class Dropout(nn.Module):
    """Dropout whose masks cost half as much as `nn.Dropout`'s on a CPU: four of them from one random number.

    Args:
        p: the probability of dropping a unit, rounded to a multiple of 2^-16.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """`x`, in training with units dropped and the others scaled to keep the expectation."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return functional.dropout(x, self.p)
        count = x.numel()
        dropped = round(self.p * 2**16)
        draws = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:count]
        keep = (draws >= dropped - 2**15).view(x.shape).to(x.dtype).mul_(2**16 / (2**16 - dropped))
        return x * keep


class FeedForward(nn.Module):
    """Two matrices with a ReLU between them."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, inner)
        self.out = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) from (..., width)."""
        return self.out(functional.relu(self.inner(x)))


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each normalised before and added after."""

    def __init__(self, size: Size, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(size.width)
        self.attention = Attention(size.width, size.heads)
        self.feed_forward_norm = nn.LayerNorm(size.width)
        self.feed_forward = FeedForward(size.width, size.inner)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(N, S, width) from (N, S, width)."""
        y = self.attention_norm(x)
        x = x + self.dropout(self.attention(y, *self.attention.keys_values(y), mask))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class DecoderLayer(nn.Module):
    """Self-attention over what is written, attention over the source, feed-forward."""

    def __init__(self, size: Size, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(size.width)
        self.attention = Attention(size.width, size.heads)
        self.source_norm = nn.LayerNorm(size.width)
        self.source_attention = Attention(size.width, size.heads)
        self.feed_forward_norm = nn.LayerNorm(size.width)
        self.feed_forward = FeedForward(size.width, size.inner)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        """(N, T, width) from (N, T, width) and the encoder's (N, S, width)."""
        y = self.attention_norm(x)
        x = x + self.dropout(self.attention(y, *self.attention.keys_values(y), None, causal=True))
        y = self.source_norm(x)
        x = x + self.dropout(self.source_attention(y, *self.source_attention.keys_values(memory), mask))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))

    def step(self, x: Tensor, layer: LayerCache, written: int, mask: Tensor | None) -> Tensor:
        """One more position of every row, (rows, 1, width), after `written` cached ones."""
        y = self.attention_norm(x)
        key, value = self.attention.keys_values(y)
        layer.keys[:, :, written] = key[:, :, 0]
        layer.values[:, :, written] = value[:, :, 0]
        seen = slice(0, written + 1)
        x = x + self.attention(y, layer.keys[:, :, seen], layer.values[:, :, seen], None)
        # All beams of a sentence ask the same memory: they are its queries, so that nothing is repeated for them.
        sentences = len(layer.source_keys)
        y = self.source_norm(x).view(sentences, -1, x.shape[-1])
        found = self.source_attention(y, layer.source_keys, layer.source_values, mask)
        x = x + found.reshape(x.shape)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Encoder(nn.Module):
    """(N, S, width) embedded source -> (N, S, width) memory."""

    def __init__(self, size: Size, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(size, dropout) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """The memory that the decoder reads."""
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)


class Decoder(nn.Module):
    """(N, T, width) embedded target and the memory -> (N, T, width) features of the next subwords."""

    def __init__(self, size: Size, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(size, dropout) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        """The features of all positions at once; each sees those before it."""
        for layer in self.layers:
            x = layer(x, memory, mask)
        return self.norm(x)


@dataclass
class LayerCache:
    """Keys and values of one decoder layer."""

    keys: Tensor
    """(rows, heads, longest, width / heads), of what is written; rows are sentences times beams, sentence by
    sentence."""
    values: Tensor
    source_keys: Tensor
    """(sentences, heads, S, width / heads)"""
    source_values: Tensor


@dataclass
class Cache:
    """What decoding remembers of sources and of what is written."""

    layers: list[LayerCache]
    mask: Tensor | None
    """(sentences, 1, 1, S): True where the source has a subword."""
    beams: int
    written: int = 0

    def reorder(self, rows: Tensor) -> None:
        """Let row i go on from what row `rows[i]` has written; both belong to the same sentence."""
        for layer in self.layers:
            for cached in (layer.keys, layer.values):
                cached[:, :, : self.written] = cached[:, :, : self.written].index_select(0, rows)

    def keep(self, sentences: Tensor) -> None:
        """Forget all sentences but those at these indices."""
        rows = (sentences[:, None] * self.beams + torch.arange(self.beams, device=sentences.device)).flatten()
        for layer in self.layers:
            layer.keys, layer.values = layer.keys.index_select(0, rows), layer.values.index_select(0, rows)
            layer.source_keys = layer.source_keys.index_select(0, sentences)
            layer.source_values = layer.source_values.index_select(0, sentences)
        self.mask = None if self.mask is None else self.mask.index_select(0, sentences)


class Transformer(nn.Module):
    """The sequence-to-sequence model of all language pairs.

    Args:
        vocabulary: V, the number of subwords.
        size: its shape.
        dropout: probability of dropping a unit of each sub-layer's output and of the embedded input.
        padding: the id that fills rows up.
    """

    def __init__(self, vocabulary: int, size: Size, dropout: float, padding: int = 0) -> None:
        super().__init__()
        self.padding = padding
        self.width = size.width
        self.embedding = nn.Embedding(vocabulary, size.width)
        self.encoder = Encoder(size, dropout)
        self.decoder = Decoder(size, dropout)
        self.dropout = Dropout(dropout)
        nn.init.normal_(self.embedding.weight, std=size.width**-0.5)
        for name, parameter in [*self.encoder.named_parameters(), *self.decoder.named_parameters()]:
            if parameter.ndim == 2:
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor | None]:
        """The memory of (N, S) subwords, and which of its positions may be seen.

        Returns:
            (N, S, width), and (N, 1, 1, S), True where there is a subword, or None where all rows are full.
        """
        there = source != self.padding
        mask = None if bool(there.all()) else there[:, None, None, :]
        return self.encoder(self._embedded(source, 0), mask), mask

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """The features (N, T, width) of what follows each of (N, T) target subwords; `logits` reads them."""
        return self.decode(target, *self.encode(source))

    def decode(self, target: Tensor, memory: Tensor, mask: Tensor | None) -> Tensor:
        """What `forward` returns, from (N, T) target subwords and what `encode` returns."""
        features: Tensor = self.decoder(self._embedded(target, 0), memory, mask)
        return features

    def logits(self, features: Tensor) -> Tensor:
        """(..., V) unnormalised log-probabilities from (..., width), float32 at least, under autocast too."""
        found = functional.linear(features, self.embedding.weight)
        return found.float() if found.dtype == torch.bfloat16 else found

    def start(self, source: Tensor, beams: int, longest: int) -> Cache:
        """Read (N, S) sources, of each of which `beams` rows will write at most `longest` subwords."""
        memory, mask = self.encode(source)
        layers = []
        for layer in self._decoder_layers():
            source_keys, source_values = layer.source_attention.keys_values(memory)
            sentences, heads, _, width = source_keys.shape
            shape = (sentences * beams, heads, longest, width)
            layers.append(LayerCache(memory.new_empty(shape), memory.new_empty(shape), source_keys, source_values))
        return Cache(layers, mask, beams)

    def step(self, last: Tensor, cache: Cache) -> Tensor:
        """The features (rows, width) of what follows the (rows,) subwords written last, which `cache` takes up."""
        x = self._embedded(last[:, None], cache.written)
        for layer, cached in zip(self._decoder_layers(), cache.layers, strict=True):
            x = layer.step(x, cached, cache.written, cache.mask)
        cache.written += 1
        features: Tensor = self.decoder.norm(x)[:, 0]
        return features

    def _decoder_layers(self) -> list[DecoderLayer]:
        return cast("list[DecoderLayer]", list(self.decoder.layers))

    def _embedded(self, subwords: Tensor, start: int) -> Tensor:
        x = self.embedding(subwords) * math.sqrt(self.width)
        return self.dropout(x + positions(start, subwords.shape[1], self.width, x))


def positions(start: int, count: int, width: int, like: Tensor) -> Tensor:
    """(count, width) sines and cosines of the positions from `start` on; Vaswani et al., section 3.5."""
    place = torch.arange(start, start + count, device=like.device, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, width, 2, device=like.device) * (-math.log(10_000.0) / width))
    return torch.cat([(place * rate).sin(), (place * rate).cos()], dim=1).to(like.dtype)
