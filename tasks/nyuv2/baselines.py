"""What is scored without a model: the same answer for every view, from the training views."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mtlbench.catalogue.task import Estimate

from .metrics import Convention, Scores
from .views import CLASSES, Views

OBJECTIVES = ("segmentation", "depth", "normal")
ROWS = 8
"""Rows of pixels that are looked at together, of all training views."""


def baselines(train: Views, test: Views, scoring: Convention, batch: int) -> dict[str, dict[str, dict[str, float]]]:
    """Objective -> name -> metric -> score on `test` of two answers learnt from `train`.

    `constant`: everywhere the most frequent class, the median depth and the mean direction of the normals.
    `by place`: the same at each pixel of the image, over the training views.
    """
    by_place = _by_place(train)
    answers = {"constant": _everywhere(train, by_place), "by place": by_place}
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in OBJECTIVES}
    for name, answer in answers.items():
        scores = Scores(OBJECTIVES, scoring)
        for start in range(0, len(test), batch):
            views = test.batch(range(start, min(start + batch, len(test))))
            scores.update([answer[o].expand(len(views.images), -1, -1, -1) for o in OBJECTIVES], views)
        for objective, by_metric in scores.result().items():
            found[objective][name] = {m: _value(s) for m, s in by_metric.items()}
    return found


def _value(score: float | Estimate) -> float:
    return score.value if isinstance(score, Estimate) else score


def _by_place(train: Views) -> dict[str, Tensor]:
    """Predictions (1, C, H, W) of each objective, pixel by pixel."""
    height, width = train.size
    classes = np.zeros((height, width), np.int64)
    depth = np.zeros((height, width), np.float32)
    normal = np.zeros((3, height, width), np.float32)
    for top in range(0, height, ROWS):
        rows = slice(top, top + ROWS)
        labels = np.stack([view[rows] for view in train.labels])
        classes[rows] = np.stack([(labels == c).sum(0) for c in range(len(CLASSES))]).argmax(0)
        depth[rows] = _median(np.stack([view[rows] for view in train.depths]))
        normal[:, rows] = np.sum([view[:, rows] for view in train.normals], axis=0, dtype=np.float32)
    return _predictions(classes, depth, normal)


def _everywhere(train: Views, by_place: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same for every pixel."""
    height, width = train.size
    counts = np.sum([np.bincount(v[v >= 0].ravel(), minlength=len(CLASSES)) for v in train.labels], axis=0)
    measured = np.concatenate([view[view > 0] for view in train.depths])
    depth = np.full((height, width), np.median(measured) if measured.size else 0, np.float32)
    direction = by_place["normal"].mean((0, 2, 3)).numpy()
    normal = np.broadcast_to(direction[:, None, None], (3, height, width)).astype(np.float32)
    return _predictions(np.full((height, width), counts.argmax()), depth, normal)


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
