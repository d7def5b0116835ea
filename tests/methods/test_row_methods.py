"""Methods of the whole Jacobian: closed forms by hand, plain implementations over many steps, TorchJD, the engine."""

import math

import pytest
import torch
from oracles import through_a_file
from torch import nn

import mtlbench
from mtlbench.errors import UsageError

NAMES = ["graddrop", "db_mtl", "excess_mtl", "moco"]
REMEMBERING = ["db_mtl", "excess_mtl", "moco"]
A = torch.tensor([[1.0, 0.0], [-1.0, 1.0]], dtype=torch.float64)
ROOT = math.sqrt(2)


def told(name, steps_per_epoch=1, **parameters):
    method = mtlbench.method(name, **parameters)
    method.steps_per_epoch = steps_per_epoch
    return method


def update(method, rows, losses=None, present=None, groups=1, group=0, objectives=None):
    """One step of the bare mathematics on one group."""
    rows = torch.as_tensor(rows, dtype=torch.float64)
    method.begin(objectives or len(rows), groups, present)
    method.losses = torch.ones(len(rows), dtype=torch.float64) if losses is None else torch.as_tensor(losses).double()
    method.group = group
    return method.aggregate(rows)


def random_rows(count, objectives, width=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, objectives, width, generator=generator, dtype=torch.float64)


# --- graddrop


def test_graddrop_keeps_all_of_one_sign_and_drops_nothing_where_signs_agree():
    rows = [[1.0, -2.0, 3.0, 0.0], [2.0, -1.0, -1.0, 0.0]]
    found = {tuple(update(mtlbench.method("graddrop").seed(seed), rows).tolist()) for seed in range(60)}
    # Only the third coordinate has both signs: 3 is kept, or -1 is.
    assert found == {(3, -3, 3, 0), (3, -3, -1, 0)}


def test_graddrop_keeps_the_positive_parts_with_the_probability_of_their_purity():
    # P = (1 + 2/4)/2 = 3/4 for (3, -1), so the mean is 3/4 * 3 - 1/4 * 1 = 2.
    rows = torch.tensor([[3.0], [-1.0]], dtype=torch.float64).expand(2, 40_000)
    drawn = update(mtlbench.method("graddrop").seed(0), rows)
    assert set(drawn.tolist()) == {3.0, -1.0}
    assert (drawn > 0).double().mean().item() == pytest.approx(0.75, abs=0.01)
    assert drawn.mean().item() == pytest.approx(2, abs=0.04)


def test_graddrop_leaks_a_share_of_every_gradient():
    rows = [[3.0] * 50, [-1.0] * 50]
    half = update(mtlbench.method("graddrop", leak=0.5).seed(0), rows)
    # Half of the sum 2, and half of what is kept: 1 + 3/2 or 1 - 1/2.
    assert set(half.tolist()) == {2.5, 0.5}
    assert update(mtlbench.method("graddrop", leak=1).seed(0), rows).tolist() == [2.0] * 50


@pytest.mark.parametrize("leak", [0.0, 0.3])
def test_graddrop_is_torchjds_where_both_draw_the_same_numbers(leak, monkeypatch):
    aggregation = pytest.importorskip("torchjd.aggregation")
    peer = aggregation.GradDrop(leak=torch.full((4,), leak, dtype=torch.float64))
    plain = torch.rand
    for seed, rows in enumerate(random_rows(200, 4, width=30)):
        twin = torch.Generator().manual_seed(seed)
        monkeypatch.setattr(
            torch, "rand", lambda shape, twin=twin, **kind: plain(*shape, generator=twin, **{"dtype": kind["dtype"]})
        )
        expected = peer(rows)
        monkeypatch.setattr(torch, "rand", plain)
        ours = update(mtlbench.method("graddrop", leak=leak).seed(seed), rows)
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)


# --- db_mtl


