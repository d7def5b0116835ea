"""Granularities: which shared parameters form a group of Jacobian columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

from torch import nn
from torch.nn import Parameter

from mtlbench.errors import UsageError, unknown

Granularity = Literal["whole_model", "enc_dec", "all_layer", "all_matrix"]
GRANULARITIES: tuple[str, ...] = get_args(Granularity)

_COMPILED = "_orig_mod."
"""What a compiled module's parameters have in their names."""

Shared = nn.Module | Iterable[Parameter] | Iterable[tuple[str, Parameter]]


def named_parameters(shared: Shared) -> dict[str, Parameter]:
    """The parameters of `shared` by name, each once; unnamed ones are called `0`, `1`, ...

    What `torch.compile` puts before the names of a module's parameters is left out.

    Raises:
        UsageError: something that is no parameter, or none.
    """
    pairs = shared.named_parameters() if isinstance(shared, nn.Module) else shared
    found: dict[str, Parameter] = {}
    seen: set[int] = set()
    for index, item in enumerate(pairs):
        name, parameter = item if isinstance(item, tuple) else (str(index), item)
        if not isinstance(parameter, Parameter):
            raise UsageError(
                f"shared holds a {type(parameter).__name__}; pass a module, parameters or named_parameters()."
            )
        if id(parameter) not in seen:
            found[name.replace(_COMPILED, "")] = parameter
            seen.add(id(parameter))
    if not found:
        raise UsageError("shared holds no parameter.")
    return found


def group(
    named: Mapping[str, Parameter], granularity: str | Sequence[Iterable[Parameter]]
) -> dict[str, list[Parameter]]:
    """Split `named` parameters into groups, every parameter in exactly one; the order is that of first appearance.

    Args:
        named: the parameters by their dotted names.
        granularity:
            `whole_model`: one group.
            `enc_dec`: what lies under a module called `encoder`, what lies under `decoder`, and the rest.
            `all_layer`: a group per layer (`layer_name`).
            `all_matrix`: a group per parameter.
            Or explicit groups of parameters.

    Raises:
        UsageError: an unknown granularity, names that do not allow it, or explicit groups that miss or repeat
            a parameter.
    """
    if not isinstance(granularity, str):
        return _explicit(named, granularity)
    if granularity not in GRANULARITIES:
        raise unknown("granularity", granularity, GRANULARITIES)
    if granularity == "whole_model":
        return {"whole_model": list(named.values())}
    if granularity == "all_matrix":
        return {name: [parameter] for name, parameter in named.items()}
    unnamed = all(name.isdigit() for name in named)
    if unnamed:
        raise UsageError(f"granularity={granularity} needs names: pass a module or its named_parameters() as shared.")
    of = layer_name if granularity == "all_layer" else _side
    groups: dict[str, list[Parameter]] = {}
    for name, parameter in named.items():
        groups.setdefault(of(name), []).append(parameter)
    if granularity == "enc_dec" and not {"encoder", "decoder"} <= set(groups):
        tops = sorted({name.split(".")[0] for name in named})
        raise UsageError(
            "granularity=enc_dec needs shared parameters under a module called encoder and under one called "
            f"decoder; the shared modules here are: {', '.join(tops)}. Use whole_model, all_layer or all_matrix."
        )
    return groups


def layer_name(parameter: str) -> str:
    """The layer that a parameter's dotted name belongs to.

    An entry of the outermost `ModuleList` or `Sequential` on the way (`encoder.layers.3`), otherwise the module
    that owns the parameter (`encoder.conv1`, or `(top)` for the outermost one).
    """
    path = parameter.split(".")
    for depth, part in enumerate(path[:-1]):
        if part.isdigit():
            return ".".join(path[: depth + 1])
    return ".".join(path[:-1]) or "(top)"


def _side(name: str) -> str:
    path = name.split(".")[:-1]
    return next((side for side in ("encoder", "decoder") if side in path), "rest")


def _explicit(named: Mapping[str, Parameter], given: Sequence[Iterable[Parameter]]) -> dict[str, list[Parameter]]:
    names = {id(parameter): name for name, parameter in named.items()}
    groups = {f"group_{index}": list(parameters) for index, parameters in enumerate(given)}
    placed: set[int] = set()
    for name, parameters in groups.items():
        for parameter in parameters:
            if id(parameter) not in names:
                raise UsageError(f"{name} holds a parameter of shape {tuple(parameter.shape)} that is not in shared.")
            if id(parameter) in placed:
                raise UsageError(f"the shared parameter {names[id(parameter)]!r} is in more than one group.")
            placed.add(id(parameter))
    missing = [name for key, name in names.items() if key not in placed]
    if missing:
        raise UsageError(f"these shared parameters are in no group: {', '.join(missing[:5])}.")
    return {name: parameters for name, parameters in groups.items() if parameters}
