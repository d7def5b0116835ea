"""Models of `torch.distributed.fsdp.fully_shard`: torch averages and scatters each row, each rank keeps its shards."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from mtlbench.engine.aside import Aside
from mtlbench.engine.collectives import Collectives
from mtlbench.engine.columns import Columns, block_size, required, starts, take_up
from mtlbench.engine.distributed import is_sharded
from mtlbench.engine.kinds import JacobianAggregator, Method
from mtlbench.engine.ranks import Alone, Ranks
from mtlbench.engine.sharded import SummedColumns
from mtlbench.engine.shared import SharedParameters
from mtlbench.errors import UsageError


def ranks_of(
    group: Any,
    method: Method,
    shared: SharedParameters,
    heads: nn.Module | Iterable[Parameter] | None,
    options: Hashable,
) -> Alone:
    """Who takes a step: this process alone where there is no group, or the ranks of one; see `Ranks`.

    Raises:
        UsageError: see `Ranks`; heads without a group, or shared parameters of which some are sharded and some are not.
    """
    if group is None:
        if heads is not None:
            raise UsageError("heads= is for process_group=: without it heads are found from the losses.")
        return Alone()
    sharded = [is_sharded(p) for p in shared.trainable.values()]
    if any(sharded) and not all(sharded):
        name = next(name for name, there in zip(shared.trainable, sharded, strict=True) if not there)
        raise UsageError(
            f"some shared parameters are sharded by fully_shard and {name} is not: call fully_shard on the outermost "
            "module too."
        )
    return (FsdpRanks if all(sharded) else Ranks)(group, method, shared, heads, options)


class FsdpJacobian(SummedColumns):
    """Rows of which each rank keeps the columns that its shards of the parameters are.

    The backward pass of `fully_shard` leaves in `.grad` this rank's shard of the mean over ranks, and runs the hooks of
    the parameter.

    Args:
        groups: the parameters of each group.
        dtype: of the rows.
        collectives: of the ranks.
    """

    def __init__(
        self, groups: Sequence[Sequence[Parameter]], dtype: torch.dtype | None, collectives: Collectives
    ) -> None:
        parameters, device, wide = required(groups)
        sizes = [[_local(p).numel() for p in group] for group in groups]
        totals = list(map(sum, sizes))
        block = block_size(totals)
        places, firsts = starts(sizes, block)
        counts = [-(-total // block) for total in totals]
        counts[-1] += not any(counts)  # a rank may have no entry of small parameters
        blocks = torch.repeat_interleave(torch.tensor(counts))
        spans = [(first, first + total) for first, total in zip(firsts, totals, strict=True)]
        super().__init__(parameters, spans, blocks, block, dtype or wide, wide, device)
        self._collectives = collectives
        self._places = [(start, start + _local(p).numel()) for start, p in zip(places, parameters, strict=True)]
        self._update_views = self._views(self._update)
        self._hooks = [self._hook(index) for index in range(len(parameters))]

    def end_row(self) -> list[bool]:
        """Put zeros where the backward pass did not reach; whether it did, for every parameter."""
        for reached, view in zip(self._reached, self.row(self._row), strict=True):
            if not reached:
                view.zero_()
        return self._reached

    def row(self, row: int) -> list[Tensor]:
        """The shards of one row."""
        return self._views(self._buffer[row])

    def set_row(self, row: int, gradients: Sequence[Tensor | None]) -> None:
        """Copy one gradient per parameter into `row`."""
        self.reserve(row + 1)
        self.start_row(row)
        for index, gradient in enumerate(gradients):
            if gradient is not None:
                self._store(index, gradient)
        self.end_row()

    def _views(self, flat: Tensor) -> list[Tensor]:
        return [self._view(flat, index) for index in range(len(self.parameters))]

    def _view(self, flat: Tensor, index: int) -> Tensor:
        start, stop = self._places[index]
        return flat[start:stop].view(_local(self.parameters[index]).shape)

    def _store(self, index: int, gradient: Tensor) -> None:
        view = self._view(self._buffer[self._row], index)
        if self._reached[index]:  # torch has added to what was there, which the hook has taken away
            view += _local(gradient)
        else:
            view.copy_(_local(gradient))
        self._reached[index] = True

    def _spans_of(self, parameters: Sequence[Parameter]) -> list[tuple[int, int]]:
        wanted = {id(p) for p in parameters}
        return [place for place, p in zip(self._places, self.parameters, strict=True) if id(p) in wanted]

    def _take_up_existing(self) -> bool:
        return take_up(self.parameters, self._update_views, _local)

    def _hand_out(self) -> None:
        for p, view in zip(self.parameters, self._update_views, strict=True):
            p.grad = _as_shard(view if view.dtype == p.dtype else view.to(p.dtype), p)


class FsdpRanks(Ranks):
    """The ranks over which `fully_shard` has sharded the shared parameters.

    Args:
        group: that of the mesh.
        method: of the losses or of the Gramian.
        shared: DTensors, sharded over the one dimension of the mesh.
        heads: what else is trained, sharded or not; to be said even where there is nothing.
        options: as of `Ranks`.

    Raises:
        UsageError: another sharding, other ranks, a method or a layer that cannot be, no word of heads.
    """

    sees_leaves = False

    def __init__(
        self,
        group: Any,
        method: Method,
        shared: SharedParameters,
        heads: nn.Module | Iterable[Parameter] | None,
        options: Hashable,
    ) -> None:
        super().__init__(group, method, shared, heads, options)
        if isinstance(method, JacobianAggregator):
            raise UsageError(
                f"{method.name} aggregates columns, which torch places on a model of fully_shard: use a method of the "
                "losses or of the Gramian, or a plain model."
            )
        if heads is None:
            raise UsageError("with a model of fully_shard say heads=model, or heads=[] where all is shared.")
        for name, p in shared.trainable.items():
            self._require_fit(name, p)
        if getattr(method, "scope", "shared") == "last_layer" and getattr(method, "layer_name", None) is None:
            raise UsageError(
                f"{method.name} looks for the last shared layer in the graphs of the losses, where parameters of "
                "fully_shard are not: name the layer (method.layer)."
            )

    def _require_possible(self, lacking: Collection[int], known: Callable[[int], bool] | None) -> None:
        if lacking:
            raise UsageError(
                f"objective {min(lacking)} is absent from some ranks only, where fully_shard waits for a backward pass "
                "of all: give every rank some of it, or none."
            )

    def average(self, parameters: Iterable[Tensor]) -> None:
        """Average `.grad` over ranks of what torch has not averaged."""
        super().average([p for p in parameters if not is_sharded(p)])

    def total(self, values: Tensor) -> Tensor:
        """See `Alone.total`."""
        return self.collectives.total(values)

    def jacobian(self, groups: Sequence[Sequence[Parameter]], dtype: torch.dtype | None) -> Columns:
        """See `Alone.jacobian`."""
        return FsdpJacobian(groups, dtype, self.collectives)

    def _require_fit(self, name: str, p: Any) -> None:
        mesh, group = p.device_mesh, self.collectives.group
        ranks = torch.distributed.get_process_group_ranks(group)
        if mesh.ndim != 1 or mesh.mesh.flatten().tolist() != ranks or not p.placements[0].is_shard():
            raise UsageError(
                f"the shared parameter {name} is placed as {p.placements} on a mesh of ranks {mesh.mesh.tolist()}: it "
                f"must be sharded over the one dimension of a mesh of the ranks of process_group, {ranks}. Hybrid "
                "sharding and tensor parallelism are not there yet."
            )

    def _strange(self, aside: Aside) -> list[Tensor]:
        return []  # in graphs there are others in place of parameters

    def _compared(self) -> list[Tensor]:
        return [p for p in super()._compared() if not is_sharded(p)]


def _local(p: Any) -> Tensor:
    found: Tensor = p.to_local() if is_sharded(p) else p
    return found


def _as_shard(gradient: Tensor, p: Any) -> Tensor:
    """The shard of this rank as what torch expects of `.grad`."""
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(gradient, p.device_mesh, p.placements, run_check=False, shape=p.shape, stride=p.stride())
