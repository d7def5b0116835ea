"""The three kinds of method: what each is given, what it answers, and the state they all keep."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from mtlbench.errors import Diverged, UsageError

Heads = Literal["own", "weighted"]


class Method(nn.Module, ABC):
    """A way of combining K objectives; subclass one of the three kinds below.

    Constructor keyword arguments, with types and defaults, are the hyper-parameters. State is buffers and
    parameters; `state_dict` also carries the generator and K, and loads into a fresh object.

    Buffers whose shape depends on K or on the number of groups are registered empty (`torch.empty(0)`) in the
    constructor and filled in `start`.
    """

    name: ClassVar[str] = "method"
    """The registry name; set by `register_method`."""
    heads: ClassVar[Heads] = "own"
    """What trains parameters that one objective alone reaches: its `own` loss, or its loss times its weight."""
    separate_models: ClassVar[bool] = False
    """True where every objective trains a model of its own, which only the runner can do."""
    supports: ClassVar[Collection[int] | None] = None
    """The numbers of objectives that it can combine in one step, such as `{2}` or `range(2, 9)`; None for any."""
    per_group: ClassVar[tuple[str, ...]] = ()
    """The buffers whose first axis is the group, so that state is kept where groups come or go during training."""
    added_later: ClassVar[tuple[str, ...]] = ()
    """Hyper-parameters that joined when cells had been run without them: identities leave them out at their default."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Installed packages on whose version its numbers depend, for the record."""
    exceptions: Mapping[str, str] = {}
    """What it does not promise, and why: names as in `mtlbench.engine.conformance.properties`. An object may have its
    own, where that depends on parameters."""

    steps_per_epoch: int = 0
    """How many steps an epoch has, which the runner says; in a loop of your own, set it. 0 where nobody has."""
    own_learning_rate: float | None = None
    """What the runner trains the method's own parameters with, under the protocol's schedule; None for its rate."""

    generator: torch.Generator
    """The source of everything the method draws; part of its state."""
    present: Tensor
    """(m,) int64: which of the K objectives the rows of this step are; all of them in a full step.

    State with an entry per objective is read and written at these indices, so that an absent objective's
    state does not move.
    """

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)
        self.objectives = 0
        self.groups = 0
        self.present = torch.empty(0, dtype=torch.int64)

    def seed(self, seed: int) -> Self:
        """Restart the method's own generator from `seed`."""
        self.generator.manual_seed(seed)
        return self

    def start(self) -> None:
        """Allocate state once `objectives` (K) and `groups` (G) are known; stateless methods need none."""

    def report(self) -> dict[str, float]:
        """Numbers about the run so far that belong in its record; none by default."""
        return {}

    def steps_in(self, epochs: int) -> int:
        """So many epochs in steps; raises `UsageError` where nobody has said how long one is."""
        if epochs and not self.steps_per_epoch:
            raise UsageError(f"{self.name} counts epochs: in a loop of your own, first set its steps_per_epoch.")
        return epochs * self.steps_per_epoch

    def begin(self, objectives: int, groups: int, present: Sequence[int] | None = None) -> None:
        """Fix K and G at the first step, check them at every other, and note which objectives are present.

        Raises:
            UsageError: K or G differ from the first step's, or a number of objectives that the method does not support.
        """
        self._require_supported(objectives if present is None else len(present))
        if self.objectives == 0:
            self._require_supported(objectives)
            self.objectives, self.groups = objectives, groups
            self.start()
        elif (self.objectives, self.groups) != (objectives, groups):
            raise UsageError(
                f"{self.name} began with {self.objectives} objectives and {self.groups} groups and now gets "
                f"{objectives} and {groups}. Build a new method for another problem."
            )
        chosen = list(range(objectives) if present is None else present)
        if self.present.tolist() != chosen:
            self.present = torch.tensor(chosen, dtype=torch.int64)

    def regroup(self, origin: Sequence[int | None]) -> None:
        """Go on with other groups: group g was `origin[g]` before, or is new and starts afresh where None.

        Raises:
            UsageError: state whose shape depends on the groups, and which `per_group` does not name.
        """
        before = {**self._buffers, **self._parameters}
        groups, self.groups = self.groups, len(origin)
        self.start()
        for name, old in before.items():
            new = getattr(self, name)
            if old is None or new is None or new is old:
                continue
            if name in self.per_group:
                for group, came_from in enumerate(origin):
                    if came_from is not None:
                        new[group] = old[came_from]
            elif new.shape == old.shape:
                setattr(self, name, old)
            else:
                self.groups = groups
                for restored, value in before.items():
                    setattr(self, restored, value)
                raise UsageError(
                    f"{self.name}: the trainable shared parameters were in {groups} groups and are now in "
                    f"{len(origin)}, and its state {name} has another shape for each: freeze and unfreeze before "
                    "training, or within groups; a method that can go on names the buffers with an entry for each "
                    "group in per_group."
                )

    def begin_bare(self, rows: int, groups: int, present: Sequence[int] | None) -> None:
        """`begin` for a call of the bare mathematics, where K is the number of rows unless some are absent."""
        if present is not None and self.objectives == 0:
            raise UsageError(f"{self.name}: the first step holds only some objectives; call begin(K, G) before it.")
        self.begin(rows if present is None else self.objectives, groups, present)

    def treated_rows(self, treated: Collection[int] | None) -> list[int] | None:
        """Which rows of this step belong to the `treated` objectives, None for all. `UsageError` if none is."""
        if treated is None:
            return None
        if bad := [k for k in treated if not 0 <= k < self.objectives]:
            raise UsageError(f"{self.name}: treated={bad} is not allowed: objectives are 0 to {self.objectives - 1}.")
        rows = [row for row, k in enumerate(self.present.tolist()) if k in treated]
        return None if len(rows) == len(self.present) else rows

    @contextmanager
    def only(self, rows: Sequence[int]) -> Iterator[None]:
        """While open, `present` holds only some of the step's rows: the method is asked about these alone."""
        self._require_supported(len(rows))
        present = self.present
        self.present = present[list(rows)]
        try:
            yield
        finally:
            self.present = present

    def _require_supported(self, count: int) -> None:
        if self.supports is not None and count not in self.supports:
            known = sorted(self.supports)
            dense = len(known) > 2 and known[-1] - known[0] == len(known) - 1
            allowed = f"{known[0]} to {known[-1]}" if dense else " or ".join(map(str, known)) or "no number of"
            raise UsageError(f"{self.name} combines {allowed} objectives, not {count}.")

    def get_extra_state(self) -> dict[str, Any]:
        """Generator, K and G, for `state_dict`."""
        return {"generator": self.generator.get_state(), "objectives": self.objectives, "groups": self.groups}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """What `get_extra_state` returned."""
        self.generator.set_state(state["generator"].cpu().to(torch.uint8))
        self.objectives, self.groups = int(state["objectives"]), int(state["groups"])
        self.present = torch.arange(self.objectives)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # A fresh object has no state until K is known. What depends on more than K takes the shape that is loaded.
        if not self.objectives and (known := state_dict.get(prefix + "_extra_state", {})).get("objectives"):
            self.objectives, self.groups = int(known["objectives"]), int(known["groups"])
            self.start()
        for name, buffer in self.named_buffers(recurse=False):
            stored = state_dict.get(prefix + name)
            if isinstance(stored, Tensor) and stored.shape != buffer.shape and buffer.numel() == 0:
                setattr(self, name, buffer.new_empty(stored.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def require_finite(self, what: str, values: Tensor) -> None:
        """Raise `Diverged`, naming the objective, if one of the (m,) `values` on the CPU is not finite."""
        if math.isfinite(sum(values.tolist())):
            return
        bad = (~torch.isfinite(values)).nonzero().flatten().tolist()
        if bad:
            index = int(self.present[bad[0]]) if len(self.present) == len(values) else bad[0]
            raise Diverged(
                f"{self.name}: the {what} of objective {index} is {values[bad[0]].item()}; only finite numbers "
                "can be combined. Lower the learning rate or check the data."
            )

    def require_positive(self, losses: Tensor) -> None:
        """Raise `UsageError`, naming the objective, if one of the (m,) `losses` of the present ones is not positive."""
        for objective, loss in zip(self.present.tolist(), losses.tolist(), strict=True):
            if not loss > 0:
                raise UsageError(f"{self.name}: needs positive losses, and that of objective {objective} is {loss:g}.")


class LossWeighting(Method):
    """A method that needs the losses alone: one backward pass over a scalar made of them."""

    heads: ClassVar[Heads] = "weighted"
    static: ClassVar[bool] = False
    """True where the scalar is linear in the losses with fixed weights, so that each graph can be freed before
    the next is built."""
    on_host: ClassVar[bool] = False
    """True where its state stays on the CPU, and of its dtype, wherever the model goes."""
    reviews: ClassVar[bool] = False
    """True where it learns from what a step has done, so that `review` follows every step."""

    @abstractmethod
    def scalarize(self, losses: Tensor) -> Tensor:
        """The scalar that is minimised.

        Its derivatives by the losses are their weights (wrap in `detach()` what must count as constant); those
        by the method's own parameters train them.

        Args:
            losses: (m,) the losses of the present objectives.

        Returns:
            () the scalar.
        """

    def review(self, losses: Tensor) -> None:
        """See the (m,) losses of the step's batch again, after the optimiser's step; `Backward.review` calls it."""

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        return self if self.on_host else super()._apply(fn, recurse)

    def weights(self, losses: Tensor, present: Sequence[int] | None = None) -> Tensor:
        """The bare mathematics, checked: the (m,) derivatives of the scalar by the (m,) losses.

        Raises:
            UsageError: a shape that does not fit. Diverged: a loss that is not finite.
        """
        if losses.ndim != 1 or (present is not None and len(present) != len(losses)):
            raise UsageError(
                f"{self.name}: losses are (K,), one for each present objective, not {tuple(losses.shape)}."
            )
        self.begin_bare(len(losses), 1, present)
        self.require_finite("loss", losses.detach().cpu())
        leaf = losses.detach().requires_grad_()
        return torch.autograd.grad(self.scalarize(leaf), leaf)[0]


class GramianWeighting(Method):
    """A method whose update is, per group, a weighted sum of the rows of the Jacobian: K backward passes.

    The weights are found on the host in float64 whatever the device and dtype of the model; moving or
    casting the method therefore leaves its state where it is.
    """

    scope: Literal["shared", "last_layer"] = "shared"
    """The columns of the Gramian: all shared parameters, or those of the last shared layer only."""
    batch_shares: tuple[float, ...] = (1.0,)
    """What each independent batch of a step gives to the update `sum_b batch_shares[b] J_b' w`; they sum to 1. With
    several, `weigh` gets the product `J_1 J_2'` of the first two, which is not symmetric, in place of a Gramian."""
    layer_name: str | None = None
    """The layer, module or parameter that counts as the last shared layer; None for the last in execution."""

    @abstractmethod
    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        """The weights of the rows, from finite, symmetric input.

        Args:
            gramian: (G, m, m) float64 on the CPU, the inner products of the m present rows in each group.
            losses: (m,) float64 on the CPU.

        Returns:
            (G, m) float64 weights.
        """

    def weigh_treated(self, gramian: Tensor, losses: Tensor, rows: Sequence[int]) -> Tensor:
        """The weights of all rows when only `rows` are treated and the others enter the update as they are.

        Here the method sees the Gramian and the losses of the treated rows alone, `present` included, and the others
        get weight 1. A method that corrects each gradient by the others, treated or not, does so by overriding this.

        Args:
            gramian: (G, m, m) float64 on the CPU.
            losses: (m,) float64 on the CPU.
            rows: some of the m rows, maybe none; state of the others does not move.

        Returns:
            (G, m) float64 weights.
        """
        weights = torch.ones(gramian.shape[:-1], dtype=torch.float64)
        if rows:
            with self.only(rows):
                part = gramian[:, rows][:, :, rows]
                weights[:, rows] = self._of_shape(self.weigh(part, losses[rows]), part)
        return weights

    def weights(
        self,
        gramian: Tensor,
        losses: Tensor | None = None,
        present: Sequence[int] | None = None,
        treated: Collection[int] | None = None,
    ) -> Tensor:
        """The bare mathematics, checked: the weights for a Gramian.

        Args:
            gramian: (K, K) or (G, K, K); the rows and columns of the `present` objectives only, if given.
            losses: (K,), ones if not given.
            present: which objectives the rows are; K must be known from an earlier full step then.
            treated: the objectives that the method corrects; the others enter the update as they are.

        Returns:
            (K,) or (G, K), in the device and dtype of `gramian`.

        Raises:
            UsageError: a shape that does not fit, or a treated objective that there is none of.
            Diverged: an entry that is not finite.
        """
        if gramian.ndim not in (2, 3) or gramian.shape[-2] != gramian.shape[-1] or gramian.numel() == 0:
            raise UsageError(f"{self.name}: a Gramian is (K, K) or (G, K, K), not {tuple(gramian.shape)}.")
        grouped = gramian if gramian.ndim == 3 else gramian[None]
        m = grouped.shape[-1]
        if losses is not None and losses.shape != (m,):
            raise UsageError(f"{self.name}: {m} objectives need {m} losses, not {tuple(losses.shape)}.")
        if present is not None and len(present) != m:
            raise UsageError(f"{self.name}: {len(present)} objectives are named but the Gramian has {m} rows.")
        self.begin_bare(m, len(grouped), present)
        host_losses = torch.ones(m, dtype=torch.float64) if losses is None else _on_host(losses)
        answer = self.checked_weigh(_on_host(grouped), host_losses, treated).to(gramian.device, gramian.dtype)
        return answer if gramian.ndim == 3 else answer[0]

    def checked_weigh(self, gramian: Tensor, losses: Tensor, treated: Collection[int] | None = None) -> Tensor:
        """The weights, after refusing what is not finite and before refusing weights that are not."""
        self.require_finite("loss", losses)
        if not _is_finite(gramian):
            self.require_finite("squared gradient norm", gramian.diagonal(dim1=-2, dim2=-1).sum(0))
            raise Diverged(f"{self.name}: an inner product of two gradients is not finite.")
        rows = self.treated_rows(treated)
        with torch.no_grad():
            answer = self.weigh(gramian, losses) if rows is None else self.weigh_treated(gramian, losses, rows)
        self._of_shape(answer, gramian)
        if not _is_finite(answer):
            raise Diverged(f"{self.name}: the weights {answer.tolist()} are not finite.")
        return answer

    def _of_shape(self, answer: Tensor, gramian: Tensor) -> Tensor:
        if answer.shape != gramian.shape[:-1]:
            raise UsageError(
                f"{self.name}: weigh answered {tuple(answer.shape)} weights for {tuple(gramian.shape[:-1])} rows "
                "(groups, present objectives)."
            )
        return answer

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        return self


class JacobianAggregator(Method):
    """A method that is not linear in the rows, such as a coordinate-wise rule: K backward passes."""

    group: int = 0
    """Which group `aggregate` is called for, from 0; in every step it is called for each, in their order."""
    losses: Tensor
    """(m,) float64 on the CPU: the losses of the rows, for methods that ask."""

    @abstractmethod
    def aggregate(self, jacobian: Tensor) -> Tensor:
        """The update of one group of shared parameters.

        Args:
            jacobian: (m, P_g) the rows of the present objectives, on the model's device; read only.

        Returns:
            (P_g,) the update.
        """

    def head_weights(self) -> Tensor:
        """(m,) what the heads' losses are multiplied by, with `heads = "weighted"`; asked after the last group."""
        return torch.ones(len(self.present), dtype=torch.float64)


def _on_host(tensor: Tensor) -> Tensor:
    """Detached, on the CPU and in float64."""
    if tensor.is_cpu and tensor.dtype == torch.float64:
        return tensor.detach() if tensor.requires_grad else tensor
    return tensor.detach().to("cpu", torch.float64)


def _is_finite(tensor: Tensor) -> bool:
    """Whether all entries are finite, of a tensor on the CPU; a list is quicker for a few."""
    return math.isfinite(sum(tensor.flatten().tolist()) if tensor.numel() <= 16 else tensor.sum().item())
