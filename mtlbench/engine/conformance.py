"""The conformance battery: what every method must do whatever its mathematics, tried on small problems."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mtlbench.engine.backward import Backward
from mtlbench.engine.kinds import GramianWeighting, JacobianAggregator, LossWeighting, Method
from mtlbench.errors import Diverged

Make = Callable[[], Method]

SIZES = (2, 3, 8, 1)
"""The numbers of objectives K that are tried, of those that the method supports."""
MOST = 64
"""The largest K that is tried where none of these is supported."""
SCALES = (1e-6, 1e6)
EPOCH = 2
"""Steps in what methods that count epochs are told is one."""


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

    def told() -> Method:
        method = make()
        method.steps_per_epoch = EPOCH
        return method

    for name, check in _checks(make()):
        try:
            problem = check(told)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        yield Finding(name, problem)


def _checks(method: Method) -> list[tuple[str, Callable[[Make], str]]]:
    """What there is to try: a property that this method cannot be tried for is left out, not said to hold."""
    if not _sizes(method):
        return [(f"supports a number of objectives up to {MOST}", lambda make: "it supports none")]
    checks: list[tuple[str, Callable[[Make], str]]] = []
    if isinstance(method, GramianWeighting):
        checks += [
            ("answers one finite weight for each objective and group", _shapes),
            ("copes with zero, duplicated and opposite gradients", _degenerate),
        ]
        if method.scale_free:
            checks.append(("does not depend on the scale of the gradients", _scale_free))
    if isinstance(method, LossWeighting):
        checks.append(("gives one finite weight for each loss", _loss_weights))
    checks.append(("continues bit for bit from a saved state", _resumes))
    if not method.separate_models:
        checks += [
            ("gives the same with one graph as with a graph per objective", _graphs_agree),
            ("refuses a loss that is not finite", _refuses_nan),
        ]
        if _partial_steps(method):
            checks.append(("takes steps that hold only some objectives", _partial))
    if not isinstance(method, LossWeighting) and _untreated_steps(method):
        checks.append(("changes nothing in a step without an objective that it treats", _treated))
    return checks


def _supports(method: Method, objectives: int) -> bool:
    return method.supports is None or objectives in method.supports


def _sizes(method: Method) -> list[int]:
    """The numbers of objectives to try, the larger of the usual ones first."""
    usual = [k for k in SIZES if _supports(method, k)]
    return usual or [k for k in range(1, MOST + 1) if _supports(method, k)][:1]


def _problem_size(method: Method) -> int:
    """The number of objectives of the regressions: three, or what comes nearest."""
    return next((k for k in (3, 2, 4, 8) if _supports(method, k)), _sizes(method)[0])


def _partial_steps(method: Method) -> list[list[int]]:
    """Steps that hold some of the objectives, in numbers that the method supports."""
    objectives = _problem_size(method)
    steps = [list(range(0, objectives, 2)), [objectives - 1], list(range(objectives - 1))]
    return [step for step in steps if 0 < len(step) < objectives and _supports(method, len(step))]


def _untreated_steps(method: Method) -> bool:
    """Whether a step can hold all objectives but one, and whether one alone can be treated."""
    others = _problem_size(method) - 1
    return others > 0 and _supports(method, others) and _supports(method, 1)


def _gramian(objectives: int, groups: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(groups, objectives, 50, generator=generator, dtype=torch.float64)
    return rows @ rows.transpose(1, 2)


def _losses(objectives: int) -> Tensor:
    return torch.linspace(0.5, 1.5, objectives, dtype=torch.float64)


def _weights(method: Method, gramian: Tensor) -> Tensor:
    assert isinstance(method, GramianWeighting)
    if method.scope == "last_layer":
        gramian = gramian[:1]
    return method.weights(gramian, _losses(gramian.shape[-1]))


def _shapes(make: Make) -> str:
    for objectives in _sizes(make()):
        for groups in (1, 4):
            method = make()
            for step in range(3):
                weights = _weights(method, _gramian(objectives, groups, step))
                if weights.shape[-1] != objectives or not bool(torch.isfinite(weights).all()):
                    return f"K={objectives}, G={groups}: weights {weights.tolist()}"
    return ""


def _degenerate(make: Make) -> str:
    x, y = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
    objectives = _problem_size(make())
    for what, rows in {
        "a zero gradient": [x, 0 * x, y],
        "all zero": [0 * x, 0 * x, 0 * y],
        "duplicates": [x, x, y],
        "opposites": [x, -x, y],
        "lengths from 1e-6 to 1e6": [1e-6 * x, 1e6 * (x + y), y],
    }.items():
        jacobian = torch.stack([rows[k % 3] for k in range(objectives)]).double()
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
            gramian = _gramian(max(_sizes(one)), 1, step)
            a, b = _weights(one, gramian), _weights(other, gramian * scale**2)
            if not torch.allclose(a, b, rtol=1e-6, atol=1e-9):
                return f"all gradients times {scale:g}: {a.tolist()} becomes {b.tolist()} in step {step + 1}"
    return ""


def _loss_weights(make: Make) -> str:
    for objectives in _sizes(make()):
        method = make()
        assert isinstance(method, LossWeighting)
        weights = _reviewed(method, _losses(objectives))
        if weights.shape != (objectives,) or not bool(torch.isfinite(weights).all()):
            return f"K={objectives}: weights {weights.tolist()}"
    return ""


def _resumes(make: Make) -> str:
    method = make()
    for index in range(7):
        _answer(method, index)
    buffer = io.BytesIO()
    torch.save(method.state_dict(), buffer)
    buffer.seek(0)
    fresh = make()
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    for index in range(7, 16):
        a, b = _answer(method, index), _answer(fresh, index)
        if not torch.equal(a, b):
            return f"step {index + 1}: {a.tolist()} and {b.tolist()} after loading"
    return ""


def _answer(method: Method, index: int) -> Tensor:
    """What a method of any kind answers in one step of an endless run on two groups."""
    objectives = max(_sizes(method))
    if isinstance(method, GramianWeighting):
        return _weights(method, _gramian(objectives, 2, index))
    if isinstance(method, LossWeighting):
        return _reviewed(method, _losses(objectives) * (1 + index))
    assert isinstance(method, JacobianAggregator)
    generator = torch.Generator().manual_seed(index)
    method.begin(objectives, 2)
    method.losses = _losses(objectives) * (1 + index)
    updates = []
    for method.group in range(2):
        updates.append(method.aggregate(torch.randn(objectives, 6, generator=generator, dtype=torch.float64)))
    return torch.stack(updates)


def _reviewed(method: LossWeighting, losses: Tensor) -> Tensor:
    """The weights, after a step that lowers the losses to different degrees."""
    weights = method.weights(losses)
    if method.reviews:
        method.review(losses * torch.linspace(0.5, 0.9, len(losses), dtype=torch.float64))
    return weights


class _Problem:
    """Regressions on one encoder, in float64."""

    def __init__(self, objectives: int) -> None:
        self.objectives = objectives
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.encoder = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()
            self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(objectives)).double()
            self.x = torch.randn(16, 6, dtype=torch.float64)

    def loss(self, features: Tensor, k: int) -> Tensor:
        head: Any = self.heads[k]
        return (head(features) - self.x[:, [k % 6]]).square().mean()

    def _losses(self, as_list: bool, present: Sequence[int]) -> Sequence[Tensor] | Iterator[Tensor]:
        if not as_list:
            return (self.loss(self.encoder(self.x), k) for k in present)
        features = self.encoder(self.x)
        return [self.loss(features, k) for k in present]

    def gradients(
        self, method: Method, as_list: bool, steps: Sequence[Sequence[int]], treated: Sequence[int] | None = None
    ) -> list[Tensor]:
        """`.grad` of everything after each of the steps, each given by the objectives that it holds."""
        backward = Backward(method, self.encoder, "all_layer", self.objectives, treated=treated)
        parameters = [*self.encoder.parameters(), *self.heads.parameters()]
        found = []
        for present in steps:
            for p in parameters:
                p.grad = None
            if isinstance(method, GramianWeighting) and len(method.batch_shares) > 1:
                backward((self._losses(as_list, present) for _ in method.batch_shares), present)
            else:
                backward(self._losses(as_list, present), present)
            with torch.no_grad():
                backward.review(0.9**k * self.loss(self.encoder(self.x), k) for k in present)
            found += [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]
        return found


def _graphs_agree(make: Make) -> str:
    size = _problem_size(make())
    one, other = (_Problem(size).gradients(make(), as_list, [range(size)] * 3) for as_list in (True, False))
    for a, b in zip(one, other, strict=True):
        if not torch.allclose(a, b, rtol=1e-9, atol=1e-12):
            return f"gradients differ by {(a - b).abs().max().item():.1e}"
    return ""


def _partial(make: Make) -> str:
    size, some = _problem_size(make()), _partial_steps(make())
    found = _Problem(size).gradients(make(), True, [range(size), *some, range(size)])
    return "" if all(bool(torch.isfinite(g).all()) for g in found) else "a gradient is not finite"


def _treated(make: Make) -> str:
    method = make()
    problem = _Problem(_problem_size(method))
    everyone, others = range(problem.objectives), range(1, problem.objectives)
    found = problem.gradients(method, True, [everyone, others], treated=[0])
    features = problem.encoder(problem.x)
    joint = torch.stack([problem.loss(features, k) for k in others]).sum()
    parameters = [*problem.encoder.parameters(), *problem.heads.parameters()]
    plain = torch.autograd.grad(joint, parameters, allow_unused=True, materialize_grads=True)
    if not all(bool(torch.isfinite(g).all()) for g in found):
        return "a gradient is not finite"
    apart = max((a - b).abs().max().item() for a, b in zip(found[-len(plain) :], plain, strict=True))
    return f"the update is not the plain sum: it differs by {apart:.1e}" if apart > 1e-9 else ""


def _refuses_nan(make: Make) -> str:
    problem = _Problem(_problem_size(make()))
    problem.x[0, 0] = torch.nan
    try:
        problem.gradients(make(), True, [range(problem.objectives)])
    except Diverged:
        return ""
    return "it took it without an error"
