"""A cell that was trained again, on another processor for instance: the same to the bit, or how far it has drifted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pydantic

from mtlbench.catalogue.registry import methods, tasks
from mtlbench.cells.cell import Cell
from mtlbench.errors import UsageError
from mtlbench.record.reading import cell_state
from mtlbench.record.schema import Finite, Provenance, Record
from mtlbench.strict import Strict, first_error

TRAINING = "train"
"""The split of curves of losses."""


class Place(Strict):
    """Where and by what a cell was trained."""

    hardware: str
    kernels: dict[str, str]
    """As `Provenance.kernels`; empty where the record does not tell."""
    device: str
    precision: str
    packages: dict[str, str]
    commit: str | None
    dirty: bool | None
    data_digest: str

    @classmethod
    def of(cls, provenance: Provenance) -> Place:
        """That of a record."""
        return cls(**{name: getattr(provenance, name) for name in cls.model_fields})

    @property
    def variables(self) -> dict[str, str]:
        """The variables by which people chose among kernels; nothing where the processor decided alone."""
        return {name: value for name, value in self.kernels.items() if name.isupper()}

    @property
    def kind(self) -> str:
        """`Intel(R) Xeon(R) Processor, AVX2 (ATEN_CPU_CAPABILITY=avx2)`: the processor, and which code ran on it."""
        chosen = ", ".join(f"{name}={value}" for name, value in sorted(self.variables.items()))
        told = self.kernels.get("instructions", "")
        return self.hardware + (f", {told}" if told else "") + (f" ({chosen})" if chosen else "")


class Curve(Strict):
    """One loss or score over the evaluations, before and now."""

    split: str
    """`train` for the loss of training."""
    objective: str
    metric: str
    main: bool
    """Whether it is the objective's first metric."""
    epochs: tuple[int, ...]
    before: tuple[Finite, ...]
    now: tuple[Finite, ...]
    noise: Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)] | None
    """Standard deviation over seeds of the last value, from records that stand beside the first; None of one seed."""

    @property
    def name(self) -> str:
        """`test left accuracy`, `train left loss`."""
        return f"{self.split} {self.objective} {self.metric}"

    @property
    def differences(self) -> tuple[float, ...]:
        """Now less before, by evaluation."""
        return tuple(b - a for a, b in zip(self.before, self.now, strict=True))

    @property
    def first(self) -> int | None:
        """The epoch of the first evaluation at which they are not the same to the bit."""
        return next((e for e, a, b in zip(self.epochs, self.before, self.now, strict=True) if a != b), None)


class Drift(Strict):
    """A cell trained again, beside its record."""

    cell: str
    """For people: `uniform on multimnist/digits, seed 0`."""
    id: str
    protocol: str
    seeds: tuple[int, ...]
    """Of the records from which the noise is known."""
    before: Place
    now: Place
    curves: tuple[Curve, ...]
    lacking: tuple[str, ...] = ()
    """Curves, by name, that one of the two does not have."""

    @property
    def is_equal(self) -> bool:
        """Whether every loss and score of every evaluation is the same to the bit."""
        return self.first is None and not self.lacking

    @property
    def first(self) -> int | None:
        """The epoch of the first evaluation at which a curve differs."""
        return min((c.first for c in self.curves if c.first is not None), default=None)

    @property
    def shown(self) -> list[Curve]:
        """The curves that people look at: losses of training, and main scores on the test split."""
        return [c for c in self.curves if c.split == TRAINING or (c.split == "test" and c.main)]

    @property
    def causes(self) -> list[str]:
        """What else than the processor was another: `torch 2.12.0, now 2.13.0`; a drift may come from there."""
        pairs = [
            *((name, self.before.packages.get(name), self.now.packages.get(name)) for name in self.before.packages),
            ("device", self.before.device, self.now.device),
            ("precision", self.before.precision, self.now.precision),
            ("data", self.before.data_digest[:12], self.now.data_digest[:12]),
            ("commit", (self.before.commit or "unknown")[:12], (self.now.commit or "unknown")[:12]),
        ]
        told = [f"{what} {old}, now {new}" for what, old, new in pairs if old != new]
        return [*told, *(["files that differ from the commit"] if self.before.dirty or self.now.dirty else [])]


