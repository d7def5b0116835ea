"""`simplex:K:N` in a grid: every list of weights that traces a front, and nothing else."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mtlbench.cells.request import parse
from mtlbench.cells.words import simplex
from mtlbench.errors import UsageError

FRONT = "method=scalarization task=multimnist method.weights="


def weights(words: str) -> list[list[float]]:
    return [cell.parameters["weights"] for cell in parse(words.split()).cells]


def test_two_objectives_in_four_steps_by_hand() -> None:
    assert weights(f"{FRONT}simplex:2:4") == [[0, 2], [0.5, 1.5], [1, 1], [1.5, 0.5], [2, 0]]


def test_three_objectives_in_two_steps_by_hand() -> None:
    corners, middles = [[0, 0, 3], [0, 3, 0], [3, 0, 0]], [[0, 1.5, 1.5], [1.5, 0, 1.5], [1.5, 1.5, 0]]
    assert sorted(simplex(3, 2)) == sorted(corners + middles)


@pytest.mark.parametrize(("objectives", "steps"), [(2, 7), (3, 5), (4, 4), (5, 3)])
def test_all_multiples_of_a_step_that_sum_to_k_are_there_once(objectives: int, steps: int) -> None:
    found = simplex(objectives, steps)
    assert len(found) == len({*map(tuple, found)}) == math.comb(steps + objectives - 1, objectives - 1)
    for weights in found:
        parts = [w * steps / objectives for w in weights]
        assert parts == pytest.approx([round(part) for part in parts], abs=1e-12)
        assert min(weights) >= 0
        assert sum(weights) == pytest.approx(objectives)


def test_a_front_stands_beside_other_weights_and_in_a_file(tmp_path: Path) -> None:
    assert weights(f"{FRONT}simplex:2:1,[3,4]") == [[0, 2], [2, 0], [3, 4]]
    file = tmp_path / "front.yaml"
    file.write_text("method: scalarization\ntask: multimnist\nmethod.weights: ['simplex:2:1', [3, 4]]\n")
    assert weights(str(file)) == [[0, 2], [2, 0], [3, 4]]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("simplex:1:4", "at least 2"),
        ("simplex:2:0", "at least 1"),
        ("simplex:40:40", "more than 10000 lists"),
        ("simplex:2:999999999", "more than 10000 lists"),
        ("simplex:999999999:2", "more than 10000 lists"),
        ("simplex:5", "say simplex:K:N"),
        ("simplex=5", "say simplex:K:N"),
    ],
)
def test_what_is_no_front_is_told(word: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse(f"{FRONT}{word}".split())


def test_a_point_of_a_front_is_the_cell_that_the_typed_list_is() -> None:
    (first, *_) = parse(f"{FRONT}simplex:3:1".split()).cells
    (typed,) = parse(f"{FRONT}[0,0,3]".split()).cells
    assert first.id == typed.id
