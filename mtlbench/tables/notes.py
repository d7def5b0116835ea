"""The footnotes of a leaderboard: how its numbers were made, what is missing, where they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtlbench.record.runs import Measure, signatures
from mtlbench.record.selection import Rule
from mtlbench.rendering.table import Note
from mtlbench.tables.commands import commands
from mtlbench.tables.comparison import DeltaConvention
from mtlbench.tables.entries import BASELINE, Entry
from mtlbench.tables.grids import Grid
from mtlbench.tables.wording import listed, objectives, seeds, spans

MOST_WARNINGS = 40
"""A table lists so many missing cells and counts the others."""


@dataclass(frozen=True)
class Facts:
    """How one leaderboard was made."""

    grid: Grid
    rule: Rule
    official: Rule
    level: float
    baseline: str | None
    """The label of the row that others are compared with; None if it is not there."""
    reference: Entry | None
    convention: DeltaConvention
    has_delta: bool
    measures: Sequence[Measure]
    """What Delta-m and ranks are over."""
    all_metrics: bool
    """Whether all of them have a column, or the main one of each objective."""
    groups: Mapping[str, Sequence[str]]
    """Of the groups that have a column, the objectives."""
    split: str
    """What the scores are on."""
    lacking: Sequence[str]
    """The objectives that the split does not have."""
    pool: int
    """How many methods are ranked."""
    summary: str | None
    """The title of the column that sorts the rows."""

    def words(self) -> Mapping[str, str]:
        """What every export carries."""
        grid = self.grid
        said = {
            "task": f"{grid.task}/{grid.variant}",
            "protocol": grid.protocol,
            **({"split": self.split} if self.split != "test" else {}),
            "regime": f"tuned, {grid.budget} trials per method" if grid.budget else "fixed",
            "seeds": spans(grid.seeds),
            "selection": f"{self.rule}{'' if self.rule == self.official else f' (official: {self.official})'}",
            "level": f"{self.level:g}",
            "compared with": self.baseline or "none",
        }
        if self.has_delta and self.reference is not None:
            said["delta_m base row"] = f"{self.reference.label}, mean over {seeds(len(self.reference.runs))}"
            said["delta_m sign"] = self.convention.sign_in_words
            said["delta_m weighting"] = self.convention.weighting_in_words
        else:
            said["delta_m base row"] = "none"
        return said


def footnotes(facts: Facts, entries: Sequence[Entry]) -> list[Note]:
    """All footnotes, warnings last."""
    if not any(entry.runs for entry in entries):
        return _missing(entries)
    said = [_scores(facts), *_split(facts), *_selection(facts), _bold(facts, entries)]
    said += [
        *_groups(facts),
        *_delta(facts),
        *_ranks(facts),
        *_difference(facts),
        *_search(facts, entries),
        *_signatures(facts),
        _cost(facts, entries),
        _provenance(entries),
        *_commands(facts, entries),
    ]
    return [
        *(Note(text) for text in said if text),
        *_apart(facts),
        *_dirty(entries),
        *_twins(entries),
        *_winners(entries),
        *_missing(entries),
    ]


def _scores(facts: Facts) -> str:
    grid = facts.grid
    percent = f"{100 * facts.level:.4g} %"
    scores = "Test scores" if facts.split == "test" else f"Scores on the extra test split {facts.split}"
    if len(grid.seeds) < 2:
        return f"{scores} of one seed ({spans(grid.seeds)}): no interval and no test."
    of = "an interval that includes the search" if grid.budget else f"the half-width of the {percent} t interval"
    return f"{scores}: mean over n seeds ({spans(grid.seeds)}) ± {of}; [low, high] where it is not symmetric."


def _split(facts: Facts) -> list[str]:
    if not facts.lacking:
        return []
    return [f"The split {facts.split} lacks {objectives(len(facts.lacking))}: {listed(facts.lacking)}."]


def _groups(facts: Facts) -> list[str]:
    return [f"mean {name}: over {objectives(len(of))}: {listed(of)}." for name, of in facts.groups.items()]


def _signatures(facts: Facts) -> list[str]:
    """How the metrics that are shown are defined; with the objectives, where definitions differ."""
    found = signatures(m for m in facts.measures if m.main or facts.all_metrics)
    told = []
    for metric, by_text in found.items():
        parts = [f"{text} ({listed(of)})" if len(by_text) > 1 else text for text, of in by_text.items()]
        told.append(f"{metric}: {'; '.join(parts)}.")
    return told


def _selection(facts: Facts) -> list[str]:
    rule, official = facts.rule, facts.official
    told = {
        "best-val": "the evaluation with the best validation score counts",
        "last": "the last evaluation counts",
        "mean-last": f"the mean over the last {rule.count} evaluations counts",
        "oracle": "the evaluation with the best TEST score counts: an upper bound, not a result",
    }[rule.name]
    which = "the protocol's official rule" if rule == official else f"the protocol's official rule is {official}"
    return [f"Selection {rule}: {told} ({which})."]


def _bold(facts: Facts, entries: Sequence[Entry]) -> str:
    alpha = f"{100 * (1 - facts.level):.4g} %"
    tests = "by repetitions of search and seeds" if facts.grid.budget else "tests paired by seed"
    text = f"Bold: cannot be told apart from the best of its column ({tests}, Holm-adjusted over methods, at {alpha})."
    if max(len(e.runs) for e in entries) < 2:
        text += " With one seed nothing can be told apart."
    return text


def _delta(facts: Facts) -> list[str]:
    if facts.reference is None:
        return ["No Δm: it needs single-task training as its base row; method=single_task with the same seeds adds it."]
    if not facts.has_delta:
        return ["No Δm: a score of the base row is zero, from which there is no relative change."]
    c = facts.convention
    noise = " Its interval includes the noise of the base row." if len(facts.grid.seeds) > 1 else ""
    return [
        f"Δm: base row {facts.reference.label} (mean over {seeds(len(facts.reference.runs))}); {c.sign_in_words}; "
        f"{c.weighting_in_words} ({len(facts.measures)} metrics).{noise}"
    ]


def _ranks(facts: Facts) -> list[str]:
    if facts.pool < 2:
        return []
    return [
        f"rank: mean rank over {len(facts.measures)} metrics among these {facts.pool} methods, ties averaged; it "
        "depends on the pool and does not compare between tables."
    ]


def _difference(facts: Facts) -> list[str]:
    if facts.baseline is None:
        return [f"No row to compare with: method={BASELINE} with the same seeds adds one, or name another: --against."]
    if facts.pool < 2 or facts.summary is None or len(facts.grid.seeds) < 2:
        return []
    if facts.grid.budget:
        how = "interval and Holm-adjusted p-value are over repetitions of search and seeds"
    else:
        how = "interval and Holm-adjusted p-value are those of the paired t test"
    return [f"vs {facts.baseline}: mean difference of {facts.summary} over common seeds; {how}."]


def _search(facts: Facts, entries: Sequence[Entry]) -> list[str]:
    if facts.grid.budget is None:
        return []
    spaces = []
    for entry in entries:
        tuning = entry.runs[0].cell.tuning if entry.runs else None
        if tuning is not None:
            own = [key for key in tuning.space if key.startswith("method.")]
            spaces.append((entry.label, own, [key for key in tuning.space if key not in own]))
    shared = ", ".join(key.removeprefix("protocol.") for key in spaces[0][2]) if spaces else ""
    owns = "; ".join(f"{label}: {', '.join(own)}" for label, own, _ in spaces if own)
    chosen = [f"{e.label}: {_selected(e)}" for e in entries if e.runs]
    return [
        f"Tuned: {facts.grid.budget} trials for every method, at the same points of the protocol's space ({shared})"
        f"{f' and of its own ({owns})' if owns else ''}; the best on validation was rerun on fresh seeds.",
        f"Selected: {'; '.join(chosen)}.",
    ]


def _selected(entry: Entry) -> str:
    """`optimizer.lr=0.003, method.beta=0.1`: the values that the search found."""
    cell = entry.runs[0].cell
    words = []
    for key in cell.tuning.space if cell.tuning else ():
        room, *path = key.split(".")
        value: Any = cell.parameters if room == "method" else cell.protocol
        for part in path:
            value = value[part]
        words.append(f"{key.removeprefix('protocol.')}={value}")
    return ", ".join(words)


def _cost(facts: Facts, entries: Sequence[Entry]) -> str:
    hardware = sorted({run.provenance.hardware for e in entries for run in e.runs})
    kinds = sorted({run.cost.memory for e in entries for run in e.runs})
    memory = " and ".join({"process": "of the whole process", "device": "allocated on the device"}[k] for k in kinds)
    against = f" Ratios to {facts.baseline} on the same host." if facts.baseline else ""
    return (
        f"Cost: median over seeds; ms/step without evaluation; MB at peak, {memory}; on {'; '.join(hardware)}.{against}"
    )


def _provenance(entries: Sequence[Entry]) -> str:
    made = [run.provenance for e in entries for run in e.runs]
    commits = sorted({p.commit[:12] for p in made if p.commit})
    days = sorted({p.finished[:10] for p in made if p.finished})
    parts = [f"commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}" if commits else "no commit known"]
    if days:
        parts.append(days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}")
    parts += sorted({f"in {p.precision}" for p in made if p.precision != "float32"})
    return f"Made by {'; '.join(parts)}."


def _commands(facts: Facts, entries: Sequence[Entry]) -> list[str]:
    cells = [entry.runs[0].cell for entry in entries if entry.runs]
    return [f"Command: {command}" for command in commands(cells, facts.grid.seeds)]


def _apart(facts: Facts) -> list[Note]:
    others = facts.grid.apart
    text = f"Not mixed with {', '.join(others)}: other contents of the protocol have tables of their own."
    return [Note(text, "warning")] if others else []


def _dirty(entries: Sequence[Entry]) -> list[Note]:
    dirty = sum(bool(run.provenance.dirty) for e in entries for run in e.runs)
    return [Note(f"{dirty} records were made with uncommitted changes.", "warning")] if dirty else []


def _twins(entries: Sequence[Entry]) -> list[Note]:
    """Rows with the very same scores: one of them may not do what its name says."""
    same: dict[tuple[tuple[int, ...], bytes], list[str]] = {}
    for entry in (e for e in entries if e.runs):
        same.setdefault((entry.seeds, entry.scores.tobytes()), []).append(entry.label)
    return [
        Note(f"{' and '.join(labels)} have the same scores to the last digit on every seed.", "warning")
        for labels in same.values()
        if len(labels) > 1
    ]


def _winners(entries: Sequence[Entry]) -> list[Note]:
    """Reruns whose trial is not, or no longer, the best one on validation."""
    notes = []
    for entry in entries:
        s = entry.search
        if s is None:
            continue
        known = s.merit.max() > float("-inf")
        if not known or s.merit[s.winner] < s.merit.max():
            best = f"trial {int(s.merit.argmax())} is the best on validation now" if known else "no trial is there"
            notes.append(Note(f"{entry.label}: trial {s.winner} was rerun, but {best}.", "warning"))
    return notes


def missing(entries: Sequence[Entry]) -> list[str]:
    """What has no result, and why; the most and the rest summed up."""
    told = [f"{e.label}, seed {seed}: {reason}" for e in entries for seed, reason in e.missing]
    told += [f"{e.label}, trial {trial}: {reason}" for e in entries for trial, reason in e.missing_trials]
    more = len(told) - MOST_WARNINGS
    return told if more <= 0 else [*told[:MOST_WARNINGS], f"and {more} more such cells."]


def _missing(entries: Sequence[Entry]) -> list[Note]:
    return [Note(text, "warning") for text in missing(entries)]
