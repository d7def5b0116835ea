"""Gramians of probe gradients equal a direct computation, however little memory there is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from mtlbench.engine.grouping import group
from mtlbench.engine.losses import Losses
from mtlbench.engine.probing import passes, probe_gramians

B, K = 3, 4


class Model(nn.Module):
    """A sparse embedding, two layers, a parameter that nothing reaches, and K heads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(11, 6, sparse=True)
        self.layers = nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 5))
        self.unused = nn.Linear(2, 2)
        self.heads = nn.ModuleList(nn.Linear(5, 1) for _ in range(K))
        self.double()

    def shared(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.named_parameters() if not name.startswith("heads")}

    def losses(self, batch: int) -> Iterator[torch.Tensor]:
        words = torch.randint(11, (8, K), generator=torch.Generator().manual_seed(batch))
        for k in range(K):
            yield (self.heads[k](self.layers(self.embedding(words[:, k]))) - k).pow(2).mean()


def directly(model: Model) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """By group, the products of whole gradients by `backward()`, one loss at a time."""
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in model.shared()}
    values = []
    for batch in range(B):
        for k in range(K):
            model.zero_grad()
            loss = list(model.losses(batch))[k]
            loss.backward()
            values.append(loss.item())
            for name, p in model.shared().items():
                dense = torch.zeros_like(p) if p.grad is None else p.grad.to_dense()
                rows[name].append(dense.flatten().clone())
    model.zero_grad()
    products = {name: torch.stack(found) @ torch.stack(found).T for name, found in rows.items()}
    return products, torch.tensor(values, dtype=torch.float64).view(B, K)


@pytest.mark.parametrize("one_graph", [True, False])
@pytest.mark.parametrize("memory", [2**31, B * K * 8 * 13, 1])
def test_gramians_equal_a_direct_computation_and_sum_to_coarser_ones(memory: int, one_graph: bool) -> None:
    model = Model()
    groups = group(model.shared(), "all_layer")

    def losses(batch: int) -> Losses:
        return list(model.losses(batch)) if one_graph else model.losses(batch)

    found, values = probe_gramians(list(groups.values()), losses, B, K, memory)
    products, expected = directly(model)
    torch.testing.assert_close(values, expected, rtol=1e-12, atol=0)
    whole = torch.stack(list(products.values())).sum(0)
    scale = float(whole.diagonal().max())
    torch.testing.assert_close(found.sum(0), whole, rtol=1e-10, atol=1e-14 * scale)
    for index, name in enumerate(groups):
        own = torch.stack([products[key] for key in products if key.startswith(name)]).sum(0)
        torch.testing.assert_close(found[index], own, rtol=1e-10, atol=1e-14 * scale)
    assert torch.equal(found, found.transpose(1, 2))
    assert not found[list(groups).index("unused")].any()
    assert all(p.grad is None for p in model.parameters())


def test_float32_gradients_are_multiplied_in_float64() -> None:
    model = Model().float()
    rows = []
    for batch in range(B):
        for loss in model.losses(batch):
            found = torch.autograd.grad(loss, list(model.layers.parameters()))
            rows.append(torch.cat([g.flatten() for g in found]).double())
    direct = torch.stack(rows) @ torch.stack(rows).T
    gramian, _ = probe_gramians([list(model.layers.parameters())], model.losses, B, K, 2**31)
    torch.testing.assert_close(gramian[0], direct, rtol=1e-12, atol=1e-14 * float(direct.diagonal().max()))


def test_passes_hold_every_column_once_and_no_more_than_fit() -> None:
    groups = [[nn.Parameter(torch.zeros(3, 4))], [nn.Parameter(torch.zeros(5)), nn.Parameter(torch.zeros(2))]]
    found = list(passes(groups, 7))
    assert [sum(piece.stop - piece.start for piece in pieces) for pieces in found] == [7, 7, 5]
    columns = [(id(p.parameter), c) for pieces in found for p in pieces for c in range(p.start, p.stop)]
    assert len(set(columns)) == len(columns) == 19


def test_a_batch_that_lacks_a_loss_is_refused() -> None:
    model = Model()
    with pytest.raises(ValueError, match="3 losses of a batch of 4"):
        probe_gramians([list(model.layers.parameters())], lambda b: list(model.losses(b))[:3], B, K, 2**31)
