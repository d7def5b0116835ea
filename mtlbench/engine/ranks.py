"""Whether a step is taken by one process or by the ranks of a process group together, and what these then average."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from mtlbench.engine.agreeing import Agreement, Joint, bits, digest
from mtlbench.engine.aside import Aside
from mtlbench.engine.collectives import Collectives
from mtlbench.engine.columns import Columns
from mtlbench.engine.columnwise import ColumnwiseAggregator
from mtlbench.engine.graph import described
from mtlbench.engine.grouping import named_parameters
from mtlbench.engine.jacobian import Jacobian
from mtlbench.engine.kinds import GramianWeighting, JacobianAggregator, Method
from mtlbench.engine.losses import in_order
from mtlbench.engine.reach import Reach
from mtlbench.engine.sharded import ShardedJacobian
from mtlbench.engine.shared import SharedParameters
from mtlbench.errors import UsageError


class Alone:
    """One process: it holds every batch whole, and all columns."""

    heads: Sequence[Parameter] = ()
    """Parameters outside the shared ones, where they must be known before a step."""
    may_hold_none = False
    """Whether a step may hold no loss here."""
    sees_leaves = True
    """Whether parameters are leaves of the graphs of losses, which gradients can be asked for."""

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """A context around what may fail before ranks have agreed on the step."""
        yield

    def join(
        self,
        losses: Any,
        present: list[int] | None,
        examples: Sequence[float] | None,
        objectives: int,
        known: Callable[[int], bool] | None,
    ) -> tuple[Any, list[int] | None]:
        """The losses of the step that ranks take together, and which of the K objectives they are; None for all.

        Args:
            losses: of this rank.
            present: which objectives they are; None for all.
            examples: how many of each.
            objectives: K.
            known: whether an objective has been seen where the last shared layer is looked for; None where it is not.
        """
        return losses, present

    def reviewed(self, values: Sequence[Tensor]) -> Tensor:
        """The (m,) losses of the step, again, averaged over ranks."""
        return torch.stack(list(values))

    def mean(self, values: Tensor, aside: Aside) -> Tensor:
        """The (m,) losses, averaged over ranks, which also tell each other of parameters that nobody was told of.

        Args:
            values: detached.
            aside: all that is known so far of what the losses reach.

        Raises:
            UsageError: on every rank, where one has reached a parameter that is neither shared nor among the heads.
        """
        return values

    def total(self, values: Tensor) -> Tensor:
        """The sum over ranks of what each has computed from its part of a gradient."""
        return values

    def average(self, parameters: Iterable[Tensor]) -> None:
        """Average `.grad` over ranks."""

    def average_heads(self, aside: Aside) -> None:
        """Average `.grad` of what is not shared over ranks; see `mean`."""

    def jacobian(self, groups: Sequence[Sequence[Parameter]], dtype: torch.dtype | None) -> Columns:
        """Where rows go."""
        return Jacobian(groups, dtype)

    def reach(self, named: dict[str, Parameter], objectives: int) -> Reach:
        """What looks at which objectives reach each shared parameter."""
        return Reach(named, objectives)


class Ranks(Alone):
    """The ranks of a process group, each with a share of every objective's batch and with some columns.

    Args:
        group: of torch.distributed.
        method: the same on every rank.
        shared: parameters that every rank has whole.
        heads: what else is trained: a module, which may hold shared parameters too, or parameters.
        options: of the step, which must be the same on every rank.

    Raises:
        UsageError: a group that cannot carry the gradients, or a method whose columns cannot lie apart.
    """

    may_hold_none = True

    def __init__(
        self,
        group: Any,
        method: Method,
        shared: SharedParameters,
        heads: nn.Module | Iterable[Parameter] | None,
        options: Hashable,
    ) -> None:
        require_apart(method)
        self._method = method
        self._shared = shared
        self._options = options
        self._like = next(iter(shared.trainable.values()))
        self.collectives = Collectives(group, self._like.device)
        self._agreement = Agreement(self.collectives)
        given = heads if isinstance(heads, nn.Module) else list(heads or ())
        self._outside = list(named_parameters(given).values()) if given else []
        self._layout: tuple[Any, int] = (None, 0)
        self._joint = Joint()

    @property
    def heads(self) -> Sequence[Parameter]:  # type: ignore[override]
        """What was given as heads and is not shared."""
        return [p for p in self._outside if p.requires_grad and id(p) not in self._shared.ids]

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """An error within is told to the other ranks, which raise one too, and do not wait for this one."""
        try:
            yield
        except Exception:
            self._agreement.fail()
            raise

    def join(
        self,
        losses: Any,
        present: list[int] | None,
        examples: Sequence[float] | None,
        objectives: int,
        known: Callable[[int], bool] | None,
    ) -> tuple[Any, list[int] | None]:
        """See `Alone.join`."""
        own = list(range(objectives)) if present is None else present
        with self.preparing():
            if examples is not None and len(examples) != len(own):
                raise UsageError(f"examples names {len(examples)} numbers for {len(own)} losses.")
            self._like = next(iter(self._shared.trainable.values()))
            facts = self._layout_digest(), self._state_digest() if self._agreement.looks else 0
        joint = self._agreement.join(*facts, objectives, own, examples)
        self._require_possible(joint.lacking, known)
        self._joint = joint
        together = None if joint.objectives == list(range(objectives)) else joint.objectives
        if joint.is_plain:
            return losses, together
        if isinstance(self._method, GramianWeighting) and len(self._method.batch_shares) > 1:
            return (joint.losses(in_order(batch), self._like) for batch in losses), together
        return joint.losses(losses, self._like), together

    def _require_possible(self, lacking: Collection[int], known: Callable[[int], bool] | None) -> None:
        """Raise `UsageError`, on every rank alike, where objectives that some ranks lack stop the step."""
        if unseen := [k for k in sorted(lacking) if known is not None and not known(k)]:
            raise UsageError(
                f"{self._method.name} looks for the last shared layer in the graphs of the losses, and objective "
                f"{unseen[0]} is absent from some ranks in its first step: name the layer (layer_name), or let every "
                "rank hold every objective in its first step."
            )

    def reviewed(self, values: Sequence[Tensor]) -> Tensor:
        """See `Alone.reviewed`."""
        if len(values) != len(self._joint.own):
            raise UsageError(f"got {len(values)} losses to review for the {len(self._joint.own)} of the step.")
        return self.collectives.mean(self._joint.weighted(values, self._like).detach())

    def mean(self, values: Tensor, aside: Aside) -> Tensor:
        """See `Alone.mean`."""
        strange = self._strange(aside)
        numbers = torch.cat([values.double(), values.new_tensor([len(strange)], dtype=torch.float64)])
        total = self.collectives.total(numbers)
        self._require_none(strange, total[-1].item())
        return (total[:-1] / self.collectives.size).to(values.dtype)

    @torch.no_grad()
    def average(self, parameters: Iterable[Tensor]) -> None:
        """Average `.grad` over ranks; it becomes dense, and zero where no rank reaches a parameter."""
        found = []
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            elif p.grad.is_sparse:
                p.grad = p.grad.to_dense()
            found.append(torch.view_as_real(p.grad) if p.grad.is_complex() else p.grad)
        self.collectives.average(found)

    def average_heads(self, aside: Aside) -> None:
        """Average `.grad` over ranks of heads that some rank has reached; the others keep None. See `Alone.mean`."""
        heads, strange = self.heads, self._strange(aside)
        flags = [int(p.grad is not None) for p in heads]
        counts = self.collectives.gathered([len(strange), *flags]).sum(0).tolist()
        self._require_none(strange, counts[0])
        self.average([p for p, count in zip(heads, counts[1:], strict=True) if count])

    def _strange(self, aside: Aside) -> list[Tensor]:
        """Parameters that losses reach and that no other rank would know of."""
        known = {*map(id, self.heads), *self._shared.ids, *map(id, self._method.parameters())}
        return [p for p in aside.taken if isinstance(p, Parameter) and id(p) not in known]

    def _require_none(self, strange: Sequence[Tensor], on_all_ranks: float) -> None:
        if not on_all_ranks:
            return
        named = f" Here: {described(strange[0])}." if strange else ""
        raise UsageError(
            "the losses reach parameters outside shared, whose gradients the ranks could not average: pass all that is "
            f"trained as heads too, such as heads=model.{named}"
        )

    def jacobian(self, groups: Sequence[Sequence[Parameter]], dtype: torch.dtype | None) -> Columns:
        """See `Alone.jacobian`."""
        return ShardedJacobian(groups, dtype, self.collectives)

    def reach(self, named: dict[str, Parameter], objectives: int) -> Reach:
        """See `Alone.reach`."""
        return Reach(named, objectives, self.collectives)

    def _layout_digest(self) -> int:
        if self._layout[0] is not self._shared.trainable:
            groups = {name: [p.shape for p in ps] for name, ps in self._shared.groups.items()}
            what = (type(self._method).__qualname__, groups, [p.shape for p in self.heads], self._options)
            self._layout = self._shared.trainable, digest(*what)
        return self._layout[1]

    def _state_digest(self) -> int:
        return digest(bits(self._compared()), self._method.generator.get_state().numpy().tobytes())

    def _compared(self) -> list[Tensor]:
        """What must be the same on every rank."""
        return [
            *self._shared.trainable.values(),
            *self.heads,
            *self._method.parameters(),
            *self._method.buffers(),
        ]


def require_apart(method: Method) -> None:
    """Raise `UsageError` for a method that needs all columns in one place."""
    if isinstance(method, JacobianAggregator) and not isinstance(method, ColumnwiseAggregator):
        raise UsageError(
            f"{method.name} computes with whole rows of the Jacobian, or keeps a number for each of its entries, "
            "and on several processes each has some columns only. Methods of the losses and of the Gramian work, and "
            "aggregators that look at one column at a time (mtlbench.engine.columnwise.ColumnwiseAggregator)."
        )
