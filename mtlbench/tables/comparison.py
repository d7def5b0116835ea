"""Quantities that methods are compared by, their intervals, and which methods cannot be told apart."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from mtlbench import statistics
from mtlbench.record.runs import Array, Measure
from mtlbench.rendering.table import Column, Sampling
from mtlbench.statistics import Difference, Interval
from mtlbench.tables import best, searches
from mtlbench.tables.entries import Entry
from mtlbench.tables.options import DeltaConvention
from mtlbench.tables.rounding import rounding_variance
from mtlbench.tables.wording import listed


@dataclass(frozen=True)
class Quantity:
    """A column of scores, and how it is computed from the (n, M) scores of one entry."""

    column: Column
    of: Callable[[Array], Array]
    """(n, M) -> (n,)."""
    against_reference: Callable[[Entry, float], Interval] | None = None
    """The interval at a level where the reference's noise is part of it; None for the t interval of `of`."""
    sums_up: bool = False
    """Whether it is over several objectives."""
    places: tuple[int, ...] = ()
    """The measures that it is the mean of; none where it is something else than a mean."""
    floor: float = 0.0
    """The variance of a difference that the grids of the scores alone give (`rounding_variance`)."""


def quantities(
    measures: Sequence[Measure],
    reference: Entry | None,
    convention: DeltaConvention,
    all_metrics: bool = False,
    groups: Mapping[str, Sequence[str]] = MappingProxyType({}),
    steps: Array | None = None,
) -> list[Quantity]:
    """The measures, their means over objectives and over groups, Delta-m where there is a reference.

    A mean is there where the main metrics of its objectives are of one kind.

    Args:
        measures: M of them.
        reference: the single-task entry, with runs; None if there is none.
        convention: of Delta-m.
        all_metrics: every metric instead of the main one of each objective. What Delta-m is over is for its convention.
        groups: named groups of objectives.
        steps: (M,), the grids that the scores lie on (`rounding.resolution`); None where tests are not asked for.
    """
    found = [_measure(m, place) for place, m in enumerate(measures) if m.main or all_metrics]
    main = [place for place, m in enumerate(measures) if m.main]
    if len(main) > 1 and len({measures[place].kind for place in main}) == 1:
        found.append(_mean(measures, main))
    found += [_mean(measures, places, name) for name, places in group_places(measures, groups).items()]
    if reference is not None and not near_zero(measures, reference, convention):
        found.append(_delta(measures, reference, convention))
    if steps is None:
        return found
    return [
        replace(quantity, floor=rounding_variance(steps, _coefficients(quantity, len(measures)))) for quantity in found
    ]


def _coefficients(quantity: Quantity, count: int) -> Array:
    """(M,): what one more of each score adds to a quantity, all of which are linear in the scores."""
    return quantity.of(np.eye(count)) - quantity.of(np.zeros((1, count)))


def weights(measures: Sequence[Measure], convention: DeltaConvention) -> Array:
    """(M,): those of Delta-m; 0 for what it is not over."""
    names, main = [m.objective for m in measures], [m.main for m in measures]
    return statistics.measure_weights(names, convention.weighting, main)


def near_zero(measures: Sequence[Measure], reference: Entry, convention: DeltaConvention) -> list[int]:
    """The measures of Delta-m whose base is too close to zero for a relative change: their places.

    That is where the 95 % t interval of the base row over its seeds includes zero: it could as well be nothing. Of one
    seed, a score of zero, or one within two standard errors of it where its sampling is known.
    """
    found = []
    for place in np.flatnonzero(weights(measures, convention)):
        base = statistics.t_interval(reference.scores[:, place])
        error = reference.sampling.errors[place] if reference.sampling is not None and not base.known else math.nan
        reach = base.high - base.mean if base.known else 2 * error
        if abs(base.mean) <= (reach if math.isfinite(reach) else 0.0):
            found.append(int(place))
    return found


