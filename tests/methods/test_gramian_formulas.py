"""What each Gramian method answers on two and three gradients, derived by hand, and published regression values."""

import math

import numpy as np
import pytest
import torch

import mtlbench
from mtlbench.errors import UsageError

PUBLISHED = [[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]]
CONFLICT = [[1.0, 0.0], [-1.0, 1.0]]


def answer(name, rows, **parameters):
    """The weights and the update of a first step."""
    rows = np.array(rows, dtype=np.float64)
    weights = mtlbench.method(name, **parameters).weights(torch.from_numpy(rows @ rows.T)).numpy()
    return weights, weights @ rows


def check(name, rows, weights=None, update=None, tolerance=1e-9, **parameters):
    found, d = answer(name, rows, **parameters)
    if weights is not None:
        assert found == pytest.approx(weights, rel=tolerance, abs=tolerance)
    if update is not None:
        assert d == pytest.approx(update, rel=tolerance, abs=tolerance)


def pair(first, second, cosine):
    """Two gradients of given lengths at an angle, and their unit vectors."""
    units = np.array([[1.0, 0.0], [cosine, math.sqrt(1 - cosine**2)]])
    return units * [[first], [second]], units


def equicorrelated(cosine):
    """Three unit vectors with the same cosine between any two."""
    return np.linalg.cholesky(np.full((3, 3), cosine) + (1 - cosine) * np.eye(3))


ANGLES = pytest.mark.parametrize("cosine", [-0.9, -0.3, 0.0, 0.6, 0.99])
LENGTHS = pytest.mark.parametrize(("first", "second"), [(1.0, 1.0), (0.2, 3.0), (50.0, 1.0)])


@pytest.mark.parametrize(
    ("name", "parameters", "update", "weights"),
    [
        ("cagrad", {"c": 0.5}, (0.1835, 1.2041, 1.2041), (0.7041, 0.5)),
        ("imtl_g", {}, (0.0767, 1.0, 1.0), (0.5923, 0.4077)),
        ("aligned_mtl", {"reduction": "mean"}, (0.2133, 0.9673, 0.9673), (0.5591, 0.4083)),
        ("upgrad", {}, (0.2929, 1.9004, 1.9004), (1.1109, 0.7894)),
        ("dualproj", {}, (0.5563, 1.1109, 1.1109), None),
        ("config", {}, (0.1588, 2.0706, 2.0706), None),
        ("fairgrad", {"alpha": 1.0}, (0.0766, 0.9985, 0.9985), (0.5915, 0.4071)),
        ("nash_mtl", {}, (0.0542, 0.7061, 0.7061), (0.5915 / math.sqrt(2), 0.4071 / math.sqrt(2))),
    ],
)
def test_regression_values_that_torchjd_publishes(name, parameters, update, weights):
    # Their UPGrad and DualProj add 1e-4 to the diagonal, which is seen in the fourth digit.
    check(name, PUBLISHED, weights, update, 1e-3 if name in ("upgrad", "dualproj") else 1.5e-4, **parameters)


# --- UPGrad and DualProj ----------------------------------------------------------------------------------------


@ANGLES
@LENGTHS
def test_upgrad_of_two_is_the_mean_of_both_without_what_conflicts(cosine, first, second):
    # The nearest vector to g_1 with <g_2, d> >= 0 is g_1 - <g_1, g_2> / |g_2|^2 g_2, and it serves g_1 too.
    rows, _ = pair(first, second, cosine)
    conflict = min(cosine, 0.0)
    check("upgrad", rows, [(1 - conflict * second / first) / 2, (1 - conflict * first / second) / 2])
    check("upgrad", rows, [1 - conflict * second / first, 1 - conflict * first / second], reduction="sum")


def test_upgrad_of_three_with_two_active_constraints():
    # g_3 = (-1, -1, 1) conflicts with both others. P(g_3) = (0, 0, 1) = g_3 + g_1 + g_2. Without what conflicts with
    # g_3 alone g_1 would be (2/3, -1/3, 1/3), against g_2: both constraints hold with equality, v_2 = v_3 = 1/2, and
    # P(g_1) = (1/2, 0, 1/2); likewise P(g_2) = (0, 1/2, 1/2).
    rows = [[1, 0, 0], [0, 1, 0], [-1, -1, 1]]
    check("upgrad", rows, [2.5 / 3, 2.5 / 3, 2 / 3], [1 / 6, 1 / 6, 2 / 3])


