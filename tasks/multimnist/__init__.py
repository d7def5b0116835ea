"""Two overlaid images, of which the top-left and the bottom-right one are classified together (K = 2).

The construction, the network and the published protocol are those of Sener and Koltun, "Multi-Task Learning
as Multi-Objective Optimization", NeurIPS 2018; the validation split is that of Kurin et al., NeurIPS 2022.
Nothing is drawn while training: every split is composed once, from the protocol's `composition_seed`, and
held in memory as bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

import mtlbench
from mtlbench.catalogue.protocol import Protocol
from mtlbench.catalogue.task import Metric, Objective, Task

from .model import LeNet, as_input
from .options import options
from .preparing import prepare

MEAN, DEVIATION = 0.1307, 0.3081
"""Of MNIST's training pixels on a scale from 0 to 1; the published loaders use them for every variant."""

EVALUATION_BATCH = 500

METRICS = (
    Metric(name="accuracy", higher_is_better=True, unit="%"),
    Metric(name="nll", higher_is_better=False, unit="nats"),
)
"""Of either objective."""

Batch = tuple[Tensor, Tensor]
"""Images (N, 1, 28, 28) float32 and classes (N, 2) int64."""


@mtlbench.register_task("multimnist", paper="arXiv:1810.04650")
class MultiMNIST(Task):
    """Classify both of two overlaid images; one trunk, two heads.

    An epoch is a permutation of all training composites; the last batch holds what is left over, and may be
    smaller. The loss of an objective is the mean negative log-likelihood (nats) over the batch.
    """

    objectives = tuple(Objective(name, METRICS) for name in ("left", "right"))

    def __init__(self, variant: str, protocol: Protocol, data_root: Path | None, device: torch.device) -> None:
        self.options = options(protocol)
        self.batch_size = protocol.batch_size
        self.data = prepare(variant, self.options, data_root, device)
        self.data_digest = self.data.digest
        self.steps_per_epoch = -(-len(self.data.splits["train"].images) // self.batch_size)

    def model(self) -> torch.nn.Module:
        """A LeNet with PyTorch's default initialisation."""
        return LeNet(self.options.dropout)

    def shared(self, model: torch.nn.Module) -> Iterable[tuple[str, torch.nn.Parameter]]:
        """The parameters of the trunk, `encoder.*`."""
        return cast("LeNet", model).encoder.named_parameters(prefix="encoder")

    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[Batch]:
        """The batches of an epoch, in an order drawn from `generator`."""
        images, labels = self.data.splits["train"]
        order = torch.randperm(len(images), generator=generator, device=generator.device).to(images.device)
        for index in order.split(self.batch_size):
            # index_select copies whole rows; indexing with brackets takes 30 times as long.
            yield as_input(images.index_select(0, index), MEAN, DEVIATION), labels.index_select(0, index)

    def losses(self, model: torch.nn.Module, batch: Batch, objectives: Sequence[int]) -> list[Tensor]:
        """Mean negative log-likelihoods (nats), () each; the trunk runs once for all of `objectives`."""
        return self.losses_and_representation(model, batch, objectives)[0]

    def losses_and_representation(
        self, model: torch.nn.Module, batch: Batch, objectives: Sequence[int]
    ) -> tuple[list[Tensor], Tensor]:
        """The losses, and the features (N, 50) that both heads read."""
        (images, labels), net = batch, cast("LeNet", model)
        features = net.encoder(images)
        predictions = net.answers(features, [self.objectives[k].name for k in objectives])
        return [functional.nll_loss(p, labels[:, k]) for p, k in zip(predictions, objectives, strict=True)], features

    def evaluate(
        self, model: torch.nn.Module, split: str, objectives: Sequence[int]
    ) -> Mapping[str, Mapping[str, float]]:
        """Accuracy (percent) and mean negative log-likelihood (nats) over all composites of `split`."""
        images, labels = self.data.splits[split]
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
