"""What a step on several processes sends and keeps is what the formulas say."""

from __future__ import annotations

import pytest

from mtlbench.bench.words import run_bench
from mtlbench.errors import UsageError


def test_bytes_and_memory_are_those_of_the_formulas() -> None:
    told: list[tuple[int, int]] = []
    bench = run_bench(
        ["processes", "K=3", "P=400000", "repeats=1"], progress=lambda done, total, _: told.append((done, total))
    )
    (row,) = bench.rows
    assert bench.kind == "processes"
    assert row.labels["processes"] == 2
    assert row.bytes_ratios["jacobian/(KP/N)"] == pytest.approx(1, abs=0.05)
    if row.bytes["sent"] is not None:
        assert row.bytes_ratios["sent/formula"] == pytest.approx(1, abs=0.05)
        assert row.bytes["sent by ddp"] == pytest.approx(4 * int(row.labels["P"]), rel=0.05)
    assert all(row.seconds[name] for name in ("step", "alone", "ddp sum"))
    assert told[-1] == (3, 3)


@pytest.mark.parametrize(
    ("words", "said"),
    [("method=uniform", "uniform sees no Gramian"), ("processes=1", "at least 2 processes"), ("K=2,4", "one value")],
)
def test_what_cannot_be_measured_is_refused(words: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        run_bench(["processes", words])
