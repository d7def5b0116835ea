"""Does similarity go with quality: over settings at equal step and at equal loss, and over objectives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mtlbench.geometry import analysis, combined, figures, tabulated
from mtlbench.geometry.analysis import Seeds, Study
from mtlbench.geometry.contents import Drawing, Part
from mtlbench.geometry.drawn import Shown, mean_over
from mtlbench.geometry.figures import Cloud
from mtlbench.geometry.quality import Correlation, Quality, correlation, high_resource, over_runs, towards
from mtlbench.rendering.drawing import Look, looks
from mtlbench.rendering.table import Column, Value

Array = NDArray[np.float64]

_SPLITS = {
    "": "of a split that the file does not name",
    "train": "of train, which models have seen",
    "val": "of val, which is not trained on",
}
FEWEST = 4
"""Points for a correlation with an interval."""
MANY = 8
"""Settings from which on points are told apart by method alone."""


@dataclass(frozen=True)
class Measured:
    """What of one setting is compared with its quality; means over its seeds."""

    seeds: Seeds
    steps: Array
    """(T,)"""
    similarity: Array
    """(T,): mean over all pairs, of the leading kind of cosine."""
    loss: Array
    """(T,): mean probe loss over objectives."""
    quality: float
    """Mean main test score over objectives, higher is better; NaN where objectives have different ones."""
    measure: str
    toward: Array
    """(K,): similarity to the objectives with most data, itself left out, mean over training; NaN without amounts."""
    gain: Array
    """(K,): over single-task training; NaN without it."""
    families: tuple[str, ...] | None
    kind: str
    """What the similarity is, in words."""
    high: tuple[str, ...]
    """The objectives with most data."""
    facts: Mapping[str, str]


def measured(study: Study, seeds: Seeds, shown: Shown) -> Measured:
    """Read from a setting's runs."""
    known, first = analysis.measure(seeds.runs[0]), shown.first
    cosine = combined.cosine(shown.runs, shown.options.kind, "mean").values
    amounts = next((r.values for r in first.relations if r.kind == "amount"), None)
    rich = None if amounts is None else high_resource(amounts)
    toward = np.full(len(first.objectives), np.nan)
    if rich is not None:
        toward = towards(cosine, rich)
    gain = analysis.gains(study, seeds)
    quality = math.nan
    if known is not None:
        quality = known[1] * float(np.mean([analysis.scores(run) for run in seeds.runs]))
    recorded = sum(run.seconds for run in shown.runs) / max(sum(run.training_seconds for run in shown.runs), 1e-9)
    split = next((run.split for run in shown.runs if run.split), "")
    batches = f"{first.batches} of {first.examples} examples" if first.examples else str(first.batches)
    return Measured(
        seeds=seeds,
        steps=first.steps.astype(np.float64),
        similarity=combined.mean(shown.runs, "all", shown.options.kind).values,
        loss=np.mean([mean_over(run.losses, 1) for run in shown.runs], 0),
        quality=quality,
        measure="" if known is None else f"{'' if known[1] > 0 else 'less '}{known[0]}",
        toward=toward,
        gain=np.full(len(first.objectives), np.nan) if gain is None else gain,
        families=shown.families,
        kind=shown.said(shown.options.kind),
        high=() if rich is None else tuple(name for name, big in zip(first.objectives, rich, strict=True) if big),
        facts={
            "probe batches": f"{batches} for every objective, {'aligned' if first.aligned else 'not aligned'}, "
            f"{_SPLITS.get(split, f'of {split}')}",
            "snapshots": f"{len(first.steps)}, after {', '.join(map(str, first.steps.tolist()))} steps",
            "cost of recording": f"{recorded:.0%} of training time",
        },
    )


def parts(found: Sequence[Measured]) -> tuple[Part, ...]:
    """Over settings, and over objectives."""
    return (_over_settings(found), *_over_objectives(found))


def _over_settings(found: Sequence[Measured]) -> Part:
    title = "Does higher similarity go with better models?"
    usable = [one for one in found if math.isfinite(one.quality)]
    if len(usable) < FEWEST:
        return Part(
            title,
            (
                f"Too few settings to say ({len(usable)}): a correlation needs {FEWEST} at least, that differ in model "
                "size, batch, learning rate, temperature or method, and a useful interval a dozen.",
            ),
        )
    answer = over_runs(
        [one.similarity for one in usable],
        [one.loss for one in usable],
        [one.steps for one in usable],
        np.array([one.quality for one in usable]),
    )
    columns = [
        Column("x_step", f"similarity at step {answer.step:.0f}", digits=3, about=usable[0].kind),
        Column("x_loss", f"similarity at loss {answer.loss:.2f}", digits=3, about=usable[0].kind),
        Column("quality", usable[0].measure, digits=2, about="mean main test score over objectives"),
    ]
    rows = [
        (
            one.seeds.label,
            len(one.seeds.runs),
            {"x_step": Value(float(x)), "x_loss": Value(float(y)), "quality": Value(one.quality)},
        )
        for one, x, y in zip(usable, answer.step_similarity, answer.loss_similarity, strict=True)
    ]
    table = tabulated.table("quality", "Similarity and quality", columns, rows, "setting")
    return Part(title, (_sentence(answer, usable[0]),), (_cloud(answer, usable),), (table,))