def test_dualproj_leaves_a_mean_that_conflicts_with_nothing():
    check("dualproj", CONFLICT, [0.5, 0.5], [0, 0.5])


def test_dualproj_takes_out_what_conflicts():
    # g0 = (-1, 1/2) has <g_1, g0> = -1 and <g_2, g0> = 7/2: the nearest d with <g_1, d> = 0 is g0 + g_1.
    check("dualproj", [[1, 0], [-3, 1]], [1.5, 0.5], [0, 0.5])
    # g0 = (-1, -1, 1/3): the first two constraints hold with equality, and then g_3 has <g_3, d> = 1/3.
    check("dualproj", [[1, 0, 0], [0, 1, 0], [-4, -4, 1]], [4 / 3, 4 / 3, 1 / 3], [0, 0, 1 / 3])
    check("dualproj", [[1, 0, 0], [0, 1, 0], [-4, -4, 1]], [4, 4, 1], [0, 0, 1], reduction="sum")


def test_exact_values_of_the_published_rows():
    # P(g_1) = g_1 + 22/38 g_2 and P(g_2) = g_2 + 22/18 g_1; g0 = (1, 1, 1) has <g_1, g0> = -2 and |g_1|^2 = 18.
    check("upgrad", PUBLISHED, [(1 + 22 / 18) / 2, (1 + 22 / 38) / 2], [0.292398, 1.900585, 1.900585], 1e-6)
    check("dualproj", PUBLISHED, [0.5 + 2 / 18, 0.5], [5 / 9, 10 / 9, 10 / 9])


# --- CAGrad and IMGrad ------------------------------------------------------------------------------------------


def test_cagrad_of_orthogonal_gradients_of_one_length_goes_further_along_their_mean():
    # By symmetry g_w = g0: d = g0 + c |g0| g0 / |g0|.
    check("cagrad", np.eye(2), [0.7, 0.7])
    check("cagrad", np.eye(3), [1.5 / 3] * 3, c=0.5)


def test_cagrad_serves_the_slowest_objective_alone_where_it_stays_the_slowest():
    # g0 = (1/2, 1), <g_1, g0> = 1/2 < <g_2, g0> = 2: all of the radius goes to g_1, as <g_1, d> = 1/2 + r < 2.
    radius = 0.5 * math.sqrt(1.25)
    check("cagrad", [[1, 0], [0, 2]], [0.5 + radius, 0.5], [0.5 + radius, 1], c=0.5)


def test_cagrad_where_gradients_cancel():
    # g_1 and g_2 are opposite, so nothing is better than min <g_k, d> = 0. g0 = (-1/3, 1) loses on g_1; the nearest
    # direction that does not is (0, 1), within 0.4 |g0| = 0.42, but not within 0.2 |g0|.
    rows = [[1, 0], [-2, 0], [0, 3]]
    check("cagrad", rows, [2 / 3, 1 / 3, 1 / 3], [0, 1])
    radius = 0.2 * math.hypot(1 / 3, 1)
    check("cagrad", rows, [1 / 3 + radius, 1 / 3, 1 / 3], [radius - 1 / 3, 1], c=0.2)
    check("cagrad", [[1, 0], [-1, 0], [0, 1]], [1 / 3] * 3)


def test_cagrad_without_a_radius_is_the_mean_and_with_a_large_one_the_direction_of_mgda():
    rows = np.random.default_rng(0).standard_normal((4, 9)) + 0.5
    check("cagrad", rows, [0.25] * 4, c=0.0)
    _, d = answer("cagrad", rows, c=1e6)
    _, shortest = answer("mgda", rows)
    assert d / np.linalg.norm(d) == pytest.approx(shortest / np.linalg.norm(shortest), abs=1e-5)


def test_the_sum_that_the_code_of_cagrad_and_imgrad_gives():
    # g / (1 + c^2), times K; the code of IMGrad divides in either case.
    mean, total = (answer("cagrad", CONFLICT, c=0.5, scale=scale)[0] for scale in ("mean", "sum"))
    assert total == pytest.approx(mean * 2 / 1.25)
    mean, total = (answer("imgrad", CONFLICT, scale=scale)[0] for scale in ("mean", "sum"))
    assert total == pytest.approx(mean * 2)


