"""The three ways from losses to `.grad`: weigh the losses, weigh them at the last layer, or fill and combine rows."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from mtlbench.engine.aggregating import updates_of_groups, weights_of_heads
from mtlbench.engine.aside import Aside
from mtlbench.engine.columns import Columns
from mtlbench.engine.distributed import is_sharded
from mtlbench.engine.graph import graph_of
from mtlbench.engine.heads import HeadsOfStep
from mtlbench.engine.kinds import GramianWeighting, JacobianAggregator, LossWeighting, Method
from mtlbench.engine.last_layer import LastLayer
from mtlbench.engine.losses import Losses, batches, each, explained, run_backward
from mtlbench.engine.ranks import Alone
from mtlbench.engine.reach import Reach
from mtlbench.engine.shared import SharedParameters
from mtlbench.errors import Diverged


@dataclass(frozen=True)
class Step:
    """What one call of `Backward` is about."""

    losses: Losses
    count: int
    """m, the number of losses."""
    shared: SharedParameters
    heads: HeadsOfStep
    aside: Aside
    """What passes may overwrite; the caller puts it back after an error, and merges it after success."""
    treated: Collection[int] | None
    """The objectives that the method corrects; None for all."""
    ranks: Alone
    """Who takes the step."""
    representation: Sequence[Tensor] = ()
    """What heads read, where gradients are taken with respect to it."""


class Outcome(NamedTuple):
    """What a step has found out."""

    values: Tensor
    """(m,) the losses, detached."""
    weights: Tensor | None = None
    """(G, m)."""
    gramian: Tensor | None = None
    """(G, m, m) float64 on the CPU."""


def weigh_losses(method: LossWeighting, step: Step) -> Outcome:
    """One backward pass, seeded with the derivatives of the method's scalar by the losses."""
    step.aside.take(step.shared.trainable.values())
    step.aside.take(method.parameters())
    if isinstance(step.losses, Sequence) or not method.static:
        kept = list(each(step.losses, step.count))
        values = step.ranks.mean(torch.stack([loss.detach() for loss in kept]), step.aside)
        _require_finite_losses(method, values)
        with _unchanged_by_errors(method):
            weights = _derivatives(method, values)
            for row, loss in enumerate(kept):
                step.heads.look(row, loss)
            run_backward(kept, weights.to(values).unbind())
            step.ranks.average(step.shared.trainable.values())
            require_finite_gradients(method, step)
    else:
        weights = _derivatives(method, torch.zeros(step.count, dtype=torch.float64))
        found: list[Tensor] = []
        for loss in each(step.losses, step.count):
            row = len(found)
            step.heads.look(row, loss)
            run_backward([loss], [weights[row].to(loss)], row=row)
            found.append(loss.detach())
            del loss
        values = step.ranks.mean(torch.stack(found), step.aside)
        step.ranks.average(step.shared.trainable.values())
        _require_finite_losses(method, values)
        require_finite_gradients(method, step)
    return Outcome(values, weights.detach()[None])


def weigh_at_last_layer(method: GramianWeighting, layer: LastLayer, step: Step, dtype: torch.dtype | None) -> Outcome:
    """K passes down to the last shared layer, then one pass over the weighted sum."""
    losses = list(each(step.losses, step.count))
    learn_order(method, layer, losses)
    jacobian = layer.jacobian(step.shared.trainable, dtype, step.ranks.jacobian)
    jacobian.reserve(len(losses))
    for row, loss in enumerate(losses):
        try:
            gradients = torch.autograd.grad(loss, jacobian.parameters, retain_graph=True, allow_unused=True)
        except RuntimeError as error:
            raise explained(error) from error
        jacobian.set_row(row, gradients)
    values = step.ranks.mean(torch.stack([loss.detach() for loss in losses]), step.aside)
    gramian, weights = _answer(method, jacobian.gramian(len(losses)), values, step.treated)
    step.aside.take(step.shared.trainable.values())
    for row, loss in enumerate(losses):
        step.heads.look(row, loss)
    run_backward(losses, weights[0].to(values).unbind())
    step.ranks.average(step.shared.trainable.values())
    require_finite_gradients(method, step)
    return Outcome(values, weights, gramian)


def fill_and_combine(
    method: GramianWeighting | JacobianAggregator, layer: LastLayer | None, step: Step, jacobian: Columns, reach: Reach
) -> Outcome:
    """K backward passes into the rows of the Jacobian, then the method's combination of them.

    Args:
        method: of a kind that needs rows.
        layer: where the method sees the columns of one layer only.
        step: what is combined.
        jacobian: of the trainable shared parameters.
        reach: told which of them each loss reaches.
    """
    m = step.count
    found: list[Tensor] = []
    with jacobian.filling(m):
        _fill(step, step.losses, found, method.present.tolist(), layer, jacobian, reach)
    if not reach.settled:
        reach.tell()
    columns = None if layer is None else layer.choose(step.shared.trainable)
    return combine_rows(method, step, jacobian, step.ranks.mean(torch.stack(found), step.aside), columns)


