"""ResNet-50 with dilated convolutions, and a DeepLab head for each objective.

The shape that LibMTL (Lin and Zhang, JMLR 2023) publishes NYUv2 with: output stride 8 (Yu et al., "Dilated Residual
Networks", CVPR 2017), and for each objective atrous spatial pyramid pooling with rates 12, 24 and 36 (Chen et al.,
arXiv:1706.05587). As there, images are not standardised, and predictions are enlarged with aligned corners.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mtlbench.errors import UsageError

from ..._vision import torchvision

FEATURES = 2048
"""Channels of the trunk's last block."""


class DilatedResNet(nn.Module):
    """A shared ResNet-50 without its classifier, and for each objective a head of its own.

    Args:
        channels: objective -> channels of its prediction.
        pretrained: whether the trunk begins with the weights of torchvision's `ResNet50_Weights.IMAGENET1K_V1`.

    Raises:
        UsageError: torchvision is missing, or the weights are not there and cannot be fetched.
    """

    def __init__(self, channels: Mapping[str, int], pretrained: bool) -> None:
        super().__init__()
        models = torchvision("The trunk resnet50").models
        whole = models.resnet50(weights=None, replace_stride_with_dilation=[False, True, True])
        layers = OrderedDict((name, layer) for name, layer in whole.named_children() if name not in ("avgpool", "fc"))
        self.trunk = nn.Sequential(layers)
        self.heads = nn.ModuleDict(
            {name: models.segmentation.deeplabv3.DeepLabHead(FEATURES, count) for name, count in channels.items()}
        )
        if pretrained:
            weights = fetched(models.ResNet50_Weights.IMAGENET1K_V1)
            self.trunk.load_state_dict({name: w for name, w in weights.items() if not name.startswith("fc.")})

    def forward(self, images: Tensor, names: Sequence[str]) -> list[Tensor]:
        """Predictions for the objectives `names`, (N, channels, H, W) each, from images (N, 3, H, W) in 0..1."""
        return self.answers(self.features(images), names, images.shape[-2:])

    def features(self, images: Tensor) -> Tensor:
        """What all heads read, (N, 2048, H/8, W/8)."""
        found: Tensor = self.trunk(images)
        return found

    def answers(self, features: Tensor, names: Sequence[str], size: Sequence[int]) -> list[Tensor]:
        """Predictions from `features`, of images of (H, W) = `size`."""
        eighths = (self.heads[name](features) for name in names)
        return [
            functional.interpolate(eighth, size=list(size), mode="bilinear", align_corners=True) for eighth in eighths
        ]

    def shared(self) -> Iterable[tuple[str, nn.Parameter]]:
        """The trunk."""
        return self.trunk.named_parameters(prefix="trunk")


def fetched(weights: Any) -> Mapping[str, Tensor]:
    """The parameters that `weights`, a member of one of torchvision's enumerations, names.

    They lie in torch's cache, or are downloaded there. The file's name holds how its SHA-256 begins, which is compared
    in both cases, and nothing but tensors is read from it.

    Raises:
        UsageError: they cannot be fetched, or the file is another one or holds more than tensors; tells its place.
    """
    name = weights.url.rpartition("/")[2]
    path = Path(torch.hub.get_dir(), "checkpoints", name)
    wanted = Path(name).stem.rpartition("-")[2]
    if path.is_file():
        with path.open("rb") as file:
            there = hashlib.file_digest(file, "sha256").hexdigest()
        if not there.startswith(wanted):
            raise UsageError(
                f"{path} is damaged or another file: its SHA-256 begins with {there[: len(wanted)]} and not with "
                f"{wanted}. Replace it by {weights.url}, or train with weights=none."
            )
    try:
        # torch announces downloads on the standard output, which belongs to the command.
        with contextlib.redirect_stdout(io.StringIO()):
            found: Mapping[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, HTTPException, RuntimeError, pickle.UnpicklingError) as error:
        raise UsageError(
            f"weights=imagenet cannot be had from {weights.url} ({error}). Bring that file to {path} (the folder "
            f"TORCH_HOME/hub/checkpoints), or train with weights=none."
        ) from error
    return found
