"""What the figures on conflicts show: where gradients met negative cosines, and what the method did about it."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from mtlbench.geometry import combined, figures
from mtlbench.geometry.contents import Drawing
from mtlbench.geometry.corrections import Corrections, corrections
from mtlbench.geometry.drawn import Shown, curve, mean_over, over_seeds
from mtlbench.geometry.figures import NUMBERS, Bar, Curve, Panel
from mtlbench.rendering.drawing import PALETTE, Look

Array = NDArray[np.float64]

PCGRAD = "negative cosine: PCGrad would correct"


def draw(shown: Shown, done: Corrections | None) -> list[Drawing]:
    """Negative cosines and corrections by pair and by group; of probe gradients where the method saw no Gramian."""
    return [_of_probes(shown)] if done is None else [_pairs(shown, done), *_groups(shown, done), _deeds(shown, done)]


def by_group(shown: Shown, field: str) -> tuple[Array, Array, Array]:
    """Of `would` or `did`: mean over pairs in each of M groups, and its t interval over seeds; (M,) each."""
    found = [corrections([run]) for run in shown.runs]
    rows = np.array(
        [mean_over(getattr(one, field).values.reshape(len(one.would.labels[0]), -1), 1) for one in found if one]
    )
    mean, _, low, high = over_seeds(rows, NUMBERS["all"])
    return mean, low, high


def _of_probes(shown: Shown) -> Drawing:
    last = combined.conflicts(shown.runs, step=-1)
    figure = partial(
        figures.pair_maps,
        {"negative cosines of different examples": last.values[0]},
        shown.first.objectives,
        shown.families,
        [shown.about, "probe gradients of the last snapshot", "whole model"],
    )
    return Drawing(
        f"{shown.slug}-conflicts",
        figure,
        "Share of negative cosines between probe gradients on different examples, at the last snapshot: where PCGrad "
        f"would correct. The method {shown.method} sees no Gramian of the training gradients.",
    )


def _pairs(shown: Shown, done: Corrections) -> Drawing:
    shapes = {PCGRAD: mean_over(done.would.values, 0)}
    if corrects(done):
        shapes[f"corrected by {shown.method}"] = mean_over(done.did.values, 0)
    about = [shown.title, f"mean over {len(shown.runs)} seeds" if len(shown.runs) > 1 else "", "mean over groups"]
    told = f", and share of the visits that {shown.method} corrected" if corrects(done) else ""
    return Drawing(
        f"{shown.slug}-conflicts",
        partial(figures.pair_maps, shapes, shown.first.objectives, shown.families, about),
        "Share of training steps in which the cosine of two gradients was negative, where PCGrad would correct if it "
        "met this pair first"
        f"{told}. Rows are the gradients that are changed.",
    )


def corrects(done: Corrections) -> bool:
    """Whether the method makes visits at all."""
    return bool(np.isfinite(done.did.values).any())


def _groups(shown: Shown, done: Corrections) -> list[Drawing]:
    if len(done.would.labels[0]) < 2:
        return []
    wanted = {PCGRAD: ("would", NUMBERS["within"])}
    if corrects(done):
        wanted[f"corrected by {shown.method}"] = ("did", NUMBERS["between"])
    bars = []
    for label, (field, look) in wanted.items():
        mean, low, high = by_group(shown, field)
        bars.append(Bar(label, mean, low, high, look))
    return [
        Drawing(
            f"{shown.slug}-conflicts-by-group",
            partial(
                figures.by_group, done.would.labels[0], bars, "share", [shown.title, "mean over pairs", _seeds(shown)]
            ),
            f"The same by group of the granularity that {shown.method} ran with, mean over pairs.",
        )
    ]


def _seeds(shown: Shown) -> str:
    return f"mean over {len(shown.runs)} seeds, 95 % interval" if len(shown.runs) > 1 else "one seed, no interval"


def _deeds(shown: Shown, done: Corrections) -> Drawing:
    """Over the windows of training: conflicts and corrections, targets, the size and the direction of the update."""
    shares = [curve("negative cosine", done.would_by_step, NUMBERS["within"])]
    if corrects(done):
        shares.append(curve("corrected", done.did_by_step, NUMBERS["between"]))
    training = [_traced(shown, "cosine", "cosine of training gradients", NUMBERS["all"])]
    target = _traced(shown, "target", "target", Look(PALETTE[2], "^", "--"))
    if np.isfinite(target.values).any():
        training.append(target)
    ratio = _traced(shown, "norm_ratio", "norm of update / norm of sum", Look(PALETTE[3], "D"))
    cosine = _traced(shown, "update_cosine", "cosine of update and gradient", Look(PALETTE[4], "v"))
    frames = [
        Panel("conflicts and corrections" if corrects(done) else "conflicts", shares, "share"),
        Panel("training gradients", training, "mean over pairs"),
        Panel("size of the update", [ratio], "ratio of norms"),
        Panel("direction of the update", [cosine], "mean over objectives"),
    ]
    steps = shown.first.steps.astype(np.float64)
    about = [shown.title, _seeds(shown), "each point: the steps since the snapshot before"]
    return Drawing(
        f"{shown.slug}-method",
        partial(figures.over_steps, steps, frames, about),
        f"What {shown.method} met and did between snapshots, mean over groups and pairs: negative cosines"
        f"{' and corrections' if corrects(done) else ''}, cosines of training gradients"
        f"{' and targets' if len(training) > 1 else ''}, the norm of the update over that of the plain sum, and the "
        "cosine of the update with each objective's gradient.",
    )


def _traced(shown: Shown, field: str, label: str, look: Look) -> Curve:
    """What the method left of each window, mean over groups and objectives, with the interval over seeds."""
    traces = [run.method for run in shown.runs if run.method is not None]
    rows = [np.asarray(getattr(trace, field), dtype=np.float64) for trace in traces]
    return Curve(label, *over_seeds(np.array([mean_over(row.reshape(len(row), -1), 1) for row in rows]), look))
