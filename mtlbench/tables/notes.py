"""The footnotes of a leaderboard: how its numbers were made, what is missing, where they came from."""

from __future__ import annotations

from collections.abc import Sequence

from mtlbench.cells.axes import AXES, told
from mtlbench.record.runs import signatures
from mtlbench.rendering.table import Note
from mtlbench.tables import comparison, tuned
from mtlbench.tables.budget import budget_sentence, single_task_budget
from mtlbench.tables.commands import commands
from mtlbench.tables.compared import comparisons
from mtlbench.tables.contest import Contest
from mtlbench.tables.entries import Entry
from mtlbench.tables.planning import Plan
from mtlbench.tables.plateau import gains
from mtlbench.tables.wording import listed, objectives, plural, seeds, spans

MOST_WARNINGS = 40
"""A table lists so many missing cells and counts the others."""


def facts(contest: Contest, plan: Plan | None) -> dict[str, str]:
    """What every export carries, in words; `plan` is what the seeds can show."""
    grid, split, convention = contest.grid, contest.options.split, contest.options.convention
    said = {
        "task": f"{grid.task}/{grid.variant}",
        "protocol": grid.protocol,
        **({"split": split} if split != "test" else {}),
        "regime": f"tuned, {grid.budget} trials per method" if grid.budget else "fixed",
        "seeds": spans(grid.seeds),
        "selection": f"{contest.rule}{'' if contest.rule == contest.official else f' (official: {contest.official})'}",
        "level": f"{contest.options.level:g}",
        "compared with": contest.baseline.label if contest.baseline else "none",
        **({"single-task budget": rule} if (rule := single_task_budget(contest.entries)) else {}),
        **({"detectable": f"{plan.told(plan.columns[0])} to {plan.against}, 80 % power"} if plan else {}),
    }
    if not contest.has_delta or contest.reference is None:
        return {**said, "delta_m base row": "none"}
    return {
        **said,
        "delta_m base row": f"{contest.reference.label}, mean over {seeds(len(contest.reference.runs))}",
        "delta_m sign": convention.sign_in_words,
        "delta_m weighting": convention.weighting_in_words,
    }


def footnotes(contest: Contest, plan: Plan | None, longer_ones: Sequence[Contest] = ()) -> list[Note]:
    """All footnotes, warnings last; `plan` is what the seeds can show, `longer_ones` the same cells trained longer."""
    entries = contest.entries
    if not any(entry.runs for entry in entries):
        return _missing(entries)
    said = [
        _scores(contest),
        *_sampling(contest),
        *_split(contest),
        *_selection(contest),
        *_groups(contest),
        *([budget_sentence(rule)] if (rule := single_task_budget(contest.entries)) else []),
        *comparisons(contest, plan),
        *gains(contest, longer_ones),
        *tuned.searches(contest),
        *_axes(contest),
        *_signatures(contest),
        _cost(contest),
        _provenance(entries),
        *_commands(contest),
    ]
    return [
        *(Note(text) for text in said if text),
        *_apart(contest),
        *_without_sampling(contest),
        *_caveats(entries),
        *_not_shared(contest),
        *_dirty(entries),
        *_twins(entries),
        *tuned.overtaken(entries),
        *tuned.edges(entries),
        *_missing(entries),
    ]


def _scores(contest: Contest) -> str:
    grid, split = contest.grid, contest.options.split
    percent = f"{100 * contest.options.level:.4g} %"
    scores = "Test scores" if split == "test" else f"Scores on the extra test split {split}"
    if len(grid.seeds) < 2:
        return f"{scores} of one seed ({spans(grid.seeds)}): no interval and no test."
    if grid.budget:
        of = "an interval that includes the search"
    else:
        of = f"the half-width of the {percent} t interval, for seeds that scatter about normally"
    return f"{scores}: mean over n seeds ({spans(grid.seeds)}) ± {of}; [low, high] where it is not symmetric."


def _sampling(contest: Contest) -> list[str]:
    """What sampling errors are, and what does not follow from them."""
    if not contest.options.sampling:
        return []
    shown = [q for q in contest.quantities if any(comparison.sampling(q, e) for e in contest.entries if e.runs)]
    if not shown:
        return []
    several = ", and over the evaluations that count, which makes it rather too large" if contest.rule.count > 1 else ""
    told = [
        "se: standard error of a score from the choice of its N test examples, mean over the seeds, which share them"
        f"{several}; a 95 % interval is about ± 2 se. More seeds do not make it smaller. Intervals, bold and tests are "
        f"over seeds alone and leave it out{'; Δm has none' if contest.has_delta else ''}."
    ]
    if any(quantity.sums_up for quantity in shown):
        told.append(
            "se of a mean over K objectives: sqrt(sum of se²) / K, as if their examples were drawn independently of "
            "each other; it is too small where they go together, as translations of the same sentences may."
        )
    told.append(
        "Methods are scored on the same examples, so that se is not the error of a difference between two of them: a "
        "difference below se is by itself no contradiction to a test that tells them apart. How much of it other "
        "examples would leave is not tested here."
    )
    return told


