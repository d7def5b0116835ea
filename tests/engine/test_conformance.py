"""The conformance battery: built-in methods pass, methods with a defect are found out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import mtlbench
from mtlbench.catalogue.registry import methods
from mtlbench.engine.conformance import battery


def failing(make) -> set[str]:
    return {finding.name for finding in battery(make) if not finding.holds}


@pytest.mark.parametrize("name", methods.names())
def test_every_built_in_method_passes(name: str) -> None:
    found = list(battery(lambda: mtlbench.method(name)))
    assert found
    assert [(f.name, f.problem) for f in found if not f.holds] == []


class AbsoluteEpsilon(mtlbench.GramianWeighting):
    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        norms = gramian.diagonal(dim1=-2, dim2=-1).sqrt()
        return norms.mean(-1, keepdim=True) / (norms + 1e-3)


class ForgetsItsState(mtlbench.GramianWeighting):
    def __init__(self) -> None:
        super().__init__()
        self.steps = 0

    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        self.steps += 1
        return torch.full(gramian.shape[:-1], float(self.steps), dtype=torch.float64)


class DividesByZero(mtlbench.GramianWeighting):
    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        return 1 / gramian.diagonal(dim1=-2, dim2=-1).sqrt()


class IgnoresPresence(mtlbench.GramianWeighting):
    def weigh(self, gramian: Tensor, losses: Tensor) -> Tensor:
        return torch.ones(len(gramian), self.objectives, dtype=torch.float64)


@pytest.mark.parametrize(
    ("method", "property_"),
    [
        (AbsoluteEpsilon, "does not depend on the scale of the gradients"),
        (ForgetsItsState, "continues bit for bit from a saved state"),
        (DividesByZero, "copes with zero, duplicated and opposite gradients"),
        (IgnoresPresence, "takes steps that hold only some objectives"),
    ],
)
def test_a_defect_is_found(method: type[mtlbench.GramianWeighting], property_: str) -> None:
    assert property_ in failing(method)
