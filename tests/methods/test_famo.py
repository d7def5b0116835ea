"""FAMO: the weights and the first move by hand, its authors' rule over many steps, and what the runner shows it."""

import math
from pathlib import Path

import pytest
import torch
from oracles import through_a_file
from torch import nn

import mtlbench
from mtlbench.cells.request import parse
from mtlbench.errors import UsageError
from mtlbench.running import training


def losses(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_the_first_weights_and_the_first_move_by_hand():
    # z = (1/2, 1/2): weights (1/L) / sum(1/L) = (1/2, 1/8) / (5/8).
    method = mtlbench.method("famo", lr=0.1)
    assert method.weights(losses(2, 8)).tolist() == pytest.approx([0.8, 0.2])
    # The first loss halves and the second stays: delta = (log 2, 0), slope 1/4 log 2 (1, -1). Adam's first step is
    # lr in the direction of its sign, so that what fell less gains weight.
    method.review(losses(1, 8))
    assert method.xi.tolist() == pytest.approx([-0.1, 0.1], rel=1e-6)
    z = 1 / (1 + math.exp(0.2))
    weights = losses(z / 1, (1 - z) / 4)
    assert method.weights(losses(1, 4)).tolist() == pytest.approx((weights / weights.sum()).tolist(), rel=1e-6)


def test_weights_sum_to_one_and_move_to_what_falls_more_slowly():
    method = mtlbench.method("famo", gamma=0)
    for _ in range(20):
        assert method.weights(losses(1, 1, 1)).sum().item() == pytest.approx(1)
        method.review(losses(0.5, 0.9, 0.7))
    fast, slow, between = method.weights(losses(1, 1, 1)).tolist()
    assert fast < between < slow


@pytest.mark.parametrize(("gamma", "lr"), [(0.001, 0.025), (0.1, 0.2)])
def test_many_steps_are_torchjds(gamma, lr):
    peer = pytest.importorskip("torchjd.scalarization").FAMO(4, lr=lr, weight_decay=gamma).double()
    method, generator = mtlbench.method("famo", gamma=gamma, lr=lr), torch.Generator().manual_seed(0)
    for _ in range(150):
        values = 0.1 + 5 * torch.rand(4, generator=generator, dtype=torch.float64)
        leaf = values.clone().requires_grad_()
        (expected,) = torch.autograd.grad(peer(leaf), leaf)
        torch.testing.assert_close(method.weights(values), expected, rtol=1e-6, atol=0)
        after = values * (0.5 + torch.rand(4, generator=generator, dtype=torch.float64))
        peer.update(after)
        method.review(after)
    assert method.xi.abs().max() > lr


def test_many_steps_with_absent_objectives_are_adam_of_torch_on_one_parameter_for_each():
    method, generator = mtlbench.method("famo", lr=0.1, gamma=0.01), torch.Generator().manual_seed(1)
    xi = [torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(3)]
    adam = torch.optim.Adam(xi, 0.1, weight_decay=0.01)
    method.begin(3, 1)
    for step in range(60):
        present = [[0, 1, 2], [2, 0], [1]][step % 3]
        before = 0.1 + torch.rand(len(present), generator=generator, dtype=torch.float64)
        after = before * (0.5 + torch.rand(len(present), generator=generator, dtype=torch.float64))
        z = torch.stack([xi[k] for k in present]).softmax(0)
        weights = z.detach() / before
        torch.testing.assert_close(
            method.weights(before, present=present), weights / weights.sum(), rtol=1e-6, atol=1e-9
        )
        method.review(after)
        adam.zero_grad()
        (z * ((before + 1e-8).log() - (after + 1e-8).log())).sum().backward()
        adam.step()
        assert method.xi.tolist() == pytest.approx([x.item() for x in xi], rel=1e-6, abs=1e-9)


def test_a_step_without_its_review_is_refused_at_the_next():
    method = mtlbench.method("famo")
    method.weights(losses(1, 2))
    with pytest.raises(UsageError, match=r"famo: learns from the losses after.*Backward\.review"):
        method.weights(losses(1, 2))


def test_a_state_between_step_and_review_goes_on_bit_for_bit():
    method = mtlbench.method("famo")
    method.weights(losses(1, 2))
    method.review(losses(0.5, 2))
    method.weights(losses(1, 3))
    fresh = mtlbench.method("famo")
    fresh.load_state_dict(through_a_file(method.state_dict()))
    for each in (method, fresh):
        each.review(losses(0.9, 1))
    assert torch.equal(method.xi, fresh.xi)
    assert torch.equal(method.weights(losses(1, 1)), fresh.weights(losses(1, 1)))


def test_a_loop_of_ones_own_reviews_through_backward_and_other_methods_do_not_mind():
    for name in ("famo", "uniform", "pcgrad"):
        torch.manual_seed(0)
        encoder, heads = nn.Linear(4, 3), [nn.Linear(3, 1) for _ in range(2)]
        parameters = [*encoder.parameters(), *(p for head in heads for p in head.parameters())]
        optimiser, x = torch.optim.SGD(parameters, 0.1), torch.randn(8, 4)
        backward = mtlbench.Backward(mtlbench.method(name), encoder)

        def found(encoder=encoder, heads=heads, x=x):
            return [(head(encoder(x)) - 1 - k).square().mean() for k, head in enumerate(heads)]

        for _ in range(3):
            optimiser.zero_grad()
            backward(found())
            gradients = [p.grad.clone() for p in parameters]
            optimiser.step()
            with torch.no_grad():
                backward.review(iter(found()))
            assert all(torch.equal(p.grad, g) for p, g in zip(parameters, gradients, strict=True))
    backward = mtlbench.Backward(mtlbench.method("famo"), encoder)
    backward(found())
    with pytest.raises(UsageError, match="got 1 losses to review for the 2 of the step"):
        backward.review(found()[:1])
    with pytest.raises(mtlbench.Diverged, match="famo: the loss after the step of objective 1 is nan"):
        backward.review([torch.tensor(1.0), torch.tensor(torch.nan)])


def test_the_runner_shows_the_same_batch_under_the_same_dropout_with_the_new_parameters(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    of_step, of_review = mtlbench.Backward.__call__, mtlbench.Backward.review

    def step(self, given, present=None):
        values = of_step(self, given, present)
        seen.append(("step", values))
        return values

    def review(self, given):
        given = list(given)
        seen.append(("review", torch.stack(given)))
        assert not any(loss.requires_grad for loss in given)
        of_review(self, given)

    monkeypatch.setattr(mtlbench.Backward, "__call__", step)
    monkeypatch.setattr(mtlbench.Backward, "review", review)
    # With a learning rate of next to nothing the parameters stay, and with them the losses, if batch and dropout do.
    words = "method=famo task=tiny protocol.options.dropout=0.5 protocol.optimizer.lr=1e-12"
    (cell,) = parse(words.split()).cells[:1]
    record = training.run_cell(cell, tmp_path)
    assert [what for what, _ in seen] == ["step", "review"] * (len(seen) // 2)
    assert len(seen) == 2 * record.cost.steps > 0
    for (_, before), (_, after) in zip(seen[::2], seen[1::2], strict=True):
        torch.testing.assert_close(before, after, rtol=1e-6, atol=0)
    assert record.diagnostics["z_0"] == pytest.approx(0.5, abs=0.01)
