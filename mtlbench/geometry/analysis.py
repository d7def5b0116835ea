"""Which runs an analysis is about: those with recorded geometry, grouped by task variant and by setting."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtlbench.catalogue.protocol import flat
from mtlbench.catalogue.registry import role
from mtlbench.cells.cell import identity
from mtlbench.errors import UsageError
from mtlbench.record.runs import Run
from mtlbench.record.selection import Rule, choose
from mtlbench.record.trajectory import GEOMETRY

Array = NDArray[np.float64]

RECORDING = "geometry.every=epoch"
"""The word of `mtlbench run` that records geometry."""


@dataclass(frozen=True)
class Seeds:
    """One setting: runs that differ in their seeds alone, each with recorded geometry."""

    slug: str
    label: str
    """The method with what differs from its defaults, and the keys of the protocol in which settings differ."""
    runs: tuple[Run, ...]
    """By seed."""

    @property
    def objectives(self) -> tuple[str, ...]:
        """K names."""
        return _objectives(self.runs[0])

    @property
    def title(self) -> str:
        """With the seeds."""
        seeds = [run.cell.seed for run in self.runs]
        return f"{self.label}, {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"


@dataclass(frozen=True)
class Study:
    """Settings on one task variant with the same objectives and the same version of the protocol."""

    slug: str
    title: str
    objectives: tuple[str, ...]
    settings: tuple[Seeds, ...]
    references: tuple[Run, ...]
    """Runs of single-task training, whether or not they have geometry."""
    unrecorded: tuple[Run, ...]
    """Other runs without geometry."""


def studies(runs: Iterable[Run]) -> list[Study]:
    """The runs grouped, in the order of task, variant and objectives; studies without any geometry are left out.

    Trials of a search are left out: they are no setting of their own.

    Raises:
        UsageError: no run has recorded its geometry.
    """
    apart: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        if run.cell.tuning is None or not run.cell.tuning.is_trial:
            cell = run.cell
            version = f"{cell.protocol['name']}@{cell.protocol['version']}"
            apart.setdefault((cell.task, cell.variant, version, *_objectives(run)), []).append(run)
    titles = _titles([*apart], apart)
    found = [_study(key, titles[key], apart[key]) for key in sorted(apart)]
    recorded = [study for study in found if study.settings]
    if not recorded:
        labels = sorted({run.label for run in runs})
        raise UsageError(
            f"None of the runs ({', '.join(labels[:5])}) has recorded its gradients' geometry ({GEOMETRY}). "
            f"Train them with the word {RECORDING}, such as: mtlbench run method=gradvac task=nmt {RECORDING}."
        )
    return recorded


def is_reference(run: Run) -> bool:
    """Whether it is single-task training."""
    return run.separate_models or role(run.cell.method) == "reference"


def scores(run: Run) -> Array:
    """(K,): the main test score of each objective that counts under the protocol's own rule."""
    chosen = choose(run, Rule.parse(run.cell.protocol["selection"])).scores
    measures = [run.measures[place] for place in run.measured("test")]
    return np.array([score for score, measure in zip(chosen, measures, strict=True) if measure.main])


def measure(run: Run) -> tuple[str, float] | None:
    """What the main scores are, and the sign that makes more of them better; None where objectives differ in it."""
    kinds = {(m.metric, m.unit, m.sign) for m in run.measures if m.main}
    if len(kinds) > 1:
        return None
    ((name, unit, sign),) = kinds
    return (f"{name} [{unit}]" if unit else name), sign


def gains(study: Study, setting: Seeds) -> Array | None:
    """(K,): mean score over seeds minus that of single-task training under the same protocol, signed so that more is
    better; None without such runs or where objectives have different metrics.
    """
    known = measure(setting.runs[0])
    base = [run for run in study.references if run.cell.protocol == setting.runs[0].cell.protocol]
    if known is None or not base:
        return None
    return known[1] * (np.mean([scores(r) for r in setting.runs], 0) - np.mean([scores(r) for r in base], 0))


def slugged(text: str) -> str:
    """Letters, digits and `-` for the names of files; never empty."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-").lower() or "run"


def _objectives(run: Run) -> tuple[str, ...]:
    return tuple(dict.fromkeys(m.objective for m in run.measures))


def _titles(
    keys: Sequence[tuple[str, ...]], runs: Mapping[tuple[str, ...], Sequence[Run]]
) -> dict[tuple[str, ...], str]:
    """`nmt/families, cpu@2`, with the options in which studies of one variant differ, such as the direction."""
    found = {}
    for key in keys:
        task, variant, version = key[:3]
        siblings = [other for other in keys if other[:3] == key[:3]]
        title = f"{task}/{variant}, {version}"
        if len(siblings) > 1:
            options = {
                other: _common([flat(r.cell.protocol.get("options", {})) for r in runs[other]]) for other in siblings
            }
            told = [f"{k}={v}" for k, v in options[key].items() if any(options[o].get(k) != v for o in siblings)]
            title += f", {', '.join(told) or f'{key[3]} and {len(key) - 4} others'}"
        found[key] = title
    return found


def _common(contents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The items that all of them have."""
    return {k: v for k, v in contents[0].items() if all(k in other and other[k] == v for other in contents)}


def _study(key: tuple[str, ...], title: str, runs: Sequence[Run]) -> Study:
    with_geometry = [r for r in runs if (r.path.parent / GEOMETRY).is_file() and not is_reference(r)]
    return Study(
        slug=slugged(title),
        title=title,
        objectives=key[3:],
        settings=tuple(_settings(with_geometry)),
        references=tuple(r for r in runs if is_reference(r)),
        unrecorded=tuple(r for r in runs if not is_reference(r) and r not in with_geometry),
    )


def _settings(runs: Sequence[Run]) -> list[Seeds]:
    """By all of the configuration but the seed; baselines first, then by label."""
    apart: dict[str, list[Run]] = {}
    for run in runs:
        content = {k: v for k, v in run.cell.canonical().items() if k != "seed"}
        apart.setdefault(json.dumps(content, sort_keys=True, default=str), []).append(run)
    groups = [sorted(group, key=lambda run: run.cell.seed) for group in apart.values()]
    protocols = [flat({k: v for k, v in g[0].cell.protocol.items() if k != "modified"}) for g in groups]
    common = _common(protocols) if protocols else {}
    labels = []
    for group, protocol in zip(groups, protocols, strict=True):
        own = [f"{key.removeprefix('options.')}={value}" for key, value in protocol.items() if key not in common]
        labels.append("; ".join([group[0].label, *own]))
    order = sorted(range(len(groups)), key=lambda i: (role(groups[i][0].cell.method) != "baseline", labels[i]))
    found: list[Seeds] = []
    for i in order:
        slug = slugged(labels[i])[:60]
        if slug in {other.slug for other in found}:
            slug = f"{slug}-{identity(groups[i][0].cell.canonical())[:6]}"
        found.append(Seeds(slug, labels[i], tuple(groups[i])))
    return found
