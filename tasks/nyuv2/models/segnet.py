"""SegNet in the two shapes that NYUv2 is published with: split at the last layer, and with attention (MTAN).

Layers, widths and initial weights are those of the code that accompanies Liu et al., "End-to-End Multi-Task Learning
with Attention", CVPR 2019, which later papers train unchanged. The trunk is that of Badrinarayanan et al., "SegNet",
arXiv:1511.00561: the convolutions of VGG-16, and their mirror image, which puts what it enlarges where the maxima were.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (64, 128, 256, 512, 512)
"""Channels of the encoder at 1/1, 1/2, 1/4, 1/8 and 1/16 of the image."""
DEPTHS = (2, 2, 3, 3, 3)
"""Convolutions there, in the encoder and in the decoder."""
NARROWER = (64, *WIDTHS[:-1])
"""Channels of the decoder there, which reads those of the encoder."""


class Features(NamedTuple):
    """What a pass through the trunk leaves, each in the order in which it is computed."""

    encoded: list[tuple[Tensor, Tensor]]
    """First and last features of each level of the encoder, from 1/1 to 1/16."""
    unpooled: list[Tensor]
    """What each level of the decoder reads, from 1/16 to 1/1."""
    decoded: list[Tensor]
    """What it writes; the last is (N, 64, H, W)."""


class SegNet(nn.Module):
    """The encoder-decoder: images (N, 3, H, W) -> features of every level.

    Sides that are odd somewhere are pooled with a last row or column of its own, which multiples of 32 do not have.
    """

    def __init__(self) -> None:
        super().__init__()
        read = (3, *WIDTHS[:-1])
        self.encoder = nn.ModuleList(map(Level, read, WIDTHS, DEPTHS))
        self.decoder = nn.ModuleList(map(Level, reversed(WIDTHS), reversed(NARROWER), reversed(DEPTHS)))

    def forward(self, images: Tensor) -> Features:
        """What both models read."""
        x, places = images, []
        features = Features([], [], [])
        for level in self.encoder:
            first, last = level(x)
            features.encoded.append((first, last))
            x, where = pool(last)
            places.append((where, last.shape[-2:]))
        for level, (where, size) in zip(self.decoder, reversed(places), strict=True):
            features.unpooled.append(functional.max_unpool2d(x, where, [2, 2], output_size=size))
            x = level(features.unpooled[-1])[1]
            features.decoded.append(x)
        return features


class Level(nn.Module):
    """Convolutions of one size: `read` channels, then `written` ones after each of `depth` convolutions."""

    def __init__(self, read: int, written: int, depth: int) -> None:
        super().__init__()
        self.first = convolution(read, written)
        self.rest = nn.Sequential(*(convolution(written, written) for _ in range(depth - 1)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The features after the first convolution, and after the last."""
        first = self.first(x)
        return first, self.rest(first)


class Split(nn.Module):
    """One trunk whose last features all heads read: all parameters but the two convolutions of each head are shared.

    Args:
        channels: objective -> channels of its prediction.
    """

    def __init__(self, channels: Mapping[str, int]) -> None:
        super().__init__()
        self.trunk = SegNet()
        self.heads = heads(channels)
        self.apply(begin)

    def forward(self, images: Tensor, names: Sequence[str]) -> list[Tensor]:
        """Predictions for the objectives `names`, (N, channels, H, W) each, from images (N, 3, H, W) in 0..1."""
        return self.answers(self.features(images), names, images.shape[-2:])

    def features(self, images: Tensor) -> Tensor:
        """What all heads read, (N, 64, H, W)."""
        return cast("Features", self.trunk(images)).decoded[-1]

    def answers(self, features: Tensor, names: Sequence[str], size: Sequence[int]) -> list[Tensor]:
        """Predictions from `features`, which are of the images' `size`."""
        return [self.heads[name](features) for name in names]

    def shared(self) -> Iterable[tuple[str, nn.Parameter]]:
        """The trunk."""
        return self.trunk.named_parameters(prefix="trunk")


