"""The models of NYUv2: one trunk that all objectives share, and a head for each.

A model answers `model(images, names)`, from images (N, 3, H, W) float32 in 0..1, with one tensor for each of `names`:
logits of the classes for `segmentation` (N, 13, H, W), metres for `depth` (N, 1, H, W), and a vector that is not
normalised for `normal` (N, 3, H, W). The trunk runs once, and no head runs that is not asked for. `model.shared()` is
the trunk, with names, in the order of the forward pass. Of a model whose heads all read one tensor,
`model.features(images)` is that tensor, and `model.answers(features, names, (H, W))` what they make of it.
"""

from __future__ import annotations

from torch import nn

from mtlbench.errors import UsageError, unknown

CHANNELS = {"segmentation": 13, "depth": 1, "normal": 3}
"""Objective -> channels of its prediction."""
TRUNKS = ("small", "segnet_mtan", "segnet_split", "resnet50")


def build(trunk: str, weights: str = "none") -> nn.Module:
    """The model with trunk `trunk`, in float32, its weights drawn from torch's global generator.

    Args:
        trunk: `small`, for CPUs; `segnet_mtan` or `segnet_split`, as in Liu et al. (CVPR 2019, MTAN); `resnet50`,
            dilated, with an ASPP head for each objective.
        weights: `imagenet` for what was learnt there, which `resnet50` alone has; or `none`.

    Raises:
        UsageError: an unknown trunk, weights that it does not have or that cannot be fetched, torchvision missing.
    """
    if trunk not in TRUNKS:
        raise unknown("trunk", trunk, TRUNKS)
    if weights not in ("none", "imagenet"):
        raise unknown("weights", weights, ("none", "imagenet"))
    if weights == "imagenet" and trunk != "resnet50":
        raise UsageError(f"weights=imagenet is for trunk=resnet50; the trunk {trunk} begins with weights=none.")
    # Each is imported when it is asked for: torchvision is needed by one of them alone.
    if trunk == "small":
        from .small import SmallNet

        return SmallNet(CHANNELS)
    if trunk == "resnet50":
        from .resnet import DilatedResNet

        return DilatedResNet(CHANNELS, weights == "imagenet")
    from .segnet import MTAN, Split

    return MTAN(CHANNELS) if trunk == "segnet_mtan" else Split(CHANNELS)
