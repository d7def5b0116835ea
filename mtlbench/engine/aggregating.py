"""What an aggregator answers for the groups of a Jacobian, where some objectives are treated and others are not."""

from __future__ import annotations

import torch
from torch import Tensor

from mtlbench.engine.columns import Columns
from mtlbench.engine.columnwise import ColumnwiseAggregator
from mtlbench.engine.kinds import JacobianAggregator
from mtlbench.errors import UsageError


def updates_of_groups(
    method: JacobianAggregator, jacobian: Columns, losses: Tensor, treated: list[int] | None
) -> list[Tensor]:
    """The update of each group."""
    method.losses = losses if treated is None else losses[treated]
    updates = []
    for group, columns in enumerate(jacobian.columns(len(losses))):
        method.group = group
        if isinstance(method, ColumnwiseAggregator):
            method.apart = jacobian.places(group)
        updates.append(_aggregated(method, columns, treated))
    return updates


def weights_of_heads(method: JacobianAggregator, count: int, treated: list[int] | None) -> Tensor:
    """(m,) what the heads' losses are multiplied by: the method's answer for the treated rows, 1 for the others."""
    weights = torch.ones(count, dtype=torch.float64)
    rows = list(range(count)) if treated is None else treated
    if rows:
        with method.only(rows):
            weights[rows] = method.head_weights().double()
    return weights


def _aggregated(method: JacobianAggregator, columns: Tensor, treated: list[int] | None) -> Tensor:
    """The update of one group: the method's answer for the treated rows, plus the others as they are."""
    if treated is not None:
        others = columns[[row for row in range(len(columns)) if row not in treated]].sum(0)
        if not treated:
            return others
        with method.only(treated):
            return others + _aggregated(method, columns[treated], None)
    update = method.aggregate(columns)
    if update.shape != columns.shape[1:]:
        raise UsageError(
            f"{method.name}: aggregate answered a tensor of shape {tuple(update.shape)} for a Jacobian of shape "
            f"{tuple(columns.shape)}; the update has one number for each column."
        )
    return update