def _sentence(answer: Quality, one: Measured) -> str:
    return (
        f"Over {answer.at_step.n} settings (seeds averaged) the mean {one.kind}, and {one.measure} at the end "
        f"correlate with r = {told(answer.at_step)} at equal step ({answer.step:.0f}) and with r = "
        f"{told(answer.at_loss)} at equal loss ({answer.loss:.2f}, {answer.at_loss.n} settings): {_verdict(answer)}."
    )


def _verdict(answer: Quality) -> str:
    """In words, for both comparisons."""
    signs = {_sign(answer.at_step), _sign(answer.at_loss)}
    if signs == {0}:
        return "neither can be told from zero"
    if len(signs) == 1:
        return f"both are told from zero, and {'positive' if signs == {1} else 'negative'}"
    return "they do not agree, so that this is no evidence that similarity as such makes models better"


def _sign(one: Correlation) -> int:
    return 1 if one.low > 0 else -1 if one.high < 0 else 0


def told(one: Correlation) -> str:
    """`.40 [-.10, .74]`."""
    if math.isnan(one.r):
        return "unknown, since all are equal or too few"
    reach = f" [{one.low:.2f}, {one.high:.2f}]" if math.isfinite(one.low) else ", no interval"
    return f"{one.r:.2f}{reach}"


def _cloud(answer: Quality, usable: Sequence[Measured]) -> Drawing:
    many = len(usable) > MANY
    labels = [one.seeds.runs[0].label if many else one.seeds.label for one in usable]
    quality = np.array([one.quality for one in usable])
    clouds = [
        Cloud(
            f"{what}: r = {told(found)}, n = {found.n}",
            x,
            quality,
            labels,
            "mean cosine of pairs",
            usable[0].measure,
        )
        for what, x, found in (
            (f"at equal step, {answer.step:.0f}", answer.step_similarity, answer.at_step),
            (f"at equal loss, {answer.loss:.2f}", answer.loss_similarity, answer.at_loss),
        )
    ]
    return Drawing(
        "quality",
        partial(
            figures.scatter,
            clouds,
            looks(labels, "uniform", None),
            [usable[0].kind, "one point a setting, seeds averaged"],
        ),
        f"Similarity against quality over {len(usable)} settings: at equal step, and at equal probe loss, since models "
        "that are trained further have other gradients. Intervals after Fisher.",
    )


def _over_objectives(found: Sequence[Measured]) -> list[Part]:
    title = "Do objectives gain that are similar to those with much data?"
    usable = [one for one in found if (np.isfinite(one.toward) & np.isfinite(one.gain)).sum() >= 2]
    if not usable:
        return []
    said, clouds, rows = [], [], []
    every = figures.family_colors([family for one in usable for family in one.families or ("objectives",)])
    shapes: dict[str, Look] = {}
    for one in usable:
        answer = correlation(one.toward, one.gain)
        names = one.families or ("objectives",) * len(one.gain)
        shapes |= {name: Look(every[name]) for name in names}
        said.append(
            f"{one.seeds.label}: over {answer.n} objectives, similarity to {', '.join(one.high)} and the gain over "
            f"single-task training correlate with r = {told(answer)}."
        )
        clouds.append(
            Cloud(
                f"{one.seeds.label}: r = {told(answer)}, n = {answer.n}",
                one.toward,
                one.gain,
                list(names),
                "mean cosine with them",
                f"gain in {one.measure}",
            )
        )
        for name, x, y in zip(one.seeds.objectives, one.toward, one.gain, strict=True):
            label = name if len(usable) == 1 else f"{name} ({one.seeds.label})"
            rows.append((label, len(one.seeds.runs), {"toward": Value(float(x)), "gain": Value(float(y))}))
    columns = [
        Column("toward", "similarity to objectives with most data", digits=3, about=usable[0].kind),
        Column("gain", f"gain in {usable[0].measure} over single-task training", digits=2, signed=True),
    ]
    drawing = Drawing(
        "gain",
        partial(figures.scatter, clouds, shapes, [usable[0].kind, "one point an objective"]),
        "Similarity, mean over training, to the objectives with most data, against the gain over single-task training. "
        "An objective's similarity to itself is left out; points are not quite independent, and intervals too short.",
    )
    table = tabulated.table("gain", "Similarity and gain by objective", columns, rows, "objective")
    return [Part(title, tuple(said), (drawing,), (table,))]
