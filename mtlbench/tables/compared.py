"""What the footnotes of a leaderboard say of its comparisons: bold, detectable differences, Delta-m, ranks."""

from __future__ import annotations

from mtlbench import statistics
from mtlbench.catalogue.registry import holder
from mtlbench.tables import comparison
from mtlbench.tables.contest import Contest
from mtlbench.tables.entries import Entry
from mtlbench.tables.planning import Plan
from mtlbench.tables.ranking import without_rank
from mtlbench.tables.wording import listed, plural, seeds


def comparisons(contest: Contest, plan: Plan | None) -> list[str]:
    """All of it, in the order of the columns; `plan` is what the seeds can show."""
    return [
        _bold(contest, plan),
        *(plan.notes() if plan else []),
        *_grid(contest),
        *_delta(contest),
        *_ranks(contest),
        *_difference(contest),
    ]


def _bold(contest: Contest, plan: Plan | None) -> str:
    alpha = f"{100 * (1 - contest.options.level):.4g} %"
    tests = "by repetitions of search and seeds" if contest.grid.budget else "tests paired by seed"
    if _is_untrained(contest):
        return "Nothing is trained: the model is scored once as it is, so that there is one row."
    if len(contest.methods) < 2:
        return "Nothing is bold: there is no other method to compare with."
    if not any(comparison.can_be_compared(contest.methods)):
        return "Nothing is bold: with fewer than two seeds in common no method can be told apart from another."
    text = (
        f"Bold: cannot be told apart from the best of its column ({tests}, at {alpha}, adjusted for the number of "
        "methods and for the choice of the best by the same seeds)."
    )
    if not all(comparison.can_be_compared(contest.methods)):
        text += " What has fewer than two seeds in common with the best is not compared with it, and not bold."
    return f"{text} It need not be as good: detectable is {plan.told(plan.columns[0])}." if plan else text


def _grid(contest: Contest) -> list[str]:
    """Where rounding is the spread that tests rest on."""
    methods = contest.methods
    names = [q.column.title for q in contest.quantities if comparison.rests_on_rounding(q, methods)]
    if not names:
        return []
    return [
        f"{listed(names)}: some differences between rows spread over seeds by less than the steps of their scores, "
        "which is no sign of certainty; tests take the rounding of two scores for their spread, step / sqrt(6)."
    ]


def _is_untrained(contest: Contest) -> bool:
    return all(run.cost.steps == 0 for entry in contest.entries for run in entry.runs)


def _delta(contest: Contest) -> list[str]:
    if contest.reference is None and _is_untrained(contest):
        return []
    if contest.reference is None:
        how = f"method={holder('reference')} with the same seeds adds it"
        return [f"No Δm: it needs single-task training as its base row; {how}."]
    c = contest.options.convention
    if not contest.has_delta:
        return [_no_base(contest, contest.reference)]
    noise = " Its interval includes the noise of the base row." if len(contest.grid.seeds) > 1 else ""
    return [
        f"Δm: base row {contest.reference.label} (mean over {seeds(len(contest.reference.runs))}); {c.sign_in_words}; "
        f"{c.weighting_in_words} ({len(contest.weighed)} metric{plural(contest.weighed)}).{noise}"
    ]


def _no_base(contest: Contest, reference: Entry) -> str:
    """Which scores of the base row could be zero."""
    told = []
    for place in comparison.near_zero(contest.measures, reference, contest.options.convention):
        m, base = contest.measures[place], statistics.t_interval(reference.scores[:, place])
        noise = f" ± {base.high - base.mean:.2f}" if base.known else ""
        told.append(f"{m.objective} {m.metric} {base.mean:.2f}{noise}")
    return (
        f"No Δm: the base row {reference.label} cannot be told from zero in {listed(told, 3)} (95 % interval), and "
        "from next to nothing there is no relative change."
    )


def _ranks(contest: Contest) -> list[str]:
    if len(contest.methods) < 2:
        return []
    if reason := without_rank(contest):
        return [reason]
    metrics, methods = len(contest.weighed), len(contest.methods)
    return [
        f"rank: mean rank over {metrics} metrics among these {methods} methods, ties averaged; it depends on the pool "
        "and does not compare between tables."
    ]


def _difference(contest: Contest) -> list[str]:
    if contest.baseline is None:
        how = f"method={holder('baseline')} with the same seeds adds one"
        return [f"No row to compare with: {how}, or name another: --against."]
    if not contest.has_differences or contest.summary is None:
        return []
    if contest.grid.budget:
        how = "interval and Holm-adjusted p-value are over repetitions of search and seeds"
    else:
        how = "interval and Holm-adjusted p-value are those of the paired t test"
    baseline, title = contest.baseline, contest.summary.column.title
    return [f"vs {baseline.label}: mean difference of {title} over common seeds ({_common_seeds(contest)}); {how}."]


def _common_seeds(contest: Contest) -> str:
    """`3`, or `3; mgda 2` where most rows have three seeds in common with the baseline and mgda has two."""
    assert contest.baseline is not None
    own = {*contest.baseline.seeds}
    counts = {e.label: len(own & {*e.seeds}) for e in contest.methods if e is not contest.baseline}
    usual = max(counts.values(), key=[*counts.values()].count)
    odd = [f"{label} {count}" for label, count in counts.items() if count != usual]
    return "; ".join([str(usual), *odd])
