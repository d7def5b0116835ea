"""From K losses to `.grad` with any method: the whole public interface for a training loop of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from mtlbench.engine.grouping import Shared, group, last_layer, named_parameters
from mtlbench.engine.heads import Heads
from mtlbench.engine.jacobian import Jacobian
from mtlbench.engine.kinds import GramianWeighting, JacobianAggregator, LossWeighting, Method
from mtlbench.errors import UsageError

Losses = Sequence[Tensor] | Iterator[Tensor]


class Backward:
    """Fills `.grad` from the losses of K objectives, combined by a method.

    Complete example, with two heads on one encoder::

        import torch
        import mtlbench

        encoder, heads = torch.nn.Linear(8, 4), [torch.nn.Linear(4, 1) for _ in range(2)]
        parameters = [*encoder.parameters(), *(p for head in heads for p in head.parameters())]
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        backward = mtlbench.Backward(mtlbench.method("gradvac", beta=0.01), shared=encoder)

        for step in range(10):
            x = torch.randn(32, 8)
            features = encoder(x).relu()
            losses = [(head(features) - x[:, [k]]).pow(2).mean() for k, head in enumerate(heads)]
            optimizer.zero_grad()
            backward(losses)
            optimizer.step()

    After a call, `.grad` of the shared parameters holds the combined gradient and `.grad` of every other
    parameter that of its own objective (times its weight where the method's convention is `heads="weighted"`).
    Gradients that were there before are added to, as by `loss.backward()`. The combined gradients live in one
    buffer that the next call writes to: clone what you want to keep.

    Args:
        method: from `mtlbench.method(...)`.
        shared: what more than one objective's loss reaches: a module, parameters, or named parameters.
        granularity: `whole_model`, `enc_dec`, `all_layer`, `all_matrix` (`mtlbench.grouping.group`), or explicit
            groups of parameters. Methods of the losses alone have no use for it.
        objectives: K; by default the number of losses of the first call.
        treated: the objectives, from 0 to K-1, whose gradients the method corrects; those of the others enter the
            update as they are, heads included. By default all. Methods of the losses alone have no use for it.
        jacobian_dtype: dtype of the K x P buffer; by default the parameters' own, at least float32.

    Raises:
        UsageError: a method that needs the runner, parameters that fit no group, an unknown granularity, a treated
            objective that there is none of.
    """

    def __init__(
        self,
        method: Method,
        shared: Shared,
        granularity: str | Sequence[Iterable[Parameter]] = "whole_model",
        objectives: int | None = None,
        jacobian_dtype: torch.dtype | None = None,
        treated: Sequence[int] | None = None,
    ) -> None:
        if method.separate_models:
            raise UsageError(
                f"{method.name} trains a model per objective, which no single backward pass can do: use "
                "`mtlbench run`, or train each model on its own loss."
            )
        self.method = method
        named = named_parameters(shared)
        self._groups = group(named, granularity)
        self._last_layer = last_layer(named)
        self._shared = {id(p) for p in named.values()}
        self._jacobian_dtype = jacobian_dtype
        self._treated = None if treated is None else frozenset(treated)
        self._jacobian: Jacobian | None = None
        self._last_layer_jacobian: Jacobian | None = None
        self.objectives = objectives or 0
        self._heads_checked: set[int] = set()
        self.gramian: Tensor | None = None
        """(G, m, m) float64 on the CPU: the Gramian of the last step, if the method needed one."""
        self.weights: Tensor | None = None
        """(G, m): the weights of the last step, if the method answers weights."""
        if self.objectives:
            self._begin(None)  # so that an optimiser finds the parameters that the method makes for K objectives

    @property
    def group_names(self) -> list[str]:
        """The names of the groups, in the order of the Gramians."""
        return list(self._groups)

    def __call__(self, losses: Losses, objectives: Sequence[int] | None = None) -> Tensor:
        """Run the backward passes of one step and fill `.grad`.

        Args:
            losses: scalar losses in the order of the objectives. A list: their graphs may share a trunk. A
                generator: each loss has a graph of its own (one batch per objective), which is freed before the
                next loss is asked for.
            objectives: which objectives the losses belong to, in a step that holds only some of them.

        Returns:
            (m,) the losses, detached.

        Raises:
            UsageError: a wrong number of losses, or something that is no scalar loss.
            Diverged: a loss or a gradient that is not finite.
        """
        if isinstance(losses, Tensor):
            raise UsageError("pass the losses as a list or a generator of scalars, not packed into one tensor.")
        if isinstance(losses, Sequence):
            self._expect(len(losses), objectives)
        elif self.objectives == 0 and objectives is None:
            raise UsageError(
                "the losses come from a generator, so their number is not known before they are built: tell "
                "Backward how many there are, objectives=K."
            )
        present = self._check_present(objectives)
        m = self.objectives if present is None else len(present)
        self._begin(present)
        if isinstance(self.method, LossWeighting):
            return self._weigh_losses(self.method, losses, m)
        if self._is_of_last_layer and isinstance(losses, Sequence):
            return self._weigh_last_layer(losses)
        return self._fill_and_combine(losses, m)

    def state_dict(self) -> dict[str, Any]:
        """All that resuming needs; loads with `torch.load(weights_only=True)`."""
        return {"method": self.method.state_dict(), "objectives": self.objectives, "groups": self.group_names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`; raises `UsageError` if it is of other groups or another K."""
        if list(state["groups"]) != self.group_names:
            raise UsageError(
                f"the state is of {len(state['groups'])} groups ({', '.join(state['groups'][:3])}, ...), "
                f"this is of {len(self.group_names)} ({', '.join(self.group_names[:3])}, ...)."
            )
        if self.objectives and state["objectives"] and self.objectives != state["objectives"]:
            raise UsageError(f"the state is of {state['objectives']} objectives, this is of {self.objectives}.")
        self.method.load_state_dict(state["method"])
        self.objectives = state["objectives"] or self.objectives

    @property
    def _is_of_last_layer(self) -> bool:
        return isinstance(self.method, GramianWeighting) and self.method.scope == "last_layer"

    def _begin(self, present: Sequence[int] | None) -> None:
        one_group = isinstance(self.method, LossWeighting) or self._is_of_last_layer
        self.method.begin(self.objectives, 1 if one_group else len(self._groups), present)
        self.method.treated_rows(self._treated)  # refuses objectives that there are none of before anything runs

    def _expect(self, count: int, objectives: Sequence[int] | None) -> None:
        if count == 0:
            raise UsageError("a step needs at least one loss.")
        if objectives is not None:
            if len(objectives) != count:
                raise UsageError(f"objectives names {len(objectives)} objectives for {count} losses.")
        elif self.objectives == 0:
            self.objectives = count
        elif self.objectives != count:
            raise UsageError(
                f"got {count} losses for {self.objectives} objectives; name the ones present: objectives=[...]."
            )

    def _check_present(self, objectives: Sequence[int] | None) -> list[int] | None:
        if objectives is None:
            return None
        if self.objectives == 0:
            raise UsageError(
                "the first step holds only some objectives: tell Backward how many there are, objectives=K."
            )
        chosen = [int(k) for k in objectives]
        if len(set(chosen)) != len(chosen) or not all(0 <= k < self.objectives for k in chosen):
            raise UsageError(f"objectives={chosen} must be different numbers from 0 to {self.objectives - 1}.")
        return None if chosen == list(range(self.objectives)) else chosen

    def _weigh_losses(self, method: LossWeighting, losses: Losses, m: int) -> Tensor:
        """One backward pass, seeded with the derivatives of the method's scalar by the losses."""
        if isinstance(losses, Sequence) or not method.static:
            kept = list(losses)
            self._count(len(kept), m)
            for loss in kept:
                _check_scalar(loss)
            values = torch.stack([loss.detach() for loss in kept])
            self._check_finite(values)
            weights = self._derivatives(method, values)
            torch.autograd.backward(kept, list(weights.to(values).unbind()))
            return values
        weights = self._derivatives(method, torch.zeros(m, dtype=torch.float64))
        found: list[Tensor] = []
        for loss in losses:  # not enumerate, which would keep each loss until after the next is built
            _check_scalar(loss)
            self._count_at_most(len(found), m)
            loss.backward(weights[len(found)].to(loss))
            found.append(loss.detach())
            del loss
        self._count(len(found), m)
        values = torch.stack(found)
        self._check_finite(values)
        return values

    def _derivatives(self, method: LossWeighting, values: Tensor) -> Tensor:
        """(m,) weights of the losses; the method's own parameters get their gradients on the way."""
        leaf = values.clone().requires_grad_()
        method.scalarize(leaf).backward()
        assert leaf.grad is not None
        self.weights = leaf.grad.detach()[None]
        return leaf.grad

    def _weigh_last_layer(self, losses: Sequence[Tensor]) -> Tensor:
        """K passes down to the last shared layer, then one pass over the weighted sum."""
        method = self.method
        assert isinstance(method, GramianWeighting)
        if self._last_layer_jacobian is None:
            self._last_layer_jacobian = Jacobian([self._last_layer], self._jacobian_dtype)
        jacobian = self._last_layer_jacobian
        jacobian.reserve(len(losses))
        for row, loss in enumerate(losses):
            _check_scalar(loss)
            gradients = torch.autograd.grad(loss, self._last_layer, retain_graph=True, allow_unused=True)
            jacobian.set_row(row, gradients)
        values = torch.stack([loss.detach() for loss in losses])
        weights = self._answer(method, jacobian.gramian(len(losses)), values)
        torch.autograd.backward(list(losses), list(weights[0].to(values).unbind()))
        return values

    def _fill_and_combine(self, losses: Losses, m: int) -> Tensor:
        """K backward passes into the rows of the Jacobian, then the method's combination of them."""
        if self._jacobian is None:
            self._jacobian = Jacobian(list(self._groups.values()), self._jacobian_dtype)
        jacobian, method = self._jacobian, self.method
        shared_graph = isinstance(losses, Sequence)
        present = method.present.tolist()
        unchecked = len(self._heads_checked) < self.objectives
        heads = Heads(self._shared, present, hold=method.heads == "weighted", check=unchecked)
        found: list[Tensor] = []
        with jacobian.filling(m):
            for loss in losses:  # not enumerate, as above
                _check_scalar(loss)
                row = len(found)
                self._count_at_most(row, m)
                jacobian.start_row(row)
                with heads.of(row, loss):
                    _run_backward(loss, retain_graph=shared_graph and row < m - 1, shared_graph=shared_graph)
                jacobian.end_row()
                found.append(loss.detach())
                del loss
        self._count(len(found), m)
        self._heads_checked.update(present)
        values = torch.stack(found)
        if isinstance(method, JacobianAggregator):
            host = torch.cat([values.double(), jacobian.row_sums(m)]).cpu()
            method.require_finite("loss", host[:m])
            method.require_finite("sum of the gradient", host[m:])
            with torch.autocast(jacobian.device.type, enabled=False):
                rows = method.treated_rows(self._treated)
                jacobian.add([_aggregated(method, columns, rows) for columns in jacobian.columns(m)])
            return values
        assert isinstance(method, GramianWeighting)
        columns = self._last_layer if method.scope == "last_layer" else None
        weights = self._answer(method, jacobian.gramian(m, columns), values)
        jacobian.combine(weights.to(jacobian.device))
        heads.release(weights.mean(0))
        return values

    def _answer(self, method: GramianWeighting, gramian: Tensor, values: Tensor) -> Tensor:
        """The method's weights, (G, m) float64 on the CPU, after the step's one copy to the host."""
        host = torch.cat([gramian.flatten(), values.double()]).cpu()
        self.gramian = host[: gramian.numel()].view(gramian.shape)
        self.weights = method.checked_weigh(self.gramian, host[gramian.numel() :], self._treated)
        return self.weights

    def _check_finite(self, values: Tensor) -> None:
        self.method.require_finite("loss", values.detach().cpu())

    def _count(self, got: int, m: int) -> None:
        if got != m:
            raise UsageError(f"got {got} losses for {m} objectives.")

    def _count_at_most(self, row: int, m: int) -> None:
        if row >= m:
            raise UsageError(f"got more than {m} losses for {m} objectives.")


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


def _run_backward(loss: Tensor, retain_graph: bool, shared_graph: bool) -> None:
    try:
        loss.backward(retain_graph=retain_graph)
    except RuntimeError as error:
        if not shared_graph and "second time" in str(error):
            raise UsageError(
                "the losses of the generator share a graph, which is freed after the first of them: pass a list."
            ) from error
        raise


def _check_scalar(loss: Tensor) -> None:
    if not isinstance(loss, Tensor) or loss.numel() != 1 or loss.ndim != 0:
        shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
        raise UsageError(f"a loss is a tensor with one number and no dimensions, not {shape}.")
    if not loss.requires_grad:
        raise UsageError("a loss depends on no parameter that requires a gradient.")
