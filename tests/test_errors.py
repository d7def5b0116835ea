"""What is said of a name that does not exist."""

from __future__ import annotations

import pytest

from mtlbench.errors import unknown

KEYS = ("optimizer.lr", "optimizer.name", "schedule.name", "batch_size", "epochs")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("lr", "optimizer.lr"), ("epoch", "epochs"), ("optimizer.l", "optimizer.lr"), ("batchsize", "batch_size")],
)
def test_the_nearest_name_is_the_one_that_ends_in_it_or_is_spelt_alike(name: str, meant: str) -> None:
    assert f"Unknown key {name!r}. Did you mean {meant!r}? Known: batch_size, " in str(unknown("key", name, KEYS))


@pytest.mark.parametrize("name", ["name", "zzz"])
def test_where_two_end_in_it_or_none_is_like_it_none_is_proposed(name: str) -> None:
    assert "Did you mean" not in str(unknown("key", name, KEYS))


def test_a_name_of_thousands_of_characters_is_cut() -> None:
    assert len(str(unknown("key", "x" * 10_000, KEYS))) < 250
