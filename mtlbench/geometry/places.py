"""Which snapshots, groups, families and pairs of objectives of a trajectory some words mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mtlbench.errors import UsageError, unknown
from mtlbench.record.trajectory import Relation, Trajectory

Step = int | str
"""Completed steps of a snapshot, a negative number that counts from the last (-1), or `mean`: the mean over all
snapshots but the untrained one."""
Groups = str | Sequence[str] | None
"""None for the whole model, a part (`encoder`, `decoder`), the name of a group, or several of these."""
Pairs = str | NDArray[np.bool_]
"""`all`, `within` families, `between` families, or (K, K) bool."""

PARTS = ("encoder", "decoder")
PAIRS = ("all", "within", "between")


def parts_of(trajectory: Trajectory) -> tuple[str, ...]:
    """The parts that there are, of `encoder` and `decoder`."""
    there = {group.part for group in trajectory.groups}
    return tuple(part for part in PARTS if part in there)


def snapshots(trajectory: Trajectory, step: Step) -> list[int]:
    """The places of the snapshots that a step means.

    Raises:
        UsageError: there is none at that step.
    """
    steps = trajectory.steps.tolist()
    if step == "mean":
        return [place for place, done in enumerate(steps) if done] or list(range(len(steps)))
    if isinstance(step, int | np.integer):
        if step in steps:
            return [steps.index(step)]
        if -len(steps) <= step < 0:
            return [len(steps) + int(step)]
    raise UsageError(
        f"There is no snapshot at step {step}, but at {', '.join(map(str, steps))}; -1 is the last, and 'mean' stands "
        "for all but the untrained model."
    )


def chosen(trajectory: Trajectory, groups: Groups) -> list[int]:
    """The places of some groups, each once.

    Raises:
        UsageError: a name that is neither a group's nor a part's.
    """
    if groups is None:
        return list(range(len(trajectory.groups)))
    picked: set[int] = set()
    for word in [groups] if isinstance(groups, str) else groups:
        of = [place for place, group in enumerate(trajectory.groups) if word and word in (group.name, group.part)]
        if not of:
            raise unknown("group or part", word, [*parts_of(trajectory), *(g.name for g in trajectory.groups)])
        picked.update(of)
    return sorted(picked)


def families(trajectory: Trajectory, by: str | None = None) -> tuple[str, ...] | None:
    """(K,) the family of each objective: the first relation of the kind `label`, or the one called `by`.

    None where there is no such relation.

    Raises:
        UsageError: `by` is none.
    """
    labels: dict[str, Relation] = {r.name: r for r in trajectory.relations if r.kind == "label"}
    if by is not None and by not in labels:
        raise unknown("relation of the kind 'label'", by, labels)
    return tuple(map(str, labels[by or next(iter(labels))].values)) if labels else None


def pairs_of(trajectory: Trajectory, pairs: Pairs, by: str | None = None) -> NDArray[np.bool_]:
    """(K, K) bool, true above the diagonal alone: each of the pairs once.

    Raises:
        UsageError: another word, no families, or no such pair.
    """
    objectives = len(trajectory.objectives)
    upper = np.triu(np.ones((objectives, objectives), dtype=bool), 1)
    if not isinstance(pairs, str):
        found = np.asarray(pairs, dtype=bool)
        found = (found | found.T) & upper
    elif pairs not in PAIRS:
        raise unknown("set of pairs", pairs, PAIRS)
    elif pairs == "all":
        found = upper
    else:
        known = families(trajectory, by)
        if known is None:
            raise UsageError(f"{pairs!r} needs families, and the task tells none of its objectives; 'all' needs none.")
        names = np.array(known)
        same = names[:, None] == names[None, :]
        found = upper & (same if pairs == "within" else ~same)
    if not found.any():
        raise UsageError(f"There is no pair of objectives {pairs if isinstance(pairs, str) else 'among those chosen'}.")
    return found
