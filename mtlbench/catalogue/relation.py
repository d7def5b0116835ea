"""What is known of how objectives relate, such as a family tree: what similarity of gradients is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Kind = Literal["distance", "similarity", "amount", "label"]
KINDS: tuple[str, ...] = get_args(Kind)


@dataclass(frozen=True, eq=False)
class Relation:
    """One thing that is known of K objectives without training, given by their task.

    Raises:
        ValueError: values of another shape or type than the kind asks for.
    """

    name: str
    """One word or two, such as `tree` or `overlap`; distinct within a task."""
    kind: Kind
    """`distance` and `similarity` are about pairs, `amount` (such as training sentences) and `label` (such as the
    family) about single objectives."""
    about: str
    """One line: what it is, and where it is from."""
    values: NDArray[Any]
    """(K, K) float64, finite and symmetric, of a distance or similarity; (K,) float64, finite, of an amount; (K,)
    strings of a label. Lists are taken too."""

    def __post_init__(self) -> None:
        wrong = f"the relation {self.name!r}"
        if self.kind not in KINDS:
            raise ValueError(f"{wrong} is of the kind {self.kind!r}; there are {', '.join(KINDS)}")
        if not self.name or "\n" in self.about:
            raise ValueError(f"{wrong} needs a name, and one line on what it is about")
        dtype = np.str_ if self.kind == "label" else np.float64
        values = np.array(self.values, dtype=dtype)
        if self.kind in ("distance", "similarity"):
            if values.ndim != 2 or values.shape[0] != values.shape[1]:
                raise ValueError(f"{wrong} has values of shape {values.shape}; a {self.kind} has K by K")
            if not np.array_equal(values, values.T):
                raise ValueError(f"{wrong} is not symmetric, or has values that are no number")
        elif values.ndim != 1:
            raise ValueError(f"{wrong} has values of shape {values.shape}; one for each of the K objectives is needed")
        if self.kind != "label" and not np.isfinite(values).all():
            raise ValueError(f"{wrong} has values that are no finite number")
        object.__setattr__(self, "values", values)

    @property
    def objectives(self) -> int:
        """K."""
        return len(self.values)


def require_of(relations: Sequence[Relation], objectives: int) -> None:
    """Raise `ValueError` unless all are about that many objectives, under distinct names."""
    names = [relation.name for relation in relations]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two relations are called {twice[0]!r}")
    for relation in relations:
        if relation.objectives != objectives:
            raise ValueError(
                f"the relation {relation.name!r} is about {relation.objectives} objectives of {objectives}"
            )
