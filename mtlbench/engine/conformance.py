"""The conformance battery: what every method must do whatever its mathematics, tried on small problems."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mtlbench.engine.backward import Backward
from mtlbench.engine.kinds import GramianWeighting, LossWeighting, Method
from mtlbench.errors import Diverged

Make = Callable[[], Method]

SIZES = ((2, 1), (3, 1), (8, 1), (3, 4))
"""(K, G) of the problems."""
SCALES = (1e-6, 1e6)


@dataclass(frozen=True)
class Finding:
    """One property of the battery, and what was seen where it does not hold."""

    name: str
    problem: str = ""

    @property
    def holds(self) -> bool:
        """Whether the method passed."""
        return not self.problem


def battery(make: Make) -> Iterator[Finding]:
    """Try a method; one finding per property, in a fixed order.

    Args:
        make: builds the method anew; called several times.
    """
    for name, check in _checks(make()):
        try:
            problem = check(make)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        yield Finding(name, problem)


def _checks(method: Method) -> list[tuple[str, Callable[[Make], str]]]:
    checks: list[tuple[str, Callable[[Make], str]]] = []
    if isinstance(method, GramianWeighting):
        checks += [
            ("answers one finite weight for each objective and group", _shapes),
            ("copes with zero, duplicated and opposite gradients", _degenerate),
            ("does not depend on the scale of the gradients", _scale_free),
        ]
    if isinstance(method, LossWeighting):
        checks.append(("gives one finite weight for each loss", _loss_weights))
    checks.append(("continues bit for bit from a saved state", _resumes))
    if not method.separate_models:
        checks += [
            ("gives the same with one graph as with a graph per objective", _graphs_agree),
            ("takes steps that hold only some objectives", _partial),
            ("refuses a loss that is not finite", _refuses_nan),
        ]
    if not isinstance(method, LossWeighting):
        checks.append(("changes nothing in a step without an objective that it treats", _treated))
    return checks


def _gramian(objectives: int, groups: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(groups, objectives, 50, generator=generator, dtype=torch.float64)
    return rows @ rows.transpose(1, 2)


def _losses(objectives: int) -> Tensor:
    return torch.linspace(0.5, 1.5, objectives, dtype=torch.float64)


def _weights(method: Method, gramian: Tensor) -> Tensor:
    assert isinstance(method, GramianWeighting)
    if method.scope != "shared":
        gramian = gramian[:1]
    return method.weights(gramian, _losses(gramian.shape[-1]))


def _shapes(make: Make) -> str:
    for objectives, groups in SIZES:
        method = make()
        for step in range(3):
            gramian = _gramian(objectives, groups, step)
            weights = _weights(method, gramian)
            if weights.shape[-1] != objectives or not bool(torch.isfinite(weights).all()):
                return f"K={objectives}, G={groups}: weights {weights.tolist()}"
    return ""


def _degenerate(make: Make) -> str:
    x, y = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
    for what, rows in {
        "a zero gradient": [x, 0 * x, y],
        "all zero": [0 * x, 0 * x],
        "duplicates": [x, x, y],
        "opposites": [x, -x, y],
        "lengths from 1e-6 to 1e6": [1e-6 * x, 1e6 * (x + y), y],
    }.items():
        jacobian = torch.stack(rows).double()
        method = make()
        for _ in range(50):
            weights = _weights(method, (jacobian @ jacobian.T)[None])
            if not bool(torch.isfinite(weights).all()):
                return f"{what}: weights {weights.tolist()}"
    return ""


def _scale_free(make: Make) -> str:
    for scale in SCALES:
        one, other = make(), make()
        for step in range(20):
            gramian = _gramian(4, 1, step)
            a, b = _weights(one, gramian), _weights(other, gramian * scale**2)
            if not torch.allclose(a, b, rtol=1e-6, atol=1e-9):
                return f"all gradients times {scale:g}: {a.tolist()} becomes {b.tolist()} in step {step + 1}"
    return ""


def _loss_weights(make: Make) -> str:
    for objectives in (1, 2, 8):
        method = make()
        assert isinstance(method, LossWeighting)
        weights = method.weights(_losses(objectives))
        if weights.shape != (objectives,) or not bool(torch.isfinite(weights).all()):
            return f"K={objectives}: weights {weights.tolist()}"
    return ""


def _resumes(make: Make) -> str:
    method = make()
    step: Callable[[Method, int], Tensor]
    if isinstance(method, GramianWeighting):
        step = _gramian_step
    elif isinstance(method, LossWeighting):
        step = _loss_step
    else:
        return ""
    for index in range(5):
        step(method, index)
    buffer = io.BytesIO()
    torch.save(method.state_dict(), buffer)
    buffer.seek(0)
    fresh = make()
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    for index in range(5, 10):
        a, b = step(method, index), step(fresh, index)
        if not torch.equal(a, b):
            return f"step {index + 1}: {a.tolist()} and {b.tolist()} after loading"
    return ""


def _gramian_step(method: Method, index: int) -> Tensor:
    return _weights(method, _gramian(4, 2, index))


def _loss_step(method: Method, index: int) -> Tensor:
    assert isinstance(method, LossWeighting)
    return method.weights(_losses(4) * (1 + index))


class _Problem:
    """Three regressions on one encoder, in float64."""

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.encoder = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()
            self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(3)).double()
            self.x = torch.randn(16, 6, dtype=torch.float64)

    def loss(self, features: Tensor, k: int) -> Tensor:
        head: Any = self.heads[k]
        return (head(features) - self.x[:, [k]]).square().mean()

    def gradients(
        self, method: Method, as_list: bool, steps: Sequence[Sequence[int]], treated: Sequence[int] | None = None
    ) -> list[Tensor]:
        """`.grad` of everything after each of the steps, each given by the objectives that it holds."""
        backward = Backward(method, self.encoder, "all_layer", objectives=3, treated=treated)
        parameters = [*self.encoder.parameters(), *self.heads.parameters()]
        found = []
        for present in steps:
            for p in parameters:
                p.grad = None
            if as_list:
                features = self.encoder(self.x)
                backward([self.loss(features, k) for k in present], present)
            else:
                backward((self.loss(self.encoder(self.x), k) for k in present), present)
            found += [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]
        return found


def _graphs_agree(make: Make) -> str:
    steps = [range(3)] * 3
    for a, b in zip(_Problem().gradients(make(), True, steps), _Problem().gradients(make(), False, steps), strict=True):
        if not torch.allclose(a, b, rtol=1e-9, atol=1e-12):
            return f"gradients differ by {(a - b).abs().max().item():.1e}"
    return ""


def _partial(make: Make) -> str:
    found = _Problem().gradients(make(), True, [range(3), [0, 2], [1], range(3)])
    return "" if all(bool(torch.isfinite(g).all()) for g in found) else "a gradient is not finite"


def _treated(make: Make) -> str:
    problem = _Problem()
    found = problem.gradients(make(), True, [range(3), [0, 1], [1, 2]], treated=[0])
    features = problem.encoder(problem.x)
    joint = problem.loss(features, 1) + problem.loss(features, 2)
    parameters = [*problem.encoder.parameters(), *problem.heads.parameters()]
    plain = torch.autograd.grad(joint, parameters, allow_unused=True, materialize_grads=True)
    if not all(bool(torch.isfinite(g).all()) for g in found):
        return "a gradient is not finite"
    apart = max((a - b).abs().max().item() for a, b in zip(found[-len(plain) :], plain, strict=True))
    return f"the update is not the plain sum: it differs by {apart:.1e}" if apart > 1e-9 else ""


def _refuses_nan(make: Make) -> str:
    problem = _Problem()
    problem.x[0, 0] = torch.nan
    try:
        problem.gradients(make(), True, [range(3)])
    except Diverged:
        return ""
    return "it took it without an error"