def test_db_mtl_by_hand():
    # Losses 2 and 4 turn the rows (2, 0) and (0, 12) into (1, 0) and (0, 3); b = 1/2 halves both in the first step.
    # Each gets the length of the longest, 3/2.
    method = mtlbench.method("db_mtl", beta=0.5)
    assert update(method, [[2, 0], [0, 12]], losses=[2, 4]).tolist() == pytest.approx([1.5, 1.5], rel=1e-6)
    assert method.head_weights().tolist() == pytest.approx([1 / 2, 1 / 4], rel=1e-6)
    # Then (0, 1) and (0, 3) at losses of one: means (1/4, 1/2) and (0, 9/4), of lengths sqrt(5)/4 and 9/4.
    x = 9 / math.sqrt(5)
    found = update(method, [[0, 1], [0, 3]], losses=[1, 1])
    assert found.tolist() == pytest.approx([x / 4, x / 2 + 9 / 4], rel=1e-6)


@pytest.mark.parametrize(("beta", "sigma"), [(0.9, 0.0), (0.5, 0.5), (0.0, 0.0)])
def test_db_mtl_follows_a_plain_implementation(beta, sigma):
    method, means = mtlbench.method("db_mtl", beta=beta, sigma=sigma), [torch.zeros(5).double() for _ in range(3)]
    for step, rows in enumerate(random_rows(40, 3), start=1):
        losses = torch.tensor([0.1, 1.0, 30.0]).double() * (1 + step % 3)
        keep = beta / step**sigma
        means = [keep * m + (1 - keep) * g / (loss + 1e-8) for m, g, loss in zip(means, rows, losses, strict=True)]
        longest = max(m.norm() for m in means)
        expected = sum(longest * m / m.norm() for m in means)
        torch.testing.assert_close(update(method, rows, losses), expected, rtol=1e-9, atol=0)


def test_db_mtl_gives_nothing_to_an_objective_without_a_gradient():
    assert update(mtlbench.method("db_mtl", beta=0), [[3, 4], [0, 0]]).tolist() == pytest.approx([3, 4], rel=1e-6)
    assert update(mtlbench.method("db_mtl"), torch.zeros(2, 3)).tolist() == [0, 0, 0]


# --- excess_mtl


def test_excess_mtl_keeps_equal_weights_at_first_and_then_favours_what_has_not_gained():
    # e = sum |g| in the first step, (1, 2), to which later ones are compared. With g and half of the second row,
    # S = 2 and 5/4 times the squares: r = (1/sqrt 2, (1/4) / sqrt(5/4)). eta = 1.
    method = told("excess_mtl", warmup=0, eta=1)
    assert update(method, A).tolist() == pytest.approx([0, 0.5])
    assert method.weight.flatten().tolist() == pytest.approx([0.5, 0.5])
    update(method, A * torch.tensor([[1.0], [0.5]]))
    difference = 1 / ROOT - 0.25 / math.sqrt(1.25)
    assert method.weight[0, 0].item() == pytest.approx(1 / (1 + math.exp(-difference)), rel=1e-6)
    assert method.head_weights().tolist() == method.weight[0].tolist()


def test_excess_mtl_with_the_raw_first_step_by_hand():
    # e = (1, 2): softmax(1, 2); the second call has equal ratios 1/sqrt 2 and leaves the weights.
    method = told("excess_mtl", warmup=0, eta=1, first="raw")
    for _ in range(2):
        update(method, A)
        assert method.weight.flatten().tolist() == pytest.approx([0.268941, 0.731059], abs=1e-6)


def test_excess_mtl_may_sum_to_k_as_libmtl_does():
    method = told("excess_mtl", warmup=0, sum_to_k=True)
    assert update(method, A).tolist() == pytest.approx([0, 1])
    assert method.head_weights().tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize(("warmup", "steps", "eta"), [(0, 1, 1.0), (0, 1, 0.01), (1, 1, 0.5), (2, 3, 1.0)])
