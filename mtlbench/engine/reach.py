"""Whether what is called shared is: parameters that one objective alone reaches are told, once, by name."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtlbench.engine.collectives import Collectives
from mtlbench.engine.graph import described
from mtlbench.errors import UsageError


class Reach:
    """Which objectives reach each shared parameter, found in the first steps.

    After every objective has been there once, parameters that are in the graph of one loss alone are told. After it
    has been there twice, those for which the gradients of all others were zero both times: outputs that are stacked
    and then taken apart tie every head to every loss. One such step proves nothing, as where a head starts at zero.

    Args:
        named: the shared parameters.
        objectives: K.
        collectives: of the ranks that each see part of the gradients; None where this process sees all.
    """

    def __init__(self, named: Mapping[str, Tensor], objectives: int, collectives: Collectives | None = None) -> None:
        self._named = named
        self._objectives = objectives
        self._ranks = collectives
        self._steps: Counter[int] = Counter()
        self._in_graph: list[set[int]] = [set() for _ in named]
        self._moved: list[set[int]] = [set() for _ in named]
        self._told: set[str] = set()
        self.settled = objectives == 1

    def note(self, objective: int, reached: Sequence[bool], row: Sequence[Tensor]) -> None:
        """Of one row: which parameters the backward pass reached, and the gradients."""
        self._steps[objective] += 1
        for index, there in enumerate(reached):
            if there:
                self._in_graph[index].add(objective)
                if objective not in self._moved[index] and bool(row[index].any()):
                    self._moved[index].add(objective)

    def tell(self) -> None:
        """Warn, if it is time and there is something to tell.

        Raises:
            UsageError: no parameter is reached by two objectives.
        """
        looks = min(self._steps[k] for k in range(self._objectives))
        if looks == 0:
            return
        if self._ranks is not None:
            self._merge(self._ranks)
        alone = self._alone(self._in_graph)
        if not any(len(objectives) > 1 for objectives in self._in_graph):
            raise UsageError(
                "no parameter of shared is reached by the losses of two objectives, so there is nothing to combine: "
                f"shared is what all of them train, such as shared=model.encoder. {self._listed(alone)}"
            )
        if looks > 1:
            alone |= self._alone(self._moved)
            self.settled = True
        alone = {name: k for name, k in alone.items() if name not in self._told}
        if alone:
            self._told |= alone.keys()
            warnings.warn(
                "shared holds parameters that one objective alone reaches: the rows of all others are zero there, "
                f"which changes what the method does to the rest. {self._listed(alone)} Heads of single objectives do "
                "not belong in shared: pass what the objectives have in common, such as shared=model.encoder.",
                stacklevel=6,
            )

    def _merge(self, ranks: Collectives) -> None:
        """Take up what other ranks have seen."""
        for found in (self._in_graph, self._moved):
            table = torch.zeros(len(found), self._objectives, dtype=torch.float64)
            for index, objectives in enumerate(found):
                table[index, list(objectives)] = 1
            for index, row in enumerate(ranks.total(table).tolist()):
                found[index].update(k for k, count in enumerate(row) if count)

    def _alone(self, found: Sequence[set[int]]) -> dict[str, int]:
        return {
            name: next(iter(objectives))
            for name, objectives in zip(self._named, found, strict=True)
            if len(objectives) == 1
        }

    def _listed(self, alone: dict[str, int], most: int = 6) -> str:
        if not alone:
            return ""
        shown = [
            f"{described(self._named[name]) if name.isdigit() else name} (objective {k})"
            for name, k in list(alone.items())[:most]
        ]
        more = f", and {len(alone) - most} more" if len(alone) > most else ""
        return f"By name: {', '.join(shown)}{more}."
