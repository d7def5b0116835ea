"""Which cells share a leaderboard: grids by task/variant, protocol and regime, settings by method, missing seeds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mtlbench.catalogue.protocol import protocol_label
from mtlbench.cells.cell import Tuning, identity, unsearched
from mtlbench.cells.trials import FINALISTS, RUNOFF_RUNS, RUNOFF_SEEDS, TRIAL_SEEDS
from mtlbench.record.runs import Absent, Collection, Run
from mtlbench.record.schema import RECORD, CellInfo
from mtlbench.record.selection import finalists, winner


@dataclass
class Setting:
    """One method with its parameters in one grid: a row of its table."""

    label: str
    method: str
    cell: CellInfo
    """Of any of its cells."""
    runs: dict[int, Run] = field(default_factory=dict)
    """Seed -> finished run."""
    missing: dict[int, str] = field(default_factory=dict)
    """Seed -> why there is no run."""
    reruns: dict[int, dict[int, Run]] = field(default_factory=dict)
    """In the tuned regime: trial -> seed -> run; of more than one trial where another was the best in the past."""
    trials: dict[int, Run] = field(default_factory=dict)
    """In the tuned regime: trial -> finished run."""
    missing_trials: dict[int, str] = field(default_factory=dict)
    runoff: dict[int, dict[int, Run]] = field(default_factory=dict)
    """In the tuned regime: trial -> which run of the run-off -> finished run."""
    missing_runoff: dict[int, str] = field(default_factory=dict)
    """Trial that is in the run-off -> why a run is missing there."""

    @property
    def again(self) -> list[Run]:
        """All finished runs of the run-off."""
        return [run for runs in self.runoff.values() for run in runs.values()]


@dataclass
class Grid:
    """The cells that share a table."""

    task: str
    variant: str
    protocol: str
    """The label, such as `cpu@1` or `cpu@1+epochs=2`."""
    digest: str
    """Of the protocol's content; empty where versions are mixed."""
    budget: int | None
    """Trials per method; None in the fixed regime."""
    settings: dict[str, Setting] = field(default_factory=dict)
    ambiguous: bool = False
    """Whether another grid has the same name but another content of the protocol."""
    apart: tuple[str, ...] = ()
    """Other versions or contents of the same protocol, whose cells are not mixed with these."""

    @property
    def place(self) -> str:
        """`multimnist/mnist, protocol cpu@1, tuned on 8 trials`."""
        regime = f", tuned on {self.budget} trials" if self.budget else ""
        return f"{self.task}/{self.variant}, protocol {self.protocol_name}{regime}"

    @property
    def protocol_name(self) -> str:
        """The label, and a digest of the content where labels are not enough."""
        return f"{self.protocol} (content {self.digest})" if self.ambiguous else self.protocol

    @cached_property
    def own_protocol(self) -> str:
        """The label of the protocol that words changed; empty where none did."""
        p = next(iter(self.settings.values())).cell.protocol
        return protocol_label(p["name"], p["version"], {}) if p["modified"] else ""

    @cached_property
    def family(self) -> tuple[Any, ...]:
        """What versions of one protocol have in common."""
        p = next(iter(self.settings.values())).cell.protocol
        return self.task, self.variant, p["name"], str(p["modified"]), self.budget

    @cached_property
    def runs(self) -> list[Run]:
        """All finished runs that scores are taken from."""
        return [run for setting in self.settings.values() for run in setting.runs.values()]

    @property
    def everything(self) -> list[Run]:
        """All finished runs, trials of searches included."""
        return [run for s in self.settings.values() for run in (*s.runs.values(), *s.trials.values(), *s.again)]

    @cached_property
    def seeds(self) -> list[int]:
        """The seeds of the grid: all that any method has a cell for."""
        return sorted({seed for s in self.settings.values() for seed in (*s.runs, *s.missing)})


