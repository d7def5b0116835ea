"""The benchmark of weights times each method's own mathematics, for every K and number of groups that it has."""

from __future__ import annotations

import pytest
import torch

from mtlbench.bench.weighing import gramians
from mtlbench.bench.words import run_bench
from mtlbench.catalogue import building, registry
from mtlbench.engine.kinds import JacobianAggregator
from mtlbench.errors import UsageError


def test_a_row_for_each_method_with_groups_only_where_it_has_them() -> None:
    result = run_bench(["weights", "K=2,3", "groups=1,4", "method=cagrad,famo,gradnorm", "repeats=1"])
    found = [(row.labels["K"], row.labels["groups"], row.labels["method"]) for row in result.rows]
    assert found == [
        *((2, 1, name) for name in ("cagrad", "famo", "gradnorm")),
        (2, 4, "cagrad"),
        *((3, 1, name) for name in ("cagrad", "famo", "gradnorm")),
        (3, 4, "cagrad"),
    ]
    assert all(row.samples["weights"][0] > 0 and len(row.samples["weights"]) == 1 for row in result.rows)


def test_by_default_all_methods_are_timed_but_those_without_weights() -> None:
    result = run_bench(["weights", "K=2", "groups=1", "repeats=1"])
    without = {
        name
        for name in registry.methods.names()
        if isinstance(building.method(name), JacobianAggregator) or building.method(name).separate_models
    }
    assert {"graddrop", "single_task"} <= without
    assert {row.labels["method"] for row in result.rows} == set(registry.methods.names()) - without


def test_gramians_have_about_as_many_conflicts_as_none() -> None:
    drawn = torch.stack(gramians(8, 20))
    assert torch.equal(drawn, torch.stack(gramians(8, 20)))
    above = drawn[:, :, *torch.triu_indices(8, 8, 1)]
    assert 0.45 < float((above < 0).double().mean()) < 0.55
    assert float(torch.linalg.eigvalsh(drawn).min()) > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("weights method=graddrop", "graddrop answers no weights"),
        ("weights K=0", "K=0 is not allowed"),
        ("weights groups=1.5", "groups=1.5 is not allowed"),
        ("weights method=gradvak", "Did you mean 'gradvac'"),
    ],
)
def test_bad_words_for_weights_are_refused(words: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run_bench(words.split())
