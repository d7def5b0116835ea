"""The cells under a results folder in compact form: curves as arrays, and why a cell has none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
from numpy.typing import NDArray

from mtlbench.record.reading import CellState, Unreadable
from mtlbench.record.schema import SPLITS, CellInfo, Cost, Evaluation, ObjectiveInfo, Provenance, Record

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """One metric of one objective: a column of the curves."""

    objective: str
    metric: str
    unit: str
    higher_is_better: bool
    main: bool
    """Whether it is the objective's first metric, by which epochs and trials are selected."""
    signature: str = ""
    """The metric's exact definition in its library's own notation."""

    @property
    def sign(self) -> float:
        """1 where higher is better, -1 where lower is."""
        return 1.0 if self.higher_is_better else -1.0

    @property
    def kind(self) -> tuple[str, str, bool]:
        """Measures of one kind can be averaged."""
        return self.metric, self.unit, self.higher_is_better


@dataclass(frozen=True)
class Sampled:
    """What is known of the sampling of scores, in the shape of the scores."""

    errors: Array
    """Standard errors from the choice of test examples; NaN where they cannot be said."""
    counts: Array
    """How many examples were scored; NaN where it is not known."""


@dataclass(frozen=True)
class Run:
    """One finished cell."""

    path: Path
    """Its `record.json`."""
    id: str
    cell: CellInfo
    label: str
    """The method with what differs from its defaults."""
    separate_models: bool
    measures: tuple[Measure, ...]
    epochs: NDArray[np.int64]
    """(E,): completed epochs at each evaluation."""
    val: Array
    """(E, M): scores on the validation split."""
    test: Array
    """(E, M): scores on the test split."""
    cost: Cost
    provenance: Provenance
    extra: Mapping[str, Array] = field(default_factory=dict)
    """Extra split -> (E, M) scores; NaN where the split lacks the objective or was not scored."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Named groups of objectives."""
    baselines: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    """Objective -> name -> metric -> what is scored on test without a model, where facts of the task say it."""
    caveats: tuple[str, ...] = ()
    """Sentences that the facts of the task want below every table."""
    sampling: Mapping[str, Sampled] = field(default_factory=dict)
    """Split -> what is known of the sampling of its (E, M) scores; splits of which nothing is known are left out."""

    def curves(self, split: str) -> Array:
        """(E, M): the scores on `split`, NaN where there are none."""
        known = {"val": self.val, "test": self.test, **self.extra}
        return known[split] if split in known else np.full_like(self.test, np.nan)

    def measured(self, split: str) -> list[int]:
        """Which of the M measures `split` has, in their order."""
        return np.flatnonzero(~np.isnan(self.curves(split)).all(0)).tolist()

    def places(self, measures: Sequence[Measure], split: str = "val") -> list[int]:
        """Where `measures`, by objective and metric, stand among those that `split` has: its own order may be another.

        Raises:
            KeyError: the split lacks one of them.
        """
        own = [self.measures[place] for place in self.measured(split)]
        there = {(m.objective, m.metric): place for place, m in enumerate(own)}
        return [there[m.objective, m.metric] for m in measures]

    @classmethod
    def of(cls, record: Record, path: Path = Path()) -> Run:
        """The compact form of a finished record; raises `Unreadable` where a curve is missing, twice, or has holes."""
        assert record.cost is not None
        assert record.provenance is not None
        measures = _measures(record.objectives)
        val, test = (_curves(record.evaluations, split, measures) for split in SPLITS)
        for split, curves in zip(SPLITS, (val, test), strict=True):
            for place in np.flatnonzero(np.isnan(curves).any(0))[:1]:
                m = measures[place]
                raise Unreadable(
                    f"{path} is not a whole record: an evaluation has no {split} score of {m.objective} {m.metric}"
                )
        extra = {split: None for e in record.evaluations for split in e.scores if split not in SPLITS}
        sampled = {split: None for e in record.evaluations for split in e.sampling}
        return cls(
            path=path,
            id=record.id,
            cell=record.cell,
            label=record.label,
            separate_models=record.separate_models,
            measures=measures,
            epochs=np.array([e.epoch for e in record.evaluations]),
            val=val,
            test=test,
            cost=record.cost,
            provenance=record.provenance,
            extra={split: _curves(record.evaluations, split, measures) for split in extra},
            groups=record.groups,
            baselines=_baselines(record.facts),
            caveats=_caveats(record.facts),
            sampling={split: _sampled(record.evaluations, split, measures) for split in sampled},
        )


