"""Through a model: who is in a step, who is treated, how graphs are shared, and in which precision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtlbench.engine.conformance.finding import Inapplicable, Make, supports, usual_size
from mtlbench.engine.conformance.regressions import Regressions, Tables, Training, flat
from mtlbench.engine.conformance.trial import EPOCH
from mtlbench.engine.kinds import LossWeighting, Method
from mtlbench.engine.representation import why_not
from mtlbench.errors import Diverged

BEFORE = 5 * EPOCH
"""Full steps before one that lacks an objective: the next is the first of an epoch."""


def graphs_agree(make: Make) -> str:
    """Losses as a list and as a generator."""
    problem = Regressions(_size(make()))
    one, other = (problem.start(make, as_list) for as_list in (True, False))
    for _ in range(3):
        for a, b in zip(one.step(), other.step(), strict=True):
            if not torch.allclose(a, b, rtol=1e-9, atol=1e-12):
                return f"gradients differ by {(a - b).abs().max().item():.1e}"
    return ""


def refuses(make: Make) -> str:
    """A loss that is not a number, or infinite."""
    for value in (torch.nan, torch.inf):
        problem = Regressions(_size(make()))
        with torch.no_grad():
            problem.heads[0].bias.fill_(value)  # type: ignore[operator]
        try:
            problem.start(make).step()
        except Diverged:
            continue
        return f"it took a loss of {value} without an error"
    return ""


def representation(make: Make) -> str:
    """`wrt="representation"` where what the heads read is the parameters themselves, then on a smaller batch."""
    method = make()
    size = _size(method)
    if isinstance(method, LossWeighting):
        raise Inapplicable("it takes no gradients: wrt= means nothing to it")
    if reason := why_not(method):
        raise Inapplicable(f"wrt=representation is refused: {reason}")
    one, other = Tables(size, make, "parameters"), Tables(size, make, "representation")
    for number in range(2 * EPOCH):
        a, b = one.step(number, Tables.ROWS), other.step(number, Tables.ROWS)
        if not torch.allclose(a, b, rtol=1e-9, atol=1e-12):
            return f"step {number + 1}: gradients differ by {(a - b).abs().max().item():.1e}"
    fewer = other.step(2 * EPOCH, Tables.ROWS - 4)
    return "" if bool(torch.isfinite(fewer).all()) else "on a smaller batch a gradient is not finite"


def precision(make: Make) -> str:
    """The same data and weights in two precisions."""
    size = _size(make())
    one, other = (Regressions(size, dtype).start(make) for dtype in (torch.float64, torch.float32))
    for number in range(2 * EPOCH):
        a, b = (torch.cat([g.double().flatten() for g in run.step()]) for run in (one, other))
        if (off := float((a - b).norm() / a.norm())) > 1e-3:
            return f"step {number + 1}: gradients differ by {off:.1e} of their length"
    return ""


def absent(make: Make) -> str:
    """Steps that lack some objectives, first of all and after many full ones; one that names them in another order."""
    method = make()
    size = _size(method)
    if not (some := _partial_steps(method, size)):
        raise Inapplicable("steps with fewer objectives are more than it supports")
    run = Regressions(size).start(make)
    if problem := _not_finite(run, [*some, None, *some]):
        return problem
    run = Regressions(size).start(make)
    _not_finite(run, [None] * BEFORE)
    before = flat(run.backward.method.state_dict())
    run.step(some[0])
    gone = [k for k in range(size) if k not in some[0]]
    problem = _moved(before, flat(run.backward.method.state_dict()), size, gone, axes=size)
    return problem or _named_in_another_order(make, size)


def _named_in_another_order(make: Make, size: int) -> str:
    """A step with the objectives from the last to the first, after full ones: each must meet its own state.

    It says nothing of a method that draws, and of one to which the order matters.
    """
    one, other = (Regressions(size).start(make) for _ in range(2))
    for run in (one, other):
        _not_finite(run, [None] * BEFORE)
    before = flat(one.backward.method.state_dict())
    found = one.step(list(range(size))), other.step([*reversed(range(size))])
    after = flat(one.backward.method.state_dict())
    draws = any(not torch.equal(old, after[name]) for name, old in before.items() if name.endswith("generator"))
    if draws or "order" in one.backward.method.exceptions:
        return ""
    a, b = (torch.cat([g.flatten() for g in gradients]) for gradients in found)
    if (off := float((a - b).norm() / a.norm())) <= 1e-6:
        return ""
    return (
        f"a step that names the objectives from the last to the first gives gradients that differ by {off:.1e} of "
        "their length: what it remembers of an objective is to be read and written at self.present"
    )


def treated(make: Make) -> str:
    """Steps of a run that treats one objective: with it, and without."""
    method = make()
    if isinstance(method, LossWeighting):
        raise Inapplicable("it corrects no gradients: treated= means nothing to it")
    size = _size(method)
    if size < 2 or not (supports(method, size - 1) and supports(method, 1)):
        raise Inapplicable("a step with one objective less, or one treated one, is not what it supports")
    run = Regressions(size).start(make, treated=[0])
    if problem := _not_finite(run, [None] * BEFORE):
        return problem
    before = flat(run.backward.method.state_dict())
    run.step()
    rest = list(range(1, size))
    if problem := _moved(before, flat(run.backward.method.state_dict()), size, rest, axes=1):
        return problem
    return _without_treated(run, rest)


def _without_treated(run: Training, rest: Sequence[int]) -> str:
    """Nothing is to be corrected there, so that the update is the plain sum."""
    problem, shares = run.problem, getattr(run.backward.method, "batch_shares", (1.0,))
    shared = [torch.zeros_like(p) for p in problem.encoder.parameters()]
    for copy, share in enumerate(shares):
        joint = torch.stack(list(problem.losses(problem.batch(run.number, copy), rest))).sum()
        for total, gradient in zip(shared, torch.autograd.grad(joint, list(problem.encoder.parameters())), strict=True):
            total += share * gradient
    found = run.step(rest)
    apart = max((a - b).abs().max().item() for a, b in zip(found, shared, strict=False))
    return f"in a step without treated objectives the update is {apart:.1e} off the plain sum" if apart > 1e-9 else ""


def _size(method: Method) -> int:
    if method.separate_models:
        raise Inapplicable("each objective has a model of its own")
    return usual_size(method)


def _partial_steps(method: Method, size: int) -> list[list[int]]:
    """Steps that hold some of the objectives, in numbers that the method supports."""
    steps = [list(range(0, size, 2)), [size - 1], list(range(size - 1))] if size > 1 else []
    return [step for step in steps if 0 < len(step) < size and supports(method, len(step))]


def _not_finite(run: Training, steps: Sequence[Sequence[int] | None]) -> str:
    for present in steps:
        if not all(bool(torch.isfinite(g).all()) for g in run.step(present)):
            held = "all objectives" if present is None else f"objectives {list(present)}"
            return f"step {run.number}, which holds {held}: a gradient is not finite"
    return ""


def _moved(before: dict[str, Tensor], after: dict[str, Tensor], size: int, of: Sequence[int], axes: int) -> str:
    """Which entries of these objectives moved: along the first `axes` axes of length K, or one of K of one name."""
    for name, old in before.items():
        new = after.get(name)
        if new is None or new.shape != old.shape:
            if new is not None and size in old.shape:
                return f"the state {name} has the shape {tuple(new.shape)} after a step without objectives {list(of)}"
            continue
        own = [axis for axis, length in enumerate(old.shape) if length == size][:axes]
        pairs = [(old.index_select(a, torch.tensor(of)), new.index_select(a, torch.tensor(of))) for a in own]
        if not own and name.rpartition(".")[2] in map(str, of) and not name.startswith("_extra_state"):
            pairs = [(old, new)]
        if any(not torch.equal(a.nan_to_num(nan=-7.0), b.nan_to_num(nan=-7.0)) for a, b in pairs):
            return f"the state {name} of objectives {list(of)} moved in a step without them"
    return ""