class MTAN(nn.Module):
    """One trunk, and for each objective masks that choose among its features, level by level (attention).

    Masks and heads belong to one objective each. The convolutions that carry masked features on to the next level are
    one set for all objectives, so they are shared, like the trunk. Some published runs count the masks among the shared
    parameters too, where the gradients of the other objectives are zero; here they belong to their objective.

    Args:
        channels: objective -> channels of its prediction.
    """

    def __init__(self, channels: Mapping[str, int]) -> None:
        super().__init__()
        self.trunk = SegNet()
        self.carriers = Carriers()
        self.masks = nn.ModuleDict({name: Masks() for name in channels})
        self.heads = heads(channels)
        self.apply(begin)

    def forward(self, images: Tensor, names: Sequence[str]) -> list[Tensor]:
        """Predictions for the objectives `names`, (N, channels, H, W) each, from images (N, 3, H, W) in 0..1."""
        features = self.trunk(images)
        return [self.heads[name](self._chosen(features, name)) for name in names]

    def _chosen(self, features: Features, name: str) -> Tensor:
        """What objective `name` keeps of the trunk's features, (N, 64, H, W)."""
        masks = cast("Masks", self.masks[name])
        carried: list[Tensor] = []
        for mask, carry, (first, last) in zip(masks.encoder, self.carriers.encoder, features.encoded, strict=True):
            kept = mask(torch.cat([first, *carried], dim=1)) * last
            carried = [pool(carry(kept))[0]]
        (x,) = carried
        levels = zip(masks.decoder, self.carriers.decoder, features.unpooled, features.decoded, strict=True)
        for mask, carry, unpooled, decoded in levels:
            size = unpooled.shape[-2:]
            enlarged = functional.interpolate(x, size=size, mode="bilinear", align_corners=True)
            x = mask(torch.cat([unpooled, carry(enlarged)], dim=1)) * decoded
        return x

    def shared(self) -> Iterable[tuple[str, nn.Parameter]]:
        """The trunk, and what carries masked features on."""
        yield from self.trunk.named_parameters(prefix="trunk")
        yield from self.carriers.named_parameters(prefix="carriers")


class Carriers(nn.Module):
    """What takes masked features from level to level: to the width of the next one."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(map(convolution, WIDTHS, (*WIDTHS[1:], WIDTHS[-1])))
        self.decoder = nn.ModuleList(map(convolution, reversed(WIDTHS), reversed(NARROWER)))


class Masks(nn.Module):
    """The masks of one objective; beyond the first level they read the trunk and what was carried there."""

    def __init__(self) -> None:
        super().__init__()
        read = (WIDTHS[0], *(2 * width for width in WIDTHS[1:]))
        self.encoder = nn.ModuleList(map(attention, read, WIDTHS))
        self.decoder = nn.ModuleList(
            attention(wide + narrow, narrow) for wide, narrow in zip(reversed(WIDTHS), reversed(NARROWER), strict=True)
        )


def convolution(read: int, written: int) -> nn.Sequential:
    """3 x 3, normalised and rectified, of the same height and width."""
    return nn.Sequential(nn.Conv2d(read, written, 3, padding=1), nn.BatchNorm2d(written), nn.ReLU(inplace=True))


def attention(read: int, written: int) -> nn.Sequential:
    """Two 1 x 1 convolutions whose result lies in 0..1."""
    return nn.Sequential(
        nn.Conv2d(read, written, 1),
        nn.BatchNorm2d(written),
        nn.ReLU(inplace=True),
        nn.Conv2d(written, written, 1),
        nn.BatchNorm2d(written),
        nn.Sigmoid(),
    )


def heads(channels: Mapping[str, int]) -> nn.ModuleDict:
    """For each objective a 3 x 3 and a 1 x 1 convolution with nothing between them."""
    width = NARROWER[0]
    return nn.ModuleDict(
        {
            name: nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, count, 1))
            for name, count in channels.items()
        }
    )


def pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """The maxima of 2 x 2 pixels, (N, C, ceil(H/2), ceil(W/2)), and the places where they were."""
    found: tuple[Tensor, Tensor] = functional.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
    return found


def begin(module: nn.Module) -> None:
    """Weights of convolutions as Glorot and Bengio (2010) draw them from normal distributions; no bias."""
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
