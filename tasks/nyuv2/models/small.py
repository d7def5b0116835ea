"""A small encoder-decoder that trains on one core: skip connections, image-wide context, two convolutions per head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (16, 32, 64, 128)
"""Channels of the encoder at 1/2, 1/4, 1/8 and 1/16 of the image."""
DECODED = 48
"""Channels of the decoder."""
INNER = 32
"""Channels between the two convolutions of a head."""
FINER = 2
"""How many places a head predicts, in each direction, at one place of the decoder."""
DILATIONS = (1, 2)
"""Of the blocks at 1/16, so that a place there sees most of an image of 96 x 128."""


class SmallNet(nn.Module):
    """A shared encoder-decoder, and a head for each objective, predicting at half the size of the image.

    Convolutions at 1/1 and 1/2 would be most of the work, so the decoder ends at 1/4, where heads predict four pixels
    of 1/2 at once (sub-pixel convolution: Shi et al., CVPR 2016); the rest is bilinear. Sizes of images need not be
    multiples of anything.

    Args:
        channels: objective -> channels of its prediction.
    """

    def __init__(self, channels: dict[str, int]) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.heads = nn.ModuleDict({name: _head(count) for name, count in channels.items()})

    def forward(self, images: Tensor, names: Sequence[str]) -> list[Tensor]:
        """Predictions for the objectives `names`, (N, channels, H, W) each, from images (N, 3, H, W) in 0..1."""
        return self.answers(self.features(images), names, images.shape[-2:])

    def features(self, images: Tensor) -> Tensor:
        """What all heads read, (N, 48, H/4, W/4)."""
        found: Tensor = self.decoder(self.encoder(_as_input(images)))
        return found

    def answers(self, features: Tensor, names: Sequence[str], size: Sequence[int]) -> list[Tensor]:
        """Predictions from `features`, of images of (H, W) = `size`."""
        halves = (functional.pixel_shuffle(self.heads[name](features), FINER) for name in names)
        return [functional.interpolate(half, size=list(size), mode="bilinear", align_corners=False) for half in halves]

    def shared(self) -> Iterable[tuple[str, nn.Parameter]]:
        """Encoder and decoder."""
        yield from self.encoder.named_parameters(prefix="encoder")
        yield from self.decoder.named_parameters(prefix="decoder")


class Encoder(nn.Module):
    """Images -> features at 1/4, 1/8 and 1/16, the last with the mean over the image added."""

    def __init__(self) -> None:
        super().__init__()
        stem, quarter, eighth, sixteenth = WIDTHS
        self.stem = _block(3, stem, stride=2)
        self.quarter = nn.Sequential(_block(stem, quarter, stride=2), Residual(quarter))
        self.eighth = nn.Sequential(_block(quarter, eighth, stride=2), Residual(eighth))
        self.sixteenth = nn.Sequential(
            _block(eighth, sixteenth, stride=2), *(Residual(sixteenth, dilation) for dilation in DILATIONS)
        )
        self.whole = nn.Linear(sixteenth, sixteenth)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features from fine to coarse."""
        quarter = self.quarter(self.stem(images))
        eighth = self.eighth(quarter)
        coarse = self.sixteenth(eighth)
        # No normalisation: a mean over the image has one number per image and channel, too few for statistics.
        return [quarter, eighth, coarse + self.whole(coarse.mean(dim=(2, 3)))[:, :, None, None]]


class Decoder(nn.Module):
    """Features at 1/16, 1/8 and 1/4 -> (N, 48, H/4, W/4), from coarse to fine."""

    def __init__(self) -> None:
        super().__init__()
        _, quarter, eighth, sixteenth = WIDTHS
        self.sixteenth = nn.Conv2d(sixteenth, DECODED, 1)
        self.eighth = Joint(eighth)
        self.quarter = Joint(quarter)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """What the heads read, from `features` in the order of the encoder."""
        quarter, eighth, sixteenth = features
        return self.quarter(self.eighth(self.sixteenth(sixteenth), eighth), quarter)


class Joint(nn.Module):
    """Coarse features, enlarged, and fine ones of `width` channels, added and convolved."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lateral = nn.Conv2d(width, DECODED, 1)
        self.fusion = _block(DECODED, DECODED)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(N, 48, h, w) from (N, 48, any, any) and (N, width, h, w)."""
        larger = functional.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        return self.fusion(larger + self.lateral(fine))


class Residual(nn.Module):
    """Two convolutions whose result is added to their input."""

    def __init__(self, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.first = _block(width, width, dilation=dilation)
        self.second = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape as `x`."""
        return functional.relu(x + self.norm(self.second(self.first(x))))


def _block(read: int, written: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(read, written, 3, stride, padding=dilation, dilation=dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(written), nn.ReLU(inplace=True))


def _head(channels: int) -> nn.Sequential:
    last = nn.Conv2d(INNER, channels * FINER**2, 1)
    with torch.no_grad():
        # The pixels that one place predicts begin alike, or a checkerboard stays (Aitken et al., arXiv:1707.02937).
        for values in last.parameters():
            values.copy_(values[:: FINER**2].repeat_interleave(FINER**2, dim=0))
    return nn.Sequential(_block(DECODED, INNER), last)


def _as_input(images: Tensor) -> Tensor:
    """Pixels of 0..1 about zero, with the channels innermost in memory, which convolutions on CPUs are faster with."""
    return (images * 4 - 2).contiguous(memory_format=torch.channels_last)
