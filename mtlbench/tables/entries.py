"""The rows of a leaderboard before they are compared: a method's runs, the scores that count, its search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtlbench.catalogue import registry
from mtlbench.record.runs import Array, Run
from mtlbench.record.selection import Rule, choose, merits
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
    seconds: float = 0.0
    """Training time of all trials together."""


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
    official: Array | None = None
    """(n, M): what the official rule selects, where `scores` are the oracle's."""

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
    setting: Setting, rule: Rule, official: Rule, measures: int, budget: int | None, split: str = "test"
) -> Entry:
    """The entry of a setting, scored by `rule`, in a grid of that many measures and, if tuned, trials per method.

    Raises:
        UsageError: a run that is too short for the rule, or was not scored on `split` where it counts.
    """
    runs = tuple(setting.runs[seed] for seed in sorted(setting.runs))

    def scores(by: Rule) -> Array:
        return np.array([choose(run, by, split).scores for run in runs]).reshape(len(runs), measures)

    return Entry(
        label=setting.label,
        role="reference" if is_reference(setting.method, any(run.separate_models for run in runs)) else "method",
        runs=runs,
        scores=scores(rule),
        missing=tuple(sorted(setting.missing.items())),
        search=_search(setting, rule, official, measures, budget, split) if budget else None,
        missing_trials=tuple(sorted(setting.missing_trials.items())),
        official=scores(official) if rule.name == "oracle" else None,
    )


def _search(setting: Setting, rule: Rule, official: Rule, measures: int, budget: int, split: str) -> Search | None:
    tuning = next(iter(setting.runs.values())).cell.tuning if setting.runs else None
    if tuning is None:
        return None
    judged, scores = np.full(budget, -np.inf), np.full((budget, measures), np.nan)
    judged[[*setting.trials]] = merits([*setting.trials.values()], official)
    for index, run in setting.trials.items():
        scores[index] = choose(run, rule, split).scores
    seconds = sum(run.cost.seconds_training for run in setting.trials.values())
    return Search(budget, tuning.trial, judged, scores, seconds)
