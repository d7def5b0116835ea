"""The words `sampling=NAME` and `sampling.KEY=VALUE`: which strategy shares steps out, with its parameters.

Imports are within functions, since help reads the axes and must not wait for pydantic or yaml.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mtlbench.catalogue.registry import samplings
from mtlbench.errors import UsageError, unknown

DEFAULT = "temperature"
"""The strategy that, with its default parameters, is the way of the protocol."""

PREFIX = "sampling."


@dataclass(frozen=True)
class Strategy:
    """A strategy by name, with all its parameters as JSON keeps them."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 (pydantic reads it)

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def changed(self) -> dict[str, Any]:
        """The parameters that differ from their defaults."""
        from mtlbench.cells.parameters import default_parameters, plain

        defaults = default_parameters(self.name, samplings)
        return {k: v for k, v in self.parameters.items() if k not in defaults or defaults[k] != plain(v)}


def read(value: Any) -> Strategy | None:
    """A strategy from its name, or from name and parameters as typed; None for the way of the protocol.

    Raises:
        UsageError: an unknown name or parameter, or a value that is not allowed.
    """
    from mtlbench.cells.parameters import checked_parameters

    typed = value if isinstance(value, Strategy) else Strategy(str(value))
    found = Strategy(typed.name, checked_parameters(typed.name, typed.parameters, samplings))
    return None if found.name == DEFAULT and not found.changed else found


def strategies(axes: Mapping[str, Sequence[Any]]) -> list[Strategy]:
    """What a grid asks for: every strategy that is named with every combination of its parameters, as typed.

    Where there are parameters without a name they are those of `DEFAULT`; where there is neither, the list is empty.

    Raises:
        UsageError: an unknown name, or a parameter that none of the strategies has.
    """
    return list(_strategies(axes)) if any(_is_word(key) for key in axes) else []


def count(axes: Mapping[str, Sequence[Any]]) -> int:
    """At most how many strategies a grid asks for, before they are made."""
    total = 1
    for values in (values for key, values in axes.items() if _is_word(key)):
        total *= len(dict.fromkeys(map(str, values)))
    return total


def require_shared_out(task: str, axes: Mapping[str, Sequence[Any]], trains: bool) -> None:
    """Raise `UsageError` where a grid asks for a strategy of a task that has nothing to share out."""
    from mtlbench.catalogue.variants import task_data

    asked = [strategy for strategy in strategies(axes) if read(strategy) is not None]
    if not asked:
        return
    if not task_data(task).own_data:
        raise UsageError(
            f"sampling={asked[0].name} is not allowed: the objectives of {task} share their input, so that there is "
            "nothing to share out. It is for tasks whose objectives have data of their own (own_data: true beside the "
            "protocols), such as nmt."
        )
    if not trains:
        raise UsageError(f"sampling={asked[0].name} is not allowed: nothing is trained, so that no step is shared out.")


def _strategies(axes: Mapping[str, Sequence[Any]]) -> Iterator[Strategy]:
    from mtlbench.catalogue.signature import parameters

    given = {key.removeprefix(PREFIX): values for key, values in axes.items() if key.startswith(PREFIX)}
    names = list(dict.fromkeys(str(name) for name in axes.get("sampling", [DEFAULT])))
    known = {name: list(parameters(samplings.load(name))) for name in names}
    for key in given:
        if not any(key in own for own in known.values()):
            allowed = {f"{PREFIX}{own}" for keys in known.values() for own in keys}
            raise unknown(f"parameter of {', '.join(names)}:", f"{PREFIX}{key}", allowed)
    for name, own in known.items():
        typed = {key: values for key, values in given.items() if key in own}
        for values in itertools.product(*typed.values()):
            yield Strategy(name, dict(zip(typed, values, strict=True)))


def _is_word(key: str) -> bool:
    return key == "sampling" or key.startswith(PREFIX)