def test_imgrad_of_orthogonal_gradients_of_one_length():
    # The mean is a positive multiple of the min-norm point: q = 1, and by symmetry g_w = g0.
    check("imgrad", np.eye(3), [(1 + 0.8) / (1 + 0.64) / 3] * 3)


def test_imgrad_on_a_conflict():
    # g0 = (0, 1/2), min-norm point (1/5, 2/5): q = cos = 2 / sqrt(5) = .894427. Then w by a fine grid over the simplex.
    rows, alpha = np.array(CONFLICT), 0.8
    g0, q = rows.mean(0), 2 / math.sqrt(5)
    w = np.linspace(0, 1, 200_001)
    g_w = w[:, None] * rows[0] + (1 - w)[:, None] * rows[1]
    goal = (1.5 - q) * g_w @ g0 + q * alpha * np.linalg.norm(g0) * np.linalg.norm(g_w, axis=1)
    best = g_w[goal.argmin()]
    assert w[goal.argmin()] == pytest.approx(0.6818, abs=1e-3)
    expected = (g0 + alpha * np.linalg.norm(g0) * best / np.linalg.norm(best)) / (1 + alpha**2)
    check("imgrad", CONFLICT, None, expected, 1e-4)
    _, d = answer("imgrad", CONFLICT)
    assert d * (1 + alpha**2) == pytest.approx([0.3010, 0.7634], abs=1e-3)


def test_imgrad_with_q_of_a_half_is_cagrad_with_half_the_radius_to_look_in():
    # Then (1.5 - q) = 1, so w is that of CAGrad with c = alpha / 2. Orthogonal rows of lengths 1 and s have the
    # min-norm point (s^2, s) / (1 + s^2) and the mean (1, s) / 2: q = 2 s / (1 + s^2), 1/2 for s = 2 - sqrt(3).
    s, alpha = 2 - math.sqrt(3), 0.8
    rows = np.array([[1.0, 0.0], [0.0, s]])
    g0, (_, d) = rows.mean(0), answer("cagrad", rows, c=alpha / 2)
    expected = (g0 + 2 * (d - g0)) / (1 + alpha**2)
    check("imgrad", rows, None, expected)


# --- Nash-MTL and FairGrad --------------------------------------------------------------------------------------


@ANGLES
@LENGTHS
def test_nash_mtl_of_two_adds_the_unit_gradients(cosine, first, second):
    # a_k = n_k w_k solves a (1 + c) = 1 / a by symmetry: w_k = 1 / (n_k sqrt(1 + c)), and |d| = sqrt(2).
    rows, units = pair(first, second, cosine)
    whole = units.sum(0) / math.sqrt(1 + cosine)
    check("nash_mtl", rows, None, whole, max_norm=0.0)
    check("nash_mtl", rows, None, whole / math.sqrt(2))
    check("nash_mtl", rows, None, 0.3 * whole / math.sqrt(2), max_norm=0.3)
    check("nash_mtl", rows, None, whole, max_norm=1.5)  # it is shorter


def test_nash_mtl_of_orthogonal_gradients_weighs_by_inverse_length():
    check("nash_mtl", np.diag([2.0, 5.0, 0.1]), [1 / 2, 1 / 5, 10], max_norm=0.0)


@pytest.mark.parametrize("cosine", [-0.4, 0.0, 0.5, 0.95])
def test_nash_mtl_of_three_with_equal_cosines(cosine):
    # a (1 + 2 c) = 1 / a.
    check("nash_mtl", equicorrelated(cosine), [1 / math.sqrt(1 + 2 * cosine)] * 3, max_norm=0.0)


def test_nash_mtl_does_not_see_what_a_loss_is_multiplied_by():
    rows = np.random.default_rng(1).standard_normal((4, 9))
    _, d = answer("nash_mtl", rows)
    check("nash_mtl", rows * [[1e-3], [1], [50], [1e4]], None, d)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 6.0])
