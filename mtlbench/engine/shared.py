"""The shared parameters as they are now: trainable ones, in groups, looked at anew in every step."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

from torch import nn
from torch.nn import Parameter

from mtlbench.engine import distributed
from mtlbench.engine.grouping import Shared, group, named_parameters
from mtlbench.errors import UsageError


class SharedParameters:
    """What was given as `shared`, of which parameters may be frozen, unfrozen, moved, cast or replaced at any time.

    Args:
        given: a module, whose parameters are asked for in every step, or parameters.
        granularity: see `grouping.group`; frozen parameters stand in no group.
        in_group: whether steps are those of a process group, where parameters may be sharded.

    Raises:
        UsageError: see `refresh`, `grouping.named_parameters` and `grouping.group`.
    """

    trainable: dict[str, Parameter]
    """By name."""
    groups: dict[str, list[Parameter]]
    """The trainable ones of each group that has some."""
    ids: frozenset[int]
    """The `id` of every trainable one."""

    def __init__(
        self, given: Shared, granularity: str | Sequence[Iterable[Parameter]], *, in_group: bool = False
    ) -> None:
        distributed.refuse_wrapped(given, in_group=in_group)
        self._in_group = in_group
        self._named = named_parameters(given)
        # A model of fully_shard registers whole parameters in place of its own between forward and backward pass.
        fixed = any(map(distributed.is_sharded, self._named.values()))
        self._module = given if isinstance(given, nn.Module) and not fixed else None
        self._granularity = granularity if isinstance(granularity, str) else [list(g) for g in granularity]
        self._seen: Hashable = None
        self.refresh()

    def refresh(self) -> bool:
        """Take up what has changed since the last call; True if something has.

        Raises:
            UsageError: nothing is left to train, or parameters that are spread over processes.
        """
        named = self._named if self._module is None else named_parameters(self._module)
        seen = tuple((name, *_nature(p)) for name, p in named.items())
        if seen == self._seen:
            return False
        trainable = {name: p for name, p in named.items() if p.requires_grad}
        if not trainable:
            raise UsageError("shared holds no parameter that requires a gradient.")
        if not self._in_group:
            distributed.refuse_sharded(trainable)
        parts = {name: [p for p in ps if p.requires_grad] for name, ps in group(named, self._granularity).items()}
        self.groups = {name: ps for name, ps in parts.items() if ps}
        self.trainable = trainable
        self.ids = frozenset(map(id, trainable.values()))
        self._seen = seen
        return True

    def require_real(self) -> None:
        """Raise `UsageError` for complex parameters, which only methods of the losses alone can train."""
        for name, p in self.trainable.items():
            if p.is_complex():
                raise UsageError(
                    f"the shared parameter {name} is complex, which the rows of a Jacobian are not: keep it as a real "
                    "parameter and use torch.view_as_complex in the forward pass."
                )


def _nature(p: Parameter) -> tuple[Hashable, ...]:
    return id(p), p.requires_grad, p.dtype, p.device, p.shape, p.stride()
