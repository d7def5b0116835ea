"""The rows of a leaderboard before they are compared: a method's runs, the scores that count, its search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mtlbench.catalogue import registry
from mtlbench.record.runs import Array, Measure, Run, Sampled
from mtlbench.record.selection import Rule, choose, merits, runoff_merits, sampled, winner
from mtlbench.rendering.table import Role
from mtlbench.tables.grids import Setting


@dataclass(frozen=True)
class Search:
    """The trials from which a tuned method was selected."""

    budget: int
    winner: int
    """Its index among the trials."""
    merit: Array
    """(N,): the validation merit of each trial (`selection.merits`); -inf where there is no result."""
    scores: Array
    """(N, M): test scores of the trials on the split that is reported; NaN where there is no result."""
    runoff_merit: Array
    """(N,): the mean validation merit in the run-off; NaN for trials that were not in it."""
    runoff_scores: Array
    """(N, M): the mean test scores there."""
    best: int | None
    """The trial that the search finds (`selection.winner`); another than the rerun one where cells were lost or added
    since; None where no trial finished."""
    seconds: float = 0.0
    """Training time of all trials and of the run-off together."""


@dataclass(frozen=True)
class Entry:
    """One method with its parameters in one leaderboard: its finished runs and the scores that count."""

    label: str
    role: Role
    runs: tuple[Run, ...]
    """By seed."""
    scores: Array
    """(n, M): the test scores that count, on the split that is reported."""
    missing: tuple[tuple[int, str], ...] = ()
    """Seeds of the grid without a result, and why."""
    search: Search | None = None
    missing_trials: tuple[tuple[int, str], ...] = ()
    """Trials without a result, and why."""
    missing_runoff: tuple[tuple[int, str], ...] = ()
    """Trials in the run-off without a result of some run there, and why."""
    official: Array | None = None
    """(n, M): what the official rule selects, where `scores` are the oracle's."""
    sampling: Sampled | None = None
    """(M,): what is known of the sampling of `scores`, the mean of the errors over the seeds of which there is one."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the runs."""
        return tuple(run.cell.seed for run in self.runs)

    @property
    def method(self) -> str:
        """The registry name."""
        return self.runs[0].cell.method if self.runs else ""


def is_reference(method: str, separate_models: bool = False) -> bool:
    """Whether the method is the base of Delta-m; of one that is not installed here, its records tell.

    Args:
        method: its registry name.
        separate_models: whether a record says that every objective had a model of its own.
    """
    installed = method in registry.methods.entries()
    return registry.role(method) == "reference" if installed else separate_models


def entry(
    setting: Setting,
    measures: Sequence[Measure],
    rule: Rule,
    official: Rule,
    *,
    budget: int | None = None,
    split: str = "test",
) -> Entry:
    """The entry of a setting.

    Args:
        setting: with its runs.
        measures: M that every run has on the split.
        rule: by which scores count.
        official: the rule that the protocol states.
        budget: in the tuned regime, trials per method.
        split: what is reported.

    Raises:
        UsageError: a run that is too short for the rule, or was not scored on `split` where it counts.
    """
    runs = tuple(setting.runs[seed] for seed in sorted(setting.runs))
    search = _search(setting, measures, rule, official, budget, split) if budget else None

    return Entry(
        label=setting.label,
        role="reference" if is_reference(setting.method, any(run.separate_models for run in runs)) else "method",
        runs=runs,
        scores=_scores(runs, measures, rule, split),
        missing=tuple(sorted(setting.missing.items())),
        search=search,
        missing_trials=tuple(sorted(setting.missing_trials.items())),
        missing_runoff=tuple(sorted(setting.missing_runoff.items())),
        official=_scores(runs, measures, official, split) if rule.name == "oracle" else None,
        sampling=_sampling(runs, measures, rule, split),
    )


def _scores(runs: Sequence[Run], measures: Sequence[Measure], rule: Rule, split: str) -> Array:
    """(n, M)."""
    found = [choose(run, rule, split).scores[run.places(measures, split)] for run in runs]
    return np.array(found, dtype=np.float64).reshape(len(runs), len(measures))


def _sampling(runs: Sequence[Run], measures: Sequence[Measure], rule: Rule, split: str) -> Sampled | None:
    """(M,); None where no run knows anything."""
    knowing = [run for run in runs if split in run.sampling]
    if not knowing:
        return None
    found = [(sampled(run, rule, split), run.places(measures, split)) for run in knowing]
    errors = np.ma.masked_invalid([each.errors[places] for each, places in found])
    counts = np.ma.masked_invalid([each.counts[places] for each, places in found])
    return Sampled(errors.mean(0).filled(np.nan), counts.min(0).filled(np.nan))


def _search(
    setting: Setting, measures: Sequence[Measure], rule: Rule, official: Rule, budget: int, split: str
) -> Search | None:
    tuning = next(iter(setting.runs.values())).cell.tuning if setting.runs else None
    if tuning is None:
        return None
    trials, again = [*setting.trials.values()], setting.again
    judged, scores = np.full(budget, -np.inf), np.full((budget, len(measures)), np.nan)
    judged[[*setting.trials]] = merits(trials, official)
    scores[[*setting.trials]] = _scores(trials, measures, rule, split)
    runoff_merit, runoff_scores = np.full(budget, np.nan), np.full((budget, len(measures)), np.nan)
    for trial, merit in runoff_merits(again).items():
        runs = [*setting.runoff[trial].values()]
        runoff_merit[trial] = merit
        runoff_scores[trial] = _scores(runs, measures, rule, split).mean(0)
    best = winner(trials, again)
    return Search(
        budget=budget,
        winner=tuning.trial,
        merit=judged,
        scores=scores,
        runoff_merit=runoff_merit,
        runoff_scores=runoff_scores,
        best=best.cell.tuning.trial if best and best.cell.tuning else None,
        seconds=sum(run.cost.seconds_training for run in (*trials, *again)),
    )