def test_fairgrad_of_orthogonal_gradients(alpha):
    # n^2 w = w^(-1 / alpha): w = n^(-2 alpha / (1 + alpha)).
    lengths = np.array([2.0, 0.5, 30.0])
    check("fairgrad", np.diag(lengths), lengths ** (-2 * alpha / (1 + alpha)), alpha=alpha)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_fairgrad_of_parallel_gradients(alpha):
    # With g_k = n_k u and s = sum n_k w_k: n_k s = w_k^(-1 / alpha), so w_k = (n_k s)^-alpha and
    # s^(1 + alpha) = sum n_k^(1 - alpha), where s = |d|.
    lengths = np.array([0.5, 1.0, 3.0])
    s = (lengths ** (1 - alpha)).sum() ** (1 / (1 + alpha))
    check("fairgrad", np.outer(lengths, [0.6, 0.8]), (lengths * s) ** -alpha, [0.6 * s, 0.8 * s], 1e-8, alpha=alpha)


def test_fairgrad_as_the_authors_code_scales_and_clips_it():
    weights, d = answer("fairgrad", PUBLISHED)
    check("fairgrad", PUBLISHED, 2 * weights, scale="K")
    check("fairgrad", PUBLISHED, None, d / np.linalg.norm(d), scale="K", max_norm=1.0)
    check("fairgrad", PUBLISHED, weights, max_norm=100.0)


# --- equal projections and equal angles -------------------------------------------------------------------------


@ANGLES
@LENGTHS
def test_imtl_g_and_config_of_two_add_the_unit_gradients_at_different_lengths(cosine, first, second):
    # z = (1, 1) / (1 + c). IMTL-G: v_k = z / n_k divided by its sum. ConFIG: n' C z = n_1 + n_2, z' C z = 2 / (1 + c).
    rows, units = pair(first, second, cosine)
    check("imtl_g", rows, None, first * second / (first + second) * units.sum(0))
    check("config", rows, None, (first + second) / 2 * units.sum(0))


def test_imtl_g_and_config_of_three_orthogonal_gradients():
    # IMTL-G: v = 1 / n. ConFIG: x is the sum of the units, of squared length 3, along which the gradients reach sum(n).
    lengths = np.array([1.0, 2.0, 4.0])
    check("imtl_g", np.diag(lengths), [4 / 7, 2 / 7, 1 / 7], [4 / 7] * 3)
    check("config", np.diag(lengths), 7 / 3 / lengths, [7 / 3] * 3)


def reversing():
    """Three gradients of which one, short, is needed with a negative weight."""
    return np.array([[6.0, 8.0, 0.0], [6.0, -8.0, 0.0], [0.08, 0.0, 0.06]])


def test_imtl_g_goes_backwards_where_the_published_formula_does_and_counts_it():
    # Units (.6, .8, 0), (.6, -.8, 0), (.8, 0, .6): x = (5/3, 0, -5/9) has 1 with all. In the units z_3 = -25/27 and
    # z_1 = z_2 = (5/3 + 20/27) / 1.2 = 325/162; over the lengths 10, 10, 1/10 the sum is 65/162 - 250/27 < 0.
    method = mtlbench.method("imtl_g")
    rows = reversing()
    d = method.weights(torch.from_numpy(rows @ rows.T)).numpy() @ rows
    assert d == pytest.approx(np.array([5 / 3, 0, -5 / 9]) / (65 / 162 - 250 / 27), rel=1e-9)
    assert (rows @ d < 0).all()
    assert method.report() == {"reversed": 1}
    method.weights(torch.eye(3, dtype=torch.float64))
    assert method.report() == {"reversed": 1}


def test_config_has_the_same_cosine_with_all_and_never_goes_backwards():
    rows = reversing()
    _, d = answer("config", rows)
    along = rows @ d / np.linalg.norm(rows, axis=1)
    assert along == pytest.approx(along[0], rel=1e-9)
    assert along[0] > 0
    assert np.linalg.norm(d) == pytest.approx(rows.sum(0) @ d / np.linalg.norm(d))


def test_opposite_gradients_of_one_length_give_no_update():
    for name in ("imtl_g", "config"):
        check(name, [[1, 2], [-1, -2]], [0, 0])
    # Beside a third, x is the least-squares one, (0, 1), along which the gradients reach 0 + 0 + 2.
    check("config", [[1, 0], [-1, 0], [0, 2]], [0, 0, 1], [0, 2])


# --- Aligned-MTL ------------------------------------------------------------------------------------------------