@dataclass
class Sorted:
    """All grids, and what concerns none of them."""

    grids: list[Grid]
    warnings: list[str]


def sort(collection: Collection, allow_mixed: bool = False) -> Sorted:
    """Sort cells into grids; every seed that one method of a grid has and another lacks is missing there.

    Args:
        collection: what is on disk.
        allow_mixed: let versions of one protocol share a grid; their rows are then kept apart.
    """
    warnings: list[str] = []
    grids: dict[tuple[Any, ...], Grid] = {}
    runs = [*_once(collection.runs, warnings)]
    failed = [(absent, absent.cell) for absent in collection.absent if absent.cell is not None]
    for run in runs:
        if run.cell.tuning is None:
            _setting(grids, run.cell, run.label, allow_mixed).runs[run.cell.seed] = run
        elif not run.cell.tuning.is_trial:
            reruns = _setting(grids, run.cell, run.label, allow_mixed).reruns
            reruns.setdefault(run.cell.tuning.trial, {})[run.cell.seed] = run
    for absent, cell in failed:
        if not _is_trial(cell):
            _setting(grids, cell, absent.label, allow_mixed).missing[cell.seed] = absent.why
    for run in runs:
        for setting in _searches(grids, run.cell, run.label):
            if number := _tuning(run.cell).runoff:
                setting.runoff.setdefault(_trial(run.cell), {})[number] = run
            else:
                setting.trials[_trial(run.cell)] = run
    for absent, cell in failed:
        for setting in _searches(grids, cell, absent.label):
            missing = setting.missing_runoff if _tuning(cell).runoff else setting.missing_trials
            missing[_trial(cell)] = absent.why
    for grid in grids.values():
        for setting in grid.settings.values():
            _take_reruns(setting, warnings)
    for absent in collection.absent:
        if absent.cell is None and not _place(absent, grids.values()):
            warnings.append(absent.why)
    names = Counter((g.task, g.variant, g.protocol, g.budget) for g in grids.values())
    for grid in grids.values():
        grid.ambiguous = names[grid.task, grid.variant, grid.protocol, grid.budget] > 1
    for grid in grids.values():
        versions = [g for g in grids.values() if g is not grid and g.family == grid.family]
        grid.apart = tuple(sorted(g.protocol_name for g in versions))
        _distinct_labels(grid)
        _note_missing(grid)
    ordered = sorted(grids.values(), key=lambda g: (g.task, g.variant, g.protocol, g.budget or 0, g.digest))
    return Sorted(ordered, warnings)


def content_digest(cell: CellInfo) -> str:
    """A digest of what the protocol says; of what was searched and how, instead of the values."""
    content = unsearched(cell.canonical())
    protocol = {key: value for key, value in content["protocol"].items() if key not in ("name", "modified")}
    space = [(key, str(where)) for key, where in (cell.tuning.space if cell.tuning else {}).items()]
    search: list[Any] = [item for item in space if item[0].startswith("protocol.")]
    if cell.tuning and cell.tuning.design > 1:
        search.append(cell.tuning.design)
    return identity({**protocol, "search": search})


_digests: dict[tuple[Any, ...], tuple[str, str]] = {}


def _digest(cell: CellInfo) -> tuple[str, str]:
    """The identity of the setting and the digest of the protocol, remembered for cells that differ in seed only."""
    key = (
        cell.task,
        cell.variant,
        cell.method,
        repr(cell.parameters),
        repr(cell.axes),
        repr(cell.protocol),
        repr(cell.tuning),
    )
    if key not in _digests:
        _digests[key] = cell.setting_id, content_digest(cell)
    return _digests[key]


def _once(runs: Iterable[Run], warnings: list[str]) -> Iterator[Run]:
    seen: dict[str, Path] = {}
    for run in runs:
        if run.id in seen:
            warnings.append(f"{run.path} is a second record of the cell in {seen[run.id]}; it is not counted.")
        else:
            seen[run.id] = run.path
            yield run


