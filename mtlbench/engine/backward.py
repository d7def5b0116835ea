"""From K losses to `.grad` with any method: the whole public interface for a training loop of one's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.nn import Parameter

from mtlbench.engine import distributed, strategies
from mtlbench.engine.aside import Aside, run_hooks
from mtlbench.engine.columns import Columns
from mtlbench.engine.fsdp import ranks_of
from mtlbench.engine.grouping import Shared
from mtlbench.engine.heads import Heads
from mtlbench.engine.keeping import KeptWeights
from mtlbench.engine.kinds import GramianWeighting, JacobianAggregator, LossWeighting, Method
from mtlbench.engine.last_layer import LastLayer, under
from mtlbench.engine.losses import Batches, Losses, in_order
from mtlbench.engine.presence import chosen, number_of_objectives
from mtlbench.engine.reach import Reach
from mtlbench.engine.representation import Wrt, at_representation, combine_at_representation, tensors_of
from mtlbench.engine.shared import SharedParameters
from mtlbench.engine.tracing import Targeting, Trace
from mtlbench.engine.visiting import watched
from mtlbench.errors import UsageError


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
    Gradients that were there before are added to, as by `loss.backward()`. After an error all is as it was. The
    combined gradients live in one buffer that the next call writes to: clone what you want to keep. They are dense,
    also of sparse embeddings, except under methods of the losses alone.

    A shared parameter that no loss of the step reaches has a gradient of zero, whatever the method; heads of
    objectives that are absent have none. So weight decay and moments of an optimiser go on for the one and rest for
    the other.

    Parameters may be frozen, unfrozen, moved, cast or, in a module given as `shared`, replaced between calls. The
    method's state is kept, per group where it has some: groups that come start afresh.

    Hooks of `register_post_accumulate_grad_hook` run once a step, on the combined gradient; those of `register_hook`
    see the gradient of each objective.

    Args:
        method: from `mtlbench.method(...)`.
        shared: what more than one objective's loss reaches: a module, parameters, or named parameters. Heads do not
            belong here: their rows would be zero for all objectives but one. What one objective alone is found to
            reach is told by name (`UserWarning`).
        granularity: `whole_model`, `enc_dec`, `all_layer`, `all_matrix` (`mtlbench.engine.grouping.group`), or explicit
            groups of parameters. Methods of the losses alone have no use for it.
        objectives: K; by default the number of losses of the first call.
        treated: the objectives, from 0 to K-1, whose gradients the method corrects; those of the others enter the
            update as they are, heads included. By default all. Methods of the losses alone have no use for it.
        jacobian_dtype: dtype of the K x P buffer; by default the parameters' own, at least float32.
        refresh: n: a method that weighs gradients by their Gramian does so in every n-th step, and its weights are
            kept in between, where no Jacobian is filled. Steps that hold an objective which had no weight compute too.
            A kept step of a list of losses takes one backward pass where there is one group, and another one down to
            the heads where these are trained by their own loss (`register_hook` then sees the weighted sum); of a
            generator, that of each loss; of a list with several groups, K passes. Other methods have no use for it.
        wrt: `representation`: methods that need gradients get those with respect to the tensors that all heads read,
            which every call is given; K passes through the heads, one through the encoder. Not the same weights.
        process_group: of torch.distributed, whose ranks each call this on their share of every objective's batch.
            Losses and gradients are averaged over ranks before the method combines them, and each rank keeps its part
            of the columns (`docs/distributed.md`). All have the same parameters, method and seed, and no
            DistributedDataParallel.
        heads: with `process_group`, what is trained beside `shared`, such as the whole model: its gradients are
            averaged too.

    Raises:
        UsageError: a method that needs the runner or does not support K, parameters that fit no group, an unknown
            granularity or layer, a treated objective that there is none of, a module that is spread over processes.
    """

    def __init__(
        self,
        method: Method,
        shared: Shared,
        granularity: str | Sequence[Iterable[Parameter]] = "whole_model",
        objectives: int | None = None,
        jacobian_dtype: torch.dtype | None = None,
        treated: Sequence[int] | None = None,
        refresh: int = 1,
        wrt: Wrt = "parameters",
        process_group: ProcessGroup | None = None,
        heads: nn.Module | Iterable[Parameter] | None = None,
    ) -> None:
        if method.separate_models:
            raise UsageError(
                f"{method.name} trains a model per objective, which no single backward pass can do: use "
                "`mtlbench run`, or train each model on its own loss."
            )
        self.method = method
        self._shared = SharedParameters(shared, granularity, in_group=process_group is not None)
        self._heads = Heads()
        self._layer = _layer_of(method)
        self._jacobian_dtype = jacobian_dtype
        self._treated = None if treated is None else frozenset(treated)
        self._batches = len(method.batch_shares) if isinstance(method, GramianWeighting) else 1
        kept = KeptWeights(refresh)
        self._kept = kept if kept.every > 1 and isinstance(method, GramianWeighting) else None
        self._representation = at_representation(method, wrt, jacobian_dtype)
        if self._representation and process_group is not None:
            raise UsageError("wrt=representation does not go with process_group: leave one of them out.")
        self._jacobian: Columns | None = None
        self._reach: Reach | None = None
        self._wrappers = distributed.Wrappers(in_group=process_group is not None)
        self._calls = 0
        self._trace: Trace | None = None
        options = (self.group_names, treated and tuple(treated), refresh, jacobian_dtype)
        self._ranks = ranks_of(process_group, method, self._shared, heads, options)
        self.objectives = objectives or 0
        self.gramian: Tensor | None = None
        """(G, m, m) float64 on the CPU: the Gramian of the last step, if the method needed one in it."""
        self.weights: Tensor | None = None
        """(G, m): the weights of the last step, if the method answers weights."""
        self._require_fit()
        if self.objectives:
            self._begin(None)  # so that an optimiser finds the parameters that the method makes for K objectives

    @property
    def group_names(self) -> list[str]:
        """The names of the groups, in the order of the Gramians."""
        return list(self._shared.groups)

    @property
    def last_layer(self) -> list[str]:
        """The parameters at which a method such as GradNorm measures gradients; none for others, or before a step."""
        return list(self._layer.names) if self._layer else []

    def __call__(
        self,
        losses: Losses | Batches,
        objectives: Sequence[int] | None = None,
        representation: Tensor | Sequence[Tensor] | None = None,
        examples: Sequence[float] | None = None,
    ) -> Tensor:
        """Run the backward passes of one step and fill `.grad`.

        Args:
            losses: scalar losses in the order of the objectives. A list: their graphs may share a trunk. A
                generator: each loss has a graph of its own (one batch per objective), which is freed before the
                next loss is asked for. For a method that takes gradients from several batches (`batch_shares`), a list
                or a generator of as many of these, such as `(losses(batch) for batch in batches)`.
            objectives: which objectives the losses belong to, in a step that holds only some of them.
            representation: what all heads read, of this very step, with `wrt="representation"`.
            examples: with `process_group`, how many examples, or tokens, each loss is the mean of on this rank, so that
                the mean over ranks is that over all of them; by default every rank counts the same. Ranks may hold
                different objectives, or none: `backward([], [])`.

        Returns:
            (m,) the losses, detached; means over several batches, and over ranks.

        Raises:
            UsageError: a wrong number of losses or batches, something that is no scalar loss, no such representation.
            Diverged: a loss or a gradient that is not finite; `.grad` is as before the call.
        """
        with self._ranks.preparing():
            losses = in_order(losses)
            tensors = tensors_of(representation, self.method, self._representation is not None, losses)
            self.objectives = number_of_objectives(
                self.objectives, losses, objectives, self.method, may_be_none=self._ranks.may_hold_none
            )
            present = chosen(objectives, self.objectives)
            self._take_up_changes()
            self._require_alone()
        known = self._layer.knows if self._layer else None
        given, present = self._ranks.join(losses, present, examples, self.objectives, known)
        self._begin(present)
        rows = list(range(self.objectives)) if present is None else present
        aside = Aside()
        aside.take(self._ranks.heads)
        weighted = self.method.heads == "weighted" and not isinstance(self.method, LossWeighting)
        try:
            several = rows * self._batches
            held_back = weighted or self._batches > 1
            given_heads = None if self._ranks.sees_leaves else self._ranks.heads
            heads = self._heads.step(self._shared.ids, several, aside, weighted=held_back, given=given_heads)
            step = strategies.Step(given, len(rows), self._shared, heads, aside, self._treated, self._ranks, tensors)
            outcome = self._outcome(step, rows)
            self._ranks.average_heads(aside)
        except BaseException:
            aside.put_back()
            raise
        reached = aside.merge()
        for p in self._shared.trainable.values():
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        run_hooks({id(p): p for p in (*reached, *self._shared.trainable.values())}.values())
        self.weights, self.gramian = outcome.weights, outcome.gramian
        return outcome.values

    def review(self, losses: Iterable[Tensor]) -> None:
        """Show a method that learns from what a step has done (`method.reviews`) the losses after the optimiser's step.

        Other methods have no use for it. Under `torch.no_grad()`, with dropout as in the step::

            backward(losses)
            optimizer.step()
            with torch.no_grad():
                backward.review(head(encoder(x)).mean() for head in heads)

        Args:
            losses: of the same batch and the same objectives, in the same order, as those of the last call.

        Raises:
            UsageError: another number of losses. Diverged: a loss that is not finite.
        """
        if not (isinstance(self.method, LossWeighting) and self.method.reviews):
            return
        values = self._ranks.reviewed([loss.detach() for loss in losses])
        if len(values) != len(self.method.present):
            raise UsageError(f"got {len(values)} losses to review for the {len(self.method.present)} of the step.")
        self.method.require_finite("loss after the step", values.cpu())
        self.method.review(values)

    def watch(self) -> Trace | None:
        """Begin to sum up what the method does to the gradients; None where it sees no Gramian of those of parameters.

        Steps give the same bits, and take a little longer.

        Raises:
            UsageError: the number of objectives is not known yet.
        """
        if not isinstance(self.method, GramianWeighting) or self._batches > 1 or self._representation:
            return None
        if not self.objectives:
            raise UsageError("tell Backward how many objectives there are, objectives=K, before it is watched.")
        self._trace = Trace(["last_layer"] if self._one_group else self.group_names, self.objectives)
        return self._trace

    def state_dict(self) -> dict[str, Any]:
        """All that resuming needs; loads with `torch.load(weights_only=True)`."""
        state = {"method": self.method.state_dict(), "objectives": self.objectives, "groups": self.group_names}
        state |= {"last_layer": self.last_layer} if self._layer else {}
        return state | ({"kept": self._kept.state_dict()} if self._kept else {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`; raises `UsageError` if it is of other groups or another K."""
        self._take_up_changes()
        if list(state["groups"]) != self.group_names:
            raise UsageError(
                f"the state is of {len(state['groups'])} groups ({', '.join(state['groups'][:3])}, ...), "
                f"this is of {len(self.group_names)} ({', '.join(self.group_names[:3])}, ...)."
            )
        if self.objectives and self.objectives != state["objectives"]:
            if state["objectives"]:
                raise UsageError(f"the state is of {state['objectives']} objectives, this is of {self.objectives}.")
            raise UsageError(
                "the state was saved before the first step, when the number of objectives was not known: load it "
                "into a Backward that was built without objectives=, or save it from one that was built with it."
            )
        self.method.load_state_dict(state["method"])
        self.objectives = state["objectives"] or self.objectives
        if self._layer:
            self._layer.restore(state.get("last_layer", []), self._shared.trainable)
        if self._kept:
            self._kept.forget()
            if "kept" in state:
                self._kept.load_state_dict(state["kept"])

    def _outcome(self, step: strategies.Step, rows: Sequence[int]) -> strategies.Outcome:
        """Of a step with kept weights, or of one in which the method answers."""
        if self._kept and isinstance(self.method, GramianWeighting) and (kept := self._kept.of(rows)) is not None:
            outcome = strategies.apply_kept(self.method, kept, step)
            self._kept.used()
            return outcome
        outcome = self._run(step) if self._trace is None else self._traced(step, self._trace)
        if self._kept and outcome.weights is not None:
            self._kept.computed(outcome.weights, rows, self.objectives)
        return outcome

    def _run(self, step: strategies.Step) -> strategies.Outcome:
        method, layer = self.method, self._layer
        if isinstance(method, LossWeighting):
            return strategies.weigh_losses(method, step)
        assert isinstance(method, GramianWeighting | JacobianAggregator)
        if self._representation:
            return combine_at_representation(method, self._representation, step)
        if (
            layer is not None
            and isinstance(method, GramianWeighting)
            and isinstance(step.losses, Sequence)
            and step.ranks.sees_leaves
        ):
            return strategies.weigh_at_last_layer(method, layer, step, self._jacobian_dtype)
        if self._jacobian is None:
            self._jacobian = self._ranks.jacobian(list(self._shared.groups.values()), self._jacobian_dtype)
        if self._reach is None:
            self._reach = self._ranks.reach(self._shared.trainable, self.objectives)
        if isinstance(method, GramianWeighting) and self._batches > 1:
            return strategies.combine_batches(method, step, self._jacobian, self._reach)
        return strategies.fill_and_combine(method, layer, step, self._jacobian, self._reach)

    def _traced(self, step: strategies.Step, trace: Trace) -> strategies.Outcome:
        """A step with its place in the sums."""
        with watched() as changes:
            outcome = self._run(step)
        method = self.method
        if outcome.gramian is not None and outcome.weights is not None:
            rows = method.treated_rows(step.treated)
            visiting = range(step.count) if rows is None else rows
            present = method.present.tolist()
            targets = method.targets() if isinstance(method, Targeting) else None
            trace.note(outcome.gramian, outcome.weights, present, changes.table, visiting, targets)
        return outcome

    def _take_up_changes(self) -> None:
        """Parameters that were frozen, unfrozen, moved, cast or replaced since the last call."""
        before = self.group_names
        if not self._shared.refresh():
            return
        self._require_fit()
        self._jacobian = self._reach = None
        self._heads.forget()
        if self._layer:
            self._layer.forget()
        if self._kept:
            self._kept.forget()
        if self.method.objectives and not self._one_group and self.group_names != before:
            known = {name: index for index, name in enumerate(before)}
            self.method.regroup([known.get(name) for name in self.group_names])

    def _require_fit(self) -> None:
        if self._batches > 1 and (self._kept or self._layer):
            what = "weights are not kept" if self._kept else "no last layer is looked at"
            raise UsageError(
                f"{self.method.name} takes gradients from {self._batches} batches in a step, for which {what}: "
                f"leave {'refresh' if self._kept else 'the layer'} out."
            )
        if self._representation:
            self._representation.require_fit(len(self._shared.groups))
        if not isinstance(self.method, LossWeighting):
            self._shared.require_real()
        if self._layer and self._layer.given is not None:
            under(self._shared.trainable, self._layer.given)

    def _require_alone(self) -> None:
        """Refuse modules that average or shard gradients; looked for in steps 1, 2, 4, 8, ... as that takes time."""
        if isinstance(self.method, LossWeighting) and self.method.static:
            return  # averages of sums are sums of averages
        self._calls += 1
        if self._calls.bit_count() == 1:
            self._wrappers.find(list(self._shared.trainable.values()))
        self._wrappers.refuse()

    @property
    def _one_group(self) -> bool:
        return isinstance(self.method, LossWeighting) or self._layer is not None

    def _begin(self, present: Sequence[int] | None) -> None:
        self.method.begin(self.objectives, 1 if self._one_group else len(self._shared.groups), present)
        self.method.treated_rows(self._treated)  # refuses objectives that there are none of before anything runs


def _layer_of(method: Method) -> LastLayer | None:
    """Where a method sees the columns of one layer only."""
    if isinstance(method, GramianWeighting) and method.scope == "last_layer":
        return LastLayer(method.layer_name)
    return None
