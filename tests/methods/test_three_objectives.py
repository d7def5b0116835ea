"""What methods answer on two and three objectives, derived by hand: what the modules of single methods leave out."""

import math

import pytest
import torch

import mtlbench

PUBLISHED = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]], dtype=torch.float64)


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def gramian(*rows):
    rows = torch.tensor(rows, dtype=torch.float64)
    return rows @ rows.T


def lengths(*values):
    """The Gramian of orthogonal gradients."""
    return torch.diag(numbers(*values) ** 2)


def update(method, rows, losses=None):
    """A step of the bare mathematics of an aggregator."""
    rows = torch.as_tensor(rows, dtype=torch.float64)
    method.begin(len(rows), 1)
    method.losses = torch.ones(len(rows)).double() if losses is None else numbers(*losses)
    return method.aggregate(rows).tolist()


# --- weights that are given or drawn ----------------------------------------------------------------------------------


def test_the_published_sum_and_mean():
    weights = mtlbench.method("uniform").weights(numbers(1, 1))
    assert (weights @ PUBLISHED).tolist() == [2, 2, 2]
    assert (weights @ PUBLISHED / 2).tolist() == [1, 1, 1]


@pytest.mark.parametrize("given", [(0.25, 3.0), (2.0, 0.0, 1.0)])
def test_static_weights_are_the_ones_that_are_given_and_one_otherwise(given):
    losses = numbers(*range(1, len(given) + 1))
    assert mtlbench.method("scalarization", weights=given).weights(losses).tolist() == [*given]
    assert mtlbench.method("scalarization").weights(losses).tolist() == [1] * len(given)
    assert mtlbench.method("single_task").weights(losses).tolist() == [1] * len(given)
    assert mtlbench.method("twin").weights(losses).tolist() == [1 + 2**-22] * len(given)


@pytest.mark.parametrize("k", [2, 3])
def test_the_odds_of_random_weights_are_the_exponentials_of_differences_of_what_is_drawn(k):
    drawn = torch.randn(k, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    weights = mtlbench.method("rlw").seed(4).weights(torch.ones(k).double())
    assert (weights / weights[0]).log().tolist() == pytest.approx((drawn - drawn[0]).tolist(), abs=1e-12)
    assert weights.sum().item() == pytest.approx(1)


# --- weights from losses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [(3.0, 0.5), (3.0, 0.5, 1.0)])
def test_learnt_scales_begin_equal_and_their_first_slopes_tell_how_far_each_loss_is_from_one(values):
    # uw: d/ds of (e^-s L + s) / 2 at s = 0 is (1 - L) / 2; imtl_l: d/ds of e^s L - s at s = 0 is L - 1.
    losses = numbers(*values)
    uw, imtl = mtlbench.method("uw"), mtlbench.method("imtl_l")
    assert uw.weights(losses).tolist() == [0.5] * len(values)
    assert imtl.weights(losses).tolist() == [1] * len(values)
    slopes = torch.autograd.grad(uw.scalarize(losses), list(uw.log_variance))
    assert [s.item() for s in slopes] == pytest.approx([(1 - v) / 2 for v in values])
    slopes = torch.autograd.grad(imtl.scalarize(losses), list(imtl.log_scale))
    assert [s.item() for s in slopes] == pytest.approx([v - 1 for v in values])


def test_dwa_of_three():
    # Means 4, 4, 4 and then 4, 2, 1: r = 1, 1/2, 1/4, and at T = 1/4 the exponents are 4, 2, 1.
    method = mtlbench.method("dwa", temperature=0.25, window=1)
    method.weights(numbers(4, 4, 4))
    assert method.weights(numbers(4, 2, 1)).tolist() == [1, 1, 1]
    e = [math.exp(v) for v in (4, 2, 1)]
    assert method.weights(numbers(9, 9, 9)).tolist() == pytest.approx([3 * v / sum(e) for v in e])


def test_stch_of_three():
    # The first epoch, of one step, gives the reference 1, 2, 4. At 1, 1, 1 the scalar is 3 log(L1 + L2/2 + L3/4), whose
    # derivatives are 3 (1, 1/2, 1/4) / (7/4).
    method = mtlbench.method("stch", warmup=0)
    method.steps_per_epoch = 1
    assert method.weights(numbers(1, 2, 4)).tolist() == pytest.approx([1, 1 / 2, 1 / 4])
    assert method.weights(numbers(1, 1, 1)).tolist() == pytest.approx([12 / 7, 6 / 7, 3 / 7])


def test_famo_of_three():
    # z = 1/3: weights in proportion to 1/L. Only the first loss falls: the slopes are log(2) (2, -1, -1) / 9, and the
    # first step of Adam is lr against the sign of each.
    method = mtlbench.method("famo", lr=0.1)
    assert method.weights(numbers(1, 2, 4)).tolist() == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    method.review(numbers(0.5, 2, 4))
    fast, slow = math.exp(-0.1), math.exp(0.1)
    expected = [fast, slow, slow]
    assert method.weights(numbers(1, 1, 1)).tolist() == pytest.approx([e / sum(expected) for e in expected], rel=1e-6)


# --- weights from Gramians --------------------------------------------------------------------------------------------


def test_mgda_of_three():
    # Orthogonal gradients: weights in proportion to 1, 1/4, 1/9, whose sum is 49/36.
    weights = mtlbench.method("mgda").weights(lengths(1, 2, 3))
    assert weights.tolist() == pytest.approx([36 / 49, 9 / 49, 4 / 49])
    # (1/2, 1/2) is the shortest vector of the first two, and has 2 with (2, 2), which is more than its square 1/2.
    assert mtlbench.method("mgda").weights(gramian([1, 0], [0, 1], [2, 2])).tolist() == pytest.approx([0.5, 0.5, 0])


@pytest.mark.parametrize("alpha", [0.5, 2.0])
@pytest.mark.parametrize("cosine", [-0.5, 0.0, 0.8])
def test_fairgrad_of_two_unit_gradients(alpha, cosine):
    # By symmetry (1 + c) w = w^(-1 / alpha): w = (1 + c)^(-alpha / (1 + alpha)).
    rows = gramian([1, 0], [cosine, math.sqrt(1 - cosine**2)])
    expected = (1 + cosine) ** (-alpha / (1 + alpha))
    assert mtlbench.method("fairgrad", alpha=alpha).weights(rows).tolist() == pytest.approx([expected] * 2)


def test_gradvac_of_three_orthogonal_gradients():
    # Target .6: the first visit adds .6 / .8 = 3/4 of the other unit and makes g'_i 5/4 long; the second, at 90 degrees
    # again, adds 3/4 of that length, 15/16. By index: 0 visits 1, 2; 1 visits 0, 2; 2 visits 0, 1.
    weights = mtlbench.method("gradvac", target=0.6, shuffle=False).weights(lengths(1, 1, 1))
    assert weights.tolist() == pytest.approx([1 + 3 / 4 + 3 / 4, 1 + 3 / 4 + 15 / 16, 1 + 15 / 16 + 15 / 16])


def test_gradnorm_of_three():
    # Norms 1, 2, 6, mean 3, equal rates: slopes -1/3, -2/3 and +2. With lr = .1 the weights are 31/30, 32/30 and 24/30
    # of a sum 87/30, brought to 3.
    method = mtlbench.method("gradnorm", lr=0.1)
    assert method.weights(lengths(1, 2, 6), numbers(5, 1, 2)).tolist() == [1, 1, 1]
    assert method.weight.tolist() == pytest.approx([31 / 29, 32 / 29, 24 / 29])


def test_cr_mogm_of_three():
    # Of mgda: (1, 1, 1) / 3 at first, then 9/10 of that and 1/10 of (36, 9, 4) / 49.
    method = mtlbench.method("cr_mogm")
    assert method.weights(lengths(1, 1, 1)).tolist() == pytest.approx([1 / 3] * 3)
    assert method.weights(lengths(1, 2, 3)).tolist() == pytest.approx([0.3 + v / 490 for v in (36, 9, 4)])


def test_modo_of_three():
    # The product with (1, 1, 1) / 3 is (1/3, 1, 1), with rho lambda (11, 31, 31) / 30; gamma = .1 of it off leaves the
    # sum 73/300 short, of which each gets a third: 1/3 + (4, -2, -2) / 90.
    product = torch.tensor([[1.0, 0, 0], [1, 2, 0], [0, 0, 3]]).double()
    assert mtlbench.method("modo").weights(product).tolist() == pytest.approx([34 / 90, 28 / 90, 28 / 90])


def test_sdmgrad_of_three():
    # Diagonal of ones, so that A is the product. w + lambda u = 1/2 each: A of it is (1/2, 1, 1/2), of which .3 is
    # taken off, and each gets .2 back: w = 1/3 + (.05, -.1, .05). The weights are (w + 1/6) / 1.5.
    product = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 1]]).double()
    method = mtlbench.method("sdmgrad", strength=0.5, lr=0.3, steps=1)
    assert method.weights(product).tolist() == pytest.approx([0.55 / 1.5, 0.4 / 1.5, 0.55 / 1.5], rel=1e-7)


