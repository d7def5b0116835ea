"""Two overlaid images, of which the top-left and the bottom-right one are classified together (K = 2).

The construction, the network and the published protocol are those of Sener and Koltun, "Multi-Task Learning
as Multi-Objective Optimization", NeurIPS 2018; the validation split is that of Kurin et al., NeurIPS 2022.
Nothing is drawn while training: every split is composed once, from the protocol's `composition_seed`, and
held in memory as bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import pydantic
import torch
from torch import Tensor
from torch.nn import functional

import mtlbench
from mtlbench.catalogue import data
from mtlbench.catalogue.protocol import Protocol
from mtlbench.catalogue.task import Metric, Objective, Task
from mtlbench.errors import UsageError, unknown
from mtlbench.strict import Strict, refused

from .compose import Composites, compose
from .model import LeNet, as_input
from .sources import SPLITS, Sources, digits, idx_sources, official_split

MEAN, DEVIATION = 0.1307, 0.3081
"""Of MNIST's training pixels on a scale from 0 to 1; the published loaders use them for every variant."""

EVALUATION_BATCH = 500

SOURCES = {
    "digits": ("digits", "digits"),
    "mnist": ("mnist", "mnist"),
    "fashion": ("fashion", "fashion"),
    "fashion_and_mnist": ("fashion", "mnist"),
}
"""Where each variant takes its top-left and its bottom-right images from."""

METRICS = (
    Metric(name="accuracy", higher_is_better=True, unit="%"),
    Metric(name="nll", higher_is_better=False, unit="nats"),
)
"""Of either objective."""

Batch = tuple[Tensor, Tensor]
"""Images (N, 1, 28, 28) float32 and classes (N, 2) int64."""


class Options(Strict):
    """What the task reads from a protocol's `options`."""

    composition_seed: Annotated[int, pydantic.Field(ge=0, lt=2**32)]
    """Fixes which images meet, and the split of the embedded digits; never the seed of a run."""
    composites_per_image: dict[str, Annotated[int, pydantic.Field(ge=1)]]
    """For train, val and test: how many composites each top-left source image is part of."""
    dropout: Annotated[float, pydantic.Field(ge=0, lt=1)]


@mtlbench.register_task("multimnist", paper="arXiv:1810.04650")
class MultiMNIST(Task):
    """Classify both of two overlaid images; one trunk, two heads.

    An epoch is a permutation of all training composites; the last batch holds what is left over, and may be
    smaller. The loss of an objective is the mean negative log-likelihood (nats) over the batch.
    """

    objectives = tuple(Objective(name, METRICS) for name in ("left", "right"))

    def __init__(self, variant: str, protocol: Protocol, data_root: Path | None, device: torch.device) -> None:
        if variant not in SOURCES:
            raise unknown("variant of multimnist:", variant, SOURCES)
        self.options = _options(protocol)
        self.batch_size = protocol.batch_size
        composites = composed(variant, self.options, data_root)
        self.data_digest = _digest(composites)
        self._images = {split: torch.from_numpy(c.images).to(device) for split, c in composites.items()}
        self._labels = {split: torch.from_numpy(c.labels).to(device) for split, c in composites.items()}
        self.steps_per_epoch = -(-len(self._images["train"]) // self.batch_size)

    def model(self) -> torch.nn.Module:
        """A LeNet with PyTorch's default initialisation."""
        return LeNet(self.options.dropout)

    def shared(self, model: torch.nn.Module) -> Iterable[tuple[str, torch.nn.Parameter]]:
        """The parameters of the trunk, `encoder.*`."""
        return cast("LeNet", model).encoder.named_parameters(prefix="encoder")

    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[Batch]:
        """The batches of an epoch, in an order drawn from `generator`."""
        images, labels = self._images["train"], self._labels["train"]
        order = torch.randperm(len(images), generator=generator, device=generator.device).to(images.device)
        for index in order.split(self.batch_size):
            # index_select copies whole rows; indexing with brackets takes 30 times as long.
            yield as_input(images.index_select(0, index), MEAN, DEVIATION), labels.index_select(0, index)

    def losses(self, model: torch.nn.Module, batch: Batch, objectives: Sequence[int]) -> list[Tensor]:
        """Mean negative log-likelihoods (nats), () each; the trunk runs once for all of `objectives`."""
        images, labels = batch
        predictions = cast("LeNet", model)(images, [self.objectives[k].name for k in objectives])
        return [functional.nll_loss(p, labels[:, k]) for p, k in zip(predictions, objectives, strict=True)]

    def evaluate(
        self, model: torch.nn.Module, split: str, objectives: Sequence[int]
    ) -> Mapping[str, Mapping[str, float]]:
        """Accuracy (percent) and mean negative log-likelihood (nats) over all composites of `split`."""
        images, labels = self._images[split], self._labels[split]
        names = [self.objectives[k].name for k in objectives]
        correct = torch.zeros(len(names), dtype=torch.int64, device=images.device)
        nll = torch.zeros(len(names), dtype=torch.float64, device=images.device)
        for part, truth in zip(images.split(EVALUATION_BATCH), labels.split(EVALUATION_BATCH), strict=True):
            predictions = cast("LeNet", model)(as_input(part, MEAN, DEVIATION), names)
            for row, (prediction, k) in enumerate(zip(predictions, objectives, strict=True)):
                correct[row] += (prediction.argmax(1) == truth[:, k]).sum()
                nll[row] += functional.nll_loss(prediction, truth[:, k], reduction="sum")
        accuracy = (100.0 * correct.double() / len(images)).tolist()
        mean = (nll / len(images)).tolist()
        return {n: {"accuracy": a, "nll": m} for n, a, m in zip(names, accuracy, mean, strict=True)}


def composed(variant: str, options: Options, data_root: Path | None) -> dict[str, Composites]:
    """The composites of every split of `variant`; both images of one come from the same split.

    Raises:
        DataMissing: a file of the variant's data sets is not below `data_root`.
        UsageError: a file is damaged.
    """
    left_name, right_name = SOURCES[variant]
    left = _sources(left_name, variant, options, data_root)
    right = left if right_name == left_name else _sources(right_name, variant, options, data_root)
    seeds = {split: [options.composition_seed, index] for index, split in enumerate(SPLITS)}
    return {
        split: compose(
            left[split],
            right[split],
            options.composites_per_image[split],
            # Frozen by NumPy (NEP 19): the same composites under every version.
            np.random.RandomState(seeds[split]),
        )
        for split in SPLITS
    }


def _sources(name: str, variant: str, options: Options, data_root: Path | None) -> dict[str, Sources]:
    if name == "digits":
        return digits(options.composition_seed)
    dataset = data.datasets("multimnist")[name]

    def pair(part: str) -> Sources:
        files = (f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz")
        return idx_sources(*(data.locate(dataset, f, data_root, f"multimnist/{variant}") for f in files))

    return official_split(pair("train"), pair("t10k"))


def _options(protocol: Protocol) -> Options:
    try:
        options = Options.model_validate(protocol.options)
    except pydantic.ValidationError as error:
        raise refused(error, "protocol.options.") from error
    if set(options.composites_per_image) != set(SPLITS):
        raise UsageError(f"protocol.options.composites_per_image needs one number for each of {', '.join(SPLITS)}.")
    return options


def _digest(composites: Mapping[str, Composites]) -> str:
    digest = hashlib.sha256()
    for split, (images, labels) in composites.items():
        digest.update(f"{split}{images.shape}".encode())
        digest.update(images.tobytes())
        digest.update(labels.astype("<i8").tobytes())
    return digest.hexdigest()