@dataclass(frozen=True)
class Absent:
    """A cell without a result: it failed, is being trained, was interrupted, or its record cannot be read."""

    path: Path
    """The file that tells, or the folder of the cell."""
    id: str
    status: str
    """`diverged`, `oom`, `timeout`, `error`, `running`, `interrupted` or `unreadable`."""
    reason: str
    cell: CellInfo | None = None
    """None where only the folder's name is known."""
    label: str = ""
    """The method with what differs from its defaults, where the cell is known."""

    @property
    def cell_folder(self) -> tuple[str, str, str, str, int] | None:
        """Task, variant, protocol's folder, method and seed, as the cell's folder tells them; None if it does not."""
        folder = self.path.parent if self.path.suffix else self.path
        number = folder.name.removeprefix("seed").partition("-")[0]
        if len(folder.parts) < 5 or not number.isdigit():
            return None
        task, variant, protocol, method = folder.parts[-5:-1]
        return task, variant, protocol, method, int(number)

    @property
    def why(self) -> str:
        """`diverged: loss is nan (results/.../failure.json)`; it always names the file or folder."""
        said = f"{self.status}: {self.reason}"
        return said if str(self.path) in said else f"{said} ({self.path})"


@dataclass
class Collection:
    """Cells as they stand on disk."""

    runs: list[Run] = field(default_factory=list)
    absent: list[Absent] = field(default_factory=list)


def collect(states: Iterable[CellState]) -> Collection:
    """Take up `record.cells(results)`, one record in memory at a time; nothing that is found there raises."""
    found = Collection()
    for state in states:
        try:
            if state.record is not None and state.status == "finished":
                found.runs.append(Run.of(state.record, state.path))
                continue
            known = (state.record.cell, state.record.label) if state.record else (None, "")
            found.absent.append(Absent(state.path, state.id, state.status, state.reason, *known))
        except Unreadable as error:
            found.absent.append(Absent(state.path, state.id, "unreadable", str(error)))
    return found


_known_measures: dict[tuple[Any, ...], tuple[Measure, ...]] = {}


def _measures(objectives: tuple[ObjectiveInfo, ...]) -> tuple[Measure, ...]:
    """Equal ones are one object, so that many runs hold them once."""
    key = tuple((o.name, m.name, m.unit, m.higher_is_better, m.signature) for o in objectives for m in o.metrics)
    if key not in _known_measures:
        _known_measures[key] = tuple(
            Measure(o.name, m.name, m.unit, m.higher_is_better, place == 0, m.signature)
            for o in objectives
            for place, m in enumerate(o.metrics)
        )
    return _known_measures[key]


def _curves(evaluations: Sequence[Evaluation], split: str, measures: Sequence[Measure]) -> Array:
    """(E, M); NaN, which no record holds, where there is no score."""
    names = [(m.objective, m.metric) for m in measures]
    by_epoch = [evaluation.scores.get(split, {}) for evaluation in evaluations]
    none: dict[str, float] = {}
    found = [[scores.get(o, none).get(m, np.nan) for o, m in names] for scores in by_epoch]
    return np.array(found, dtype=np.float64).reshape(len(evaluations), len(measures))


def _baselines(facts: Mapping[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """Those of the facts, which are free in form; none where they have another one."""
    try:
        return pydantic.TypeAdapter(dict[str, dict[str, dict[str, pydantic.FiniteFloat]]]).validate_python(
            facts.get("baselines", {}), strict=True
        )
    except pydantic.ValidationError:
        return {}


def _caveats(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Those of the facts, which are free in form; none where they have another one."""
    told = facts.get("caveats", [])
    return tuple(told) if isinstance(told, list) and all(isinstance(text, str) for text in told) else ()


def _sampled(evaluations: Sequence[Evaluation], split: str, measures: Sequence[Measure]) -> Sampled:
    """Of (E, M) scores."""
    found = np.full((2, len(evaluations), len(measures)), np.nan)
    for place, evaluation in enumerate(evaluations):
        by_objective = evaluation.sampling.get(split, {})
        for column, m in enumerate(measures):
            told = by_objective.get(m.objective, {}).get(m.metric)
            if told is not None:
                found[:, place, column] = np.nan if told.error is None else told.error, told.count
    return Sampled(*found)


def signatures(measures: Iterable[Measure]) -> dict[str, dict[str, list[str]]]:
    """Metric -> signature -> the objectives scored so; metrics without a signature are left out."""
    found: dict[str, dict[str, list[str]]] = {}
    for m in measures:
        if m.signature:
            found.setdefault(m.metric, {}).setdefault(m.signature, []).append(m.objective)
    return found
