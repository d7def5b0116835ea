"""NYUv2: semantic segmentation, depth and surface normals from one image of a room (K = 3).

The data of Silberman et al., ECCV 2012, with the 13 classes, the losses and the scores that the field compares methods
by, following Liu et al., CVPR 2019 (MTAN); and rendered rooms of the same kind, which need no download. One trunk, one
head for each objective. The losses are the cross entropy (nats) over labelled pixels, the absolute error (metres) over
measured ones, and one minus the cosine over pixels with a known normal, each a mean over the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

import mtlbench
from mtlbench.catalogue.protocol import Protocol
from mtlbench.catalogue.task import Estimate, Task

from . import losses as losses_
from . import metrics
from .augmentation import augment
from .baselines import baselines
from .metrics import Scores
from .models import build
from .options import options
from .preparing import prepare
from .views import NAMES, Batch

LOSSES = {"segmentation": losses_.segmentation, "depth": losses_.depth, "normal": losses_.normal}


@mtlbench.register_task("nyuv2", paper="Silberman et al., ECCV 2012; Liu et al., CVPR 2019, arXiv:1803.10704")
class NYUv2(Task):
    """Segmentation, depth and surface normals of rooms with one trunk.

    An epoch is a permutation of all training views; what is left over after the last whole batch is left out, since a
    batch of one view would upset batch normalisation.
    """

    objectives = metrics.objectives("whole")

    def __init__(self, variant: str, protocol: Protocol, data_root: Path | None, device: torch.device) -> None:
        self.options = o = options(protocol)
        self.objectives = metrics.objectives(o.scoring)
        self.batch_size = protocol.batch_size
        self.device = device
        with torch.device("meta"):  # first, since a package that it needs may be missing
            parameters = sum(p.numel() for p in build(o.trunk).parameters())
        self.data = d = prepare(variant, o, data_root)
        self.steps_per_epoch = max(1, len(d.splits["train"]) // self.batch_size)
        self.data_digest = d.digest
        self.notices = d.notices
        scored = baselines(d.splits["train"], d.splits["test"], o.scoring, o.scoring_batch)
        self.facts: Mapping[str, Any] = {"parameters": parameters, **d.facts, "baselines": scored}
        if o.trunk == "resnet50":
            self.packages = ("torchvision",)

    def model(self) -> torch.nn.Module:
        """The protocol's model."""
        return build(self.options.trunk, self.options.weights)

    def shared(self, model: torch.nn.Module) -> Iterable[tuple[str, torch.nn.Parameter]]:
        """The parameters of the trunk, as the model tells them."""
        return cast("Any", model).shared()

    def batches(self, epoch: int, generator: torch.Generator) -> Iterator[Batch]:
        """The batches of an epoch, augmented; order and augmentation are drawn from `generator`."""
        a, train = self.options.augmentation, self.data.splits["train"]
        order = torch.randperm(len(train), generator=generator, device=generator.device).tolist()
        for step in range(self.steps_per_epoch):
            chosen = order[step * self.batch_size : (step + 1) * self.batch_size]
            batch = self._moved(train.batch(chosen))
            yield augment(batch, a.scales, a.flip, generator, a.normals)

    def losses(self, model: torch.nn.Module, batch: Batch, objectives: Sequence[int]) -> list[Tensor]:
        """The losses, () each; the trunk runs once for all of `objectives`."""
        names = [NAMES[k] for k in objectives]
        return self._scored(model(batch.images, names), batch, names)

    @property
    def has_representation(self) -> bool:
        """Not with attention, where heads read every level, through parameters that they share."""
        return self.options.trunk != "segnet_mtan"

    def losses_and_representation(
        self, model: torch.nn.Module, batch: Batch, objectives: Sequence[int]
    ) -> tuple[list[Tensor], Tensor]:
        """The losses, and the last features of the trunk."""
        names, net = [NAMES[k] for k in objectives], cast("Any", model)
        features = net.features(batch.images)
        return self._scored(net.answers(features, names, batch.images.shape[-2:]), batch, names), features

    def _scored(self, predictions: Sequence[Tensor], batch: Batch, names: Sequence[str]) -> list[Tensor]:
        return [LOSSES[name](p, batch.truths[name]) for name, p in zip(names, predictions, strict=True)]

    def evaluate(
        self, model: torch.nn.Module, split: str, objectives: Sequence[int]
    ) -> Mapping[str, Mapping[str, float | Estimate]]:
        """The scores of `metrics` over all views of `split`."""
        names = [NAMES[k] for k in objectives]
        scores, views = Scores(names, self.options.scoring), self.data.splits[split]
        for start in range(0, len(views), self.options.scoring_batch):
            batch = self._moved(views.batch(range(start, min(start + self.options.scoring_batch, len(views)))))
            scores.update(model(batch.images, names), batch)
        return scores.result()

    def predictions(self, model: torch.nn.Module, split: str, objectives: Sequence[int]) -> Mapping[str, bytes]:
        """A figure for each objective, `OBJECTIVE.png`: images, truth and prediction of some views of `split`."""
        from .previews import SHOWN, preview  # matplotlib takes half a second, and few runs draw

        names = [NAMES[k] for k in objectives]
        views = self.data.splits[split]
        chosen = sorted({n * len(views) // SHOWN for n in range(SHOWN)})
        batch = self._moved(views.batch(chosen))
        predicted = zip(names, model(batch.images, names), strict=True)
        return {f"{name}.png": preview(name, batch, prediction) for name, prediction in predicted}

    def _moved(self, batch: Batch) -> Batch:
        return batch if self.device.type == "cpu" else Batch(*(t.to(self.device, non_blocking=True) for t in batch))