def test_excess_mtl_is_torchjds(warmup, steps, eta):
    peer = pytest.importorskip("torchjd.aggregation").ExcessMTL(eta, n_warmup_steps=warmup * steps)
    method = told("excess_mtl", steps, warmup=warmup, eta=eta, first="raw")
    for rows in random_rows(30, 4, width=20) * torch.tensor([[0.1], [1.0], [3.0], [1.0]]):
        expected = peer(rows)
        assert (update(method, rows) - expected).norm() <= 1e-6 * expected.norm()


def test_excess_mtl_is_libmtls_rule_without_a_warm_up():
    method, sums, weight, first = told("excess_mtl", warmup=0, sum_to_k=True, eta=0.1), 0, torch.ones(3).double(), None
    for rows in random_rows(30, 3):
        sums = sums + rows**2
        risks = (rows * (1 / torch.sqrt(sums + 1e-7)) * rows).sum(1)
        if first is None:
            first = risks
        else:
            weight = weight * torch.exp(0.1 * risks / first)
            weight = 3 * weight / weight.sum()
        torch.testing.assert_close(update(method, rows), weight @ rows, rtol=1e-9, atol=1e-12)


def test_excess_mtl_waits_for_an_objective_that_has_no_gradient_during_the_warm_up():
    method = told("excess_mtl", warmup=1, eta=1)
    update(method, [[1.0, 0], [0, 0]])
    update(method, [[1.0, 0], [0, 4]])
    late = method.weight.clone()
    update(method, [[0.0, 0], [0, 4]])
    # r = 0 for the first, and 1/sqrt 2 for the second, whose first risk was a step ago.
    ratio = late[0, 1] / late[0, 0] * math.exp(1 / ROOT)
    assert (method.weight[0, 1] / method.weight[0, 0]).item() == pytest.approx(ratio.item(), rel=1e-6)


# --- moco


def test_moco_by_hand():
    # y = .99 A and G = A A' = [[1, -1], [-1, 2]], so lambda - .1 * .9801 G (1/2, 1/2) = (.5, .450995), which is .049005
    # short of the simplex: half of it for each.
    method = mtlbench.method("moco")
    found = update(method, A)
    assert method.lam.flatten().tolist() == pytest.approx([0.524502, 0.475498], abs=1e-6)
    assert found.tolist() == pytest.approx([0.048515, 0.470743], abs=1e-6)


