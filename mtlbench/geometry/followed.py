"""What similarity follows: trees and families with their controls, as tables, sentences and numbers for a summary."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mtlbench.geometry import combined
from mtlbench.geometry.analysis import slugged
from mtlbench.geometry.drawn import PAIRS, Moment, Shown, mean_over
from mtlbench.geometry.places import Groups
from mtlbench.geometry.proximity import Row as Found
from mtlbench.geometry.proximity import proximity
from mtlbench.geometry.tabulated import number, plain, table
from mtlbench.rendering.table import Column, Table, Value

Array = NDArray[np.float64]

PERMUTATIONS = 9999
FEWER = 999
"""Of every layer."""
QUESTION = "similarity"
RIVALS = ("similarity", "amount")
"""Kinds of relations that may explain what a tree seems to."""
UNTRAINED = "untrained model"


@dataclass(frozen=True)
class Proximity:
    """What similarity follows: tables with their controls in them, sentences, and what a summary needs."""

    tables: tuple[Table, ...]
    """One for each tree, the first with the families; one of similarity against the rivals."""
    findings: tuple[str, ...]
    key: Mapping[str, Value]
    """For the summary: Mantel correlations with the first tree, of similarity, of the untrained model and of the rival
    that follows it most closely, and what is left given all rivals."""


def near(shown: Shown) -> Proximity | None:
    """Proximity of the mean over training and of every chosen step; None where the task knows no tree and no family."""
    if not any(relation.kind in ("distance", "label") for relation in shown.first.relations):
        return None
    compared: list[tuple[str, Found]] = []
    answers: list[Found] = []
    for block, groups in shown.blocks().items():
        where = "" if groups is None else f"{block}: "
        for moment in shown.moments():
            found = _compared(shown, moment, groups)
            for one in found:
                label = f"{where}{moment.label}" if one.what == "similarity" else _control(one.what, where)
                compared.append((label, one))
            answers = answers or found
    trees = [r.name for r in shown.first.relations if r.kind == "distance"]
    apart: dict[str, list[tuple[str, Found]]] = {}
    for label, one in compared:
        against = "rivals" if one.role == "rival" else one.against if one.against in trees else (trees or [""])[0]
        apart.setdefault(against, []).append((label, one))
    tables = tuple(_near_table(shown, against, rows) for against, rows in apart.items())
    return Proximity(tables, _near_findings(answers), _key(answers))


def _compared(shown: Shown, moment: Moment, groups: Groups) -> list[Found]:
    """The comparisons at one moment, those with the untrained model included unless it is that itself."""

    def similarity_at(step: int | str) -> Array:
        return combined.cosine(shown.runs, shown.options.kind, step, groups).values

    is_start = moment.step == 0
    known = not is_start and bool(shown.first.steps[0] == 0)
    found = proximity(
        similarity_at(moment.step),
        shown.first.relations,
        untrained=similarity_at(0) if known else None,
        permutations=PERMUTATIONS if shown.options.granularity != "all_layer" else FEWER,
        generator=np.random.default_rng(0),
    )
    return [replace(one, what=UNTRAINED) if is_start and one.what == "similarity" else one for one in found]


def _control(what: str, where: str) -> str:
    return f"{where}{what}" if what == UNTRAINED else f"{plain(what)} alone, no model"


def _key_of(one: Found) -> str:
    return ".".join(part for part in (one.measure, one.against, one.given) if part)


def _valued(one: Found) -> Value:
    return Value(one.value, p=None if math.isnan(one.p) else one.p)


def _column(one: Found) -> Column:
    about = {
        "adjusted Rand index": "of average-linkage clusters, as many as there are families, against the families; 0 is "
        "chance, 1 is equality; one-sided permutation p",
        "Mantel r": "correlation over pairs; two-sided permutation p",
        "partial Mantel r": "the same with what is given regressed out of both; two-sided permutation p",
    }[one.measure]
    about += f"; given {plain(one.given)}" if one.given else ""
    title = f"given {rivals(one)}" if one.given else f"{one.measure}, {plain(one.against)}"
    return Column(_key_of(one), title, digits=2, about=about)


def rivals(one: Found) -> str:
    """What is held fixed; several relations at once are all that there are."""
    return "all rivals" if one.given.count(" and ") > 1 else plain(one.given)


def _near_table(shown: Shown, against: str, compared: Sequence[tuple[str, Found]]) -> Table:
    """Controls first, so that nobody reads the answer without them."""
    seeds, rows, columns = len(shown.runs), dict[str, dict[str, Value]](), dict[str, Column]()
    for label, one in compared:
        columns.setdefault(_key_of(one), _column(one))
        rows.setdefault(label, {})[_key_of(one)] = _valued(one)
    alone = [label for label in rows if label.endswith("no model")]
    start = [label for label in rows if label.endswith(UNTRAINED)]
    ordered = [*alone, *start, *(label for label in rows if label not in (*alone, *start))]
    about = {r.name: f"{plain(r.name)}: {r.about.rstrip('.')}." for r in shown.first.relations}
    notes = [about[name] for name in dict.fromkeys(one.against for _, one in compared) if name in about]
    notes = notes if against != "rivals" else [about[r.name] for r in shown.first.relations if r.kind in RIVALS]
    permutations = PERMUTATIONS if shown.options.granularity != "all_layer" else FEWER
    notes.append(
        f"Similarity is the {shown.said(shown.options.kind)}, "
        f"{'one seed' if seeds == 1 else f'mean over {seeds} seeds'}. "
        f"Values of p are of {permutations} permutations of the objectives, and not adjusted for the number of tests."
    )
    if left := sorted({k for _, one in compared for k in one.left_out}):
        names = ", ".join(shown.first.objectives[k] for k in left)
        notes.append(f"Left out where their gradients show no signal: {names}.")
    title = "Similarity against rivals" if against == "rivals" else f"Similarity against {plain(against) or 'families'}"
    return table(
        f"{shown.slug}-proximity-{slugged(against or 'families')}",
        f"{title}, with its controls" if against != "rivals" else title,
        columns.values(),
        [(label, 0 if label in alone else seeds, rows[label]) for label in ordered],
        "similarity of",
        notes,
    )


def _said(one: Found) -> str:
    if math.isnan(one.value):
        return "unknown"
    return f"{one.value:.2f} ({Value(0.0, p=one.p).p_text})"


def _near_findings(answers: Sequence[Found]) -> tuple[str, ...]:
    """One sentence for each hypothesis: the answer, and every control of it."""
    said = []
    for asked in (one for one in answers if one.role == "question"):
        same = [one for one in answers if (one.measure, one.against) == (asked.measure, asked.against)]
        controls = [f"{plain(one.what)} {_said(one)}" for one in same if one.role == "control"]
        given = [one for one in answers if one.role == "given" and one.against == asked.against]
        sentence = f"{asked.measure} of similarity, mean over training, with {plain(asked.against)}: {_said(asked)}."
        if controls:
            sentence += f" Without training or without a model: {'; '.join(controls)}."
        if closer := [plain(one.what) for one in same if one.role == "control" and one.value >= asked.value]:
            sentence += f" At least as close is: {', '.join(closer)}."
        if given and asked.measure == "Mantel r":
            sentence += f" What is left of it: {'; '.join(f'given {rivals(one)} {_said(one)}' for one in given)}."
        said.append(sentence)
    return tuple(said)


def _key(answers: Sequence[Found]) -> dict[str, Value]:
    """The Mantel correlations of the first tree."""
    asked = next((one for one in answers if one.role == "question" and one.measure == "Mantel r"), None)
    if asked is None:
        return {}
    of = [one for one in answers if one.against == asked.against and not math.isnan(one.value)]
    controls = [one for one in of if one.role == "control" and one.measure == asked.measure and one.what != UNTRAINED]
    found = {QUESTION: asked}
    found |= {one.what: one for one in of if one.role == "control" and one.what == UNTRAINED}
    if controls:
        strongest = max(controls, key=lambda one: one.value)
        found[f"{plain(strongest.what)} alone"] = strongest
    held = [one for one in of if one.role == "given" and one.given != UNTRAINED]
    if held:
        most = max(held, key=lambda one: len(one.given))
        found[f"given {rivals(most)}"] = most
    return {name: _valued(one) for name, one in found.items()}


# --- all in one row


def key_numbers(shown: Shown, near: Proximity | None, columns: dict[str, Column]) -> dict[str, Value]:
    """The row of a setting in its section's summary; adds to `columns` what it needs."""
    found: dict[str, Value] = {}

    def add(column: Column, value: Value) -> None:
        columns.setdefault(column.key, column)
        found[column.key] = value

    last, kind = int(shown.first.steps[-1]), shown.options.kind
    for p in shown.pairs:
        about = f"{shown.said(kind)}, after training"
        add(Column(p, f"cosine {PAIRS[p]}", digits=3, about=about), number(combined.mean(shown.runs, p, kind), last))
    if len(shown.pairs) > 1:
        contrast = number(combined.mean(shown.runs, "contrast", kind), last)
        add(Column("contrast", "within less between", digits=3, signed=True, about="after training"), contrast)
    share = mean_over(combined.share(shown.runs).values, 1)
    add(Column("signal", "share of signal", digits=3, about="of one probe gradient, after training"), Value(share[-1]))
    for name, value in (near.key if near else {}).items():
        title = f"Mantel r, {name}"
        add(
            Column(f"mantel.{name}", title, digits=2, about="with the tree; similarity is the mean over training"),
            value,
        )
    return found
