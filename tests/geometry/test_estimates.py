"""Estimates of cosines against what was planted: unbiased, with intervals that cover, open about what is unknown."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from planted_gradients import FAMILIES, blocks, cosines, gradients, planted, trajectory
from scipy import stats

from mtlbench.errors import UsageError
from mtlbench.geometry import combined, estimates
from mtlbench.geometry.estimates import KINDS, Array, Kind, Sampled
from mtlbench.statistics import t_interval

TRUTH = cosines(0.6, 0.2)
UPPER = np.triu(np.ones((6, 6), dtype=bool), 1)
WITHIN = UPPER & (np.array(FAMILIES)[:, None] == np.array(FAMILIES))
BETWEEN = UPPER & ~WITHIN


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(20)


# --- the formulas


def by_hand(rows: Array, kind: Kind) -> Array:
    """(K, K) from gradients (B, K, P), one product at a time."""
    batches, k, _ = rows.shape

    def mean(first: int, second: int, of: Callable[[Array, Array], float]) -> float:
        pairs = [(b, c) for b in range(batches) for c in range(batches) if (b == c) == (kind == "aligned")]
        return float(np.mean([of(rows[b, first], rows[c, second]) for b, c in pairs]))

    def product(x: Array, y: Array) -> float:
        return float(x @ y)

    def cosine(x: Array, y: Array) -> float:
        return float(x @ y / np.sqrt((x @ x) * (y @ y)))

    if kind != "disattenuated":
        return np.array([[mean(i, j, cosine) for j in range(k)] for i in range(k)])
    u = np.array([[mean(i, j, product) for j in range(k)] for i in range(k)])
    return np.asarray(u / np.sqrt(np.outer(u.diagonal(), u.diagonal())))


@pytest.mark.parametrize("kind", KINDS)
def test_cosines_are_what_their_formulas_say_one_product_at_a_time(kind: Kind, generator: np.random.Generator) -> None:
    rows = gradients(cosines(0.6, 0.2, ("a", "a", "b")), 0.7, generator, batches=4)[0]
    np.testing.assert_allclose(estimates.cosine(blocks(rows), kind).value, by_hand(rows, kind), rtol=1e-10)


@pytest.mark.parametrize("of", [estimates.inner, estimates.negative])
def test_shifts_are_what_leaving_a_batch_out_does(
    of: Callable[[Array], Sampled], generator: np.random.Generator
) -> None:
    rows = gradients(TRUTH, 0.1, generator, batches=6)[0]
    found = of(blocks(rows))
    for b in range(6):
        without = of(blocks(np.delete(rows, b, axis=0))).value
        np.testing.assert_allclose(found.shifts[b], without - found.value, atol=1e-12)


def test_the_share_of_signal_is_the_ratio_of_unaligned_to_aligned_squares_without_its_bias(
    generator: np.random.Generator,
) -> None:
    rows = gradients(TRUTH, 0.1, generator, batches=6)[0]

    def ratio(some: Array) -> Array:
        unaligned, aligned = estimates.inner(blocks(some)), estimates.inner(blocks(some), aligned=True)
        return np.asarray(unaligned.value.diagonal() / aligned.value.diagonal())

    without = np.stack([ratio(np.delete(rows, b, axis=0)) for b in range(6)])
    found = estimates.share(blocks(rows))
    np.testing.assert_allclose(found.shifts, without - ratio(rows), atol=1e-12)
    np.testing.assert_allclose(found.value, 6 * ratio(rows) - 5 * without.mean(0), atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_shifts_of_cosines_are_those_of_leaving_a_batch_out_to_first_order(
    kind: Kind, generator: np.random.Generator
) -> None:
    rows = gradients(TRUTH, 0.9, generator, batches=8)[0]
    found = estimates.cosine(blocks(rows), kind)
    without = np.stack([estimates.cosine(blocks(np.delete(rows, b, axis=0)), kind).value for b in range(8)])
    np.testing.assert_allclose(found.shifts, without - found.value, atol=0.03 * np.abs(found.shifts).max())


def test_snapshots_and_groups_are_estimated_as_if_alone(generator: np.random.Generator) -> None:
    several = planted(TRUTH, 0.3, generator, simulations=6).reshape(2, 3, 10, 6, 10, 6)
    for of in (estimates.cosine, estimates.share, estimates.negative):
        together, alone = of(several), of(several[1, 2])
        np.testing.assert_allclose(together.value[1, 2], alone.value)
        np.testing.assert_allclose(together.shifts[:, 1, 2], alone.shifts, atol=1e-12)


def test_a_coarser_granularity_is_the_sum_over_its_groups(generator: np.random.Generator) -> None:
    rows = gradients(TRUTH, 0.4, generator, size=90)[0]
    layers = np.split(rows, [20, 50], axis=-1)
    gramians = np.stack([blocks(layer) for layer in layers])
    whole = estimates.block(gramians)
    np.testing.assert_allclose(whole, blocks(rows), rtol=1e-10, atol=1e-12)
    two = np.concatenate([layers[0], layers[2]], axis=-1)
    np.testing.assert_allclose(estimates.block(gramians, [0, 2]), blocks(two), rtol=1e-10, atol=1e-12)


# --- what they estimate


def test_a_planted_block_structure_is_recovered_from_gradients_that_are_mostly_noise(
    generator: np.random.Generator,
) -> None:
    inside = planted(TRUTH, 0.2, generator, batches=20, common=0.8, size=300)[0]
    found = estimates.cosine(inside)
    assert estimates.pooled(found, WITHIN).value == pytest.approx(0.6, abs=0.06)
    assert estimates.pooled(found, BETWEEN).value == pytest.approx(0.2, abs=0.1)
    assert found.value[WITHIN].min() > found.value[BETWEEN].max()
    assert estimates.share(inside).value == pytest.approx(np.full(6, 0.2), abs=0.05)


@pytest.mark.parametrize("common", [0.0, 0.9])
def test_disattenuated_cosines_are_unbiased_whatever_noise_is_shared(
    common: float, generator: np.random.Generator
) -> None:
    inside = planted(TRUTH, 0.3, generator, simulations=400, common=common, size=200)
    found = estimates.cosine(inside).value
    off = np.abs(found.mean(0) - TRUTH)[UPPER]
    noise = 4 * found.std(0)[UPPER] / np.sqrt(400)
    assert (off < noise + 0.004).all()
    # the others are not: noise makes unaligned ones small, and shared noise makes aligned ones large
    assert np.abs(estimates.cosine(inside, "unaligned").value.mean(0) - 0.3 * TRUTH)[UPPER].max() < 0.02
    expected = 0.3 * TRUTH + 0.7 * common
    assert np.abs(estimates.cosine(inside, "aligned").value.mean(0) - expected)[UPPER].max() < 0.02


def test_squares_of_mean_gradients_are_unbiased_where_there_is_none(generator: np.random.Generator) -> None:
    found = estimates.inner(planted(TRUTH, 0.0, generator, simulations=400)).value
    assert np.abs(found.mean(0)).max() < 4 * found.std(0).max() / 20
    assert (np.einsum("skk->sk", found) <= 0).mean() == pytest.approx(0.5, abs=0.1)


def quantities(inside: Array) -> dict[str, Sampled]:
    found = {kind: estimates.cosine(inside, kind) for kind in KINDS}
    within = {kind: estimates.pooled(one, WITHIN) for kind, one in found.items()}
    between = {kind: estimates.pooled(one, BETWEEN) for kind, one in found.items()}
    return {
        **{f"{kind}, a pair": _entry(one, 0, 1) for kind, one in found.items()},
        **{f"{kind}, within": one for kind, one in within.items()},
        **{f"{kind}, contrast": estimates.difference(within[kind], between[kind]) for kind in KINDS},
        "inner product": _entry(estimates.inner(inside), 0, 1),
        "share": _entry(estimates.share(inside), 0),
        "negative": _entry(estimates.negative(inside), 0, 2),
    }


def _entry(sampled: Sampled, *place: int) -> Sampled:
    return Sampled(sampled.value[..., *place], sampled.shifts[..., *place])


@pytest.mark.parametrize("share", [0.5, 0.1])
@pytest.mark.parametrize("batches", [10, 5])
def test_intervals_cover_95_percent(batches: int, share: float, generator: np.random.Generator) -> None:
    """At least: where noise dominates they cover more. Truths that no formula gives are means of many simulations."""
    count = 300
    inside = planted(TRUTH, share, generator, simulations=count, batches=batches, common=0.8, size=200)
    known = {"disattenuated, a pair": 0.6, "disattenuated, within": 0.6, "disattenuated, contrast": 0.4, "share": share}
    least = stats.binom.ppf(0.001, count, 0.95)
    for name, found in quantities(inside).items():
        truth = known.get(name, float(np.nanmean(found.value)))
        if name == "negative":
            _, low, high = estimates.share_interval([found])
        else:
            low, high = found.interval()
        unknown = np.isnan(found.value)
        assert ((low <= truth) & (truth <= high) | unknown).sum() >= least, name
        assert unknown.mean() < 0.05, name


def test_intervals_know_how_much_noise_there_is(generator: np.random.Generator) -> None:
    """They are no longer than they need be where there is much signal: 95 %, not 99 %."""
    found = estimates.cosine(planted(TRUTH, 0.7, generator, simulations=600, size=200))
    low, high = _entry(found, 0, 1).interval()
    missed = 600 - ((low <= 0.6) & (high >= 0.6)).sum()
    assert stats.binom.ppf(0.001, 600, 0.03) <= missed <= stats.binom.ppf(0.999, 600, 0.05)


@pytest.mark.parametrize("same_probes", [True, False])
def test_intervals_over_seeds_cover_whether_or_not_the_seeds_share_their_probes(
    same_probes: bool, generator: np.random.Generator
) -> None:
    count, seeds = 300, 3
    hits = 0
    for _ in range(count):
        probes = generator.standard_normal((8, 1))
        runs = []
        for _ in range(seeds):
            batches = probes if same_probes else generator.standard_normal((8, 1))
            value = 0.3 + 0.2 * batches.mean(0) + 0.05 * generator.standard_normal()
            runs.append(Sampled(value, 0.2 * (batches.mean(0) - batches) / 7))
        _, low, high = estimates.interval_over_runs(runs)
        hits += int(low[0] <= 0.3 <= high[0])
    assert hits >= stats.binom.ppf(0.001, count, 0.95)


def test_runs_on_probes_without_any_noise_have_students_interval_over_seeds() -> None:
    values = [0.1, 0.4, 0.3]
    runs = [Sampled(np.array([value]), np.zeros((8, 1))) for value in values]
    expected = t_interval(values)
    found = [float(end[0]) for end in estimates.interval_over_runs(runs)]
    assert found == pytest.approx([expected.mean, expected.low, expected.high])


def test_an_interval_of_one_run_is_that_of_its_batches(generator: np.random.Generator) -> None:
    found = estimates.cosine(planted(TRUTH, 0.3, generator)[0])
    value, low, high = estimates.interval_over_runs([found])
    np.testing.assert_array_equal(value, found.value)
    np.testing.assert_array_equal((low, high), found.interval())


def test_a_share_of_none_still_may_be_some(generator: np.random.Generator) -> None:
    """No conflict on ten batches does not say that there is never one."""
    never = estimates.negative(planted(np.ones((2, 2)) * 0.98 + 0.02 * np.eye(2), 0.95, generator)[0])
    value, low, high = estimates.share_interval([never])
    assert value[0, 1] == 0
    assert low[0, 1] == pytest.approx(0, abs=1e-12)
    assert 0.05 < high[0, 1] < 0.4


def test_a_cosine_above_one_keeps_its_interval_around_it() -> None:
    low, high = estimates.within(np.array([1.2, 0.9, -1.1]), np.array([0.8, 0.7, -1.5]), np.array([1.6, 1.1, -0.9]))
    np.testing.assert_allclose(low, [0.8, 0.7, -1.1])
    np.testing.assert_allclose(high, [1.2, 1.0, -0.9])


# --- what is unknown


def without_signal(generator: np.random.Generator) -> Array:
    """(B, K, B, K) in which objective w shows none: its batches point away from each other."""
    rows = gradients(TRUTH, 0.6, generator, batches=4)[0]
    rows[:, 2] = np.array([1.0, -1.0, 1.0, -1.0])[:, None] * rows[0, 2]
    return blocks(rows)


def test_what_shows_no_signal_is_unknown_and_nothing_else_is(generator: np.random.Generator) -> None:
    found = estimates.cosine(without_signal(generator))
    unknown = np.isnan(found.value)
    assert unknown[2].all()
    assert unknown[:, 2].all()
    assert unknown.sum() == 11
    assert np.isnan(found.error()[2, 0])


def test_means_leave_out_what_is_unknown_and_count_it(generator: np.random.Generator) -> None:
    found = estimates.cosine(without_signal(generator))
    assert estimates.missing(found, WITHIN) == 1
    assert estimates.missing(found, UPPER) == 5
    assert estimates.pooled(found, WITHIN).value == pytest.approx(np.mean([found.value[0, 1], found.value[4, 5]]))
    assert np.isnan(estimates.pooled(found, UPPER & (np.arange(6) == 2)).value)


@pytest.mark.parametrize(
    "ask",
    [
        lambda run: combined.cosine([run]),
        lambda run: combined.mean([run], "within"),
        lambda run: combined.layers([run], "within"),
        lambda run: combined.cosine([run], step="mean"),
    ],
)
def test_answers_say_which_objective_is_unknown_and_when(
    ask: Callable[..., combined.Labelled], generator: np.random.Generator
) -> None:
    good = planted(TRUTH, 0.6, generator, batches=4)[0]
    bad = without_signal(generator)
    answer = ask(trajectory(np.stack([[good, good], [good, good], [bad, bad]])))
    (note,) = answer.notes
    assert note.startswith("w: its batches show no signal (U_kk <= 0) at step 20")
    assert answer.unknown.sum() > 0


def test_a_gradient_that_is_zero_has_no_direction(generator: np.random.Generator) -> None:
    rows = gradients(TRUTH, 0.6, generator, batches=4)[0]
    rows[1, 3] = 0
    run = trajectory(np.stack([blocks(rows), blocks(rows)])[None])
    for kind in ("aligned", "unaligned"):
        answer = combined.cosine([run], kind)
        assert np.isnan(answer.values[3]).all()
        assert answer.notes == ("x: its gradient is zero at step 0; its pairs are left out there.",)


def test_two_batches_have_values_without_intervals_and_one_has_aligned_cosines_alone(
    generator: np.random.Generator,
) -> None:
    two = estimates.cosine(planted(TRUTH, 0.6, generator, batches=2)[0])
    assert np.isfinite(two.value).all()
    assert np.isnan(two.interval()[0]).all()
    one = trajectory(np.stack([planted(TRUTH, 0.6, generator, batches=1)[0]] * 2)[None])
    assert np.isfinite(combined.cosine([one], "aligned").values).all()
    with pytest.raises(UsageError, match=r"geometry\.batches=10"):
        combined.cosine([one])
