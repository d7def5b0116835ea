"""Agreement with TorchJD, where it has the method, on random Gramians of every rank."""

import itertools
import warnings

import numpy as np
import pytest
import torch

import mtlbench

ag = pytest.importorskip("torchjd.aggregation")
linalg = pytest.importorskip("torchjd.linalg")
pytest.importorskip("quadprog")
pytest.importorskip("ecos")

SIZES = (2, 3, 5, 8)


def lengths(rng, k):
    return rng.uniform(0.3, 3, (k, 1))


def of_full_rank(rng, k):
    return rng.standard_normal((k, 2 * k + 1)) * lengths(rng, k)


def dependent(rng, k):
    """Fewer dimensions than rows; all agree in the first, so that 0 is not in their convex hull."""
    rows = rng.standard_normal((k, max(1, k - int(rng.integers(1, max(2, k // 2 + 1))))))
    rows[:, 0] = np.abs(rows[:, 0]) + 0.1
    return rows * lengths(rng, k)


def nearly_parallel(rng, k):
    return (rng.standard_normal(2 * k + 1) + 1e-3 * rng.standard_normal((k, 2 * k + 1))) * lengths(rng, k)


MAKE = (of_full_rank, dependent, nearly_parallel)


def exact_projector():
    """Without the share of the trace that theirs adds to the diagonal, but for what its solver cannot do without."""
    return linalg.QuadprogProjector(norm_eps=1e-12, reg_eps=1e-10)


PEERS = {
    "imtl_g": (lambda k: ag.IMTLG(), {}),
    "config": (lambda k: ag.ConFIG(), {}),
    "aligned_mtl": (lambda k: ag.AlignedMTL(), {"reduction": "mean"}),
    "aligned_mtl, median": (lambda k: ag.AlignedMTL(scale_mode="median"), {"reduction": "mean", "scale": "median"}),
    "aligned_mtl, rmse": (lambda k: ag.AlignedMTL(scale_mode="rmse"), {"reduction": "mean", "scale": "rmse"}),
    "pcd": (lambda k: ag.PCD(), {}),
    "pcd, tau 0.5": (lambda k: ag.PCD(tau=0.5, beta=0.9), {"tau": 0.5, "beta": 0.9}),
    "upgrad": (lambda k: ag.UPGrad(projector=exact_projector()), {}),
    "dualproj": (lambda k: ag.DualProj(projector=exact_projector()), {}),
    "fairgrad": (lambda k: ag.FairGrad(alpha=2.0), {}),
}
COUNT = 18
"""Gramians of each make and size: 216 in all."""


def problems(count=COUNT, sizes=SIZES):
    """Pairs of a make and (K, P) rows."""
    for make in MAKE:
        rng = np.random.default_rng(len(make.__name__))
        for _ in range(count):
            for k in sizes:
                yield make, make(rng, k)


def ours(label, rows, **parameters):
    weights = mtlbench.method(label.split(",")[0], **parameters).weights(torch.from_numpy(rows @ rows.T)).numpy()
    return weights @ rows


@pytest.mark.parametrize("label", PEERS)
def test_updates_agree_with_torchjd(label):
    peer, parameters = PEERS[label]
    worst = 0.0
    for _, rows in problems():
        theirs = peer(len(rows))(torch.from_numpy(rows)).numpy()
        # Of the mean length of the gradients where they nearly cancel.
        size = max(np.linalg.norm(theirs), 0.1 * np.linalg.norm(rows, axis=1).mean())
        worst = max(worst, np.linalg.norm(ours(label, rows, **parameters) - theirs) / size)
    assert worst <= (2e-6 if label in ("upgrad", "dualproj") else 1e-6)  # of what is left on the diagonal


def test_pcd_with_a_share_for_each_objective_agrees_with_torchjd():
    rng = np.random.default_rng(4)
    for _, rows in problems(4):
        shares = rng.uniform(0, 0.9, len(rows) - 1)
        theirs = ag.PCD(tau=torch.from_numpy(shares))(torch.from_numpy(rows)).numpy()
        apart = np.linalg.norm(ours("pcd", rows, tau=tuple(shares.tolist())) - theirs)
        assert apart <= 1e-6 * max(np.linalg.norm(theirs), 0.1 * np.linalg.norm(rows, axis=1).mean())


@pytest.mark.parametrize("name", ["upgrad", "dualproj", "pcd"])
def test_agreement_where_gradients_have_zero_in_their_hull(name):
    peer, parameters = PEERS[name]
    rng = np.random.default_rng(5)
    for _ in range(30):
        for k in (3, 5, 8):
            rows = rng.standard_normal((k, max(1, k // 2))) * lengths(rng, k)
            apart = ours(name, rows, **parameters) - peer(k)(torch.from_numpy(rows)).numpy()
            assert np.linalg.norm(apart) <= 1e-5 * np.linalg.norm(rows, axis=1).mean()


def test_cagrad_is_never_worse_than_torchjd_and_agrees_within_the_tolerance_of_its_solver():
    """Theirs ends at a gap of some 1e-8 in the value, which is some 1e-4 in the direction: a ball is flat on top."""
    worst = 0.0
    for _, rows in problems():
        theirs = ag.CAGrad(c=0.4, norm_eps=1e-9)(torch.from_numpy(rows)).numpy()
        mine = ours("cagrad", rows)
        center = rows.mean(0)
        assert np.linalg.norm(mine - center) <= 0.4 * np.linalg.norm(center) * (1 + 1e-9)
        assert (rows @ mine).min() >= (rows @ theirs).min() - 1e-7 * np.linalg.norm(rows, axis=1).max() ** 2
        worst = max(worst, np.linalg.norm(mine - theirs) / np.linalg.norm(mine))
    assert worst <= 5e-4


def test_nash_mtl_agrees_with_torchjd_where_that_solves_the_equation():
    """Theirs ends where `|G w - 1 / w| < 1e-3`, at a step below 1e-6 or after 20 programs; ours solves it on all."""
    asked = compared = 0
    for _, rows in [*problems(52, (2,)), *problems(16, (3,))]:
        gramian = rows @ rows.T
        mine = mtlbench.method("nash_mtl", max_norm=0.0).weights(torch.from_numpy(gramian)).numpy()
        assert mine * (gramian @ mine) == pytest.approx(1, rel=1e-8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # theirs is not in the form that cvxpy compiles once
            theirs = ag.NashMTL(n_tasks=len(rows), max_norm=0.0).weighting(torch.from_numpy(rows)).numpy()
        asked += 1
        if theirs * (gramian @ theirs) == pytest.approx(1, rel=1e-4):
            compared += 1
            assert theirs @ rows == pytest.approx(mine @ rows, rel=1e-6, abs=1e-6)
    assert asked >= 200
    assert compared >= 0.9 * asked


def pairs(k, count=COUNT // 2):
    """Two steps of rows at a time, of each make; 216 Gramians for all sizes."""
    for make in MAKE:
        rng = np.random.default_rng([k, len(make.__name__)])
        for _ in range(count):
            yield make(rng, k), make(rng, k)


def test_mgda_agrees_with_torchjd_and_is_as_much_nearer_to_zero_as_that_is_from_it():
    """Of two objectives theirs is exact. Of more it ends short of the shortest vector d, and any x of the convex hull
    has `|x - d|^2 <= |x|^2 - |d|^2`: as near as that is, as near is d.
    """
    for _, rows in problems(67, (2,)):
        theirs = ag.MGDA(epsilon=1e-12)(torch.from_numpy(rows)).numpy()
        assert np.linalg.norm(ours("mgda", rows) - theirs) <= 1e-6 * np.linalg.norm(rows, axis=1).mean()
    near = 0
    for _, rows in problems(8, (3, 5, 8)):
        theirs, d = ag.MGDA(epsilon=1e-6, max_iters=100)(torch.from_numpy(rows)).numpy(), ours("mgda", rows)
        off = theirs @ theirs - d @ d
        assert np.linalg.norm(theirs - d) ** 2 <= off + 1e-10 * theirs @ theirs
        near += off <= 1e-2 * theirs @ theirs
    assert near >= 40  # of 72


@pytest.mark.parametrize("name", ["pcgrad", "gradvac"])
def test_surgery_in_index_order_agrees_with_torchjd(name, monkeypatch):
    monkeypatch.setattr(torch, "randperm", lambda n, **_: torch.arange(n))
    for k in SIZES:
        for steps in pairs(k):
            mine = mtlbench.method(name, shuffle=False, **({"beta": 0.1} if name == "gradvac" else {}))
            theirs = ag.PCGradWeighting() if name == "pcgrad" else ag.GradVacWeighting(beta=0.1, eps=0.0)
            for rows in steps:
                table = torch.from_numpy(rows @ rows.T)
                torch.testing.assert_close(mine.weights(table), theirs(table), rtol=1e-6, atol=1e-9)


def test_averaged_weights_agree_with_torchjd():
    theirs = ag.CRMOGMWeighting(ag.MGDAWeighting(epsilon=1e-12), alpha=0.9)
    mine = mtlbench.method("cr_mogm")
    for _, rows in problems(67, (2,)):
        table = torch.from_numpy(rows @ rows.T)
        torch.testing.assert_close(mine.weights(table), theirs(table), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("name", "theirs"), [("modo", "MoDoWeighting"), ("sdmgrad", "SDMGradWeighting")])
def test_methods_of_several_batches_agree_with_torchjd(name, theirs):
    rng = np.random.default_rng(3)
    for k in SIZES:
        for steps in pairs(k):
            mine, peer = mtlbench.method(name), getattr(ag, theirs)()
            for rows in steps:
                product = torch.from_numpy(rows @ (rows + 0.1 * rng.standard_normal(rows.shape)).T)
                torch.testing.assert_close(mine.weights(product), peer(product), rtol=1e-6, atol=1e-9)


def aggregate(method, rows):
    method.begin(len(rows), 1)
    method.losses = torch.ones(len(rows), dtype=torch.float64)
    return method.aggregate(torch.from_numpy(rows)).numpy()


def test_methods_of_the_rows_agree_with_torchjd():
    for seed, steps in enumerate(itertools.chain(*map(pairs, SIZES))):
        dropping = mtlbench.method("graddrop").seed(seed)
        weighing, peer = mtlbench.method("excess_mtl", eta=0.01, warmup=0, first="raw"), ag.ExcessMTL(0.01)
        torch.manual_seed(seed)  # the same numbers as from a generator of this seed
        for factor in (1, np.linspace(2, 0.5, len(steps[0]))[:, None]):
            long = 100 * factor * steps[0]  # theirs adds 1e-7 to the first risks
            size = 1e-6 * np.linalg.norm(long, axis=1).sum()
            assert np.linalg.norm(aggregate(weighing, long) - peer(torch.from_numpy(long)).numpy()) <= size
            assert np.linalg.norm(aggregate(dropping, long) - ag.GradDrop()(torch.from_numpy(long)).numpy()) <= size


def test_weights_that_see_nothing_agree_with_torchjd():
    for seed, (_, rows) in enumerate(problems()):
        given = np.random.default_rng(seed).random(len(rows)) + 0.1
        for method, theirs in (
            (mtlbench.method("uniform"), ag.Sum()),
            (mtlbench.method("scalarization", weights=tuple(given)), ag.Constant(torch.from_numpy(given))),
            (mtlbench.method("rlw").seed(seed), ag.Random()),
        ):
            torch.manual_seed(seed)
            expected = theirs(torch.from_numpy(rows)).numpy()
            weights = method.weights(torch.ones(len(rows), dtype=torch.float64)).numpy()
            assert weights @ rows == pytest.approx(expected, rel=1e-6, abs=1e-9)
