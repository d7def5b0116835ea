"""What several runs of one task tell together: cosines, shares of signal, conflicts, means over pairs and layers.

One run has the interval that its probe batches leave, several have one that holds for other seeds as well
(`mtlbench.geometry.estimates.interval_over_runs`). Nothing unknown is left out in silence: each answer counts it and
says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from mtlbench.errors import UsageError
from mtlbench.geometry import estimates
from mtlbench.geometry.estimates import Kind, Sampled
from mtlbench.geometry.labelled import Labelled
from mtlbench.geometry.places import Groups, Pairs, Step, chosen, pairs_of, snapshots
from mtlbench.record.trajectory import Trajectory

Array = NDArray[np.float64]
Counts = NDArray[np.int64]
Runs = Sequence[Trajectory]

WORDS = {
    "disattenuated": "cosine of the mean gradients, free of noise",
    "unaligned": "cosine of two gradients on different examples",
    "aligned": "cosine of two gradients on the same examples, whose common noise counts as similarity",
}
NO_SIGNAL = "its batches show no signal (U_kk <= 0)"
NO_GRADIENT = "its gradient is zero"
Snags = set[tuple[str, str, int, int]]
"""Why, objective, step, and in how many groups nothing is known of it; 0 for what is of the whole model."""


def words(kind: Kind, runs: Runs) -> str:
    """What a kind of cosine is, for a caption."""
    return WORDS[kind] if kind != "aligned" or runs[0].aligned else "cosine of two gradients on one batch each"


def cosine(runs: Runs, kind: Kind = "disattenuated", step: Step = -1, groups: Groups = None) -> Labelled:
    """(K, K) cosines; see `estimates.cosine`. For the step `mean`, the mean over snapshots of those that are known."""
    first, places = _first(runs, kind), [snapshots(run, step) for run in runs]
    sampled, unknown, snags = [], [], Snags()
    for run, of_run in zip(runs, places, strict=True):
        each = [estimates.cosine(_block(run, place, groups), kind) for place in of_run]
        for place, one in zip(of_run, each, strict=True):
            snags |= _snags(run, place, one, _why(kind))
        together = _stacked(each)
        unknown.append(np.isnan(together.value).sum(-1))
        sampled.append(estimates.mean_of(together))
    about = f"{words(kind, runs)}, {_when(step, first)}{_where(groups)}"
    return _labelled(sampled, unknown, _pair_axes(), (first.objectives,) * 2, about, snags, cut=True)


def share(runs: Runs, groups: Groups = None) -> Labelled:
    """(T, K) the share of signal in one probe gradient; see `estimates.share`."""
    first, snags = _first(runs), Snags()
    sampled = [_stacked([estimates.share(_block(r, t, groups)) for t in range(len(r.steps))], 0) for r in runs]
    for run, one in zip(runs, sampled, strict=True):
        for t, k in np.argwhere(np.isnan(one.value)):
            snags.add((NO_GRADIENT, run.objectives[k], int(run.steps[t]), 0))
    unknown = [np.isnan(s.value).astype(np.int64) for s in sampled]
    about = f"share of signal in one gradient of {first.examples} examples{_where(groups)}"
    return _labelled(sampled, unknown, ("step", "objective"), (_steps(first), first.objectives), about, snags)


def mean(
    runs: Runs,
    pairs: Pairs = "all",
    kind: Kind = "disattenuated",
    groups: Groups = None,
    by: str | None = None,
) -> Labelled:
    """(T,) mean cosine over pairs of objectives; `contrast` is within families less between them.

    Args:
        runs: of one task, with equal snapshots.
        pairs: `all`, `within`, `between`, `contrast` or (K, K) bool.
        kind: of cosine.
        groups: None for the whole model.
        by: the relation that tells the families; the first of the kind `label` for None.
    """
    first = _first(runs, kind)
    sets = _sets(first, pairs, by)
    sampled, unknown, snags = [], [], Snags()
    for run in runs:
        found = [_pooled(run, t, kind, _block(run, t, groups), sets) for t in range(len(run.steps))]
        sampled.append(_stacked([one for one, _, _ in found], 0))
        unknown.append(np.array([count for _, count, _ in found]))
        snags.update(snag for _, _, told in found for snag in told)
    about = f"{words(kind, runs)}: {_over(pairs)}{_where(groups)}"
    return _labelled(sampled, unknown, ("step",), (_steps(first),), about, snags, cut=not _is_contrast(pairs))


def layers(runs: Runs, pairs: Pairs = "all", kind: Kind = "disattenuated", by: str | None = None) -> Labelled:
    """(G, T) mean cosine over pairs of objectives, for each group alone; the arguments are those of `mean`."""
    first = _first(runs, kind)
    sets = _sets(first, pairs, by)
    sampled, unknown, snags = [], [], Snags()
    for run in runs:
        blocks = (np.asarray(run.gramians[t], dtype=np.float64) for t in range(len(run.steps)))
        found = [_pooled(run, t, kind, inside, sets) for t, inside in enumerate(blocks)]
        sampled.append(_stacked([one for one, _, _ in found]))
        unknown.append(np.stack([count for _, count, _ in found], -1))
        snags.update(snag for _, _, told in found for snag in told)
    labels = (_group_names(first), _steps(first))
    about = f"{words(kind, runs)}: {_over(pairs)}, for each group of parameters"
    return _labelled(sampled, unknown, ("group", "step"), labels, about, snags, cut=not _is_contrast(pairs))


def conflicts(runs: Runs, step: Step = -1, aligned: bool = False) -> Labelled:
    """(G + 1, K, K) the share of negative cosines of probe gradients, in the whole model (`all`) and in each group.

    It is the share in which PCGrad would see a conflict if its batches were of that many examples. The interval is
    Wilson's, for as many independent observations as the jackknife finds, and between B and B (B - 1).

    Args:
        runs: of one task.
        step: see `cosine`.
        aligned: whether gradients are on the same examples; unaligned ones are what training sees as a rule.
    """
    first = _first(runs, "aligned" if aligned else "unaligned")
    sampled, unknown, snags = [], [], Snags()
    for run in runs:
        each = []
        for place in snapshots(run, step):
            whole = np.asarray(run.gramians[place], dtype=np.float64)
            one = estimates.negative(np.concatenate([whole.sum(0, keepdims=True), whole]), aligned)
            snags |= _snags(run, place, one, NO_GRADIENT)
            each.append(one)
        together = _stacked(each)
        unknown.append(np.isnan(together.value).sum(-1))
        sampled.append(estimates.mean_of(together))
    labels = (("all", *_group_names(first)), first.objectives, first.objectives)
    about = f"share of negative cosines on {'one batch' if aligned else 'different batches'}, {_when(step, first)}"
    return _labelled(sampled, unknown, ("group", *_pair_axes()), labels, about, snags, share=True)


# --- from estimates to labelled arrays


def _labelled(
    sampled: Sequence[Sampled],
    unknown: Sequence[Counts],
    axes: tuple[str, ...],
    labels: tuple[tuple[str, ...], ...],
    about: str,
    snags: Snags,
    cut: bool = False,
    share: bool = False,
) -> Labelled:
    value, low, high = (estimates.share_interval if share else estimates.interval_over_runs)(sampled)
    if cut:
        low, high = estimates.within(value, low, high)
    missing = np.asarray(np.sum(unknown, axis=0, dtype=np.int64))
    return Labelled(value, low, high, axes, labels, missing, len(sampled), about, _sentences(snags))


def _pooled(
    run: Trajectory, place: int, kind: Kind, inside: Array, sets: Sequence[Array]
) -> tuple[Sampled, Counts, Snags]:
    """The mean over the first set of pairs, less that over the second if there is one."""
    each = estimates.cosine(inside, kind)
    parts = [estimates.pooled(each, pairs) for pairs in sets]
    count = np.sum([estimates.missing(each, pairs) for pairs in sets], axis=0)
    one = parts[0] if len(parts) == 1 else estimates.difference(*parts)
    return one, count, _snags(run, place, each, _why(kind))


def _sets(run: Trajectory, pairs: Pairs, by: str | None) -> list[Array]:
    both: tuple[Pairs, ...] = ("within", "between") if _is_contrast(pairs) else (pairs,)
    return [np.asarray(pairs_of(run, one, by)) for one in both]


def _is_contrast(pairs: Pairs) -> bool:
    """Whether it is a difference of cosines, which may be as large as 2."""
    return isinstance(pairs, str) and pairs == "contrast"


def _snags(run: Trajectory, place: int, each: Sampled, why: str) -> Snags:
    """Which objectives are unknown even with themselves at a snapshot, (K, K) or in (G, K, K)."""
    own = np.isnan(np.einsum("...kk->...k", each.value))
    counts = own.sum(0) if own.ndim > 1 else np.zeros(own.shape[-1], dtype=np.int64)
    stuck = own.any(0) if own.ndim > 1 else own
    step = int(run.steps[place])
    return {(why, run.objectives[k], step, int(counts[k])) for k in np.flatnonzero(stuck)}


def _why(kind: Kind) -> str:
    return NO_SIGNAL if kind == "disattenuated" else NO_GRADIENT


def _sentences(snags: Snags) -> tuple[str, ...]:
    """One for each objective and reason."""
    told: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for why, objective, step, groups in sorted(snags):
        told.setdefault((objective, why), []).append((step, groups))
    sentences = []
    for (objective, why), places in sorted(told.items()):
        steps = ", ".join(str(step) for step in sorted({step for step, _ in places}))
        most = max(groups for _, groups in places)
        where = f", in up to {most} groups" if most else ""
        sentences.append(f"{objective}: {why} at step {steps}{where}; its pairs are left out there.")
    return tuple(sentences)


def _stacked(each: Sequence[Sampled], axis: int = -1) -> Sampled:
    """Along a new axis of the values, the first or the last."""
    values, shifts = [one.value for one in each], [one.shifts for one in each]
    return Sampled(np.stack(values, axis), np.stack(shifts, axis if axis < 0 else axis + 1))


def _block(run: Trajectory, place: int, groups: Groups) -> Array:
    return estimates.block(run.gramians[place], None if groups is None else chosen(run, groups))


def _first(runs: Runs, kind: Kind = "unaligned") -> Trajectory:
    """The first of runs that can be looked at together."""
    if not runs:
        raise UsageError("No run was given; at least one is needed.")
    first = runs[0]
    same: dict[str, Callable[[Trajectory], object]] = {
        "objectives": lambda run: run.objectives,
        "groups of parameters": lambda run: _group_names(run),
        "snapshots": lambda run: run.steps.tolist(),
        "numbers of probe batches": lambda run: run.batches,
        "numbers of examples in a probe batch": lambda run: run.examples,
    }
    for what, of in same.items():
        for run in runs[1:]:
            if of(run) != of(first):
                raise UsageError(f"The runs {first.cell} and {run.cell} have other {what} and cannot be combined.")
    if kind != "aligned" and first.batches < 2:
        raise UsageError("One probe batch tells nothing but the aligned cosine; record with geometry.batches=10.")
    return first


def _group_names(run: Trajectory) -> tuple[str, ...]:
    return tuple(group.name for group in run.groups)


def _steps(run: Trajectory) -> tuple[str, ...]:
    return tuple(str(step) for step in run.steps.tolist())


def _pair_axes() -> tuple[str, str]:
    return "objective", "other"


def _when(step: Step, run: Trajectory) -> str:
    if step == "mean":
        return "mean over training"
    done = int(run.steps[snapshots(run, step)[0]])
    return f"after {done} steps" if done else "before training"


def _where(groups: Groups) -> str:
    if groups is None:
        return ""
    return f", in {groups if isinstance(groups, str) else ' + '.join(groups)}"


def _over(pairs: Pairs) -> str:
    if not isinstance(pairs, str):
        return "mean over chosen pairs"
    of = {
        "all": "mean over all pairs",
        "within": "mean over pairs within families",
        "between": "mean over pairs between families",
        "contrast": "mean within families less mean between them",
    }
    return of[pairs]
