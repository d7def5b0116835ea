"""The benchmark of recording says what share of training the snapshots of a whole cell take."""

from __future__ import annotations

import pytest

from mtlbench.bench.words import run_bench
from mtlbench.errors import UsageError


def test_the_share_is_that_of_all_snapshots_in_all_steps() -> None:
    words = "geometry task=multimnist/digits method=uniform,pcgrad every=epoch batches=2 repeats=1"
    result = run_bench([*words.split(), "protocol.epochs=3"])
    assert result.kind == "geometry"
    for row in result.rows:
        assert (row.labels["K"], row.labels["snapshots"]) == (2, 4)
        share = row.ratios["recording/training"]
        assert share is not None
        taken = 4 * row.samples["snapshot"][0]
        assert share.median == pytest.approx(taken / (int(row.labels["steps"]) * row.samples["step"][0]))
    assert [row.ratios["watched/step"] is None for row in result.rows] == [True, False]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("geometry", "Which task"),
        ("geometry task=multimnist every=0", "every=0 is not allowed"),
        ("geometry task=multimnist K=3", "K=3 is not allowed"),
        ("geometry task=multimnist method=gradvak", "Did you mean 'gradvac'"),
    ],
)
def test_bad_words_are_refused(words: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run_bench(words.split())
