"""The tables of one setting, and the sentences on what stands in them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from mtlbench.geometry import combined, conflicts
from mtlbench.geometry.corrections import Corrections
from mtlbench.geometry.drawn import PAIRS, Shown, mean_over
from mtlbench.geometry.labelled import Labelled
from mtlbench.rendering.table import Column, Note, Row, Table, Value
from mtlbench.statistics import Interval

Array = NDArray[np.float64]


def table(
    slug: str,
    title: str,
    columns: Iterable[Column],
    rows: Iterable[tuple[str, int, Mapping[str, Value]]],
    rows_are: str,
    notes: Iterable[str] = (),
) -> Table:
    """A table of a report; rows are label, number of seeds and values."""
    made = tuple(
        Row(label, "method", {k: v for k, v in values.items() if not math.isnan(v.mean)}, n, n)
        for label, n, values in rows
    )
    return Table(slug, title, "", tuple(columns), made, tuple(Note(note) for note in notes), {}, rows_are)


def number(found: Labelled, *names: str | int) -> Value:
    """One of the labelled numbers with its interval."""
    inside = found.at(*names)
    return Value(inside.mean, inside if inside.known else None)


# --- similarity


def similarity(shown: Shown) -> Table:
    """Every chosen snapshot: three kinds of cosine within and between families, the share of signal, the loss."""
    moments = [moment for moment in shown.moments() if moment.step != "mean"]
    means = {(kind, p): combined.mean(shown.runs, p, kind) for kind in shown.kinds() for p in shown.pairs}
    share = mean_over(combined.share(shown.runs).values, 1)
    losses = np.mean([run.losses for run in shown.runs], axis=(0, 2))
    columns = [Column(f"{kind}.{p}", f"{kind}, {PAIRS[p]}", digits=3, about=shown.said(kind)) for kind, p in means]
    columns += [
        Column("signal", "share of signal", digits=3, about="mean over objectives"),
        Column("loss", "probe loss", digits=3, about="mean over objectives and seeds"),
    ]
    rows = []
    steps = shown.first.steps.tolist()
    for moment in moments:
        values = {f"{kind}.{p}": number(found, moment.step) for (kind, p), found in means.items()}
        place = steps.index(moment.step)
        values |= {"signal": Value(float(share[place])), "loss": Value(float(losses[place]))}
        rows.append((moment.label, len(shown.runs), values))
    notes = sorted({note for found in means.values() for note in found.notes})
    notes = [*notes[:6], *([f"{len(notes) - 6} more of these stand in the tables below."] if len(notes) > 6 else [])]
    return table(f"{shown.slug}-similarity", "Similarity by step", columns, rows, "step", notes)


def similarity_findings(shown: Shown) -> list[str]:
    """At the last snapshot: how similar, and what of it is noise that aligned examples share."""
    said = []
    step = int(shown.first.steps[-1])
    lead = [
        f"{_reached(number(combined.mean(shown.runs, p, shown.options.kind), step))} {PAIRS[p]}" for p in shown.pairs
    ]
    said.append(f"After training, the {shown.said(shown.options.kind)}, is {' and '.join(lead)}.")
    if len(shown.pairs) > 1:
        contrast = number(combined.mean(shown.runs, "contrast", shown.options.kind), step)
        said[0] = f"{said[0][:-1]}: a difference of {_reached(contrast)}{_zero(contrast)}."
    aligned, apart = (combined.mean(shown.runs, "all", kind).values[-1] for kind in ("aligned", "unaligned"))
    if shown.first.aligned and aligned > 0:
        said.append(
            f"Two gradients of {shown.first.examples or 'aligned'} examples have a mean cosine of {_short(aligned)} "
            f"where the examples are the same for both (translations), and of {_short(apart)} where they differ: "
            f"{max(0.0, apart / aligned):.0%} of it is left; the rest is noise that the examples share."
        )
    share = mean_over(combined.share(shown.runs).values, 1)
    said.append(
        f"The share of signal in one such gradient goes from {_short(share[0])} at step {shown.first.steps[0]} to "
        f"{_short(share[-1])} at step {step}."
    )
    return said


def _zero(value: Value) -> str:
    inside = value.interval
    if inside is None or not inside.known:
        return ""
    return ", which cannot be told from zero" if inside.low <= 0 <= inside.high else ""


def _short(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.3f}".replace("0.", ".", 1)


def _reached(value: Value) -> str:
    """`.435 [.402, .468]`."""
    inside = value.interval
    reach = f" [{_short(inside.low)}, {_short(inside.high)}]" if inside is not None and inside.known else ""
    return _short(value.mean) + reach


def pairs(shown: Shown, done: Corrections | None) -> Table:
    """Every pair of objectives: its cosines at every chosen step, its relations, its conflicts."""
    objectives = shown.first.objectives
    moments = shown.moments()
    cosines = {
        (kind, moment.key): combined.cosine(shown.runs, kind, moment.step)
        for kind in shown.kinds()
        for moment in moments
    }
    columns = [
        Column(f"{kind}.{key}", f"{kind}, {moment.label}", digits=3)
        for kind in shown.kinds()
        for key, moment in ((moment.key, moment) for moment in moments)
    ]
    related = {r.name: r.values for r in shown.first.relations if r.kind in ("distance", "similarity")}
    columns += [Column(f"relation.{name}", plain(name), digits=3) for name in related]
    shares = {"negative": combined.conflicts(shown.runs, -1).values[0]}
    titles = {"negative": "negative cosines of probes, last step"}
    if done is not None:
        shares |= {"would": mean_over(done.would.values, 0), "did": mean_over(done.did.values, 0)}
        titles |= {"would": "negative in training: PCGrad would correct", "did": f"corrected by {shown.method}"}
    columns += [Column(key, titles[key], digits=3) for key in shares]
    rows = []
    for i, j in zip(*np.triu_indices(len(objectives), 1), strict=True):
        values = {f"{k}.{m}": number(found, objectives[i], objectives[j]) for (k, m), found in cosines.items()}
        values |= {f"relation.{name}": Value(float(matrix[i, j])) for name, matrix in related.items()}
        values |= {
            key: Value(float(np.nanmean([m[i, j], m[j, i]]))) for key, m in shares.items() if np.isfinite(m[i, j])
        }
        rows.append((f"{objectives[i]}, {objectives[j]}", len(shown.runs), values))
    return table(f"{shown.slug}-pairs", "every pair", columns, rows, "pair")


def layers(shown: Shown) -> Table:
    """Every layer at every step."""
    wanted = ["all", *(["contrast"] if len(shown.pairs) > 1 else [])]
    found = {p: combined.layers(shown.runs, p, shown.options.kind) for p in wanted}
    titles = {"all": "mean cosine of all pairs", "contrast": "within less between families"}
    columns = [Column("step", "step", digits=0), *(Column(p, titles[p], digits=3) for p in wanted)]
    rows = [
        (group, len(shown.runs), {"step": Value(step), **{p: number(found[p], group, step) for p in wanted}})
        for group in shown.groups
        for step in shown.first.steps.tolist()
    ]
    return table(f"{shown.slug}-layers", "every layer at every step", columns, rows, "layer")


# --- conflicts


def conflict_table(shown: Shown, done: Corrections | None) -> Table:
    """By group: negative cosines of probes at the last step, and in training what PCGrad corrects and what was
    corrected.
    """
    count = len(shown.runs)
    if done is None:
        last = combined.conflicts(shown.runs, step=-1)
        column = Column("negative", "negative cosines of probes", digits=3, about="different examples, last snapshot")
        means = mean_over(_off_diagonal(last.values), 1)
        rows = [(group, count, {"negative": Value(float(v))}) for group, v in zip(last.labels[0], means, strict=True)]
        return table(f"{shown.slug}-conflicts", "Conflicts by group", [column], rows, "group")
    groups = done.would.labels[0]
    fields = {"would": conflicts.PCGRAD, "did": f"corrected by {shown.method}"}
    columns = [Column(field, title, digits=3) for field, title in fields.items()]
    columns += [Column("cosine", "mean cosine", digits=3), Column("target", "mean target", digits=3)]
    found = {field: conflicts.by_group(shown, field) for field in ("would", "did", "cosine", "target")}
    rows = []
    for m, group in enumerate(groups):
        values = {}
        for field, (mean, low, high) in found.items():
            inside = Interval(float(mean[m]), float(low[m]), float(high[m]), count)
            values[field] = Value(float(mean[m]), inside if inside.known else None)
        rows.append((group, count, values))
    notes = ["Of training gradients, weighted by the steps between snapshots; means over pairs of objectives."]
    return table(f"{shown.slug}-conflicts", "Conflicts by group", columns, rows, "group", notes)


def _off_diagonal(values: Array) -> Array:
    """(M, K, K) -> (M, K K) with NaN for an objective with itself."""
    own = np.eye(values.shape[-1], dtype=bool)
    return np.where(own, np.nan, values).reshape(len(values), -1)


def conflict_findings(shown: Shown, done: Corrections | None) -> list[str]:
    """What PCGrad would have corrected, and what the method did."""
    if done is None:
        last = combined.conflicts(shown.runs, step=-1).values[:1]
        return [
            f"The method {shown.method} sees no Gramian of the training gradients. Of probe gradients on different "
            f"examples {mean_over(_off_diagonal(last), 1)[0]:.0%} of cosines are negative at the last snapshot, where "
            "PCGrad would correct."
        ]
    would = float(np.nanmean(done.would.values))
    said = [
        f"In {would:.0%} of steps two training gradients had a negative cosine, where PCGrad would correct if it met "
        "that pair first."
    ]
    if conflicts.corrects(done):
        said[0] += f" The method {shown.method} corrected {np.nanmean(done.did.values):.0%} of its visits."
    ratio = done.norm_ratio.values
    if np.isfinite(ratio).any():
        said.append(f"Its update was {np.nanmean(ratio):.2f} times as long as the plain sum of gradients.")
    return said


def plain(name: str) -> str:
    """The name of a relation as text: `cognate_share` without the underscore."""
    return name.replace("_", " ")
