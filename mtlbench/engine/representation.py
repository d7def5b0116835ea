"""Gradients with respect to what all heads read: K passes through the heads, and one through the shared encoder."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import Parameter

from mtlbench.engine.graph import Edge, described, edge_of, graph_of
from mtlbench.engine.jacobian import Jacobian
from mtlbench.engine.kinds import GramianWeighting, JacobianAggregator, LossWeighting, Method
from mtlbench.engine.losses import each, explained
from mtlbench.engine.remembering import RememberingAggregator
from mtlbench.engine.strategies import Outcome, Step, combine_rows, require_finite_gradients
from mtlbench.errors import UsageError, unknown

WRT = ("parameters", "representation")
"""What gradients are taken with respect to."""
Wrt = Literal["parameters", "representation"]


def at_representation(method: Method, wrt: str, dtype: torch.dtype | None) -> Representation | None:
    """What a method that needs rows takes gradients with respect to, if that is the representation.

    Args:
        method: of any kind; one of the losses alone has no use for it.
        wrt: one of `WRT`.
        dtype: of the rows; by default that of the tensors, at least float32.

    Raises:
        UsageError: an unknown `wrt`, or a method that has no answer there.
    """
    if wrt not in WRT:
        raise unknown("wrt", wrt, WRT)
    if wrt == "parameters" or not isinstance(method, GramianWeighting | JacobianAggregator):
        return None
    if reason := why_not(method):
        raise UsageError(f"{method.name} is not allowed with wrt=representation: {reason}. Leave wrt out for it.")
    return Representation(dtype)


def why_not(method: Method | type[Method]) -> str:
    """Why a method that needs rows cannot take gradients with respect to the representation; empty where it can."""
    cls = method if isinstance(method, type) else type(method)
    if issubclass(cls, RememberingAggregator):
        return "it remembers a number for each column, and the columns are other examples in every step"
    if not issubclass(cls, GramianWeighting):
        return ""
    if getattr(method, "scope", "shared") == "last_layer":
        return "it measures gradients with respect to the last shared layer"
    if isinstance(shares := getattr(method, "batch_shares", ()), tuple) and len(shares) > 1:
        return "it multiplies gradients of several batches, whose columns are other examples"
    return ""


class Representation:
    """The rows of steps whose gradients are taken with respect to the tensors that all heads read.

    Args:
        dtype: of the rows; by default float64 if a tensor is, else float32.
    """

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        self._dtype = dtype
        self._seen: Hashable = None
        self._jacobian: Jacobian | None = None
        self._steps = 0

    def require_fit(self, groups: int) -> None:
        """Raise `UsageError` for a granularity with several groups: they would all have the same gradients."""
        if groups > 1:
            raise UsageError(
                "wrt=representation goes with granularity=whole_model alone: the representation has no groups of "
                "parameters."
            )

    def jacobian(self, tensors: Sequence[Tensor]) -> Jacobian:
        """The one of gradients with respect to these tensors; it is kept while their shapes stay."""
        seen = tuple((t.shape, t.stride(), t.dtype, t.device) for t in tensors)
        if self._jacobian is None or seen != self._seen:
            self._jacobian = None  # free before another one is made
            self._jacobian = Jacobian([[_shape_of(t) for t in tensors]], self._dtype)
            self._seen = seen
        return self._jacobian

    def looks(self) -> bool:
        """Whether the encoder's graph is walked in this step, which is counted: the first, second, fourth, ... one."""
        self._steps += 1
        return self._steps.bit_count() == 1


def tensors_of(representation: object, method: Method, used: bool, losses: object) -> list[Tensor]:
    """What a caller passed as `representation`, as a list.

    Args:
        representation: what was passed; None for nothing.
        method: of the losses alone has no use for it.
        used: whether gradients are taken with respect to it.
        losses: in order.

    Raises:
        UsageError: it is missing, or there although it is not used; no tensors, or tensors that nothing trains.
    """
    if not used:
        if representation is not None and not isinstance(method, LossWeighting):
            raise UsageError(
                "gradients are taken with respect to the parameters, for which the representation is of no use: "
                'Backward(..., wrt="representation") takes those with respect to it.'
            )
        return []
    if representation is None:
        raise UsageError("wrt=representation wants what all heads read: backward(losses, representation=features).")
    if not isinstance(losses, Sequence):
        raise UsageError("wrt=representation wants the losses of one input: pass a list, not a generator.")
    found = [representation] if isinstance(representation, Tensor) else representation
    if not isinstance(found, Sequence) or not found or not all(isinstance(t, Tensor) for t in found):
        raise UsageError("representation is a tensor, or a list of tensors: what the heads read in this step.")
    if not all(t.requires_grad and t.is_floating_point() for t in found):
        raise UsageError(
            "a tensor of the representation requires no gradient: it is what the shared encoder computed in this step, "
            "not detached."
        )
    if len({t.device for t in found}) > 1:
        raise UsageError("the tensors of the representation lie on several devices.")
    return list(found)


