"""Label-smoothed cross-entropy, with a backward pass that costs one exponential per entry."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def smoothed_cross_entropy(logits: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """The mean over positions of (1 - smoothing) -log p(target) + smoothing mean_v -log p(v), in nats.

    `torch.nn.functional.cross_entropy(..., label_smoothing=smoothing, ignore_index=-1)` is the same number; on a CPU
    its backward pass takes several times as long for thousands of classes.

    Args:
        logits: (n, V) float32 or float64.
        target: (n,) int64; positions where it is negative do not count.
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
        share = (target >= 0).to(log_p.dtype)
        share /= share.sum()
        ctx.save_for_backward(log_p, target, share)
        ctx.smoothing = smoothing
        found = (1 - smoothing) * log_p.gather(1, target.clamp(min=0)[:, None])[:, 0]
        if smoothing:
            found += smoothing * log_p.mean(1)
        return -(found @ share)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        log_p, target, share = ctx.saved_tensors
        wrong = log_p.exp_()  # in place, so that autograd refuses a second backward pass over the same graph
        if ctx.smoothing:
            wrong -= ctx.smoothing / log_p.shape[1]
        wrong[torch.arange(len(target), device=target.device), target.clamp(min=0)] -= 1 - ctx.smoothing
        return wrong.mul_((gradients[0] * share)[:, None]), None, None
