"""The last shared layer, where methods such as GradNorm measure gradients: last in execution, or chosen by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch.nn import Parameter

from mtlbench.engine.columns import Columns
from mtlbench.engine.graph import Graph
from mtlbench.engine.grouping import layer_name
from mtlbench.errors import UsageError, unknown

Make = Callable[[Sequence[Sequence[Parameter]], torch.dtype | None], Columns]


class LastLayer:
    """The choice of the last shared layer, from the graphs of the losses or by name.

    Args:
        given: the name of a layer, of a module or of a parameter; None for the last in execution.
    """

    def __init__(self, given: str | None = None) -> None:
        self.given = given
        self._jacobian: Columns | None = None
        self._uses: dict[int, dict[int, int]] = {}
        self.names: list[str] = []
        """The parameters of the layer; empty until the first step has told."""

    def forget(self) -> None:
        """Choose again, since the shared parameters have changed."""
        self._uses, self.names, self._jacobian = {}, [], None

    def restore(self, names: Sequence[str], named: Mapping[str, Parameter]) -> None:
        """Keep to a choice that was saved, if there was one."""
        self.forget()
        if self.given is None and names and all(name in named for name in names):
            self.names = list(names)

    def knows(self, objective: int) -> bool:
        """Whether the graph of this objective has been seen, or is not needed."""
        return self.given is not None or objective in self._uses or (bool(self.names) and not self._uses)

    def note(self, objective: int, graph: Graph) -> None:
        """Learn from a loss which parameters it reaches and when the forward pass read them."""
        self._uses[objective] = {key: leaf.first_use for key, leaf in graph.leaves.items()}
        self.names, self._jacobian = [], None

    def choose(self, named: Mapping[str, Parameter]) -> list[Parameter]:
        """The layer's parameters, in the order of `named`, the trainable shared ones."""
        if not self.names:
            self.names = (
                last_in_execution(named, list(self._uses.values())) if self.given is None else under(named, self.given)
            )
        return [named[name] for name in self.names]

    def jacobian(self, named: Mapping[str, Parameter], dtype: torch.dtype | None, make: Make) -> Columns:
        """The rows of the layer alone, in what `make` makes of its parameters and the dtype."""
        if self._jacobian is None:
            self._jacobian = make([self.choose(named)], dtype)
        return self._jacobian


def last_in_execution(named: Mapping[str, Parameter], uses: Sequence[Mapping[int, int]]) -> list[str]:
    """The parameters of the layer that the forward pass reads last, of the layers that every objective reaches.

    A parameter counts where it is first read, so that a tied embedding is no last layer. The layer is that of the last
    matrix; what is read after it, such as a closing norm, belongs to it. Where order cannot be told, as inside a
    compiled module, that of registration counts.

    Args:
        named: the trainable shared parameters.
        uses: for each objective, by `id`, when a parameter that it reaches is first read.

    Raises:
        UsageError: no parameter is reached by every objective.
    """
    common = [name for name, p in named.items() if all(id(p) in use for use in uses)]
    if not common:
        raise UsageError(
            "no shared parameter is reached by the losses of all objectives, so there is no last shared layer: pass "
            "what they have in common as shared, or name the layer."
        )
    order = {name: (uses[0][id(named[name])], index) for index, name in enumerate(common)}
    last = max([name for name in common if named[name].ndim > 1] or common, key=order.__getitem__)
    layers = not all(name.isdigit() for name in named)
    return [name for name in common if order[name] >= order[last] or (layers and layer_name(name) == layer_name(last))]


def under(named: Mapping[str, Parameter], name: str) -> list[str]:
    """The parameters of a layer, of a module or with this very name; raises `UsageError` if there are none."""
    found = [n for n in named if n == name or n.startswith(f"{name}.") or layer_name(n) == name]
    if not found:
        raise unknown("layer of the shared parameters", name, {layer_name(n) for n in named})
    return found
