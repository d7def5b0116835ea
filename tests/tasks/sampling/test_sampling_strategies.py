"""Shares that strategies give: values by hand, and what each promises whatever the numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mtlbench
from mtlbench.catalogue import building
from mtlbench.catalogue.sampling import Sampling, Supply
from mtlbench.errors import UsageError
from mtlbench.tasks._sampling.chi2_dro import best_response, divergence
from mtlbench.tasks._sampling.temperature import shares


def begun(
    name: str,
    sizes: Any,
    budget: float = 100.0,
    epochs: int = 4,
    protocol: float = 5.0,
    **parameters: Any,
) -> Sampling:
    """A strategy for a training that takes `budget` in all, with those of 50 examples and more as `hrl`."""
    found = building.sampling(name, **parameters)
    amounts = np.array(sizes, dtype=np.float64)
    supply = Supply(sizes=amounts, amounts=amounts, step=budget / epochs / 5, temperature=protocol)
    groups = {"hrl": np.flatnonzero(amounts >= 50).tolist()}
    found.begin(supply, epochs=epochs, steps_per_epoch=5, groups=groups)
    return found


def test_temperature_is_that_of_the_protocol_unless_it_is_given() -> None:
    # Square roots of 100, 25 and 1 at T = 2.
    assert begun("temperature", [100, 25, 1], protocol=2.0).shares(0) == pytest.approx([10 / 16, 5 / 16, 1 / 16])
    assert begun("temperature", [3, 1], temperature=1.0).shares(0) == pytest.approx([0.75, 0.25])
    assert shares([3, 1, 7], np.inf) == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(("budget", "repeats"), [(20, 2), (10, 1)])
def test_unimax_hands_the_budget_out_from_the_smallest_to_the_largest(budget: float, repeats: float) -> None:
    # Of 20: min(20/4, 2) = 2, then min(18/3, 4) = 4, then min(14/2, 10) = 7, and 7 are left. Handed out from the
    # largest, it would be 5, 5, 4, 2.
    found = begun("unimax", [1, 2, 5, 10], budget, repeats=repeats)
    assert found.shares(0) == pytest.approx([0.1, 0.2, 0.35, 0.35])
    assert begun("unimax", [5, 1, 10, 2], budget, repeats=repeats).shares(3) == pytest.approx([0.35, 0.1, 0.35, 0.2])


def test_unimax_is_uniform_where_nobody_reaches_the_limit_and_proportional_where_all_do() -> None:
    assert begun("unimax", [10, 200, 3000], 30, repeats=1).shares(0) == pytest.approx([1 / 3] * 3)
    assert begun("unimax", [10, 20, 30], 1000, repeats=2).shares(0) == pytest.approx([1 / 6, 2 / 6, 3 / 6])


def test_no_objective_of_unimax_is_seen_more_often_than_it_may_be_and_the_rest_get_the_same() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        sizes, repeats = np.exp(rng.normal(0, 2, 8)), rng.uniform(0.5, 5)
        budget = repeats * sizes.sum() * rng.uniform(0.1, 1)
        passes = begun("unimax", sizes, budget, repeats=repeats).shares(0) * budget / sizes
        assert passes.max() <= repeats * (1 + 1e-9)
        free = passes < repeats * (1 - 1e-9)
        given = passes * sizes
        assert given[free] == pytest.approx(np.full(free.sum(), given.max()))


def test_unimax_has_no_default_for_its_limit() -> None:
    with pytest.raises(UsageError, match=r"unimax needs sampling\.repeats=\.\.\.: float in \(0, inf\)"):
        building.sampling("unimax")


def test_order_begins_with_one_group_alone_and_then_has_the_mixture() -> None:
    found = begun("order", [100, 400, 25], epochs=4, protocol=2.0, switch=0.5)
    first, mixture = [10 / 30, 20 / 30, 0], [10 / 35, 20 / 35, 5 / 35]
    assert [found.shares(epoch) for epoch in range(4)] == [pytest.approx(p) for p in (first, first, mixture, mixture)]


def test_order_refuses_a_phase_without_an_epoch_and_a_group_that_there_is_none_of() -> None:
    with pytest.raises(UsageError, match=r"switch=0\.1 is not allowed: of 4 epochs the first phase would have 0"):
        begun("order", [100, 1], switch=0.1)
    with pytest.raises(UsageError, match=r"would have 4"):
        begun("order", [100, 1], switch=0.9)
    with pytest.raises(UsageError, match=r"sampling\.group=hlr is no group.*Its groups are: hrl"):
        begun("order", [100, 1], switch=0.5, group="hlr")


def test_the_best_response_of_two_objectives_by_hand() -> None:
    # q = (.8 (1 + a), .2 (1 - 4 a)) has the divergence (.8 a^2 + .2 16 a^2) / 2 = 2 a^2, so that a = sqrt(.05 / 2).
    p, a = np.array([0.8, 0.2]), np.sqrt(0.025)
    assert best_response([2, 1], p, 0.05, 0.2) == pytest.approx([0.8 * (1 + a), 0.2 * (1 - 4 * a)], abs=1e-12)
    assert best_response([2, 1], p, 0.05, 0.2) == pytest.approx([0.926491, 0.073509], abs=1e-6)
    assert best_response([1, 2], p, 0.05, 0.2) == pytest.approx([0.673509, 0.326491], abs=1e-6)


def test_an_objective_keeps_a_part_of_its_share_before_shares_are_normalised() -> None:
    # At eta = 1/2 losses (2, 1, 0) leave (3/2, 1/2, 0), which is (.75, .25, 0); the third is raised to .2/3.
    p = np.full(3, 1 / 3)
    expected = np.array([0.75, 0.25, 0.2 / 3]) / (1 + 0.2 / 3)
    assert best_response([2, 1, 0], p, divergence(expected, p), 0.2) == pytest.approx(expected, abs=1e-12)
    # Two of three losses are the highest: the limit is (1/2, 1/2, 0), with the third raised.
    limit = np.array([0.5, 0.5, 0.2 / 3]) / (1 + 0.2 / 3)
    assert best_response([2, 2, 0], p, 50.0, 0.2) == pytest.approx(limit, abs=1e-12)


def test_the_best_response_lies_on_the_ball_and_follows_neither_scale_nor_origin_of_the_losses() -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        losses, p, rho = rng.normal(3, 1, 7), rng.dirichlet(np.ones(7)), rng.uniform(0.001, 0.2)
        q = best_response(losses, p, rho, 0.2)
        assert q.sum() == pytest.approx(1)
        assert (q >= 0.2 / 1.2 * p * (1 - 1e-12)).all()
        assert divergence(q, p) == pytest.approx(rho, rel=1e-9)
        assert best_response(100 * losses - 7, p, rho, 0.2) == pytest.approx(q, rel=1e-7)
        order = np.argsort(losses)
        assert (np.diff((q / p)[order]) >= -1e-12).all()
    assert best_response([1, 1, 1], p[:3] / p[:3].sum(), 0.05, 0.2) == pytest.approx(p[:3] / p[:3].sum())


def test_chi2_dro_has_the_shares_of_the_data_at_first_and_then_answers_the_mean_losses() -> None:
    found = begun("chi2_dro", [80, 20])
    assert found.shares(0) == pytest.approx([0.8, 0.2])
    found.observe({0: 2.0})
    assert found.shares(1) == pytest.approx([0.8, 0.2])  # the other one has no loss yet
    found.observe({0: 3.0, 1: 1.0})
    found.observe({1: 2.0})
    assert found.state["mean_loss"] == pytest.approx([0.9 * 2 + 0.1 * 3, 0.9 * 1 + 0.1 * 2])
    assert found.shares(2) == pytest.approx([0.926491, 0.073509], abs=1e-6)


def test_chi2_dro_subtracts_what_an_objective_can_be_expected_to_reach() -> None:
    found = begun("chi2_dro", [80, 20], baselines=(2.0, 0.0))
    found.observe({0: 3.0, 1: 2.0})
    assert found.shares(1) == pytest.approx([0.673509, 0.326491], abs=1e-6)
    with pytest.raises(UsageError, match=r"sampling\.baselines has 3 losses for 2 objectives"):
        begun("chi2_dro", [80, 20], baselines=(1.0, 2.0, 3.0))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("temperature", {}),
        ("temperature", {"temperature": 1.0}),
        ("unimax", {"repeats": 3.0}),
        ("order", {"switch": 0.5}),
        ("chi2_dro", {}),
    ],
)
def test_shares_are_shares_and_follow_the_objectives_when_these_change_places(
    name: str, parameters: dict[str, Any]
) -> None:
    rng = np.random.default_rng(2)
    sizes = np.array([500.0, 3.0, 60.0, 60.0, 1.0, 49.0])
    moved = rng.permutation(6)
    one, other = begun(name, sizes, **parameters), begun(name, sizes[moved], **parameters)
    for epoch in range(4):
        first, second = one.shares(epoch), other.shares(epoch)
        assert first.shape == (6,)
        assert first.min() >= 0
        assert first.sum() == pytest.approx(1, abs=1e-12)
        assert second == pytest.approx(first[moved])
        losses = rng.uniform(1, 4, 6)
        one.observe(dict(enumerate(losses)))
        other.observe(dict(enumerate(losses[moved])))


def test_every_strategy_tells_its_defaults_without_being_imported() -> None:
    from mtlbench.catalogue.registry import samplings

    assert samplings.names() == ["chi2_dro", "order", "temperature", "unimax"]
    assert all(entry.summary for entry in samplings.entries().values())
    assert issubclass(samplings.load("order"), mtlbench.Sampling)
