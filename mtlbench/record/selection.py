"""Which point of the learning curves counts: rules over what was logged, applied after the fact."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mtlbench.cells.trials import FINALISTS
from mtlbench.errors import UsageError
from mtlbench.record.runs import Array, Measure, Run, Sampled

RULES = "best-val, last, mean-last-N (such as mean-last-10), oracle"


@dataclass(frozen=True)
class Rule:
    """How the scores that a table reports are chosen from the curves.

    `best-val`: the evaluation with the best `merit` on the validation split, the earliest of equals.
    `last`: the last evaluation. `mean-last`: the mean over the last `count` evaluations. `oracle`: the
    evaluation with the best merit on the TEST split, an upper bound that no honest procedure reaches.
    Where every objective has a model of its own, `best-val` and `oracle` choose for each objective apart.
    """

    name: str
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Rule:
        """The rule called `text`; raises `UsageError` with the rules there are."""
        if text in ("best-val", "last", "oracle"):
            return cls(text)
        if found := re.fullmatch(r"mean-last-([1-9]\d*)", text):
            return cls("mean-last", int(found[1]))
        raise UsageError(f"selection={text} is not allowed. Rules: {RULES}.")

    def __str__(self) -> str:
        return f"mean-last-{self.count}" if self.name == "mean-last" else self.name


@dataclass(frozen=True)
class Chosen:
    """The scores of one run that count."""

    val: Array
    """(M,): on the validation split."""
    scores: Array
    """(S,): on the split that is reported; the S measures that it has (`Run.measured`)."""


def choose(run: Run, rule: Rule, split: str = "test") -> Chosen:
    """The scores of `run` on `split` that count under `rule`, which never looks at an extra split.

    Raises:
        UsageError: the curves are too short for the rule, or an evaluation that counts has no scores on the split.
    """
    rows, columns, curves = counting(run, rule), run.measured(split), run.curves(split)
    scores = np.take_along_axis(curves, rows, 0).mean(0)[columns]
    if not columns or np.isnan(scores).any():
        scored = run.epochs[~np.isnan(curves[:, columns]).any(1)] if columns else run.epochs[:0]
        raise UsageError(
            f"selection={rule} takes the scores of {run.path} after epoch {_epochs(run.epochs[rows])}; on the "
            f"split {split} it was scored after epoch {_epochs(scored) or 'none'}. "
            + ("Choose --selection last." if run.epochs[-1] in scored else "Train the cell again.")
        )
    return Chosen(np.take_along_axis(run.val, rows, 0).mean(0), scores)


def sampled(run: Run, rule: Rule, split: str = "test") -> Sampled:
    """What is known of the sampling of the scores that `choose` takes, (S,) each.

    Where several evaluations count, their scores are of the same examples: the mean of their errors is at least the
    error of the mean, and the smallest of their counts is taken.
    """
    rows, columns = counting(run, rule), run.measured(split)
    nothing = np.full_like(run.test, np.nan)
    known = run.sampling.get(split, Sampled(nothing, nothing))
    errors, counts = (np.take_along_axis(curves, rows, 0)[:, columns] for curves in (known.errors, known.counts))
    return Sampled(errors.mean(0), counts.min(0))


def counting(run: Run, rule: Rule) -> NDArray[np.intp]:
    """(R, M): for each measure the evaluations whose mean counts, by index."""
    evaluations, measures = run.val.shape
    if rule.name in ("last", "mean-last"):
        if evaluations < rule.count:
            raise UsageError(
                f"selection={rule} needs {rule.count} evaluations and {run.path} has {evaluations}. "
                f"Choose a smaller number, or another rule: {RULES}."
            )
        return np.tile(np.arange(evaluations - rule.count, evaluations)[:, None], measures)
    judge = run.test if rule.name == "oracle" else run.val
    if not run.separate_models:
        return np.full((1, measures), np.argmax(merit(judge, run.measures)))
    found = np.empty((1, measures), dtype=np.intp)
    for objective in dict.fromkeys(m.objective for m in run.measures):
        own = [i for i, m in enumerate(run.measures) if m.objective == objective]
        found[:, own] = np.argmax(merit(judge[:, own], [run.measures[i] for i in own]))
    return found


def _epochs(numbers: ArrayLike) -> str:
    return ", ".join(map(str, np.unique(numbers).astype(int)))


def merit(scores: Array, measures: Sequence[Measure]) -> Array:
    """One number for each of several candidates, higher is better; it ranks these, and means nothing beside others.

    The mean over objectives of the signed main metric where all objectives have the same one. Else of the signed
    metric on a scale of relative change, on which a change of units has no influence: the logarithm, under which a
    score of zero is worse than any where higher is better; and for a metric that some candidate has below zero, or at
    zero where lower is better, which have no logarithm, the metric over its typical size, the median of its absolute
    values among the candidates.

    Args:
        scores: (N, M), or (M,) of one alone: the evaluations of one run, the trials of one search.
        measures: the M measures.

    Returns:
        (N,), or () of one alone; -inf where a score is NaN.
    """
    main = [i for i, m in enumerate(measures) if m.main]
    signs = np.array([measures[i].sign for i in main])
    values = scores[..., main]
    if len({measures[i].kind for i in main}) > 1:
        values = np.stack([_relative(values[..., i], sign) for i, sign in enumerate(signs)], -1)
    means = np.asarray((values * signs).mean(-1), dtype=np.float64)
    return np.where(np.isnan(means), -np.inf, means)


def _relative(values: Array, sign: float) -> Array:
    """One metric of the candidates on a scale of relative change; see `merit`."""
    known = np.asarray(values)[~np.isnan(values)]
    least = known.min(initial=np.inf)
    if least > 0 or (least == 0 and sign > 0):
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(values))
    sizes = np.abs(known)
    return np.asarray(values / (np.median(sizes) or sizes.max() or 1.0))


def merits(runs: Sequence[Run], rule: Rule) -> Array:
    """(N,): the merit of the validation scores that count under `rule`, of N runs that are candidates together."""
    chosen = [choose(run, rule).val for run in runs]
    if len({tuple((m.objective, *m.kind, m.main) for m in run.measures) for run in runs}) == 1:
        return merit(np.array(chosen), runs[0].measures)
    # No table mixes these; until then each stands alone.
    return np.array([merit(val, run.measures) for val, run in zip(chosen, runs, strict=True)], dtype=np.float64)


def finalists(trials: Iterable[Run]) -> list[Run]:
    """The trials between which a run-off decides: the best ones by validation, the best first, the earlier of equals.

    Args:
        trials: the finished trials of one search; those that failed for good are worse than any.
    """
    found = sorted(trials, key=_index)
    if not found:
        return []
    judged = merits(found, _official(found))
    return [found[place] for place in np.argsort(-judged, kind="stable")[:FINALISTS]]


def runoff_merits(runs: Iterable[Run]) -> dict[int, float]:
    """Trial -> the mean validation merit of its finished runs in the run-off, all of them judged together."""
    found = [*runs]
    if not found:
        return {}
    judged, trials = merits(found, _official(found)), np.array([_index(run) for run in found])
    return {int(trial): float(judged[trials == trial].mean()) for trial in np.unique(trials)}


def winner(trials: Iterable[Run], runoff: Iterable[Run] = ()) -> Run | None:
    """The trial that a search finds, by validation alone.

    That is the finalist with the best mean merit over its runs of the run-off; its own trial, which made it a
    finalist, does not count again. A finalist of which more runs failed is worse than the other. Where there is no
    run-off, as in searches of the first design, it is the best trial. The better trial wins among equals.

    Args:
        trials: the finished trials of one search; those that failed for good are worse than any.
        runoff: finished runs of the run-off; those of other trials than the finalists do not count.

    Returns:
        The run of the trial, or None if there is none.
    """
    best = finalists(trials)
    places = {_index(run) for run in best}
    runs = [run for run in runoff if _index(run) in places]
    judged, done = runoff_merits(runs), Counter(map(_index, runs))
    return max(best, key=lambda run: (done[_index(run)], judged.get(_index(run), 0.0)), default=None)


def _official(runs: Sequence[Run]) -> Rule:
    return Rule.parse(runs[0].cell.protocol["selection"])


def _index(run: Run) -> int:
    assert run.cell.tuning is not None
    return run.cell.tuning.trial
