"""A run's geometry read back from disk, with a question for each thing that it can tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtlbench.cells.words import RESULTS
from mtlbench.errors import UsageError
from mtlbench.geometry import combined, places
from mtlbench.geometry.corrections import Corrections, corrections
from mtlbench.geometry.estimates import Kind
from mtlbench.geometry.labelled import Labelled
from mtlbench.geometry.places import Groups, Pairs, Step
from mtlbench.record.reading import load as load_record
from mtlbench.record.schema import RECORD, Record
from mtlbench.record.trajectory import GEOMETRY, Relation, Trajectory, read
from mtlbench.storage import path_of

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Geometry:
    """Snapshots of the gradients' geometry along the training of one run.

    Answers have the 95 % interval that the choice of probe batches leaves (`mtlbench.geometry.estimates`). The same
    questions to several runs at once, whose seeds then count too, are in `mtlbench.geometry.combined`.
    """

    trajectory: Trajectory
    record: Record | None = None
    """None where the run has no record, or not yet."""
    path: Path = Path(GEOMETRY)
    """The file."""

    @property
    def objectives(self) -> tuple[str, ...]:
        """K names."""
        return self.trajectory.objectives

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """G names, in the order of the forward pass."""
        return tuple(group.name for group in self.trajectory.groups)

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The parts that there are, of `encoder` and `decoder`."""
        return places.parts_of(self.trajectory)

    @property
    def steps(self) -> NDArray[np.int64]:
        """(T,) completed steps at each snapshot; 0 is the untrained model."""
        return np.asarray(self.trajectory.steps)

    @property
    def losses(self) -> Array:
        """(T, K) mean loss of each objective over its probe batches."""
        return np.asarray(self.trajectory.losses)

    @cached_property
    def relations(self) -> Mapping[str, Relation]:
        """What the task knows of its objectives, by name."""
        return {relation.name: relation for relation in self.trajectory.relations}

    @property
    def label(self) -> str:
        """The method with what differs from its defaults; the cell's identity where there is no record."""
        return self.record.label if self.record else self.trajectory.cell

    @property
    def seed(self) -> int | None:
        """None where there is no record."""
        return self.record.cell.seed if self.record else None

    def families(self, by: str | None = None) -> tuple[str, ...] | None:
        """(K,) the family of each objective, as `mtlbench.geometry.places.families` tells it."""
        return places.families(self.trajectory, by)

    # --- questions

    def cosine(self, kind: Kind = "disattenuated", step: Step = -1, groups: Groups = None) -> Labelled:
        """(K, K) cosines between the objectives' gradients; see `mtlbench.geometry.estimates.cosine`."""
        return combined.cosine([self.trajectory], kind, step, groups)

    def share(self, groups: Groups = None) -> Labelled:
        """(T, K) the share of signal in one probe gradient of each objective."""
        return combined.share([self.trajectory], groups)

    def mean(
        self, pairs: Pairs = "all", kind: Kind = "disattenuated", groups: Groups = None, by: str | None = None
    ) -> Labelled:
        """(T,) mean cosine over pairs of objectives at each snapshot; `by` names the relation that has the families."""
        return combined.mean([self.trajectory], pairs, kind, groups, by)

    def layers(self, pairs: Pairs = "all", kind: Kind = "disattenuated", by: str | None = None) -> Labelled:
        """(G, T) mean cosine over pairs of objectives, in each group at each snapshot."""
        return combined.layers([self.trajectory], pairs, kind, by)

    def conflicts(self, step: Step = -1, aligned: bool = False) -> Labelled:
        """(G + 1, K, K) share of negative cosines of probe gradients, of the whole model (`all`) and of each group."""
        return combined.conflicts([self.trajectory], step, aligned)

    def corrections(self) -> Corrections | None:
        """What the method did in training; None where it sees no Gramian of the gradients."""
        return corrections([self.trajectory])


def load(run: str | Path | Record, results: str | Path = RESULTS) -> Geometry:
    """The geometry of one run.

    Args:
        run: the folder of a cell, its `record.json` or `geometry.npz`, or a record, whose folder is then looked for.
        results: the folder of results that a record is in.

    Raises:
        UsageError: there is no geometry, or it is of another cell; the message says how to record it.
        Unreadable: a file that is not whole.
    """
    folder = _folder_of(run, Path(path_of(results))) if isinstance(run, Record) else path_of(run)
    if folder.name in (RECORD, GEOMETRY):
        folder = folder.parent
    path = folder / GEOMETRY
    if not path.is_file():
        raise UsageError(
            f"There is no {GEOMETRY} in {folder}. Train the cell with geometry.every=epoch (or a number of steps)."
        )
    trajectory = read(path)
    record = run if isinstance(run, Record) else None
    if record is None and (folder / RECORD).is_file():
        record = load_record(folder / RECORD)
    if record is not None and record.id != trajectory.cell:
        raise UsageError(f"{path} is of the cell {trajectory.cell}, and the record beside it of {record.id}.")
    return Geometry(trajectory, record, path)


def _folder_of(record: Record, results: Path) -> Path:
    """As `Cell.folder` has it."""
    c = record.cell
    return results / c.task / c.variant / c.protocol_folder / c.method / f"seed{c.seed}-{record.id}"
