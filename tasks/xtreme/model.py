"""An encoder with linear heads: one for all languages, or one for each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor, nn


class Rows(Protocol):
    """What a model reads of a batch."""

    @property
    def ids(self) -> Tensor:
        """(N, T) subwords."""

    @property
    def mask(self) -> Tensor:
        """(N, T) whether there is one."""

    @property
    def places(self) -> Tensor:
        """(n,) the places that are asked for, counted over the rows."""

    @property
    def kinds(self) -> Tensor | None:
        """(N, T) token types, where a row holds two texts and the encoder has types for them."""


class Classifier(nn.Module):
    """A pre-trained encoder with a linear layer at the places that a batch names.

    Args:
        encoder: a model of `transformers` that answers `last_hidden_state`, (N, T, width).
        outputs: numbers at each place, such as one for each tag.
        heads: how many heads there are; 1 for all languages, or one for each.
        dropout: before the head; None for what the encoder has inside.
    """

    def __init__(self, encoder: nn.Module, outputs: int, heads: int, dropout: float | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        config = encoder.config
        self.dropout = nn.Dropout(config.hidden_dropout_prob if dropout is None else dropout)  # type: ignore[union-attr, arg-type]
        self.heads = nn.ModuleList(nn.Linear(config.hidden_size, outputs) for _ in range(heads))  # type: ignore[union-attr, arg-type]
        for head in self.heads:
            nn.init.normal_(head.weight, std=config.initializer_range)  # type: ignore[union-attr, arg-type]
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]

    def forward(self, batch: Rows, language: int) -> Tensor:
        """(n, outputs) at the batch's n places, by the head of `language`, or the only one."""
        kinds = {} if batch.kinds is None else {"token_type_ids": batch.kinds}
        hidden = self.encoder(input_ids=batch.ids, attention_mask=batch.mask, **kinds).last_hidden_state
        features = self.dropout(hidden.flatten(0, 1).index_select(0, batch.places))
        logits: Tensor = self.heads[language if len(self.heads) > 1 else 0](features)
        return logits

    def shared(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters that more than one language reaches: the encoder, and the head where it is the only one."""
        for name, parameter in self.named_parameters():
            if name.startswith("encoder.") or len(self.heads) == 1:
                yield name, parameter
