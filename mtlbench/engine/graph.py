"""What a loss depends on: the leaves of its graph, and which operation of the forward pass reads each first."""

from __future__ import annotations

import functools
import gc
import types
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from torch.nn import Parameter

Edge = tuple[Any, int]
"""Where the gradient of a tensor arrives: a node of the graph, and which of its outputs the tensor was."""


class Leaf(NamedTuple):
    """A tensor that the backward pass of a loss accumulates a gradient into."""

    tensor: Tensor
    first_use: int
    """Grows with the time of the operation of the forward pass that reads it first."""


class Graph(NamedTuple):
    """What a loss depends on."""

    leaves: dict[int, Leaf]
    """By `id`. Parameters of modules that run in a reentrant checkpoint are among them, whether used or not."""
    opaque: bool
    """Whether there is a reentrant checkpoint of which no parameter was found."""
    met: frozenset[Edge] = frozenset()
    """The edges at which the walk ended."""


def edge_of(tensor: Tensor) -> Edge:
    """That of a tensor which requires a gradient."""
    edge = get_gradient_edge(tensor)
    return edge.node, edge.output_nr


def graph_of(*losses: Tensor, until: Collection[Edge] = ()) -> Graph:
    """Walk the graph of a loss, or the union of those of several; not beyond the edges `until`, a set."""
    leaves: dict[int, Leaf] = {}
    met: set[Edge] = set()
    opaque = False

    def note(tensor: Tensor, use: int) -> None:
        known = leaves.get(id(tensor))
        if known is None or use < known.first_use:
            leaves[id(tensor)] = Leaf(tensor, use)

    stack: list[Any] = []
    for loss in losses:
        if until and (edge := edge_of(loss)) in until:
            met.add(edge)
        elif loss.grad_fn is None:
            note(loss, 0)
        else:
            stack.append(loss.grad_fn)
    seen: set[Any] = set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        kind = type(node).__name__
        for next_node, output in node.next_functions:
            if next_node is None:
                continue
            if until and (next_node, output) in until:
                met.add((next_node, output))
            elif type(next_node).__name__ == "AccumulateGrad":
                note(next_node.variable, node._sequence_nr())
            else:
                stack.append(next_node)
        if kind == "CheckpointFunctionBackward":  # its leaves are found when its function runs again
            inside = [p for p in parameters_in(node.run_function) if p.requires_grad]
            opaque |= not inside
            for p in inside:
                note(p, node._sequence_nr())
    return Graph(leaves, opaque, frozenset(met))


def parameters_in(function: object) -> Iterator[Parameter]:
    """The parameters of the modules that a function may use: its own, those it holds, those of its global names."""
    seen: set[int] = set()
    stack: list[object] = [function]
    while stack:
        thing = stack.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, Parameter):
            yield thing
        elif isinstance(thing, nn.Module):
            stack.extend(thing.parameters())
        elif isinstance(thing, functools.partial):
            stack.extend([thing.func, *thing.args, *thing.keywords.values()])
        elif isinstance(thing, types.MethodType):
            stack.extend([thing.__self__, thing.__func__])
        elif isinstance(thing, types.FunctionType):
            stack.extend(_held(thing))
        elif isinstance(thing, Mapping):
            stack.extend(thing.values())
        elif isinstance(thing, list | tuple):
            stack.extend(thing)
        elif not isinstance(thing, type | types.ModuleType) and type(thing).__module__ != "builtins":
            stack.extend(getattr(thing, "__dict__", {}).values())


def described(parameter: Tensor) -> str:
    """A parameter by its name in the largest model that holds it, and its shape."""
    longest = ""
    for thing in gc.get_objects():
        if issubclass(type(thing), nn.Module):
            for name, found in thing.named_parameters():
                if found is parameter and len(name) > len(longest):
                    longest = name
    shape = f"of shape {tuple(parameter.shape)}"
    return f"{longest} {shape}" if longest else f"a parameter {shape}"


def _held(function: types.FunctionType) -> Iterator[object]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not set yet
            continue
    yield from function.__defaults__ or ()
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        if isinstance(value, nn.Module | types.FunctionType | functools.partial | list | tuple | dict):
            yield value
