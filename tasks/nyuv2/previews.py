"""Figures that show to a person what a model sees in a few views: image, truth and prediction side by side."""

from __future__ import annotations

import io

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .views import CLASSES, IGNORED, Batch

SHOWN = 6
"""Views of a figure."""
PALETTE = matplotlib.colormaps["tab20"](np.arange(len(CLASSES)))[:, :3]
UNKNOWN = (0.0, 0.0, 0.0)
"""The colour of pixels without a truth."""


def preview(objective: str, batch: Batch, prediction: Tensor) -> bytes:
    """A PNG with a row for each view of `batch`: the image, the truth and the prediction of one objective.

    Depth is coloured from near to far on one scale for all of the figure, labels by class with a legend, and normals
    by their direction: red to the right, green up, blue towards the camera. Pixels without a truth are black in it.

    Args:
        objective: `segmentation`, `depth` or `normal`.
        batch: N views.
        prediction: (N, C, H, W), as the model gives it.
    """
    truth, guess, shown = PICTURES[objective](batch, prediction)
    count, (height, width) = len(truth), truth.shape[1:3]
    across = 2.4
    figure = Figure(figsize=(3 * across + 1.6, count * across * height / width + 0.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(count, 3, squeeze=False)
    images = batch.images.permute(0, 2, 3, 1).cpu().numpy()
    for row, pictures in enumerate(zip(images, truth, guess, strict=True)):
        for column, (title, picture) in enumerate(zip(("image", "truth", "prediction"), pictures, strict=True)):
            place = axes[row, column]
            drawn = place.imshow(picture, **({} if column == 0 else shown), interpolation="nearest")
            place.set_axis_off()
            if row == 0:
                place.set_title(title, fontsize=9)
    if objective == "segmentation":
        patches = [Patch(color=color, label=name) for color, name in zip(PALETTE, CLASSES, strict=True)]
        figure.legend(handles=patches, loc="outside right upper", fontsize=7, frameon=False)
    elif objective == "depth":
        figure.colorbar(drawn, ax=axes, label="depth in metres", fraction=0.04)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def _labels(batch: Batch, prediction: Tensor) -> tuple[NDArray, NDArray, dict]:
    truth, guess = batch.labels.cpu().numpy(), prediction.argmax(1).cpu().numpy()
    colors = np.array([*PALETTE, UNKNOWN])
    return colors[np.where(truth == IGNORED, len(CLASSES), truth)], colors[guess], {}


def _depths(batch: Batch, prediction: Tensor) -> tuple[NDArray, NDArray, dict]:
    truth, guess = batch.depths.cpu().numpy(), prediction[:, 0].float().cpu().numpy()
    known = truth[truth > 0]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    colors = matplotlib.colormaps["viridis_r"].with_extremes(bad=UNKNOWN)
    return np.ma.masked_equal(truth, 0), guess, {"cmap": colors, "vmin": low, "vmax": high}


def _normals(batch: Batch, prediction: Tensor) -> tuple[NDArray, NDArray, dict]:
    truth = batch.normals.permute(0, 2, 3, 1).cpu().numpy()
    guess = functional.normalize(prediction.float(), dim=1).permute(0, 2, 3, 1).cpu().numpy()
    known = (truth != 0).any(-1, keepdims=True)
    return np.where(known, (truth + 1) / 2, UNKNOWN), (guess + 1) / 2, {}


PICTURES = {"segmentation": _labels, "depth": _depths, "normal": _normals}
"""Objective -> truth and prediction as (N, H, W, 3) colours, or (N, H, W) with how they are coloured."""
