"""Variants of a task side by side where their models are equally good: at the lowest loss that all of them reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtlbench.geometry import combined, tabulated
from mtlbench.geometry.analysis import Seeds, Study, slugged
from mtlbench.geometry.contents import Section
from mtlbench.geometry.drawn import Shown, correlation_at, mean_over
from mtlbench.geometry.proximity import sides
from mtlbench.geometry.quality import at_loss, common_loss
from mtlbench.record.trajectory import Trajectory
from mtlbench.rendering.table import Column, Value
from mtlbench.statistics import t_interval

Array = NDArray[np.float64]
Curve = Callable[[Trajectory], Array]
"""(T,) of a run: a number at each snapshot."""


@dataclass(frozen=True)
class Variant:
    """A setting of one variant, with the runs that can be looked at together."""

    study: Study
    seeds: Seeds
    shown: Shown


def at_equal_loss(found: Sequence[Variant]) -> list[Section]:
    """A section for all variants of a task with the same objectives and families; none where there is one.

    A model that is trained further has other gradients, and variants are not learnt at one pace: what differs between
    them at one step may be their progress. Each seed is read where it first has the lowest loss that all runs reach, on
    the line between two snapshots; means and intervals are over seeds.
    """
    apart: dict[tuple[str, ...], list[Variant]] = {}
    for one in found:
        if one.shown.families is not None:
            apart.setdefault((one.seeds.runs[0].cell.task, *one.study.objectives), []).append(one)
    sections = []
    for (task, *objectives), all_of_them in apart.items():
        kept = _of_several(all_of_them)
        if len({one.study.slug for one in kept}) > 1:
            sections.append(_section(task, objectives, kept))
    return sections


def _of_several(found: Sequence[Variant]) -> list[Variant]:
    """Those settings that more than one variant has."""
    studies: dict[str, set[str]] = {}
    for one in found:
        studies.setdefault(one.seeds.label, set()).add(one.study.slug)
    return [one for one in found if len(studies[one.seeds.label]) > 1]


def _section(task: str, objectives: Sequence[str], found: Sequence[Variant]) -> Section:
    loss = common_loss([_loss(run) for one in found for run in one.shown.runs])
    columns: dict[str, Column] = {}
    rows = []
    labels = {one.seeds.label for one in found}
    for one in found:
        values = {}
        for column, curve in _measures(one.shown).items():
            columns.setdefault(column.key, column)
            values[column.key] = _over_seeds([at_loss(_loss(run), curve(run), loss) for run in one.shown.runs])
        label = one.study.title if len(labels) == 1 else f"{one.study.title}: {one.seeds.label}"
        rows.append((label, len(one.shown.runs), values))
    which = f"{objectives[0]} and {len(objectives) - 1} others"
    title = f"Variants of {task} at equal loss, {which}"
    return Section(
        slug=slugged(title),
        title=title,
        facts={
            "objectives": ", ".join(objectives),
            "read at": f"a mean probe loss of {loss:.3f}, the lowest that every seed reaches, where it is first "
            "reached, on the line between two snapshots; intervals are over seeds",
            "mind": "losses are of subwords, and mean the same as far as the variants cut their text alike",
        },
        missing=(),
        settings=(),
        parts=(),
        summary=tabulated.table("summary", f"At equal loss, {loss:.3f}", columns.values(), rows, "variant"),
    )


def _measures(shown: Shown) -> dict[Column, Curve]:
    """What is compared, and how it is read from one run."""
    kind, about = shown.options.kind, shown.said(shown.options.kind)

    def mean(pairs: str) -> Curve:
        return lambda run: combined.mean([run], pairs, kind).values

    found: dict[Column, Curve] = {
        Column("step", "step", digits=0, about="completed, where that loss is"): lambda run: run.steps.astype(float),
        Column("within", "cosine within families", digits=3, about=about): mean("within"),
        Column("between", "cosine between families", digits=3, about=about): mean("between"),
        Column("contrast", "within less between", digits=3, signed=True, about=about): mean("contrast"),
    }
    for relation in shown.first.relations:
        if relation.kind == "distance":
            tree = sides(relation)[relation.name]
            column = Column(f"mantel.{relation.name}", f"Mantel r, {tabulated.plain(relation.name)}", digits=2)
            found[column] = _correlations(shown, tree)
    return found


def _correlations(shown: Shown, tree: Array) -> Curve:
    return lambda run: np.array([correlation_at(run, step, shown, tree, None) for step in run.steps.tolist()])


def _loss(run: Trajectory) -> Array:
    return mean_over(run.losses, 1)


def _over_seeds(values: Sequence[float]) -> Value:
    inside = t_interval(np.array(values))
    return Value(inside.mean, inside if inside.known else None)
