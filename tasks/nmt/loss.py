"""Label-smoothed cross-entropy, with a backward pass that costs one exponential per entry."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def smoothed_cross_entropy(logits: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """The mean over positions of (1 - smoothing) -log p(target) + smoothing mean_v -log p(v), in nats.

    `torch.nn.functional.cross_entropy(..., label_smoothing=smoothing)` is the same number; on a CPU its backward
    pass takes several times as long for thousands of classes.

    Args:
        logits: (n, V) float32 or float64.
        target: (n,) int64.
        smoothing: at least 0 and below 1; Szegedy et al., CVPR 2016, section 7.

    Returns:
        () the loss.
    """
    loss: Tensor = _SmoothedCrossEntropy.apply(logits, target, smoothing)
    return loss


class _SmoothedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, smoothing: float) -> Tensor:
        log_p = torch.log_softmax(logits, 1)
        ctx.save_for_backward(log_p, target)
        ctx.smoothing = smoothing
        hit = log_p.gather(1, target[:, None]).mean()
        return -((1 - smoothing) * hit + smoothing * log_p.mean()) if smoothing else -hit

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        log_p, target = ctx.saved_tensors
        n, classes = log_p.shape
        wrong = log_p.exp()
        if ctx.smoothing:
            wrong -= ctx.smoothing / classes
        wrong[torch.arange(n, device=target.device), target] -= 1 - ctx.smoothing
        return wrong.mul_(gradients[0] / n), None, None