def combine_rows(
    method: GramianWeighting | JacobianAggregator,
    step: Step,
    jacobian: Columns,
    values: Tensor,
    columns: Sequence[Parameter] | None = None,
) -> Outcome:
    """The method's combination of the rows that are there, added to `.grad`, and what heads get.

    Args:
        method: of a kind that needs rows.
        step: what is combined.
        jacobian: whose first m rows are filled.
        values: (m,) the losses, detached.
        columns: the parameters whose columns a method on the Gramian sees; None for all.
    """
    m = step.count
    if isinstance(method, JacobianAggregator):
        host = torch.cat([values.double(), jacobian.row_sums(m)]).cpu()
        method.require_finite("loss", host[:m])
        method.require_finite("sum of the gradient", host[m:])
        with torch.autocast(jacobian.device.type, enabled=False):
            rows = method.treated_rows(step.treated)
            jacobian.add(updates_of_groups(method, jacobian, host[:m], rows))
        step.heads.release(weights_of_heads(method, m, rows) if method.heads == "weighted" else None)
        return Outcome(values)
    gramian, weights = _answer(method, jacobian.gramian(m, columns), values, step.treated)
    jacobian.combine(weights.to(jacobian.device))
    step.heads.release(weights.mean(0) if method.heads == "weighted" else None)
    return Outcome(values, weights, gramian)


def combine_batches(method: GramianWeighting, step: Step, jacobian: Columns, reach: Reach) -> Outcome:
    """K backward passes for each of several batches; weights from the products of the gradients of the first two.

    Heads that are trained by their own loss get the mean of its gradients over the batches. The values are means too,
    and the Gramian of the outcome is `J_1 J_2'`.
    """
    m, shares = step.count, method.batch_shares
    rows = len(shares) * m
    found: list[Tensor] = []
    with jacobian.filling(rows):
        for losses in batches(step.losses, len(shares)):
            _fill(step, losses, found, method.present.tolist(), None, jacobian, reach)
            del losses
    if not reach.settled:
        reach.tell()
    values = step.ranks.mean(torch.stack(found), step.aside).view(-1, m)
    host = torch.cat([values.double(), jacobian.row_sums(rows).view(-1, m)]).cpu()
    for of_batch in host:
        method.require_finite("loss, or the sum of the gradient,", of_batch)
    product = jacobian.gramian(2 * m)[:, :m, m:]
    gramian, weights = _answer(method, product, values.mean(0), step.treated)
    jacobian.combine(torch.cat([share * weights for share in shares], 1).to(jacobian.device))
    if method.heads == "weighted":
        step.heads.release(torch.cat([share * weights.mean(0) for share in shares]))
    else:
        step.heads.release(torch.full((rows,), 1 / len(shares), dtype=torch.float64))
    return Outcome(values.mean(0), weights, gramian)


def _fill(
    step: Step,
    losses: Losses,
    found: list[Tensor],
    present: Sequence[int],
    layer: LastLayer | None,
    jacobian: Columns,
    reach: Reach,
) -> None:
    """The rows of one batch, after those of the `found` losses; its losses are added to them."""
    shared_graph, first = isinstance(losses, Sequence), len(found)
    for loss in each(losses, step.count):
        row, place = len(found), len(found) - first
        if layer is not None and not layer.knows(present[place]):
            layer.note(present[place], graph_of(loss))
        jacobian.start_row(row)
        with step.heads.of(row, loss):
            keep = shared_graph and place < step.count - 1
            run_backward([loss], retain_graph=keep, row=0 if shared_graph else place)
        reached = jacobian.end_row()
        if not reach.settled:
            reach.note(present[place], reached, jacobian.row(row))
        found.append(loss.detach())
        del loss


def apply_kept(method: GramianWeighting, weights: Tensor, step: Step) -> Outcome:
    """A step whose weights are known before it: the method is not asked.

    Losses that share a graph and have one weight each take one pass over their weighted sum. Where heads are trained by
    their own loss, another over the plain sum goes before it, as deep as heads reach: dividing a head's gradient by
    its weight would lose it where that is zero. Otherwise each loss takes a pass, and its gradient is added with the
    weights of the groups and let go of.

    Args:
        method: whose weights they are.
        weights: (G, m), or (1, m) for the same weights in every group; float64 on the CPU.
        step: what is combined.
    """
    step.aside.take(step.shared.trainable.values())
    asks = method.heads != "weighted"  # for gradients of some parameters alone
    in_one = isinstance(step.losses, Sequence) and len(weights) == 1 and step.count > 1
    in_one &= step.ranks.sees_leaves or not asks
    found = _in_one_pass(method, weights[0], step) if in_one else _one_by_one(weights, step)
    values = step.ranks.mean(found, step.aside)
    step.ranks.average(step.shared.trainable.values())
    method.require_finite("loss", values.cpu())
    require_finite_gradients(method, step)
    if not in_one:
        step.heads.release(weights.mean(0) if method.heads == "weighted" else None)
    return Outcome(values, weights)


