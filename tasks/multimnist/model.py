"""The two-headed LeNet of MultiMNIST, in its published shapes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class Encoder(nn.Module):
    """The shared trunk: (N, 1, 28, 28) -> (N, 50)."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=5)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
        self.dropout = nn.Dropout2d(dropout)
        self.fc = nn.Linear(320, 50)

    def forward(self, images: Tensor) -> Tensor:
        """The features that every head reads."""
        x = functional.relu(functional.max_pool2d(self.conv1(images), 2))
        # Published before the pooling. Dropping a whole channel commutes with the maximum over its pixels
        # and with relu (the kept ones are scaled by a positive number), and is a quarter of the work here.
        x = self.dropout(functional.relu(functional.max_pool2d(self.conv2(x), 2)))
        return functional.relu(self.fc(x.flatten(1)))


class Head(nn.Module):
    """What one objective has for itself: (N, 50) -> (N, 10) log-probabilities."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(50, 50)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, features: Tensor) -> Tensor:
        """Log-probabilities of the ten classes."""
        return functional.log_softmax(self.fc2(self.dropout(functional.relu(self.fc1(features)))), dim=1)


class LeNet(nn.Module):
    """One trunk and two heads, `left` and `right` (Sener and Koltun, NeurIPS 2018, MultiMNIST).

    The trunk runs once a step, so both objectives see the same channel mask, which is drawn anew for every
    image and step. A model trained on one objective draws its own.

    Args:
        dropout: probability of dropping a channel after the second convolution, and a hidden unit of a head.
    """

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        self.encoder = Encoder(dropout)
        self.heads = nn.ModuleDict({"left": Head(dropout), "right": Head(dropout)})

    def forward(self, images: Tensor, objectives: Sequence[str] = ("left", "right")) -> list[Tensor]:
        """Log-probabilities, (N, 10) for each of `objectives`, from images (N, 1, 28, 28)."""
        return self.answers(self.encoder(images), objectives)

    def answers(self, features: Tensor, objectives: Sequence[str]) -> list[Tensor]:
        """The same from the features (N, 50) of the encoder."""
        return [self.heads[name](features) for name in objectives]


def as_input(images: Tensor, mean: float, deviation: float) -> Tensor:
    """Images (N, 28, 28) uint8 as network input, (N, 1, 28, 28) float32: (pixel / 255 - mean) / deviation.

    The channel's stride is 1: the same numbers, in the order that makes the convolutions a third faster on
    CPUs, without touching the layout of the parameters.
    """
    scaled = images.to(torch.float32).mul_(1 / (255 * deviation)).sub_(mean / deviation)
    return scaled.unsqueeze(-1).permute(0, 3, 1, 2)