# --- updates from the rows --------------------------------------------------------------------------------------------


def test_graddrop_of_three():
    # (2, -1, -1): 2 or -2 is kept, with even chances. (3, -1, 0): 3 or -1. (1, 1, 1): 3.
    rows = [[2, 3, 1], [-1, -1, 1], [-1, 0, 1]]
    found = {tuple(update(mtlbench.method("graddrop").seed(seed), rows)) for seed in range(60)}
    assert found == {(2, 3, 3), (2, -1, 3), (-2, 3, 3), (-2, -1, 3)}


def test_db_mtl_of_three():
    # Divided by the losses the gradients are 2, 2 and 4 long; b = 1/2 halves them; all get the length 2 of the longest.
    found = update(mtlbench.method("db_mtl", beta=0.5), [[2, 0, 0], [0, 4, 0], [0, 0, 16]], losses=(1, 2, 4))
    assert found == pytest.approx([2, 2, 2], rel=1e-6)


def test_excess_mtl_of_three():
    # Gradients f g after g have S = (1 + f^2) g^2 and the relative risk f^2 / sqrt(1 + f^2): for f = 1, 1/2, 0.
    method = mtlbench.method("excess_mtl", warmup=0, eta=2)
    rows = torch.tensor([[1.0, 0, 0], [0, -2, 0], [0, 0, 3]])
    assert update(method, rows) == pytest.approx([1 / 3, -2 / 3, 1])
    update(method, rows * torch.tensor([[1.0], [0.5], [0.0]]))
    e = [math.exp(2 * r) for r in (1 / math.sqrt(2), 0.25 / math.sqrt(1.25), 0)]
    assert method.weight[0].tolist() == pytest.approx([v / sum(e) for v in e], rel=1e-6)


def test_moco_of_three():
    # y = .99 g, so lambda loses .1 .9801 (1, 4, 9) / 3 = .03267 (1, 4, 9), and each gets a third of the sum back.
    method = mtlbench.method("moco")
    found = update(method, torch.diag(numbers(1, 2, 3)))
    expected = [1 / 3 + 0.03267 * (14 / 3 - n) for n in (1, 4, 9)]
    assert method.lam[0].tolist() == pytest.approx(expected)
    assert found == pytest.approx([0.99 * n * v for n, v in zip((1, 2, 3), expected, strict=True)])