def _in_one_pass(method: GramianWeighting, weights: Tensor, step: Step) -> Tensor:
    losses = list(each(step.losses, step.count))
    values = torch.stack([loss.detach() for loss in losses])
    factors = weights.to(values).unbind()
    shared = list(step.shared.trainable.values())
    if method.heads == "weighted":
        for row, loss in enumerate(losses):
            step.heads.look(row, loss)
        run_backward(losses, factors)
    else:
        if heads := step.heads.of_all(losses):
            run_backward(losses, inputs=heads, retain_graph=True)
        run_backward(losses, factors, inputs=shared)
    for p in shared:
        if p.grad is not None and p.grad.is_sparse:  # combined gradients are dense in all steps
            p.grad = p.grad.to_dense()
    return values


def _one_by_one(weights: Tensor, step: Step) -> Tensor:
    groups = list(step.shared.groups.values())
    factors = weights.expand(len(groups), -1).tolist()
    keep_graph = isinstance(step.losses, Sequence)
    found: list[Tensor] = []
    sums: dict[Tensor, Tensor] = {}
    for loss in each(step.losses, step.count):
        row = len(found)
        last = row == step.count - 1
        with step.heads.of(row, loss):
            run_backward([loss], retain_graph=keep_graph and not last, row=0 if keep_graph else row)
        for parameters, of_group in zip(groups, factors, strict=True):
            _add_up(parameters, of_group[row], sums)
        found.append(loss.detach())
        del loss
    for p in step.shared.trainable.values():
        p.grad = sums.get(p)
    return torch.stack(found)


@torch.no_grad()
def _add_up(parameters: Sequence[Tensor], factor: float, sums: dict[Tensor, Tensor]) -> None:
    """Move the gradients of `parameters`, times `factor`, into `sums`."""
    totals, gradients = [], []
    for p in parameters:
        if p.grad is None:
            continue
        gradient = p.grad.to_dense() if p.grad.is_sparse else p.grad
        p.grad = None
        if p in sums:
            totals.append(sums[p])
            gradients.append(gradient)
        else:
            sums[p] = gradient.mul_(factor)
    if totals:
        torch._foreach_add_(totals, gradients, alpha=factor)


def learn_order(method: GramianWeighting, layer: LastLayer, losses: Sequence[Tensor]) -> None:
    """Let the choice of the last layer see the graphs of objectives that it has not seen."""
    for objective, loss in zip(method.present.tolist(), losses, strict=True):
        if not layer.knows(objective):
            layer.note(objective, graph_of(loss))


def _answer(
    method: GramianWeighting, gramian: Tensor, values: Tensor, treated: Collection[int] | None
) -> tuple[Tensor, Tensor]:
    """The Gramian, and the method's weights (G, m) float64 on the CPU, after the step's one copy to the host."""
    host = torch.cat([gramian.flatten(), values.double()]).cpu()
    table = host[: gramian.numel()].view(gramian.shape)
    return table, method.checked_weigh(table, host[gramian.numel() :], treated)


def _derivatives(method: LossWeighting, values: Tensor) -> Tensor:
    """(m,) weights of the losses; the method's own parameters get their gradients on the way."""
    with torch.enable_grad():
        leaf = values.clone().requires_grad_()
        method.scalarize(leaf).backward()
    assert leaf.grad is not None
    return leaf.grad


@contextmanager
def _unchanged_by_errors(method: LossWeighting) -> Iterator[None]:
    """While open, what the method learns from the losses is kept only if there is no error."""
    buffers = {name: buffer.clone() for name, buffer in method.named_buffers(recurse=False)}
    drawn = method.generator.get_state()
    try:
        yield
    except BaseException:
        for name, buffer in buffers.items():
            setattr(method, name, buffer)
        method.generator.set_state(drawn)
        raise


def _require_finite_losses(method: LossWeighting, values: Tensor) -> None:
    method.require_finite("loss", values.detach().cpu())


def require_finite_gradients(method: Method, step: Step) -> None:
    """Raise `Diverged`, naming the parameter, where a gradient of a pass over weighted losses is not finite."""
    gradients = {name: p.grad for name, p in step.shared.trainable.items() if p.grad is not None}
    if not gradients:
        return
    values = [_entries(g) for g in gradients.values()]
    # A sum is finite only if every entry is; where finite entries have an infinite sum, each one is looked at.
    if math.isfinite(step.ranks.total(torch.stack([g.sum() for g in values]).sum()).item()):
        return
    bad = step.ranks.total(torch.stack([~torch.isfinite(g).all() for g in values]).double()).tolist()
    name = next((name for name, count in zip(gradients, bad, strict=True) if count), None)
    if name is None:
        return
    raise Diverged(
        f"{method.name}: the gradient of the weighted losses by {name} is not finite; lower the learning rate or check "
        "the data."
    )


def _entries(gradient: Tensor) -> Tensor:
    """The numbers of a gradient that lie here, all that are not zero."""
    if is_sharded(gradient):
        return gradient.to_local()  # type: ignore[attr-defined]
    values = gradient._values() if gradient.is_sparse else gradient
    return torch.view_as_real(values) if values.is_complex() else values