def _without_sampling(contest: Contest) -> list[Note]:
    """That records hold no sampling errors, where they are asked for."""
    runs, split = [run for e in contest.entries for run in e.runs], contest.options.split
    lacking = sum(split not in run.sampling for run in runs)
    if not contest.options.sampling or not lacking:
        return []
    if lacking == len(runs):
        text = (
            f"There are no sampling errors to show: no record holds any on {split}, as its task does not tell them or "
            "did not when the cell ran."
        )
    else:
        text = f"{lacking} of {len(runs)} records hold no sampling errors on {split}; se is over the others."
    return [Note(text, "warning")]


def _split(contest: Contest) -> list[str]:
    if not contest.lacking:
        return []
    return [f"The split {contest.options.split} lacks {objectives(len(contest.lacking))}: {listed(contest.lacking)}."]


def _groups(contest: Contest) -> list[str]:
    return [f"mean {name}: over {objectives(len(group))}: {listed(group)}." for name, group in contest.grouped.items()]


def _axes(contest: Contest) -> list[str]:
    """What there is to say of the axes that rows differ in."""
    found = {name for entry in contest.entries for run in entry.runs for name in told(run.cell.axes)}
    return [axis.note for name, axis in AXES.items() if name in found and axis.note]


def _signatures(contest: Contest) -> list[str]:
    """How the metrics that are shown are defined; with the objectives, where definitions differ."""
    found = signatures(m for m in contest.measures if m.main or contest.options.all_metrics)
    told = []
    for metric, by_text in found.items():
        parts = [f"{text} ({listed(whose)})" if len(by_text) > 1 else text for text, whose in by_text.items()]
        told.append(f"{metric}: {'; '.join(parts)}.")
    return told


def _selection(contest: Contest) -> list[str]:
    rule, official = contest.rule, contest.official
    told = {
        "best-val": "the evaluation with the best validation score counts",
        "last": "the last evaluation counts",
        "mean-last": f"the mean over the last {rule.count} evaluations counts",
        "oracle": "the evaluation with the best TEST score counts: an upper bound, not a result",
    }[rule.name]
    which = "the protocol's official rule" if rule == official else f"the protocol's official rule is {official}"
    return [f"Selection {rule}: {told} ({which})."]


def _cost(contest: Contest) -> str:
    hardware = sorted({run.provenance.hardware for e in contest.entries for run in e.runs})
    kinds = sorted({run.cost.memory for e in contest.entries for run in e.runs})
    memory = " and ".join({"process": "of the whole process", "device": "allocated on the device"}[k] for k in kinds)
    against = f" Ratios to {contest.baseline.label} on the same host." if contest.baseline else ""
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


def _commands(contest: Contest) -> list[str]:
    cells = [entry.runs[0].cell for entry in contest.entries if entry.runs]
    return [f"Command: {command}" for command in commands(cells, contest.grid.seeds)]


def _apart(contest: Contest) -> list[Note]:
    others = contest.grid.apart
    text = f"Not mixed with {', '.join(others)}: other contents of the protocol have tables of their own."
    return [Note(text, "warning")] if others else []


def _not_shared(contest: Contest) -> list[Note]:
    text = f"Left out, as not every record has them alike: {listed(contest.not_shared)}."
    return [Note(text, "warning")] if contest.not_shared else []


def _caveats(entries: Sequence[Entry]) -> list[Note]:
    """What the task says of its data, each sentence once."""
    found = dict.fromkeys(text for entry in entries for run in entry.runs for text in run.caveats)
    return [Note(text) for text in found]


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


def missing(entries: Sequence[Entry]) -> list[str]:
    """What has no result, and why: a line for each reason, such as that nobody ran it; the first and a count."""
    whose: dict[str, dict[str, list[int]]] = {}
    for e in entries:
        for what, lost in (("seed", e.missing), ("trial", e.missing_trials), ("run-off of trial", e.missing_runoff)):
            for number, reason in lost:
                whose.setdefault(reason, {}).setdefault(f"{e.label}, {what}", []).append(number)
    told = [
        f"{'; '.join(f'{row}{plural(numbers)} {spans(numbers)}' for row, numbers in rows.items())}: {reason}"
        for reason, rows in whose.items()
    ]
    rest = [*whose.values()][MOST_WARNINGS:]
    more = sum(len(numbers) for rows in rest for numbers in rows.values())
    return [*told[:MOST_WARNINGS], *([f"and {more} more such cells."] if rest else [])]


def _missing(entries: Sequence[Entry]) -> list[Note]:
    return [Note(text, "warning") for text in missing(entries)]
