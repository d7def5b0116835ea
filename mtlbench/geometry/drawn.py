"""What the figures of one setting show: from runs to arrays, and from arrays to drawings with captions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mtlbench.errors import UsageError
from mtlbench.geometry import combined, figures
from mtlbench.geometry.contents import Drawing
from mtlbench.geometry.estimates import Kind
from mtlbench.geometry.figures import NUMBERS, Curve, Panel
from mtlbench.geometry.labelled import Labelled
from mtlbench.geometry.mantel import mantel, partial_mantel
from mtlbench.geometry.places import Groups, families, parts_of
from mtlbench.geometry.proximity import linkage, sides
from mtlbench.record.trajectory import Trajectory
from mtlbench.rendering.drawing import BLACK, GREY, PALETTE, Look
from mtlbench.statistics import t_interval

Array = NDArray[np.float64]

GRANULARITIES = ("whole_model", "enc_dec", "all_layer")
STEPS = ("untrained", "half", "last")
PAIRS = {"within": "within families", "between": "between families", "all": "all pairs"}


@dataclass(frozen=True)
class Options:
    """What of the geometry a report shows."""

    kind: Kind = "disattenuated"
    """Of the cosines that lead."""
    steps: tuple[str, ...] = STEPS
    """Of `STEPS`, or numbers of completed steps, of which the nearest snapshot is taken."""
    granularity: str = "whole_model"
    """One of `GRANULARITIES`: whether similarity is that of the whole model, of its parts, or of every layer."""


@dataclass(frozen=True)
class Moment:
    """A snapshot, or the mean over all but the untrained one."""

    key: str
    label: str
    step: int | str
    """As `combined.cosine` takes it."""


@dataclass(frozen=True)
class Shown:
    """The runs of one setting and what of them is shown."""

    slug: str
    title: str
    method: str
    """Its registry name."""
    runs: Sequence[Trajectory]
    """Equal but for their seeds."""
    options: Options

    @property
    def first(self) -> Trajectory:
        """Any of them: objectives, groups and steps are the same in all."""
        return self.runs[0]

    @property
    def families(self) -> tuple[str, ...] | None:
        """(K,) the family of each objective, where the task tells it."""
        return families(self.first)

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that there are, of `encoder` and `decoder`."""
        return parts_of(self.first)

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the G groups."""
        return tuple(group.name for group in self.first.groups)

    @property
    def pairs(self) -> list[str]:
        """Within and between families where there are pairs of both kinds."""
        known = self.families
        both = known is not None and len(known) > len(set(known)) > 1
        return ["within", "between"] if both else ["all"]

    def moments(self) -> list[Moment]:
        """The mean first, then the chosen snapshots, each once.

        Raises:
            UsageError: a step that is beyond training.
        """
        found = [Moment("mean", "mean over training", "mean")]
        for name in self.options.steps:
            moment = _moment(self.first, name)
            if moment.step not in [other.step for other in found]:
                found.append(moment)
        return found

    def blocks(self) -> dict[str, Groups]:
        """What the similarity is of, by name."""
        if self.options.granularity == "whole_model":
            return {"whole model": None}
        parts = self.parts if self.options.granularity == "enc_dec" else self.groups
        if not parts:
            raise UsageError(
                f"The model of {self.title} has no encoder and decoder: choose --granularity whole_model or all_layer."
            )
        return {part: part for part in parts}

    def kinds(self) -> list[Kind]:
        """The leading kind of cosine first, the aligned one last where it does not lead."""
        others: list[Kind] = ["disattenuated", "unaligned", "aligned"]
        return [self.options.kind, *(kind for kind in others if kind != self.options.kind)]

    def said(self, kind: Kind) -> str:
        """What a kind of cosine is, as titles and captions say it."""
        if kind == "disattenuated":
            return "disattenuated cosine, as it would be without noise"
        if kind == "unaligned":
            return "unaligned cosine, of different examples as in a step of training"
        if self.first.aligned:
            return "aligned cosine: contains the noise that aligned examples share"
        return "cosine within one probe batch; its examples are not aligned over objectives"

    @property
    def about(self) -> str:
        """For the line above every figure."""
        return f"{self.title}; {spread(len(self.runs))}"


def spread(runs: int) -> str:
    """What a band is."""
    if runs == 1:
        return "one seed; bands: 95 % over probe batches"
    return f"mean over {runs} seeds; bands: 95 % over seeds and probe batches"


def _moment(run: Trajectory, name: str) -> Moment:
    steps, total = run.steps, run.total_steps
    if name == "untrained":
        return Moment(
            name, f"untrained (step {steps[0]})" if steps[0] == 0 else f"first (step {steps[0]})", int(steps[0])
        )
    if name == "last":
        return Moment(name, f"trained (step {steps[-1]})", int(steps[-1]))
    wanted = total / 2 if name == "half" else _whole(name)
    if wanted > total:
        raise UsageError(f"--step {name} is beyond training, which has {total} steps.")
    nearest = int(steps[np.abs(steps - wanted).argmin()])
    return Moment(name, f"half-trained (step {nearest})" if name == "half" else f"step {nearest}", nearest)


def _whole(name: str) -> int:
    if not name.isdecimal() or len(name) > 15:
        raise UsageError(f"--step {name} is not allowed: it is a number of completed steps, or {', '.join(STEPS)}.")
    return int(name)


# --- similarity


def maps(shown: Shown) -> list[Drawing]:
    """A similarity map for the mean over training and for every chosen step, and the aligned one beside it."""
    found = []
    for block, groups in shown.blocks().items():
        for moment in shown.moments():
            found.append(_map(shown, shown.options.kind, moment, block, groups))
    if shown.options.kind != "aligned":
        moment = shown.moments()[-1]
        block, groups = next(iter(shown.blocks().items()))
        found.append(_map(shown, "aligned", moment, block, groups))
    return found


def _map(shown: Shown, kind: Kind, moment: Moment, block: str, groups: Groups) -> Drawing:
    cosine = combined.cosine(shown.runs, kind, moment.step, groups)
    known = np.isfinite(cosine.values).all(0) | (np.isfinite(cosine.values).sum(0) > 1)
    objectives, known_families = shown.first.objectives, shown.families
    kept = np.flatnonzero(known)
    left_out = [objectives[i] for i in range(len(objectives)) if i not in kept]
    values = cosine.values[np.ix_(kept, kept)]
    tree = linkage(values) if len(kept) > 2 and np.isfinite(values).all() else None
    names = [objectives[i] for i in kept]
    colors = None if known_families is None else [known_families[i] for i in kept]
    where = "" if groups is None else f"{block}: "
    missing = f" No signal: {', '.join(left_out)}." if left_out else ""
    about = [shown.title, shown.said(kind), f"{where}{moment.label}"]
    name = f"{shown.slug}-{kind}-{moment.key}" + ("" if groups is None else f"-{file_part(block)}")
    caption = f"{where}{moment.label}: {shown.said(kind)}; average linkage of 1 - similarity.{missing}"
    return Drawing(name, partial(figures.similarity_map, values, names, tree, colors, about), sentence(caption))


def file_part(text: str) -> str:
    """Fit for the name of a file."""
    return "".join(c if c.isalnum() else "-" for c in text)


def sentence(text: str) -> str:
    """With a capital letter."""
    return text[:1].upper() + text[1:]


def curve(label: str, found: Labelled, look: Look) -> Curve:
    """What is labelled by steps, as a line with its band."""
    return Curve(label, found.values, look, found.low, found.high)


def along_training(shown: Shown) -> list[Drawing]:
    """Similarity over steps: three kinds of cosine, encoder against decoder, layers, and the share of signal."""
    steps = shown.first.steps.astype(np.float64)
    kinds = [
        Panel(
            shown.said(kind),
            [curve(PAIRS[p], combined.mean(shown.runs, p, kind), NUMBERS[p]) for p in shown.pairs],
            "mean cosine of pairs",
        )
        for kind in shown.kinds()
    ]
    which = "within and between families" if len(shown.pairs) > 1 else "of all pairs"
    found = [
        Drawing(
            f"{shown.slug}-trajectory",
            partial(figures.over_steps, steps, kinds, [shown.about]),
            f"Similarity {which} along training, by three kinds of cosine. Each frame has a scale of its own.",
        )
    ]
    if len(shown.parts) > 1:
        found.append(_parts(shown, steps, which))
    found += [_layers(shown), _shares(shown, steps)]
    return found


def _parts(shown: Shown, steps: Array, which: str) -> Drawing:
    kind = shown.options.kind
    frames = [
        Panel(
            part,
            [curve(PAIRS[p], combined.mean(shown.runs, p, kind, part), NUMBERS[p]) for p in shown.pairs],
            "mean cosine of pairs",
        )
        for part in shown.parts
    ]
    figure = partial(figures.over_steps, steps, frames, [shown.about, shown.said(kind)], sharey=True)
    return Drawing(
        f"{shown.slug}-parts", figure, f"Encoder against decoder: {shown.said(kind)}, {which}, on one scale."
    )


def _layers(shown: Shown) -> Drawing:
    kind = shown.options.kind
    shapes = {"mean cosine of all pairs": combined.layers(shown.runs, "all", kind).values}
    if len(shown.pairs) > 1:
        shapes["within less between families"] = combined.layers(shown.runs, "contrast", kind).values
    # disattenuated cosines of a layer without signal are beyond all bounds, and would leave no colour for the others
    shapes = {title: np.clip(values, -1.0, 1.0) for title, values in shapes.items()}
    figure = partial(
        figures.layer_map, shapes, shown.groups, shown.first.steps.tolist(), [shown.about, shown.said(kind)]
    )
    return Drawing(
        f"{shown.slug}-layers",
        figure,
        f"Layers, in the order of the forward pass, by steps: {shown.said(kind)}, cut to [-1, 1]; grey where it is "
        "not known.",
    )


def _shares(shown: Shown, steps: Array) -> Drawing:
    share = combined.share(shown.runs)
    names = shown.families or ("single objectives",) * len(shown.first.objectives)
    colors = figures.family_colors(names) if shown.families else dict.fromkeys(names, GREY)
    curves = [
        Curve(name, values, Look(colors[name], "", width=0.8))
        for name, values in zip(names, share.values.T, strict=True)
    ]
    curves.append(Curve("mean over objectives", mean_over(share.values, 1), Look(BLACK, "o", width=1.8)))
    examples = shown.first.examples
    of = f"{examples} examples" if examples else "one probe batch"
    panel = Panel(f"signal in the gradient of {of}", curves, "share of the squared norm")
    return Drawing(
        f"{shown.slug}-signal",
        partial(figures.over_steps, steps, [panel], [shown.about]),
        f"Share of signal: how much of a gradient's squared norm, of {of}, is the same on every batch; the rest is "
        "noise, which pulls cosines of different examples towards zero.",
    )


def proximity_over_steps(shown: Shown) -> list[Drawing]:
    """Mantel correlations with every tree over steps, beside what needs no model and what is left given a rival."""
    sided = {r.name: sides(r) for r in shown.first.relations if r.kind != "label"}
    trees = [r.name for r in shown.first.relations if r.kind == "distance"]
    rivals = {label: side for name, found in sided.items() if name not in trees for label, side in found.items()}
    panels = [_proximity(shown, tree, sided[tree][tree], rivals) for tree in trees]
    if not panels:
        return []
    figure = partial(
        figures.over_steps,
        shown.first.steps.astype(np.float64),
        panels,
        [shown.title, shown.said(shown.options.kind), _each(shown)],
        True,
    )
    return [
        Drawing(
            f"{shown.slug}-proximity",
            figure,
            "Correlation of similarity with the tree over pairs of objectives, along training, and what is left of it "
            "given a rival. Level lines need no model: how well the rival itself follows the tree. The first point "
            "is the untrained model.",
        )
    ]


def _each(shown: Shown) -> str:
    return "mean over seeds, each by itself; bands: 95 %" if len(shown.runs) > 1 else "one seed, no band"


def _proximity(shown: Shown, name: str, tree: Array, rivals: dict[str, Array]) -> Panel:
    shades = dict(zip(rivals, itertools.cycle(PALETTE), strict=False))
    given: dict[str, tuple[Array | None, Look]] = {"similarity": (None, NUMBERS["all"])}
    given |= {f"given {rival}": (side, Look(shades[rival], "s", "--")) for rival, side in rivals.items()}
    curves = []
    for label, (held, look) in given.items():
        rows = [[correlation_at(run, step, shown, tree, held) for step in run.steps.tolist()] for run in shown.runs]
        curves.append(Curve(label.replace("_", " "), *over_seeds(np.array(rows), look)))
    levels = {
        f"{rival} alone".replace("_", " "): (_alone(side, tree), Look(shades[rival], "", ":", 1.6))
        for rival, side in rivals.items()
    }
    return Panel(f"against {name}".replace("_", " "), curves, "Mantel r", levels)


def correlation_at(run: Trajectory, step: int, shown: Shown, tree: Array, held: Array | None) -> float:
    """Mantel's r of one run's similarity at a step with a tree (K, K), given what is held fixed (K, K) if anything."""
    values = combined.cosine([run], shown.options.kind, step).values
    generator = np.random.default_rng(0)  # for no p: one permutation
    if held is None:
        return mantel(values, tree, 1, generator=generator).r
    return partial_mantel(values, tree, held, 1, generator=generator).r


def _alone(side: Array, tree: Array) -> float:
    return mantel(side, tree, 1, generator=np.random.default_rng(0)).r if np.ptp(side) > 0 else math.nan


def over_seeds(rows: Array, look: Look) -> tuple[Array, Look, Array, Array]:
    """Mean and t interval of (S, N) over the seeds, (N,) each, as a curve takes them; NaN where a seed is unknown."""
    found = [t_interval(column) for column in rows.T]
    mean, low, high = (np.array([getattr(f, name) for f in found]) for name in ("mean", "low", "high"))
    return mean, look, low, high


def mean_over(values: Array, axis: int) -> Array:
    """The mean of what is known along an axis; NaN where nothing is."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0.0).sum(axis) / known.sum(axis))