def _setting(grids: dict[tuple[Any, ...], Grid], cell: CellInfo, label: str, allow_mixed: bool) -> Setting:
    name = cell.protocol_label
    setting, digest = _digest(cell)
    budget = cell.tuning.budget if cell.tuning else None
    key: tuple[Any, ...] = (cell.task, cell.variant, name, budget, digest)
    if allow_mixed:
        key = (cell.task, cell.variant, cell.protocol["name"], str(cell.protocol["modified"]), budget)
    grid = grids.setdefault(key, Grid(cell.task, cell.variant, name, "" if allow_mixed else digest, budget))
    if setting not in grid.settings:
        grid.settings[setting] = Setting(label, cell.method, cell)
    return grid.settings[setting]


def _searches(grids: Mapping[tuple[Any, ...], Grid], cell: CellInfo, label: str) -> Iterator[Setting]:
    """If the cell is a trial, the settings whose reruns it may have been selected for: one for each budget."""
    if not _is_trial(cell):
        return
    own, digest = _digest(cell)
    for grid in grids.values():
        same = (grid.task, grid.variant, grid.digest or digest) == (cell.task, cell.variant, digest)
        if same and grid.budget is not None and _trial(cell) < grid.budget:
            yield grid.settings.setdefault(own, Setting(label, cell.method, cell))


def _is_trial(cell: CellInfo) -> bool:
    return cell.tuning is not None and cell.tuning.is_trial


def _tuning(cell: CellInfo) -> Tuning:
    assert cell.tuning is not None
    return cell.tuning


def _trial(cell: CellInfo) -> int:
    return _tuning(cell).trial


def _take_reruns(setting: Setting, warnings: list[str]) -> None:
    """Of the reruns of several trials, those of the best one count."""
    if not setting.reruns:
        return
    best = winner(setting.trials.values(), setting.again)
    counts = _trial(best.cell) if best else -1
    if counts not in setting.reruns:
        counts = max(setting.reruns, key=lambda trial: len(setting.reruns[trial]))
    setting.runs = setting.reruns[counts]
    setting.cell = next(iter(setting.runs.values())).cell
    setting.missing = {seed: why for seed, why in setting.missing.items() if seed not in setting.runs}
    for trial, runs in setting.reruns.items():
        if trial != counts:
            path = next(iter(runs.values())).path
            warnings.append(f"{path} and others are reruns of trial {trial}, which is not the best; they do not count.")


def _note_missing(grid: Grid) -> None:
    """Every seed that another method has, and every trial of the budget."""
    for setting in grid.settings.values():
        for seed in grid.seeds:
            if seed not in setting.runs:
                setting.missing.setdefault(seed, _why_missing(grid, setting))
        if setting.trials or setting.reruns:
            for trial in set(range(grid.budget or 0)) - {*setting.trials}:
                setting.missing_trials.setdefault(trial, f"missing: no {RECORD} below {_folder(grid, setting)}")
        _note_missing_runoff(grid, setting)


def _note_missing_runoff(grid: Grid, setting: Setting) -> None:
    """Every run of the best trials; runs of trials that are not among these, as in other budgets, concern nobody."""
    best = finalists(setting.trials.values())
    has_runoff = setting.cell.tuning is not None and setting.cell.tuning.has_runoff and len(best) == FINALISTS
    places = {_trial(run.cell) for run in best} if has_runoff else set()
    setting.missing_runoff = {trial: why for trial, why in setting.missing_runoff.items() if trial in places}
    setting.runoff = {trial: runs for trial, runs in setting.runoff.items() if trial in places}
    for trial in places:
        if len(setting.runoff.get(trial, {})) < RUNOFF_RUNS:
            setting.missing_runoff.setdefault(trial, f"missing: no {RECORD} below {_folder(grid, setting)}")


