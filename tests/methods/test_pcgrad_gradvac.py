"""PCGrad and Gradient Vaccine: closed forms, their pseudo-code on whole vectors, orders, targets."""

import math
from itertools import permutations

import numpy as np
import oracles
import pytest
import torch
from oracles import assert_updates_equal, gramian, orders_about_to_be_drawn, random_problem, stacked_gramian
from scipy import stats

import mtlbench
from mtlbench.engine.visiting import Pair, unit_rows, visiting_orders
from mtlbench.errors import UsageError

REGRESSION = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]], dtype=torch.float64)


def pair(cosine, first=1.0, second=1.0):
    """Two gradients in the plane at a given angle."""
    across = math.sqrt(1 - cosine**2)
    return torch.tensor([[first, 0.0], [second * cosine, second * across]], dtype=torch.float64)


# --- closed forms -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pcgrad", "gradvac"])
def test_published_regression_values(name):
    weights = mtlbench.method(name).weights(gramian(REGRESSION))
    assert weights.tolist() == pytest.approx([1 + 22 / 18, 1 + 22 / 38], rel=1e-12)
    assert (weights @ REGRESSION).tolist() == pytest.approx([0.5848, 3.8012, 3.8012], abs=1e-4)


@pytest.mark.parametrize("cosine", [-0.999, -0.5, -0.01])
@pytest.mark.parametrize("ratio", [1e-3, 0.3, 1.0, 50.0])
def test_two_conflicting_gradients_follow_equation_7_of_pcgrad(cosine, ratio):
    rows = pair(cosine, first=ratio)
    weights = mtlbench.method("pcgrad").weights(gramian(rows))
    assert weights.tolist() == pytest.approx([1 - cosine / ratio, 1 - cosine * ratio], rel=1e-12)


@pytest.mark.parametrize("name", ["pcgrad", "gradvac"])
@pytest.mark.parametrize("cosine", [0.0, 0.3, 1.0])
def test_agreeing_gradients_are_summed_at_the_first_step(name, cosine):
    weights = mtlbench.method(name).weights(gramian(pair(cosine, 2.0, 5.0)))
    assert weights.tolist() == [1.0, 1.0]


def test_one_objective_keeps_its_gradient():
    for name in ("pcgrad", "gradvac"):
        assert mtlbench.method(name).weights(torch.tensor([[4.0]])).tolist() == [1.0]