def test_aligned_mtl_of_orthogonal_gradients_shortens_all_to_the_shortest():
    check("aligned_mtl", np.diag([2.0, 0.5, 3.0]), [1 / 4, 1, 1 / 6], [0.5, 0.5, 0.5])
    check("aligned_mtl", np.diag([2.0, 0.5, 3.0]), None, [2, 2, 2], scale="median")
    check("aligned_mtl", np.diag([2.0, 0.5, 3.0]), None, [math.sqrt(13.25 / 3)] * 3, scale="rmse")
    check("aligned_mtl", np.diag([2.0, 0.5]), None, [0.25, 0.25], reduction="mean")
    check("aligned_mtl", np.diag([2.0, 0.5]), None, [0.5, 0.5], scale="median")  # the lower of two


@ANGLES
def test_aligned_mtl_of_two_unit_gradients(cosine):
    # Eigenvalues 1 + c of (1, 1) and 1 - c of (1, -1): B 1 = sqrt(min / (1 + c)) 1.
    rows, _ = pair(1.0, 1.0, cosine)
    check("aligned_mtl", rows, [math.sqrt((1 - abs(cosine)) / (1 + cosine))] * 2)


def test_aligned_mtl_keeps_the_eigenvalues_that_are_not_zero():
    # Twice g: eigenvalues 2 |g|^2 and 0, and B is the projection on (1, 1).
    check("aligned_mtl", [[3, 4], [3, 4]], [1, 1])
    # x, x and y: 2 of (1, 1, 0), 1 of (0, 0, 1), smallest 1.
    check("aligned_mtl", [[1, 0], [1, 0], [0, 1]], [math.sqrt(0.5), math.sqrt(0.5), 1], [math.sqrt(2), 1])


def test_aligned_mtl_takes_rounding_of_float32_for_a_direction_unless_it_is_told():
    # x twice, up to 1e-6 in a second direction: the smallest eigenvalue is that of the difference, or none.
    rows = [[1, 0], [1, 1e-6]]
    assert np.linalg.norm(answer("aligned_mtl", rows)[1]) < 1e-5
    check("aligned_mtl", rows, [1, 1], None, 1e-5, precision=1e-7)


# --- PCD --------------------------------------------------------------------------------------------------------


def test_pcd_on_a_conflict():
    # Unit rows at 135 degrees: mu = .02 + .5 sqrt(2) for the second; weights (1, mu / sqrt(2)), scaled to |g_1| = 1.
    mu = 0.02 + math.sqrt(0.5)
    size = math.sqrt(1 - 2 * mu * math.sqrt(0.5) + mu**2)
    check("pcd", CONFLICT, [1 / size, mu / math.sqrt(2) / size], None, 1e-7)
    check("pcd", CONFLICT, [1.413648, 0.726816], [0.686832, 0.726816], 1e-5)


def test_pcd_of_three_with_two_active_constraints():
    # First step, eps = 0: unit rows (1,0,0), (-.6,.8,0), (0,0,1), tau = 1/2. The last two are orthogonal, so mu_2 =
    # 1/2 + .6 and mu_3 = 1/2, d' = (.34, .88, .5) of squared length 1.14, and the update has the length of g_1.
    rows = np.array([[2.0, 0, 0], [-0.6, 0.8, 0], [0, 0, 5.0]])
    size = 2 / math.sqrt(1.14)
    weights = [size / 2, size * 1.1, size * 0.5 / 5]
    check("pcd", rows, weights, size * np.array([0.34, 0.88, 0.5]), tau=0.5, eps=0.0)
    order = [1, 2, 0]
    check("pcd", rows[order], np.array(weights)[order], tau=0.5, eps=0.0, primary=2)


def test_pcd_promises_each_secondary_objective_its_own_share():
    # As above with tau = (1/2, 1/4): mu_3 = 1/4, d' = (.34, .88, .25) of squared length .9525.
    rows = np.array([[2.0, 0, 0], [-0.6, 0.8, 0], [0, 0, 5.0]])
    size = 2 / math.sqrt(0.9525)
    weights = np.array([size / 2, size * 1.1, size * 0.25 / 5])
    check("pcd", rows, weights, size * np.array([0.34, 0.88, 0.25]), tau=(0.5, 0.25), eps=0.0)
    # Rows g_2, g_1, g_3: the list is in the order of the others.
    check("pcd", rows[[1, 0, 2]], weights[[1, 0, 2]], tau=(0.5, 0.25), eps=0.0, primary=1)
    # Without the second objective the third keeps its own: d' = (1, 0, 1/4).
    method = mtlbench.method("pcd", tau=(0.5, 0.25), eps=0.0)
    method.begin(3, 1)
    found = method.weights(torch.from_numpy(rows[[0, 2]] @ rows[[0, 2]].T), present=[0, 2])
    length = math.hypot(1, 0.25)
    assert found.tolist() == pytest.approx([1 / length, 2 * 0.25 / 5 / length], rel=1e-12)


