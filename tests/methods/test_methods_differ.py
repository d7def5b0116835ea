"""No two methods are the same under another name: on one problem their updates differ, but for those known to agree."""

import itertools
from pathlib import Path

import torch
from torch import nn

import mtlbench
import mtlbench.methods

BUILT_IN = sorted(p.stem for p in Path(mtlbench.methods.__file__).parent.glob("*.py") if not p.stem.startswith("_"))
"""Not what other tests register."""
SAME = {*map(frozenset, itertools.combinations(("uniform", "scalarization", "twin"), 2))}
"""Without weights, scalarisation is the plain sum, and the twin is it but for rounding."""


def update(name):
    """The gradient of the encoder in the eighth step, after seven that moved nothing but the method's state."""
    torch.manual_seed(0)
    encoder, heads = nn.Linear(6, 4).double(), [nn.Linear(4, 1).double() for _ in range(3)]
    method = mtlbench.method(name)
    method.steps_per_epoch = 1
    backward = mtlbench.Backward(method, encoder, objectives=3)
    for step in range(8):
        x = torch.randn(8, 6, generator=torch.Generator().manual_seed(step), dtype=torch.float64)

        def losses(x=x):
            features = encoder(x).tanh()
            return [3**k * (head(features) - (-1) ** k).square().mean() for k, head in enumerate(heads)]

        encoder.zero_grad()
        several = len(getattr(method, "batch_shares", "1"))
        backward(losses() if several == 1 else [losses() for _ in range(several)])
        for s in method.parameters():
            s.data -= 0.1 * s.grad
            s.grad = None
        with torch.no_grad():
            backward.review(0.7**k * loss for k, loss in enumerate(losses()))
    return torch.cat([p.grad.flatten() for p in encoder.parameters()])


def test_updates_differ():
    updates = {name: update(name) for name in BUILT_IN if name != "single_task"}
    for (one, a), (other, b) in itertools.combinations(updates.items(), 2):
        same = (a - b).norm() <= 1e-6 * a.norm()
        assert bool(same) == (frozenset({one, other}) in SAME), (one, other)