def group_places(measures: Sequence[Measure], groups: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
    """The groups over which there is a mean: name -> the places of its objectives' main measures."""
    main = {m.objective: place for place, m in enumerate(measures) if m.main}
    places = {name: [main[objective] for objective in group if objective in main] for name, group in groups.items()}
    return {name: found for name, found in places.items() if len({measures[place].kind for place in found}) == 1}


def summary(found: Sequence[Quantity]) -> Quantity:
    """What sorts rows and is compared with the baseline: the mean, else Delta-m, else the first quantity."""
    by_key = {quantity.column.key: quantity for quantity in found}
    return by_key.get("mean") or by_key.get("delta_m") or found[0]


def interval(quantity: Quantity, entry: Entry, level: float) -> Interval:
    """The mean over seeds of an entry with runs, and its interval; in the tuned regime it includes the search."""
    finals = quantity.of(entry.scores)
    if quantity.against_reference is not None:
        known = quantity.against_reference(entry, level)
        if entry.role == "reference" or entry.search is None or not known.known:
            return known
        found = searches.search_interval(finals, repeated(quantity, entry), level)
        return Interval(known.mean, min(known.low, found.low), max(known.high, found.high), known.n)
    if entry.search is not None and len(finals) > 1:
        return searches.search_interval(finals, repeated(quantity, entry), level)
    return statistics.t_interval(finals, level)


def sampling(quantity: Quantity, entry: Entry) -> Sampling | None:
    """The sampling error of a score or of a mean of scores; None where nothing is known of it.

    That of a mean of K scores is `sqrt(sum_k e_k^2) / K`, as if their test examples were drawn independently.
    """
    places = list(quantity.places)
    if entry.sampling is None or not places:
        return None
    errors, counts = entry.sampling.errors[places], entry.sampling.counts[places]
    error = float(np.sqrt((errors**2).sum())) / len(places)
    count = None if len(places) > 1 or math.isnan(counts[0]) else int(counts[0])
    return None if math.isnan(error) and count is None else Sampling(None if math.isnan(error) else error, count)


def difference(quantity: Quantity, entry: Entry, other: Entry, level: float) -> Difference:
    """Entry minus other over the seeds that both have, paired; in the tuned regime the search counts too."""
    mine, theirs = paired_scores(quantity, entry, other)
    found = statistics.paired_difference(mine, theirs, level, quantity.floor)
    if entry.search is not None and other.search is not None and found.n > 1:
        return searches.search_difference(
            found.mean, repeated(quantity, entry), repeated(quantity, other), found.n, level
        )
    return found


def paired_scores(quantity: Quantity, entry: Entry, other: Entry) -> tuple[Array, Array]:
    """(n,) and (n,): the scores of both on the seeds that both have."""
    common = sorted({*entry.seeds} & {*other.seeds})
    one, two = (quantity.of(e.scores)[[e.seeds.index(seed) for seed in common]] for e in (entry, other))
    return one, two


def rests_on_rounding(quantity: Quantity, entries: Sequence[Entry]) -> bool:
    """Whether the differences of some pair differ over seeds by less than the grids of their scores make them."""
    if not quantity.floor:
        return False
    pairs = (paired_scores(quantity, one, other) for one, other in itertools.combinations(entries, 2))
    spreads = [float((x - y).var(ddof=1)) for x, y in pairs if len(x) > 1]
    return any(spread < 0.999 * quantity.floor for spread in spreads)


def as_good_as_the_best(quantity: Quantity, entries: Sequence[Entry], level: float) -> list[Entry]:
    """The entries that cannot be told apart from the best, which is among them (`mtlbench.tables.best`).

    What has fewer than two seeds in common with the best is not tested and not among them; where nothing is tested
    there is no entry at all.
    """
    if not entries:
        return []
    sign = 1.0 if quantity.column.higher_is_better else -1.0
    leader = max(entries, key=lambda e: sign * float(quantity.of(e.scores).mean()))
    others = [e for e in entries if e is not leader]
    behind = [difference(quantity, leader, e, level) for e in others]
    # On the seeds that both have, the leader can be behind.
    p_values = [1.0 if sign * d.mean < 0 or (math.isnan(d.p) and d.n > 1) else d.p for d in behind]
    adjusted = best.adjusted(p_values, max((d.n for d in behind), default=0))
    tested = {e.label: p for e, p in zip(others, adjusted, strict=True) if not math.isnan(p)}
    return [e for e in entries if tested and (e is leader or tested.get(e.label, 0.0) >= 1 - level)]


def can_be_compared(entries: Sequence[Entry]) -> list[bool]:
    """For each pair of entries, whether there is a test of their difference: two common seeds at least."""
    return [len({*one.seeds} & {*other.seeds}) > 1 for one, other in itertools.combinations(entries, 2)]


def repeated(quantity: Quantity, entry: Entry) -> searches.Repeated:
    """Repetitions of the search of a tuned entry and of its seeds; each draws the same trials for every method."""
    search = entry.search
    assert search is not None
    drawn = searches.repeated_searches(search.budget, np.random.default_rng(0))
    noise = np.random.default_rng([1, *entry.label.encode()])
    in_runoff = np.isfinite(search.runoff_merit)
    trials = quantity.of(np.where(in_runoff[:, None], search.runoff_scores, search.scores))
    return searches.repeated(
        search.merit,
        trials,
        search.winner,
        quantity.of(entry.scores),
        drawn,
        noise,
        quantity.floor / 2,
        decided=search.runoff_merit,
    )


def _measure(m: Measure, place: int) -> Quantity:
    column = Column(f"{m.objective}.{m.metric}", f"{m.objective} {m.metric}{_unit(m)}", m.higher_is_better)
    return Quantity(column, lambda scores: scores[:, place], places=(place,))


def _mean(measures: Sequence[Measure], places: Sequence[int], group: str = "") -> Quantity:
    """Over all objectives, or over those of a group."""
    first = measures[places[0]]
    title = " ".join(word for word in ("mean", group, f"{first.metric}{_unit(first)}") if word)
    over = f"{group}: {listed([measures[place].objective for place in places])}" if group else "objectives"
    column = Column(
        f"mean.{group}" if group else "mean",
        title,
        first.higher_is_better,
        about=f"mean over {over} of {first.metric}" if not group else f"mean {first.metric} over {over}",
    )
    return Quantity(column, lambda scores: scores[:, list(places)].mean(1), sums_up=True, places=tuple(places))


def _unit(m: Measure) -> str:
    return f" [{m.unit}]" if m.unit else ""


def _delta(measures: Sequence[Measure], reference: Entry, convention: DeltaConvention) -> Quantity:
    everywhere = weights(measures, convention)
    places = np.flatnonzero(everywhere)
    signs, parts = np.array([m.sign for m in measures])[places], everywhere[places]
    base, turn = reference.scores.mean(0)[places], -1.0 if convention.negative else 1.0

    def against_reference(entry: Entry, level: float) -> Interval:
        if entry is reference:
            return Interval(0.0, math.nan, math.nan, len(entry.runs))
        paired = entry.seeds == reference.seeds
        mine, theirs = entry.scores[:, places], reference.scores[:, places]
        found = statistics.delta_interval(mine, theirs, signs, parts, paired, level)
        low, high = (found.low, found.high) if turn > 0 else (-found.high, -found.low)
        return Interval(turn * found.mean, low, high, found.n)

    column = Column(
        "delta_m",
        "Δm [%]",
        not convention.negative,
        signed=True,
        about=f"relative change from {reference.label}, {convention.sign_in_words}, {convention.weighting_in_words}",
    )
    return Quantity(
        column,
        lambda scores: turn * statistics.delta_m(scores[..., places], base, signs, parts),
        against_reference,
        sums_up=True,
    )
