"""Rows of what is scored without a model, such as always the most frequent label: what a score means beside them."""

from __future__ import annotations

import numpy as np

from mtlbench.rendering.table import Note, Row, Value
from mtlbench.tables.contest import Contest


def simple_rows(contest: Contest) -> tuple[list[Row], list[Note]]:
    """A row for each baseline that the facts of all records have alike, and the note that goes with them.

    There are none on an extra split, and none of a baseline that lacks a measure.
    """
    runs = [run for entry in contest.entries for run in entry.runs]
    if contest.options.split != "test" or not runs or any(run.baselines != runs[0].baselines for run in runs):
        return [], []
    known = runs[0].baselines
    rows = []
    for name in dict.fromkeys(name for by_name in known.values() for name in by_name):
        found = [known.get(m.objective, {}).get(name, {}).get(m.metric) for m in contest.measures]
        if None in found:
            continue
        scores = np.array([found], dtype=np.float64)
        values = {q.column.key: Value(float(q.of(scores)[0])) for q in contest.quantities}
        rows.append(Row(name, "simple", values))
    about = (
        "Rows without a model are computed from the training data and ranked with nothing; the task says what they are."
    )
    return rows, [Note(about)] if rows else []