def combine_at_representation(
    method: GramianWeighting | JacobianAggregator, representation: Representation, step: Step
) -> Outcome:
    """K passes down to the representation, the method's combination of its gradients, and one pass from there.

    Each head is passed once: its own gradient comes with that of the representation.

    Raises:
        UsageError: losses that reach shared parameters around the representation, or not through it; parameters below
            it that are not in `shared`; a tensor of it that depends on another.
    """
    tensors, losses = step.representation, list(each(step.losses, step.count))
    edges = frozenset(map(edge_of, tensors))
    if representation.looks():
        _require_apart(tensors, edges, step.shared.ids)
    jacobian = representation.jacobian(tensors)
    jacobian.reserve(len(losses))
    step.aside.take(step.shared.trainable.values())
    for row, loss in enumerate(losses):
        heads = _heads(loss, int(method.present[row]), edges, step)
        step.heads.take(row, heads)
        with step.heads.holding(row, heads):
            jacobian.set_row(row, _gradients(loss, tensors, heads, keep=row < len(losses) - 1))
    values = torch.stack([loss.detach() for loss in losses])
    try:
        outcome = combine_rows(method, step, jacobian, values)
        combined = [t.grad for t in jacobian.parameters]
    finally:
        for t in jacobian.parameters:
            t.grad = None
    del losses
    _pass_on(tensors, combined)
    require_finite_gradients(method, step)
    for p in step.shared.trainable.values():
        if p.grad is not None and p.grad.is_sparse:  # combined gradients are dense in all steps
            p.grad = p.grad.to_dense()
    return outcome


def _gradients(loss: Tensor, tensors: Sequence[Tensor], heads: Sequence[Tensor], keep: bool) -> list[Tensor | None]:
    """Those of one loss with respect to the `tensors`; those of its heads go to `.grad`."""
    try:
        found = torch.autograd.grad(loss, [*tensors, *heads], retain_graph=keep, allow_unused=True)
    except RuntimeError as error:
        raise explained(error) from error
    for p, gradient in zip(heads, found[len(tensors) :], strict=True):
        if gradient is not None:
            p.grad = gradient.clone()  # autograd may give one tensor to several, or one that its graph needs
    return list(found[: len(tensors)])


def _pass_on(tensors: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    """The one pass through the encoder."""
    try:
        torch.autograd.backward(list(tensors), list(gradients))
    except RuntimeError as error:
        raise explained(error) from error


def _heads(loss: Tensor, objective: int, edges: Collection[Edge], step: Step) -> list[Tensor]:
    """The leaves between a loss and the representation; only that part of the graph is walked, so in every step."""
    graph = graph_of(loss, until=edges)
    heads = [leaf.tensor for leaf in graph.leaves.values()]
    for leaf in heads:
        if id(leaf) in step.shared.ids:
            raise UsageError(
                f"the loss of objective {objective} reaches the shared parameter {described(leaf)} around the "
                "representation, which its gradient would leave out: the representation is all that heads read of what "
                "shared parameters compute, in this very step."
            )
    if not graph.met:
        raise UsageError(f"the loss of objective {objective} does not depend on the representation.")
    return heads


def _require_apart(tensors: Sequence[Tensor], edges: frozenset[Edge], shared: Collection[int]) -> None:
    """Refuse tensors that depend on each other, and parameters below them that are not shared."""
    for tensor in tensors:
        graph = graph_of(tensor, until=edges - {edge_of(tensor)})
        if graph.met:
            raise UsageError(
                "one tensor of the representation depends on another, whose gradient would be counted twice: pass "
                "what heads read and nothing else."
            )
        for leaf in graph.leaves.values():
            if isinstance(leaf.tensor, Parameter) and id(leaf.tensor) not in shared:
                raise UsageError(
                    f"the representation depends on {described(leaf.tensor)}, which is not in shared: all objectives "
                    "train what computes the representation, so add it to shared."
                )


def _shape_of(tensor: Tensor) -> Parameter:
    """Shape, strides and dtype of a tensor without its numbers, which need not be kept until the next step."""
    empty = torch.empty_like(tensor, requires_grad=False)
    empty.untyped_storage().resize_(0)
    return Parameter(empty, requires_grad=False)
