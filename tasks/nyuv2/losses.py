"""The losses of the three objectives, each the mean over those pixels of the batch whose truth is known.

A batch without any such pixel has loss 0, and its gradient is 0. Losses and masks are those of Liu et al., "End-to-End
Multi-Task Learning with Attention", CVPR 2019, and its code, but for pixels whose normal has components that sum to 0:
there they are left out, here only those with a normal of (0, 0, 0) are.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .views import IGNORED

SHORTEST = 1e-4
"""A predicted normal shorter than this is scaled by its inverse and not to unit length, which bounds the gradient."""


def segmentation(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy in nats, ().

    Args:
        logits: (N, classes, H, W).
        labels: (N, H, W) int64; `IGNORED` pixels do not count.
    """
    total = functional.cross_entropy(_wide(logits), labels, ignore_index=IGNORED, reduction="sum")
    return _mean(total, labels != IGNORED)


def depth(prediction: Tensor, depths: Tensor) -> Tensor:
    """Mean absolute error in metres, ().

    Args:
        prediction: (N, 1, H, W), metres.
        depths: (N, H, W), metres; 0 where not measured.
    """
    measured = depths > 0
    # Put in place of a prediction, the truth has neither an error nor a gradient; a product with 0 could be NaN.
    kept = torch.where(measured, _wide(prediction[:, 0]), depths)
    return _mean(functional.l1_loss(kept, depths, reduction="sum"), measured)


def normal(prediction: Tensor, normals: Tensor) -> Tensor:
    """Mean of 1 - the cosine of the angle between prediction and truth, (), from 0 to 2.

    Args:
        prediction: (N, 3, H, W), of any length.
        normals: (N, 3, H, W) of unit length; 0 where not known.
    """
    known = (normals != 0).any(1)
    kept = torch.where(known[:, None], _wide(prediction), normals)
    cosines = (functional.normalize(kept, dim=1, eps=SHORTEST) * normals).sum(1)
    return _mean((known.to(cosines.dtype) - cosines).sum(), known)


def _mean(total: Tensor, counted: Tensor) -> Tensor:
    return total / counted.sum().clamp(min=1)


def _wide(prediction: Tensor) -> Tensor:
    """In float32 at least: sums over a million pixels are too much for what autocast predicts in."""
    return prediction.to(torch.promote_types(prediction.dtype, torch.float32))