def bisected(point, total):
    """The projection on the scaled simplex, by bisection of its one multiplier."""
    low, high = point.min() - total, point.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (point - middle).clamp(min=0).sum() > total else (low, middle)
    return (point - low).clamp(min=0)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"gamma": 2.0, "rho": 0.3},
        {"beta": 0.5, "beta_sigma": 0.5, "gamma_sigma": 0.5, "rows": "loss", "onto": "softmax", "sum_to_k": True},
    ],
)
def test_moco_follows_a_plain_implementation(parameters):
    given = {"beta": 0.99, "gamma": 0.1, "beta_sigma": 0, "gamma_sigma": 0, "rho": 0, "sum_to_k": False} | parameters
    method = mtlbench.method("moco", **parameters)
    y, lam = torch.zeros(4, 5).double(), torch.full((4,), 0.25).double()
    for step, rows in enumerate(random_rows(50, 4) * torch.tensor([[0.1], [1.0], [2.0], [1.0]]), start=1):
        losses = torch.tensor([1.0, 0.2, 3.0, 1.0]).double() / step
        g = rows
        if given.get("rows") == "loss":
            g = rows / (rows.norm(dim=1, keepdim=True) + 1e-8) * losses[:, None]
        y = y - given["beta"] / step ** given["beta_sigma"] * (y - g)
        slope = (y @ y.T + given["rho"] * torch.eye(4).double()) @ lam
        moved = lam - given["gamma"] / step ** given["gamma_sigma"] * slope
        lam = moved.softmax(0) if given.get("onto") == "softmax" else bisected(moved, 1.0)
        expected = (4 if given["sum_to_k"] else 1) * (y.T @ lam)
        torch.testing.assert_close(update(method, rows, losses), expected, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(method.lam[0], lam, rtol=1e-9, atol=1e-10)


def test_moco_on_gradients_that_stay_finds_the_shortest_vector():
    method = mtlbench.method("moco")
    for _ in range(1000):
        found = update(method, A)
    shortest = mtlbench.method("mgda").weights(A @ A.T) @ A
    torch.testing.assert_close(found, shortest, rtol=1e-6, atol=1e-9)


# --- all of them: absent objectives, groups, state, heads


@pytest.mark.parametrize("name", REMEMBERING)
def test_what_is_remembered_of_absent_objectives_rests(name):
    method = told(name)
    rows = random_rows(6, 3)
    update(method, rows[0])
    before = through_a_file(method.state_dict())
    update(method, rows[1][[2, 0]], present=[2, 0], objectives=3)
    after = method.state_dict()
    old, new = before["_extra_state"]["memory"]["0"], after["_extra_state"]["memory"]["0"]
    assert torch.equal(old[1], new[1])
    assert not torch.equal(old[0], new[0])
    assert not torch.equal(old[2], new[2])
    for key, value in before.items():
        if key != "_extra_state":
            assert torch.equal(value[:, 1], after[key][:, 1]), key
            if value.is_floating_point() and key in ("weight", "lam"):
                torch.testing.assert_close(value.sum(), after[key].sum())


@pytest.mark.parametrize("name", REMEMBERING)
def test_objectives_in_another_order_meet_their_own_state(name):
    one, other = told(name), told(name)
    for step, rows in enumerate(random_rows(6, 3)):
        order = [2, 0, 1] if step % 2 else [0, 1, 2]
        losses = torch.tensor([1.0, 2.0, 3.0])
        expected = update(one, rows, losses)
        found = update(other, rows[order], losses[order], present=order)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", REMEMBERING)
def test_groups_have_a_state_of_their_own(name):
    both, alone = told(name), [told(name), told(name)]
    for first, second in zip(random_rows(5, 3, width=4), random_rows(5, 3, width=7, seed=1), strict=True):
        for group, rows in enumerate((first, second)):
            found = update(both, rows, groups=2, group=group)
            torch.testing.assert_close(found, update(alone[group], rows), rtol=0, atol=0)


class Two(nn.Module):
    """An encoder of two layers with a head for each of three objectives, in float64."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.shared = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 4))
        self.heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(3))
        self.double()

    def losses(self, x, present=(0, 1, 2)):
        features = self.shared(x)
        return [(self.heads[k](features) - k - 1).square().mean() for k in present]


def run(backward, model, steps):
    for step in steps:
        x = torch.randn(8, 5, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        present = [0, 2] if step % 3 == 2 else [0, 1, 2]
        for p in model.parameters():
            p.grad = None
        backward(model.losses(x, present), objectives=present)
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.05 * (0 if p.grad is None else p.grad)


@pytest.mark.parametrize("granularity", ["whole_model", "all_matrix"])
@pytest.mark.parametrize("name", REMEMBERING)
def test_a_run_goes_on_bit_for_bit_from_its_saved_state(name, granularity):
    model, again = Two(), Two()
    backward = mtlbench.Backward(told(name), model.shared, granularity, objectives=3)
    run(backward, model, range(5))
    saved = through_a_file({"model": model.state_dict(), "backward": backward.state_dict()})
    run(backward, model, range(5, 10))
    again.load_state_dict(saved["model"])
    fresh = mtlbench.Backward(told(name), again.shared, granularity, objectives=3)
    fresh.load_state_dict(saved["backward"])
    run(fresh, again, range(5, 10))
    assert all(map(torch.equal, model.parameters(), again.parameters()))


def test_a_loaded_state_is_not_changed_by_the_run_that_goes_on():
    model = Two()
    backward = mtlbench.Backward(mtlbench.method("moco"), model.shared, objectives=3)
    run(backward, model, range(2))
    saved = through_a_file(backward.state_dict())
    before = saved["method"]["_extra_state"]["memory"]["0"].clone()
    backward.load_state_dict(saved)
    run(backward, model, range(2))
    assert torch.equal(saved["method"]["_extra_state"]["memory"]["0"], before)


@pytest.mark.parametrize("name", REMEMBERING)
def test_a_frozen_layer_goes_and_comes_and_the_other_keeps_its_state(name):
    model, twin = Two(), Two()
    backward = mtlbench.Backward(told(name), model.shared, "all_layer", objectives=3)
    other = mtlbench.Backward(told(name), twin.shared, "all_layer", objectives=3)
    for each, of in ((backward, model), (other, twin)):
        run(each, of, range(3))
    model.shared[0].requires_grad_(False)
    for each, of in ((backward, model), (other, twin)):
        of.load_state_dict(model.state_dict())
        x = torch.randn(8, 5, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
        for p in of.parameters():
            p.grad = None
        each(of.losses(x))
    torch.testing.assert_close(model.shared[2].weight.grad, twin.shared[2].weight.grad, rtol=0, atol=0)
    assert model.shared[0].weight.grad is None


def test_a_group_that_changes_its_columns_is_refused():
    model = Two()
    backward = mtlbench.Backward(mtlbench.method("moco"), model.shared, objectives=3)
    run(backward, model, range(1))
    model.shared[0].requires_grad_(False)
    with pytest.raises(UsageError, match=r"moco: has a number for each trainable.*had 64 of them and now has 28"):
        run(backward, model, range(1, 2))


@pytest.mark.parametrize("name", NAMES)
def test_heads_are_trained_as_the_method_says(name):
    model = Two()
    method = told(name, warmup=0, eta=1, first="raw") if name == "excess_mtl" else told(name)
    backward = mtlbench.Backward(method, model.shared, objectives=3)
    x = torch.randn(8, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plain = model.losses(x)
    own = [
        torch.autograd.grad(loss, list(head.parameters()), retain_graph=True)
        for loss, head in zip(plain, model.heads, strict=True)
    ]
    backward(model.losses(x))
    if name == "db_mtl":
        factors = [1 / (loss.item() + 1e-8) for loss in plain]
    elif name == "excess_mtl":
        factors = method.weight[0].tolist()
        assert max(factors) - min(factors) > 0.01
    else:
        factors = [1.0, 1.0, 1.0]
    for head, gradients, factor in zip(model.heads, own, factors, strict=True):
        for p, g in zip(head.parameters(), gradients, strict=True):
            torch.testing.assert_close(p.grad, factor * g, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["db_mtl", "excess_mtl"])
def test_the_heads_of_untreated_objectives_are_trained_by_their_own_losses(name):
    model = Two()
    backward = mtlbench.Backward(told(name), model.shared, objectives=3, treated=[0, 2])
    x = torch.randn(8, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (expected,) = torch.autograd.grad(model.losses(x)[1], [model.heads[1].weight])
    backward(model.losses(x))
    torch.testing.assert_close(model.heads[1].weight.grad, expected, rtol=1e-9, atol=0)
    (own,) = torch.autograd.grad(model.losses(x)[0], [model.heads[0].weight])
    assert not torch.allclose(model.heads[0].weight.grad, own)


def test_a_jacobian_in_bfloat16_is_remembered_in_float32():
    model = Two().float()
    backward = mtlbench.Backward(mtlbench.method("db_mtl"), model.shared, objectives=3, jacobian_dtype=torch.bfloat16)
    backward(model.losses(torch.randn(8, 5)))
    assert backward.method.state_dict()["_extra_state"]["memory"]["0"].dtype == torch.float32
