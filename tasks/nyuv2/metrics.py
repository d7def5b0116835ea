"""The metrics of the three objectives, gathered batch by batch.

There are two conventions, for depth and normals. `whole`: every known pixel of the split counts the same, and the
median is the median of all of them. `batches`: every metric, the median too, is taken over the known pixels of a batch,
and the mean over batches reported, as in the code of Liu et al., "End-to-End Multi-Task Learning with Attention", CVPR
2019, and what descends from it; the numbers then depend on the size of batches. mIoU and pixel accuracy are those of
one confusion matrix over the split in both.

Only pixels with a known truth count. A prediction for one of them that is not finite makes the scores of its objective
NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtlbench.catalogue.task import Estimate, Metric, Objective
from mtlbench.errors import UsageError
from mtlbench.statistics import ratio_error

from .median import Median
from .views import CLASSES, IGNORED, Batch

Convention = Literal["whole", "batches"]
Values = dict[str, float | Estimate]
"""Of the metrics of one objective."""

WITHIN = (11.25, 22.5, 30.0)
"""Degrees: shares of pixels with a smaller angle than each are reported."""

_DEFINED: dict[Convention, str] = {
    "whole": "over all known pixels of the split",
    "batches": "mean over batches of the value over the known pixels of each",
}


def objectives(convention: Convention) -> tuple[Objective, ...]:
    """Segmentation, depth and normal with their metrics; tables do not mix conventions, by the signatures."""
    how = _DEFINED[convention]
    within = (Metric(name=f"within_{a:g}", higher_is_better=True, unit="%", signature=how) for a in WITHIN)
    return (
        Objective(
            "segmentation",
            (
                Metric(
                    name="miou",
                    higher_is_better=True,
                    unit="%",
                    signature="one confusion matrix over the split; mean over the classes in truth or prediction",
                ),
                Metric(name="pixel_accuracy", higher_is_better=True, unit="%"),
            ),
        ),
        Objective(
            "depth",
            (
                Metric(name="abs_err", higher_is_better=False, unit="m", signature=how),
                Metric(name="rel_err", higher_is_better=False, signature=how),
            ),
        ),
        Objective(
            "normal",
            (
                Metric(name="mean", higher_is_better=False, unit="deg", signature=how),
                Metric(name="median", higher_is_better=False, unit="deg", signature=how),
                *within,
            ),
        ),
    )


class Scores:
    """The scores of some objectives over a split.

    Args:
        names: of the objectives, in the order of the predictions.
        convention: of depth and normals.
    """

    def __init__(self, names: Sequence[str], convention: Convention = "whole") -> None:
        made: dict[str, _Score] = {
            "segmentation": Segmentation(),
            "depth": Depth(convention),
            "normal": Normal(convention),
        }
        self._scores = {name: made[name] for name in names}

    def update(self, predictions: Sequence[Tensor], batch: Batch) -> None:
        """Count a batch.

        Args:
            predictions: of the objectives, what the model answers, on any device.
            batch: the truth, on any device.
        """
        truth = batch.truths
        for (name, score), prediction in zip(self._scores.items(), predictions, strict=True):
            score.update(prediction.detach(), truth[name].to(prediction.device))

    def result(self) -> dict[str, Values]:
        """Objective -> metric -> value, in the order of the names.

        Values over the whole split are `Estimate`s, their errors those that the choice of images leaves, where it can
        be said.

        Raises:
            UsageError: the split has no pixel with a known truth of one of the objectives.
        """
        return {name: score.result() for name, score in self._scores.items()}


class _Score(Protocol):
    def update(self, prediction: Tensor, truth: Tensor) -> None: ...

    def result(self) -> Values: ...


class Segmentation:
    """mIoU and pixel accuracy, in percent.

    mIoU is the mean over classes of `TP / (TP + FP + FN)`; a class that neither truth nor predictions have is left out
    of the mean, and one that only predictions have counts as 0.
    """

    def __init__(self) -> None:
        self._confusions: list[NDArray[np.int64]] = []
        self._finite = True

    def update(self, prediction: Tensor, truth: Tensor) -> None:
        """Count a batch: logits (N, 13, H, W), labels (N, H, W)."""
        counted = truth != IGNORED
        self._finite &= bool((prediction.sum(1, dtype=torch.float32).isfinite() | ~counted).all())
        n, k = len(truth), len(CLASSES)
        images = torch.arange(n, device=truth.device)[:, None, None].expand_as(truth)
        places = (images * k + truth) * k + prediction.max(1).indices  # argmax is four times slower here
        confusions = torch.bincount(places[counted], minlength=n * k * k).reshape(n, k, k)
        self._confusions.append(confusions.cpu().numpy())

    def result(self) -> Values:
        """Both metrics; the error of mIoU is the jackknife's over images."""
        images = np.concatenate(self._confusions)
        pixels = images.sum((1, 2))
        if not pixels.sum():
            raise _nothing("label")
        if not self._finite:
            return {name: Estimate(math.nan, None, len(images)) for name in ("miou", "pixel_accuracy")}
        right = np.trace(images, axis1=1, axis2=2)
        accuracy = 100 * float(right.sum() / pixels.sum())
        return {
            "miou": Estimate(float(_miou(images.sum(0))), _jackknife(images), len(images)),
            "pixel_accuracy": Estimate(accuracy, ratio_error(100 * right, pixels), len(images)),
        }


