"""Strategies of sampling on the command line: listed, described, brought by a plug-in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtlbench.catalogue import registry
from mtlbench.cells.request import parse
from mtlbench.errors import UsageError

STRATEGY = '''"""The smallest objective alone."""

import numpy as np

import mtlbench


@mtlbench.register_sampling("smallest", paper="nobody, 1999")
class Smallest(mtlbench.Sampling):
    """One of K.

    Args:
        rest: what the others share.
    """

    def __init__(self, rest: float = 0.25) -> None:
        super().__init__()
        self.rest = rest

    def shares(self, epoch):
        p = np.full(len(self.supply.sizes), self.rest / (len(self.supply.sizes) - 1))
        p[self.supply.sizes.argmin()] = 1 - self.rest
        return p
'''


def test_strategies_are_listed_and_described_like_methods(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "smallest.py").write_text(STRATEGY)
    listed = command("list sampling --plugin smallest.py")
    assert listed.code == 0
    for name in ("chi2_dro", "order", "temperature", "unimax", "smallest     The smallest objective alone"):
        assert f"  {name}" in listed.output
    assert "gradvac" not in listed.output
    assert "unimax" in command("list").output
    shown = command("show chi2_dro").output
    assert "arXiv:2109.04020" in shown
    assert "sampling.rho" in shown
    assert "sampling.repeats    float in (0, inf)    required" in command("show unimax").output
    own = command("show --plugin smallest.py smallest").output
    assert "nobody, 1999" in own
    assert "sampling.rest" in own
    assert "Did you mean 'unimax'" in command("show unimx").output


def test_a_plug_in_strategy_is_a_word_and_one_that_fails_leaves_none(tmp_path: Path) -> None:
    (tmp_path / "smallest.py").write_text(STRATEGY)
    (tmp_path / "half.py").write_text(STRATEGY.replace("smallest", "half") + "\nraise ValueError('half done')\n")
    registry.load_plugin(tmp_path / "smallest.py")
    with pytest.raises(UsageError, match="half done"):
        registry.load_plugin(tmp_path / "half.py")
    assert "half" not in registry.samplings.entries()
    words = ["method=uniform", "task=nmt", "against=none", "sampling=smallest", "sampling.rest=0.25,0.5"]
    assert [cell.label for cell in parse(words).cells] == [
        "uniform(sampling=smallest)",
        "uniform(sampling=smallest(rest=0.5))",
    ]