class Report(Strict):
    """Cells that were trained again on one kind of processor, as a file."""

    schema_version: Literal[1] = 1
    drifts: tuple[Drift, ...]


def drift(before: Record, now: Record, siblings: Sequence[Record] = ()) -> Drift:
    """How far `now` is from `before`.

    Args:
        before: a finished record.
        now: one of the same cell.
        siblings: finished records of the same setting under other seeds, and `before`, for the noise of seeds.

    Raises:
        UsageError: they are of different cells, or were evaluated after different epochs.
    """
    assert before.provenance is not None
    assert now.provenance is not None
    if before.id != now.id:
        raise UsageError(f"{before.id} and {now.id} are different cells.")
    epochs = [[e.epoch for e in record.evaluations] for record in (before, now)]
    if epochs[0] != epochs[1]:
        raise UsageError(f"{before.label} was evaluated after epochs {epochs[0]}, and now after {epochs[1]}.")
    old, new = _curves(before), _curves(now)
    main = {(o.name, o.metrics[0].name) for o in before.objectives}
    ends = [_curves(record) for record in siblings]
    common = [key for key in old if key in new and [*old[key]] == [*new[key]]]
    return Drift(
        cell=f"{before.label} on {before.cell.task}/{before.cell.variant}, seed {before.cell.seed}",
        id=before.id,
        protocol=before.protocol_label,
        seeds=tuple(sorted(record.cell.seed for record in siblings)),
        before=Place.of(before.provenance),
        now=Place.of(now.provenance),
        curves=tuple(
            Curve(
                split=split,
                objective=objective,
                metric=metric,
                main=(objective, metric) in main,
                epochs=tuple(old[key]),
                before=tuple(old[key].values()),
                now=tuple(new[key].values()),
                noise=_noise([[*curves[key].values()][-1] for curves in ends if key in curves]),
            )
            for key in common
            for split, objective, metric in [key]
        ),
        lacking=tuple(" ".join(key) for key in [*dict.fromkeys([*old, *new])] if key not in common),
    )


def cell_of(record: Record) -> Cell:
    """The cell that a record is of.

    Raises:
        UsageError: its method or task is not there, or another cell would be trained here, as protocols had other keys.
    """
    info = record.cell
    methods.entry(info.method)
    tasks.entry(info.task)
    data = info.canonical()
    cell = Cell.from_data({**data, "protocol": {**data["protocol"], "description": "", "variants": [info.variant]}})
    if cell.id != record.id:
        raise UsageError(
            f"{record.label} on {info.task}/{info.variant}, seed {info.seed}, cannot be trained again: what its record "
            f"({record.id}) says of the protocol would be another cell here ({cell.id})."
        )
    return cell


def siblings(path: Path, record: Record) -> list[Record]:
    """The finished records of the same setting that stand beside one, itself among them; trials have none.

    Args:
        path: of the record's file, in the folder of its cell.
        record: that record.
    """
    if record.cell.tuning is not None and record.cell.tuning.is_trial:
        return [record]
    setting, found = record.cell.setting_id, {record.cell.seed: record}
    for folder in sorted(path.absolute().parents[1].glob("seed*")):
        other = cell_state(folder)
        if other.status == "finished" and other.record and other.record.cell.setting_id == setting:
            found[other.record.cell.seed] = other.record
    return list(found.values())


def read_report(path: Path) -> Report:
    """The report that a file holds; raises `UsageError` where it holds none."""
    try:
        return Report.model_validate_json(path.read_bytes())
    except pydantic.ValidationError as error:
        raise UsageError(f"{path} is no report of `mtlbench reproduce`: {first_error(error)}.") from error


def _curves(record: Record) -> dict[tuple[str, str, str], dict[int, float]]:
    """(split, objective, metric) -> epoch -> value."""
    found: dict[tuple[str, str, str], dict[int, float]] = {}
    for e in record.evaluations:
        for objective, loss in e.losses.items():
            found.setdefault((TRAINING, objective, "loss"), {})[e.epoch] = loss
        for split, by_objective in e.scores.items():
            for objective, metrics in by_objective.items():
                for metric, value in metrics.items():
                    found.setdefault((split, objective, metric), {})[e.epoch] = value
    return found


def _noise(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
