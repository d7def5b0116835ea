"""An encoder with heads: one for all languages, or one for each."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Protocol

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
        return _shared(self)


class TextClassifier(nn.Module):
    """A pre-trained encoder that classifies whole rows by their first place, as the classes of `transformers` do.

    `BertForSequenceClassification`: the encoder's pooler (a dense layer and tanh), then a linear head. Without a pooler
    `XLMRobertaForSequenceClassification`: every head has a dense layer, tanh and a linear layer. Dropout stands before
    each layer of a head.

    Args:
        encoder: a model of `transformers` that answers `last_hidden_state`, (N, T, width), and `pooler_output`,
            (N, width), if it has a pooler.
        classes: numbers for each row.
        heads: how many heads there are; 1 for all languages, or one for each.
    """

    def __init__(self, encoder: nn.Module, classes: int, heads: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.pooled = getattr(encoder, "pooler", None) is not None
        config: Any = encoder.config
        width, own = config.hidden_size, getattr(config, "classifier_dropout", None)
        dropout = config.hidden_dropout_prob if own is None else own
        dense = () if self.pooled else (nn.Dropout(dropout), nn.Linear(width, width), nn.Tanh())
        head = nn.Sequential(*dense, nn.Dropout(dropout), nn.Linear(width, classes))
        self.heads = nn.ModuleList(copy.deepcopy(head) for _ in range(heads))
        for layer in self.heads.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=config.initializer_range)
                nn.init.zeros_(layer.bias)

    def forward(self, batch: Rows, language: int) -> Tensor:
        """(N, classes), by the head of `language`, or the only one."""
        kinds = {} if batch.kinds is None else {"token_type_ids": batch.kinds}
        answer = self.encoder(input_ids=batch.ids, attention_mask=batch.mask, **kinds)
        features = answer.pooler_output if self.pooled else answer.last_hidden_state[:, 0]
        logits: Tensor = self.heads[language if len(self.heads) > 1 else 0](features)
        return logits

    def shared(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters that more than one language reaches: the encoder, and the head where it is the only one."""
        return _shared(self)


def _shared(model: Classifier | TextClassifier) -> Iterator[tuple[str, nn.Parameter]]:
    for name, parameter in model.named_parameters():
        if name.startswith("encoder.") or len(model.heads) == 1:
            yield name, parameter