def _why_missing(grid: Grid, setting: Setting) -> str:
    folder = _folder(grid, setting)
    if grid.budget is not None and not setting.reruns:
        done = len(setting.trials)
        return f"missing: {done} of {grid.budget} trials are finished, and none was rerun ({folder})"
    return f"missing: no {RECORD} below {folder.parent}"  # the same for all rows, so that one line tells of all


def _folder(grid: Grid, setting: Setting) -> Path:
    """The folder of the setting's method, as far as records in the grid tell where it is."""
    runs = (run for s in grid.settings.values() for run in (*s.runs.values(), *s.trials.values()))
    path = next((run.path for run in runs), None)
    protocol = path.parents[2] if path is not None and len(path.parents) > 2 else Path(setting.cell.protocol_folder)
    return protocol / setting.method


def _place(absent: Absent, grids: Iterable[Grid]) -> bool:
    """Find the setting of a cell of which only the folder is known, by the identity it would have; False if none is.

    The folder's name holds the seed and the identity, so that a setting whose cell with this seed has this identity
    is the one. A cell that fits no setting is a row of its own in the table of its folder's task and protocol.
    """
    if absent.cell_folder is None:
        return False
    task, variant, protocol, method, seed = absent.cell_folder
    there = [g for g in grids if (g.task, g.variant) == (task, variant)]
    for grid in there:
        for setting in (s for s in grid.settings.values() if s.method == method):
            if absent.id in _identities(grid, setting, seed):
                setting.missing[seed] = absent.why
                return True
            if (trial := _trial_in_runoff(setting, absent.id, seed)) is not None:
                setting.missing_runoff[trial] = absent.why
                return True
    for grid in there:
        first = next(iter(grid.settings.values())).cell
        if first.protocol_folder != protocol:
            continue
        if grid.budget is not None and seed > RUNOFF_SEEDS:
            continue  # of a trial that is not there
        if grid.budget is not None and seed >= TRIAL_SEEDS:
            own = [s for s in grid.settings.values() if s.method == method]
            if len(own) == 1:
                own[0].missing_trials.setdefault(seed - TRIAL_SEEDS, absent.why)
                return True
            continue
        cell = first.model_copy(update={"method": method, "parameters": {}, "seed": seed})
        unknown = grid.settings.setdefault(f"unknown {method}", Setting(f"{method} (settings unknown)", method, cell))
        unknown.missing[seed] = absent.why
        return True
    return False


def _identities(grid: Grid, setting: Setting, seed: int) -> set[str]:
    """Of the setting's cell with this seed; in the tuned regime, of the reruns of any of its trials."""
    cells = [setting.cell, *(run.cell for run in setting.trials.values())]
    found = set()
    for cell in cells:
        tuning = cell.tuning and cell.tuning.model_copy(update={"budget": grid.budget, "runoff": 0})
        found.add(identity(cell.model_copy(update={"seed": seed, "tuning": tuning}).canonical()))
    return found


def _trial_in_runoff(setting: Setting, wanted: str, seed: int) -> int | None:
    """The trial whose run in the run-off has this identity, if one has."""
    for trial, run in setting.trials.items():
        tuning = _tuning(run.cell).model_copy(update={"runoff": seed - RUNOFF_SEEDS})
        if identity(run.cell.model_copy(update={"seed": seed, "tuning": tuning}).canonical()) == wanted:
            return trial
    return None


def _distinct_labels(grid: Grid) -> None:
    """Settings that differ in what the label leaves out, such as the protocol's version, are told apart."""
    same: dict[str, list[tuple[str, Setting]]] = {}
    for key, setting in grid.settings.items():
        same.setdefault(setting.label, []).append((key, setting))
    for settings in same.values():
        versions = {setting.cell.protocol_label for _, setting in settings}
        for key, setting in settings if len(settings) > 1 else ():
            distinct = len(versions) == len(settings)
            setting.label += f" ({setting.cell.protocol_label if distinct else key})"