class Depth:
    """Absolute error in metres, and relative to the true depth as a fraction: means over measured pixels."""

    def __init__(self, convention: Convention) -> None:
        self._convention: Convention = convention
        self._batches: list[NDArray[np.float64]] = []

    def update(self, prediction: Tensor, truth: Tensor) -> None:
        """Count a batch: depths in metres, (N, 1, H, W) and (N, H, W)."""
        measured = truth > 0
        true = torch.where(measured, truth, 1).double()
        error = torch.where(measured, (prediction[:, 0] - true).abs(), 0)
        self._batches.append(_sums([measured, error, error / true]))

    def result(self) -> Values:
        """Both metrics."""
        absolute, relative = _means(self._batches, self._convention, "depth")
        return {"abs_err": absolute, "rel_err": relative}


class Normal:
    """Angles between predicted and true normals, in degrees: mean, median, and percent below each of `WITHIN`.

    A prediction of (0, 0, 0) has no direction and counts as 90 degrees off. Angles are rounded to float32 before they
    are compared: one of exactly 30 degrees is not within 30.
    """

    def __init__(self, convention: Convention) -> None:
        self._convention: Convention = convention
        self._batches: list[NDArray[np.float64]] = []
        self._median = Median()
        self._medians: list[float] = []

    def update(self, prediction: Tensor, truth: Tensor) -> None:
        """Count a batch: (N, 3, H, W) both, predictions of any length."""
        known = (truth != 0).any(1)
        angles = torch.where(known, angle(prediction, truth), 0)
        shares = [torch.where(angles.isnan(), angles, 100.0 * ((angles < limit) & known)) for limit in WITHIN]
        self._batches.append(_sums([known, angles, *shares]))
        median = self._median if self._convention == "whole" else Median()
        median.add(angles[known].cpu().numpy())
        if self._convention == "batches" and bool(known.any()):
            self._medians.append(median.result())

    def result(self) -> Values:
        """All metrics; the error of the median is not told."""
        mean, *within = _means(self._batches, self._convention, "normal")
        if self._convention == "whole":
            images = sum(map(len, self._batches))
            median: float | Estimate = Estimate(self._median.result(), None, images)
        else:
            median = float(np.mean(self._medians))
        return {"mean": mean, "median": median, **{f"within_{a:g}": w for a, w in zip(WITHIN, within, strict=True)}}


def angle(first: Tensor, second: Tensor) -> Tensor:
    """The angles between vectors of any length, in degrees.

    By both sine and cosine: the arc cosine alone is off by 0.02 degrees near 0 in float32, and more.

    Args:
        first: (N, 3, ...); those of length 0 are 90 degrees from everything, those that are not finite NaN.
        second: (N, 3, ...), not 0.

    Returns:
        (N, ...) float32, 0 to 180.
    """
    (x, y, z), (u, v, w) = first.double().unbind(1), second.double().unbind(1)
    sine = ((y * w - z * v).square() + (z * u - x * w).square() + (x * v - y * u).square()).sqrt()
    degrees = torch.atan2(sine, x * u + y * v + z * w).rad2deg()
    squared = x.square() + y.square() + z.square()
    degrees = torch.where(squared == 0, 90, degrees)
    return torch.where(squared.isfinite(), degrees, torch.nan).float()


def _miou(confusions: NDArray[np.int64]) -> NDArray[np.float64]:
    """Percent, (...), of confusion matrices (..., truth, prediction)."""
    right = np.diagonal(confusions, axis1=-2, axis2=-1)
    union = confusions.sum(-1) + confusions.sum(-2) - right
    occurs = union > 0
    return np.asarray(100 * (right / np.maximum(union, 1)).sum(-1) / occurs.sum(-1))


def _jackknife(images: NDArray[np.int64]) -> float | None:
    """The standard error of mIoU from leaving out image by image; None where nothing is left without one of them."""
    n, without = len(images), images.sum(0) - images
    if not without.any((1, 2)).all():
        return None
    values = _miou(without)
    return math.sqrt((n - 1) / n * float(((values - values.mean()) ** 2).sum()))


def _sums(values: Sequence[Tensor]) -> NDArray[np.float64]:
    """(N, M): the sum over each image of M times (N, H, W)."""
    return torch.stack([v.flatten(1).sum(1, dtype=torch.float64) for v in values], dim=1).cpu().numpy()


def _means(batches: Sequence[NDArray[np.float64]], convention: Convention, what: str) -> list[float | Estimate]:
    """The means over pixels of some quantities.

    Args:
        batches: (N, 1 + M) each: of every image how many pixels are counted, and the sums over them.
        convention: batches without counted pixels have no mean, and are left out.
        what: has no known pixel where there is none.
    """
    images = np.concatenate(batches)
    count, sums = images[:, 0], images[:, 1:].T
    if not count.sum():
        raise _nothing(what)
    if convention == "whole":
        return [Estimate(float(s.sum() / count.sum()), ratio_error(s, count), len(images)) for s in sums]
    totals = np.array([batch.sum(0) for batch in batches if batch[:, 0].any()])
    means: list[float | Estimate] = (totals[:, 1:] / totals[:, :1]).mean(0).tolist()
    return means


def _nothing(what: str) -> UsageError:
    return UsageError(f"No image of the split has a pixel with a known {what}, so there is nothing to score.")