def test_mutually_orthogonal_projections_by_hand_for_three_objectives_in_index_order():
    # g0 = e1 meets g1 = -e1 + e2 (product -1, so + g1/2), then g2 = -e2 (product -1/2, so + g2/2): (1/2, 0).
    # g1 meets g0 (+ g0): e2; then g2 (product -1, + g2): 0.   g2 meets g0: 0; then g1 (product -1, + g1/2).
    rows = torch.tensor([[1.0, 0.0], [-1.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
    weights = mtlbench.method("pcgrad", shuffle=False).weights(gramian(rows))
    assert weights.tolist() == pytest.approx([2.0, 2.0, 2.5], rel=1e-12)
    assert (weights @ rows).tolist() == pytest.approx([0.5 + 0.0 - 0.5, 0.0 + 0.0 - 0.5], abs=1e-12)


@pytest.mark.parametrize("target", [-0.6, 0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("cosine", [-0.99, -0.7, 0.0, 0.45, 0.95])
def test_one_correction_reaches_the_target_and_the_stated_length(target, cosine):
    rows = pair(cosine, 3.0, 0.2)
    weights = mtlbench.method("gradvac", target=target).weights(gramian(rows))
    # For K = 2 each working copy is g_i plus a multiple of the other gradient, so the weights give both away.
    for i, j in ((0, 1), (1, 0)):
        changed = rows[i] + (weights[j] - 1) * rows[j]
        length = rows[i].norm().item()
        found = torch.cosine_similarity(changed, rows[j], dim=0).item()
        if cosine < target:
            grown = length * math.sqrt(1 - cosine**2) / math.sqrt(1 - target**2)
            assert found == pytest.approx(target, abs=1e-12)
            assert changed.norm().item() == pytest.approx(grown, rel=1e-12)
        else:
            assert torch.equal(changed, rows[i])


def test_growth_factors_from_orthogonal_gradients():
    for target, factor in ((0.5, 1.155), (0.9, 2.29), (0.99, 7.09), (0.999, 22.4)):
        weights = mtlbench.method("gradvac", target=target).weights(gramian(pair(0.0)))
        assert (pair(0.0)[0] + (weights[1] - 1) * pair(0.0)[1]).norm().item() == pytest.approx(factor, rel=2e-3)


def test_a_constant_conflict_drifts_from_pcgrad_to_the_plain_sum():
    rows, method = pair(-0.5), mtlbench.method("gradvac", beta=0.01)
    updates = {t: method.weights(gramian(rows)) @ rows for t in range(1, 3001)}
    assert updates[1].tolist() == pytest.approx([0.75, 1.299], abs=1e-3)
    assert updates[100].tolist() == pytest.approx([0.606, 1.05], abs=1e-3)
    assert updates[200].tolist() == pytest.approx([0.542, 0.939], abs=1e-3)
    assert updates[3000].tolist() == pytest.approx([0.5, 0.866], abs=1e-3)


@pytest.mark.parametrize("cosine", [-0.5, 0.3])
def test_the_target_is_the_moving_average_of_what_is_found_before_the_correction(cosine):
    method = mtlbench.method("gradvac", beta=0.1)
    for t in range(1, 30):
        method.weights(gramian(pair(cosine)))
        expected = cosine * (1 - 0.9**t)
        assert method.target[0, 0, 1].item() == pytest.approx(expected, rel=1e-12)
        assert method.target[0, 1, 0].item() == pytest.approx(expected, rel=1e-12)


def test_the_target_moves_also_when_the_correction_does_not_fire():
    method = mtlbench.method("gradvac")
    method.weights(gramian(pair(0.4)))
    assert method.corrected.item() == 0
    assert method.visited.item() == 2
    assert method.target[0, 0, 1].item() == pytest.approx(0.01 * 0.4, rel=1e-12)


def test_a_fixed_target_is_never_learnt():
    method = mtlbench.method("gradvac", target=0.5)
    for cosine in (-0.9, 0.0, 0.9):
        method.weights(gramian(pair(cosine)))
    assert (method.target == 0.5).all()


@pytest.mark.parametrize("mean", [0.0, 0.05, 0.2])
def test_stationary_random_similarity_corrects_about_half_of_the_visits(mean):
    rng, groups = torch.Generator().manual_seed(1), 40
    method = mtlbench.method("gradvac", beta=0.01)
    before = (0, 0)
    for step in range(1200):
        table = torch.ones(groups, 2, 2, dtype=torch.float64)
        table[:, 0, 1] = table[:, 1, 0] = (mean + 0.1 * torch.randn(groups, generator=rng).double()).clamp(-1, 1)
        method.weights(table)
        if step == 699:  # the target has settled
            before = (method.corrected.item(), method.visited.item())
    corrected, visited = method.corrected.item() - before[0], method.visited.item() - before[1]
    assert visited == 500 * groups * 2
    assert 0.48 < corrected / visited < 0.52


def test_stationary_random_gradients_of_five_objectives_correct_about_half_of_the_visits():
    rng = torch.Generator().manual_seed(2)
    common = torch.randn(6, 1, 60, generator=rng, dtype=torch.float64)
    method = mtlbench.method("gradvac", beta=0.01)
    before = (0, 0)
    for step in range(1200):
        method.weights(gramian(0.3 * common + torch.randn(6, 5, 60, generator=rng, dtype=torch.float64)))
        if step == 699:
            before = (method.corrected.item(), method.visited.item())
    assert 0.45 < (method.corrected.item() - before[0]) / (method.visited.item() - before[1]) < 0.55


# --- the pseudo-code on whole vectors ---------------------------------------------------------------------------

CASES = [(2, 12), (3, 12), (5, 8), (8, 6), (13, 3), (20, 3)]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("objectives", "cases"), CASES)
def test_pcgrad_equals_its_pseudo_code_on_whole_vectors(objectives, cases, shuffle):
    rng = np.random.default_rng(objectives)
    for case in range(cases):
        method = mtlbench.method("pcgrad", shuffle=shuffle).seed(case)
        for _ in range(3):
            gradients = random_problem(rng, objectives, (4, 30, 11, 7), rng.uniform(-0.2, 0.5))
            orders = orders_about_to_be_drawn(method, 4, objectives)
            weights = method.weights(stacked_gramian(gradients))
            assert_updates_equal(weights, gradients, oracles.pcgrad(gradients, orders))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("target", [None, 0.0, 0.3, -0.2])
@pytest.mark.parametrize(("objectives", "cases"), CASES)
def test_gradvac_equals_its_pseudo_code_on_whole_vectors_over_steps(objectives, cases, target, shuffle):
    rng = np.random.default_rng([objectives, 7])
    for case in range(cases // 3):
        beta = rng.choice([0.01, 0.2, 0.5])
        method = mtlbench.method("gradvac", beta=beta, target=target, shuffle=shuffle).seed(case)
        targets = np.full((3, objectives, objectives), target or 0.0)
        correlation = rng.uniform(0.0, 0.6)
        for _ in range(5):
            gradients = random_problem(rng, objectives, (25, 60, 40), correlation)
            orders = orders_about_to_be_drawn(method, 3, objectives)
            weights = method.weights(stacked_gramian(gradients))
            expected = oracles.gradvac(gradients, orders, targets, beta, fixed=target is not None)
            assert_updates_equal(weights, gradients, expected)
            apart = ~np.eye(objectives, dtype=bool)
            np.testing.assert_allclose(method.target.numpy()[:, apart], targets[:, apart], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["pcgrad", "gradvac"])
def test_steps_with_some_objectives_equal_the_pseudo_code_and_leave_absent_targets(name):
    rng = np.random.default_rng(3)
    method = mtlbench.method(name).seed(5)
    targets = np.zeros((2, 6, 6))
    apart = ~np.eye(6, dtype=bool)
    for step in range(30):
        present = sorted(rng.choice(6, size=rng.integers(1, 7), replace=False).tolist()) if step else list(range(6))
        gradients = random_problem(rng, len(present), (25, 30), 0.4)
        orders = orders_about_to_be_drawn(method, 2, len(present))
        weights = method.weights(stacked_gramian(gradients), present=present if len(present) < 6 else None)
        if name == "pcgrad":
            expected = oracles.pcgrad(gradients, orders)
        else:
            block = np.ix_([0, 1], present, present)
            local = targets[block]
            expected = oracles.gradvac(gradients, orders, local, 0.01)
            targets[block] = local
            np.testing.assert_allclose(method.target.numpy()[:, apart], targets[:, apart], rtol=1e-10, atol=1e-14)
        assert_updates_equal(weights, gradients, expected)


def test_objectives_named_in_another_order_meet_their_own_targets():
    one, other = mtlbench.method("gradvac", beta=0.5), mtlbench.method("gradvac", beta=0.5)
    rng = torch.Generator().manual_seed(0)
    swapped = torch.tensor([1, 0])
    for step in range(6):
        rows = torch.randn(2, 6, generator=rng, dtype=torch.float64)
        if step % 2:
            weights = other.weights(gramian(rows[swapped]), present=[1, 0])[swapped]
        else:
            weights = other.weights(gramian(rows))
        torch.testing.assert_close(one.weights(gramian(rows)), weights, rtol=1e-13, atol=0)
        torch.testing.assert_close(one.target[0, [0, 1], [1, 0]], other.target[0, [0, 1], [1, 0]], rtol=1e-13, atol=0)


def test_targets_stand_under_the_numbers_of_the_objectives_in_whatever_order_these_are_named():
    rows = torch.rand(4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)  # none conflict
    cosines = torch.nn.functional.cosine_similarity(rows[:, None], rows[None], dim=2)
    for chosen in ([2, 0, 3, 1], [3, 1], [0, 1, 2, 3]):
        method = mtlbench.method("gradvac", beta=0.5)
        method.begin(4, 1)
        method.weights(gramian(rows[chosen]), present=chosen)
        expected = torch.zeros(4, 4, dtype=torch.float64)
        for i in chosen:
            for j in chosen:
                expected[i, j] = 0.5 * cosines[i, j] if i != j else 0.0
        torch.testing.assert_close(method.target[0], expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("objectives", [2, 6])
def test_gradvac_with_target_zero_is_pcgrad(objectives):
    rng = torch.Generator().manual_seed(objectives)
    vaccine, surgery = mtlbench.method("gradvac", target=0.0).seed(9), mtlbench.method("pcgrad").seed(9)
    for _ in range(10):
        table = gramian(torch.randn(3, objectives, 40, generator=rng, dtype=torch.float64))
        torch.testing.assert_close(vaccine.weights(table), surgery.weights(table), rtol=1e-12, atol=1e-12)


# --- agreement with TorchJD -------------------------------------------------------------------------------------


def test_two_objectives_agree_with_torchjd():
    aggregation = pytest.importorskip("torchjd.aggregation")
    rng = torch.Generator().manual_seed(4)
    ours = [mtlbench.method("pcgrad"), mtlbench.method("gradvac", beta=0.1)]
    theirs = [aggregation.PCGrad(), aggregation.GradVac(beta=0.1, eps=1e-8)]
    for _ in range(50):
        rows = torch.randn(2, 8, generator=rng, dtype=torch.float64) + 0.3
        for mine, peer in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine.weights(gramian(rows)) @ rows, peer(rows), rtol=1e-6, atol=1e-6)


def test_five_objectives_in_index_order_agree_with_torchjd(monkeypatch):
    weighting = pytest.importorskip("torchjd.aggregation")
    monkeypatch.setattr(torch, "randperm", lambda n, **_: torch.arange(n))
    rng = torch.Generator().manual_seed(4)
    ours = [mtlbench.method("pcgrad", shuffle=False), mtlbench.method("gradvac", beta=0.1, shuffle=False)]
    theirs = [weighting.PCGradWeighting(), weighting.GradVacWeighting(beta=0.1, eps=0.0)]
    for _ in range(20):
        table = gramian(torch.randn(5, 12, generator=rng, dtype=torch.float64) + 0.2)
        for mine, peer in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine.weights(table), peer(table), rtol=1e-10, atol=1e-10)


# --- visiting orders --------------------------------------------------------------------------------------------


def uniform_p_value(outcomes, cells):
    return stats.chisquare(np.bincount(outcomes, minlength=cells)).pvalue


def drawn_permutations(draws, groups=2, objectives=4):
    """(draws, G, K) the number of the permutation that each objective of each group drew."""
    generator = torch.Generator().manual_seed(11)
    number = {}
    for i in range(objectives):
        others = [j for j in range(objectives) if j != i]
        number |= {(i, order): n for n, order in enumerate(permutations(others))}
    found = np.empty((draws, groups, objectives), dtype=int)
    for draw in range(draws):
        orders = visiting_orders(groups, objectives, generator, True)
        assert orders.shape == (objectives - 1, groups, objectives)
        for g in range(groups):
            for i in range(objectives):
                found[draw, g, i] = number[i, tuple(orders[:, g, i].tolist())]
    return found


def test_visiting_orders_are_uniform_permutations_of_the_others_and_independent():
    found = drawn_permutations(4000).reshape(4000, 8)
    for column in found.T:
        assert uniform_p_value(column, 6) > 1e-3
    for a in range(8):  # every two of the objectives and groups, and two steps in a row
        for b in range(a):
            assert uniform_p_value(6 * found[:, a] + found[:, b], 36) > 1e-4
        assert uniform_p_value(6 * found[1:, a] + found[:-1, a], 36) > 1e-4


@pytest.mark.parametrize("name", ["pcgrad", "gradvac"])
def test_a_method_draws_an_order_of_its_own_for_every_group_and_objective(name):
    # Three gradients of which each order of visits gives another result: 2 orders for each of 3 objectives.
    rows = torch.tensor([[1.0, 0.0, 0.1], [-0.9, 0.6, 0.2], [-0.5, -1.0, 0.3]], dtype=torch.float64)
    method = mtlbench.method(name, target=0.0) if name == "gradvac" else mtlbench.method(name)
    weights = method.seed(3).weights(gramian(rows).expand(4000, 3, 3))
    distinct, index = np.unique(weights.numpy().round(9), axis=0, return_inverse=True)
    assert len(distinct) == 8
    assert uniform_p_value(index.ravel(), 8) > 1e-3


def test_without_shuffle_nothing_is_drawn_and_visits_go_by_index():
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    np.testing.assert_array_equal(visiting_orders(3, 5, generator, False), oracles.index_orders(3, 5))
    assert torch.equal(before, generator.get_state())


def test_equal_seeds_draw_equal_orders_and_other_seeds_others():
    table = gramian(torch.randn(5, 6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    one, same, other = (mtlbench.method("pcgrad").seed(s).weights(table) for s in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


# --- shapes and guards ------------------------------------------------------------------------------------------


def test_groups_are_independent_of_each_other():
    rng = torch.Generator().manual_seed(6)
    rows = torch.randn(3, 2, 20, generator=rng, dtype=torch.float64)
    together = mtlbench.method("gradvac", target=0.4).weights(gramian(rows))
    apart = [mtlbench.method("gradvac", target=0.4).weights(gramian(r)) for r in rows]
    torch.testing.assert_close(together, torch.stack(apart), rtol=1e-13, atol=0)


def test_a_target_counts_as_at_most_its_documented_ceiling_and_growth_is_capped():
    # beta = 1: the target becomes 1 after one step with duplicates; then the gradients are orthogonal.
    method = mtlbench.method("gradvac", beta=1.0)
    method.weights(gramian(pair(1.0)))
    assert method.target[0, 0, 1].item() == 1.0
    weights = method.weights(gramian(pair(0.0)))
    changed = pair(0.0)[0] + (weights[1] - 1) * pair(0.0)[1]
    assert torch.cosine_similarity(changed, pair(0.0)[1], dim=0).item() == pytest.approx(0.9999, abs=1e-9)
    assert changed.norm().item() == pytest.approx(1 / math.sqrt(1 - 0.9999**2), rel=1e-9)
    three = torch.eye(3, dtype=torch.float64)  # two corrections in a row: the cap on |g'_i| holds
    weights = mtlbench.method("gradvac", target=0.9999).weights(three)
    assert weights.abs().max().item() <= 1 + 2 * 100
    again = mtlbench.method("gradvac", target=0.9999, shuffle=False).weights(three)
    first = 0.9999 / math.sqrt(1 - 0.9999**2)  # g'_0 after g_1, of length 70.7; then along g_2 up to length 100
    second = math.sqrt(100**2 - 1 - first**2)
    # The others meet g_0 first: g'_1 = g_1 + first g_0 + second g_2 and g'_2 = g_2 + first g_0 + second g_1.
    assert again.tolist() == pytest.approx([1 + 2 * first, 1 + first + second, 1 + 2 * second], rel=1e-9)


def test_cosines_are_clipped_and_a_zero_row_has_none():
    table = torch.tensor([[4.0, 6.000001, 0.0], [6.000001, 9.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    cosines, norms = unit_rows(table[None].numpy())
    assert cosines.tolist() == [[[1, 1, 0], [1, 1, 0], [0, 0, 0]]]
    assert norms.tolist() == [[2, 3, 0]]
    opposite = table * torch.tensor([[1.0, -1, 1], [-1, 1, 1], [1, 1, 1]])
    assert unit_rows(opposite[None].numpy())[0][0, 0].tolist() == [1, -1, 0]


def test_a_corrected_gradient_that_meets_its_own_direction_is_parallel_to_it_and_no_more():
    # g0 is brought to the target towards g1, which is just the direction of g2: a cosine of 1 up to rounding.
    rng = np.random.default_rng(9)
    angle, target, turned = rng.uniform(0, 2 * np.pi, 500), 0.5, np.arccos(0.5)
    rows = np.stack([np.stack([np.cos(a), np.sin(a)], 1) for a in (angle + np.pi / 2, angle, angle + turned)], 1)
    table = torch.from_numpy(rows @ rows.transpose(0, 2, 1))
    weights = mtlbench.method("gradvac", target=target, shuffle=False).weights(table)
    assert weights.isfinite().all()
    # g0 gains g1 / sqrt(3). g1 meets g0 (gains g0 / sqrt(3)), then g2 at 60 - 30 degrees: nothing. g2 is near enough.
    assert weights.numpy() == pytest.approx(np.tile([1 + 3**-0.5, 1 + 3**-0.5, 1], (500, 1)), rel=1e-7)


def test_a_zero_gradient_changes_neither_gradients_nor_targets_nor_counts():
    rng = torch.Generator().manual_seed(8)
    rows = torch.randn(4, 10, generator=rng, dtype=torch.float64)
    rows[2] = 0
    kept = [0, 1, 3]
    for name in ("pcgrad", "gradvac"):
        full = mtlbench.method(name, shuffle=False)
        small = mtlbench.method(name, shuffle=False)
        for _ in range(5):
            weights, without = full.weights(gramian(rows)), small.weights(gramian(rows[kept]))
            torch.testing.assert_close(weights[kept], without, rtol=1e-13, atol=0)
    assert (full.target[0, 2] == 0).all()
    assert (full.target[0, :, 2] == 0).all()
    assert full.visited.item() == 5 * 6


@pytest.mark.parametrize("name", ["pcgrad", "gradvac", "mgda"])
def test_a_single_matrix_is_one_group_and_the_answer_keeps_its_dtype(name):
    table = gramian(REGRESSION)
    single = mtlbench.method(name).weights(table.float())
    grouped = mtlbench.method(name).weights(table[None])
    assert single.shape == (2,)
    assert single.dtype == torch.float32
    assert grouped.shape == (1, 2)
    torch.testing.assert_close(single.double(), grouped[0], rtol=1e-6, atol=0)


def test_wrong_shapes_are_refused_with_the_shape_that_is_allowed():
    method = mtlbench.method("pcgrad")
    for table in (torch.ones(2, 3), torch.ones(2), torch.ones(1, 1, 2, 2), torch.ones(0, 0)):
        with pytest.raises(UsageError, match=r"pcgrad: a Gramian is \(K, K\)"):
            method.weights(table)
    with pytest.raises(UsageError, match="2 objectives need 2 losses"):
        method.weights(torch.eye(2), torch.ones(3))
    with pytest.raises(UsageError, match="3 objectives are named"):
        method.weights(torch.eye(2), present=[0, 1, 2])
    with pytest.raises(UsageError, match="first step holds only some objectives"):
        mtlbench.method("pcgrad").weights(torch.eye(2), present=[0, 1])
    method.weights(torch.eye(2))
    with pytest.raises(UsageError, match="began with 2 objectives and 1 groups and now gets 3"):
        method.weights(torch.eye(3))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_naming_the_method_and_the_objective(value):
    for name in ("pcgrad", "gradvac", "mgda", "gradnorm"):
        table = torch.eye(3, dtype=torch.float64)
        table[1] = table[:, 1] = value
        with pytest.raises(mtlbench.Diverged, match=f"{name}: the squared gradient norm of objective 1 is"):
            mtlbench.method(name).weights(table)
        with pytest.raises(mtlbench.Diverged, match=f"{name}: the loss of objective 2 is"):
            mtlbench.method(name).weights(torch.eye(3), torch.tensor([1.0, 1.0, value]))


@pytest.mark.parametrize("length", [1e-4, 1e-5])
def test_a_working_copy_that_a_correction_has_shortened_is_still_corrected(length):
    # g0 is nearly opposite to g1: what is left of it, of this length, conflicts with g2. Guards act below 1e-6 only.
    rows = torch.tensor([[1.0, length, 0.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 1.0]], dtype=torch.float64)
    weights = mtlbench.method("gradvac", target=0.0, shuffle=False).weights(gramian(rows))
    (expected,) = oracles.pcgrad([rows.numpy()], oracles.index_orders(1, 3))
    assert (weights @ rows).numpy() == pytest.approx(expected, abs=1e-9 * length)
    plain = mtlbench.method("pcgrad", shuffle=False).weights(gramian(rows))
    torch.testing.assert_close(weights, plain, rtol=1e-6, atol=0)


def test_a_similarity_between_the_ceiling_and_a_target_above_it_is_not_lowered():
    method = mtlbench.method("gradvac", beta=1.0)
    method.weights(gramian(pair(1.0)))
    assert method.target[0, 0, 1].item() == 1.0  # which counts as 0.9999
    before = method.corrected.item()
    assert method.weights(gramian(pair(0.99995))).tolist() == [1.0, 1.0]
    assert method.corrected.item() == before


# --- two objectives in one group, in plain numbers ---------------------------------------------------------------


def hard_tables(rng):
    """(1, 2, 2) Gramians: random, with zero rows, parallel, opposite, orthogonal, and not quite symmetric."""
    for _ in range(400):
        rows = rng.standard_normal((2, 3)) * 10.0 ** rng.integers(-12, 12, size=(2, 1))
        corner = rng.integers(8)
        if corner == 0:
            rows[rng.integers(2)] = 0.0
        elif corner == 1:
            rows[1] = rng.choice([-3.0, -1.0, 1.0, 0.3]) * rows[0]
        elif corner == 2:
            rows[1] = np.cross(rows[0], rows[1])
        elif corner == 3:
            rows[:] = 0.0
        table = rows @ rows.T
        if corner == 4:
            table[0, 1] *= 1 + 1e-15
        yield torch.from_numpy(table[None])


@pytest.mark.parametrize(
    ("name", "hyper"),
    [
        ("pcgrad", {}),
        ("gradvac", {}),
        ("gradvac", {"beta": 1.0}),  # targets of 1, which count as 0.9999
        ("gradvac", {"target": -1.0}),
        ("gradvac", {"target": 0.9999}),
    ],
)
def test_two_objectives_in_one_group_have_the_bits_of_the_arrays_that_serve_more(name, hyper, monkeypatch):
    rng = np.random.default_rng(12)
    plain, arrays = mtlbench.method(name, **hyper), mtlbench.method(name, **hyper)
    for method in (plain, arrays):
        method.begin(3, 1)  # of which two are there
    for step, table in enumerate(hard_tables(rng)):
        present = rng.permutation(3)[:2].tolist()
        treated = [None, None, present, present[:1], present[1:], []][rng.integers(6)]
        found = plain.weights(table, present=present, treated=treated)
        with monkeypatch.context() as patched:
            patched.setattr(Pair, "is_all", lambda gramian: False)
            expected = arrays.weights(table, present=present, treated=treated)
        assert torch.equal(found, expected)
        state, other = plain.state_dict(), arrays.state_dict()
        for key in ("target", "visited", "corrected"):
            assert name == "pcgrad" or torch.equal(state[key], other[key])
        if step % 50 == 49:
            plain = mtlbench.method(name, **hyper)
            plain.load_state_dict(state)


def test_the_state_of_two_objectives_is_kept_in_the_buffers_themselves():
    method = mtlbench.method("gradvac", beta=0.5)
    method.weights(gramian(pair(-0.6)))
    saved = {key: value.clone() for key, value in method.state_dict().items() if isinstance(value, torch.Tensor)}
    assert saved["target"][0, 0, 1].item() == pytest.approx(-0.3)
    assert (saved["visited"].item(), saved["corrected"].item()) == (2, 2)
    method.regroup([0, None])
    assert torch.equal(method.target[0], saved["target"][0])
    assert (method.target[1] == 0).all()
    method.weights(gramian(pair(0.2)).expand(2, 2, 2))
    assert method.visited.item() == 6
