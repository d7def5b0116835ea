"""What is scored without a model: the same answer for every view, from the training views."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mtlbench.catalogue.task import Estimate

from .metrics import Convention, Scores
from .views import CLASSES, IGNORED, NAMES, Views

MOST = 400
"""Training views that are looked at; of more, so many, spread evenly."""
ROWS = 8
"""Rows of pixels whose medians are taken at a time."""


def baselines(train: Views, test: Views, scoring: Convention, batch: int) -> dict[str, dict[str, dict[str, float]]]:
    """Objective -> name -> metric -> score on `test` of two answers learnt from `train`, or from `MOST` views of it.

    `constant`: everywhere the most frequent class, the median depth and the mean direction of the normals.
    `by place`: the same at each pixel of the image, over the training views.
    """
    chosen = range(len(train)) if len(train) <= MOST else [n * len(train) // MOST for n in range(MOST)]
    labels = np.stack([train.labels[n] for n in chosen])
    depths = np.stack([train.depths[n] for n in chosen])
    direction = np.asarray(np.sum([train.normals[n] for n in chosen], axis=0, dtype=np.float32))
    answers = {
        "constant": _everywhere(labels, depths, direction),
        "by place": _by_place(labels, depths, direction),
    }
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in NAMES}
    for name, answer in answers.items():
        scores = Scores(NAMES, scoring)
        for start in range(0, len(test), batch):
            views = test.batch(range(start, min(start + batch, len(test))))
            scores.update([answer[o].expand(len(views.images), -1, -1, -1) for o in NAMES], views)
        for objective, by_metric in scores.result().items():
            found[objective][name] = {m: _value(s) for m, s in by_metric.items()}
    return found


def _value(score: float | Estimate) -> float:
    return score.value if isinstance(score, Estimate) else score


def _by_place(
    labels: NDArray[np.int8], depths: NDArray[np.float32], direction: NDArray[np.float32]
) -> dict[str, Tensor]:
    """Predictions (1, C, H, W) of each objective, pixel by pixel."""
    classes = np.stack([(labels == c).sum(0) for c in range(len(CLASSES))]).argmax(0)
    depth = np.concatenate([_median(depths[:, top : top + ROWS]) for top in range(0, depths.shape[1], ROWS)])
    return _predictions(classes, depth, direction)


def _everywhere(
    labels: NDArray[np.int8], depths: NDArray[np.float32], direction: NDArray[np.float32]
) -> dict[str, Tensor]:
    """The same for every pixel."""
    counts = np.bincount(labels[labels != IGNORED], minlength=len(CLASSES))
    measured = depths[depths > 0]
    middle = np.median(measured) if measured.size else 0
    size = labels.shape[1:]
    mean = np.broadcast_to(direction.mean((1, 2), keepdims=True), direction.shape).astype(np.float32)
    return _predictions(np.full(size, counts.argmax()), np.full(size, middle, np.float32), mean)


def _median(depths: NDArray[np.float32]) -> NDArray[np.float32]:
    """The median over views of the measured depths of each pixel, over all of them where a pixel has none."""
    known = np.where(depths > 0, depths, np.nan)
    empty = np.isnan(known).all(0)
    known[:, empty] = np.nanmedian(known) if not empty.all() else 0
    return np.asarray(np.nanmedian(known, axis=0), dtype=np.float32)


def _predictions(
    classes: NDArray[np.int64], depth: NDArray[np.float32], normal: NDArray[np.float32]
) -> dict[str, Tensor]:
    chosen = functional.one_hot(torch.from_numpy(classes.astype(np.int64)), len(CLASSES)).permute(2, 0, 1)[None].float()
    return {
        "segmentation": chosen,
        "depth": torch.from_numpy(depth)[None, None],
        "normal": torch.from_numpy(normal)[None],
    }