def test_pcd_of_one_share_for_all_is_that_of_a_list_of_it():
    rows = np.random.default_rng(0).standard_normal((4, 9)) - 0.3
    assert answer("pcd", rows, tau=(0.3,) * 3)[0].tolist() == answer("pcd", rows, tau=0.3)[0].tolist()


def test_pcd_refuses_a_list_of_shares_of_another_length():
    with pytest.raises(UsageError, match="tau has 2 numbers for 1 objectives beside the primary one"):
        answer("pcd", CONFLICT, tau=(0.1, 0.2))


def test_pcd_follows_the_primary_gradient_where_all_others_progress():
    check("pcd", [[1, 0, 0], [5, 1, 0], [0.1, 0, 2]], [1, 0, 0])


def test_pcd_drops_constraints_that_contradict_each_other_and_counts_them():
    method = mtlbench.method("pcd")
    rows = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, -2.0]], dtype=torch.float64)
    assert method.weights(rows @ rows.T).tolist() == [1, 0, 0]
    assert method.report() == {"contradicted": 1, "unsolved": 0}


def test_pcd_remembers_lengths_with_the_correction_for_a_start_at_zero():
    # beta = 1/2: v = n^2 / 2, then n^2 / 4 + (2 n)^2 / 2; over 1 - 1/4: 3 n^2, so g' has length 2 / sqrt(3) then.
    method = mtlbench.method("pcd", beta=0.5, eps=0.0, tau=0.5)
    rows = np.array([[1.0, 0.0], [0.0, 1.0]])
    method.weights(torch.from_numpy(rows @ rows.T))
    weights = method.weights(torch.from_numpy(4 * rows @ rows.T)).numpy()
    length = 2 / math.sqrt(3)
    # d' = (length, tau * length), brought to the length of g_1.
    assert weights == pytest.approx([1 / math.hypot(1, 0.5), 0.5 / math.hypot(1, 0.5)], rel=1e-12)
    # An objective whose gradient grows is asked for more than one that stays: lengths 2 / sqrt(3) and 1.
    method = mtlbench.method("pcd", beta=0.5, eps=0.0, tau=0.5)
    method.weights(torch.from_numpy(rows @ rows.T))
    grown = np.diag([1.0, 2.0])
    weights = method.weights(torch.from_numpy(grown @ grown)).numpy()
    assert weights @ grown == pytest.approx(np.array([1, 0.5 * length]) / math.hypot(1, 0.5 * length), rel=1e-12)


def test_pcd_does_not_take_an_objective_that_came_later_for_a_shorter_gradient():
    # After steps {1} and {1, 2} of unit gradients both averages are 1: of 3/4 over 1 - 1/4 and of 1/2 over 1 - 1/2.
    method = mtlbench.method("pcd", beta=0.5, eps=0.0, tau=0.5)
    method.begin(2, 1)
    method.weights(torch.ones(1, 1, dtype=torch.float64), present=[0])
    weights = method.weights(torch.eye(2, dtype=torch.float64)).numpy()
    assert weights == pytest.approx(np.array([1, 0.5]) / math.hypot(1, 0.5), rel=1e-12)


def test_pcd_without_its_primary_objective_is_the_plain_sum_and_learns_lengths():
    method = mtlbench.method("pcd", eps=0.0)
    method.begin(3, 1)
    rows = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
    assert method.weights(rows @ rows.T, present=[1, 2]).tolist() == [1, 1]
    assert method.steps.tolist() == [[0, 1, 1]]
    assert method.square[0].tolist() == pytest.approx([0, 0.001, 0.002])


def test_pcd_refuses_a_primary_objective_that_there_is_none_of():
    with pytest.raises(UsageError, match=r"primary=2 is not allowed: objectives are 0 to 1"):
        answer("pcd", CONFLICT, primary=2)
