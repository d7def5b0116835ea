"""Two digits side by side, a trunk and two heads; the loss of either may be multiplied by a number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, NamedTuple, cast

import numpy as np
import pydantic
import torch
from torch import Tensor, nn
from torch.nn import functional

from mtlbench.catalogue.protocol import Protocol
from mtlbench.catalogue.task import Metric, Objective
from mtlbench.strict import Strict

from .problem import Count, Problem, Seed, options_of

NAMES = ("left", "right")
METRICS = (
    Metric(name="accuracy", higher_is_better=True, unit="%"),
    Metric(name="nll", higher_is_better=False, unit="nats"),
)
PIXELS = 2 * 8 * 8
CLASSES = 10
MEAN = 0.3
"""About that of the pixels, on a scale from 0 to 1."""

Batch = tuple[Tensor, Tensor]
"""Pairs (N, 128) float32 and classes (N, 2) int64."""

Scale = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]


class Options(Strict):
    """Composition, network, and what the losses are multiplied by."""

    composition_seed: Seed
    """Fixes the splits and which digits meet; never the seed of a run."""
    pairs_per_digit: Count
    """How many pairs each digit is the left one of."""
    widths: Annotated[tuple[Count, ...], pydantic.Field(min_length=1)]
    """Of the trunk's layers."""
    left_scale: Scale
    right_scale: Scale


class Pairs(NamedTuple):
    """One split: (N, 128) float32, rows of both digits side by side, and the classes (left, right), (N, 2) int64."""

    images: Tensor
    labels: Tensor


class Network(nn.Module):
    """Layers for both digits, and a linear head for each: (N, 128) -> (N, 10) logits."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        layers = [nn.Linear(before, after) for before, after in pairwise((PIXELS, *widths))]
        self.trunk = nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())))
        self.heads = nn.ModuleDict({name: nn.Linear(widths[-1], CLASSES) for name in NAMES})

    def forward(self, images: Tensor, objectives: Sequence[int]) -> list[Tensor]:
        """Logits, (N, 10) for each of `objectives`; the trunk runs once."""
        return self.answers(self.trunk(images), objectives)

    def answers(self, features: Tensor, objectives: Sequence[int]) -> list[Tensor]:
        """The same from the features of the trunk."""
        return [self.heads[NAMES[k]](features) for k in objectives]


class Digits(Problem):
    """The class of the left and that of the right digit (K = 2), from scikit-learn's 1,797 images of 8 x 8."""

    objectives = tuple(Objective(name, METRICS) for name in NAMES)

    def __init__(self, protocol: Protocol, device: torch.device) -> None:
        self.options = options_of(protocol, Options)
        self.batch_size = protocol.batch_size
        self.scales = (self.options.left_scale, self.options.right_scale)
        made = compose(self.options)
        self.digest = _digest(made)
        self.splits = {name: Pairs(pairs.images.to(device), pairs.labels.to(device)) for name, pairs in made.items()}
        self.steps_per_epoch = -(-len(self.splits["train"].images) // self.batch_size)

    def model(self) -> nn.Module:
        """With PyTorch's default initialisation."""
        return Network(self.options.widths)

    def batches(self, generator: torch.Generator) -> Iterator[Batch]:
        """A permutation of all training pairs; the last batch may be smaller."""
        images, labels = self.splits["train"]
        order = torch.randperm(len(images), generator=generator, device=generator.device).to(images.device)
        for index in order.split(self.batch_size):
            yield images.index_select(0, index), labels.index_select(0, index)

    def losses(self, model: nn.Module, batch: Batch, objectives: Sequence[int]) -> list[Tensor]:
        """Mean cross-entropies (nats), each times its scale."""
        return self.losses_and_features(model, batch, objectives)[0]

    def losses_and_features(
        self, model: nn.Module, batch: Batch, objectives: Sequence[int]
    ) -> tuple[list[Tensor], Tensor]:
        """The same, with the features that both heads read."""
        (images, labels), net = batch, cast("Network", model)
        features = net.trunk(images)
        logits = zip(net.answers(features, objectives), objectives, strict=True)
        return [self.scales[k] * functional.cross_entropy(z, labels[:, k]) for z, k in logits], features

    def evaluate(self, model: nn.Module, split: str, objectives: Sequence[int]) -> Mapping[str, Mapping[str, float]]:
        """Accuracy (percent) and mean cross-entropy (nats, not scaled) over all pairs of `split`."""
        images, labels = self.splits[split]
        found = {}
        for logits, k in zip(cast("Network", model)(images, objectives), objectives, strict=True):
            right = (logits.argmax(1) == labels[:, k]).double().mean()
            nll = functional.cross_entropy(logits.double(), labels[:, k])
            found[NAMES[k]] = {"accuracy": 100.0 * right.item(), "nll": nll.item()}
        return found


def compose(options: Options) -> dict[str, Pairs]:
    """Train, val and test, of 1,197, 300 and 300 digits: no image is in two splits, and both of a pair are of one."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    # RandomState's streams are frozen by NumPy (NEP 19), so that the data are the same under every version.
    order = np.random.RandomState(options.composition_seed).permutation(len(loaded.target))
    splits = {"train": order[600:], "val": order[:300], "test": order[300:600]}
    made = {}
    for number, (name, chosen) in enumerate(splits.items()):
        left = np.repeat(chosen, options.pairs_per_digit)
        right = chosen[np.random.RandomState([options.composition_seed, number]).randint(len(chosen), size=len(left))]
        images = np.concatenate([loaded.images[left], loaded.images[right]], axis=2).reshape(len(left), PIXELS)
        labels = np.stack([loaded.target[left], loaded.target[right]], axis=1)
        made[name] = Pairs(torch.from_numpy(images / 16 - MEAN).float(), torch.from_numpy(labels.astype(np.int64)))
    return made


def _digest(splits: Mapping[str, Pairs]) -> str:
    digest = hashlib.sha256()
    for name, (images, labels) in splits.items():
        digest.update(f"{name}{tuple(images.shape)}".encode())
        digest.update(images.numpy().astype("<f4").tobytes())
        digest.update(labels.numpy().astype("<i8").tobytes())
    return digest.hexdigest()
