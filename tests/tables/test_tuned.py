"""What tables say of searches: which design, who was in the run-off, and what was selected at an edge of its range."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from handmade import record

from mtlbench.catalogue.search import Choice, Range, Space
from mtlbench.cells.cell import Cell, Tuning
from mtlbench.cells.request import parse
from mtlbench.cells.trials import reruns, runoff
from mtlbench.record.reading import cells
from mtlbench.record.runs import Collection, Run, collect
from mtlbench.record.schema import FAILURE, CellInfo, Record
from mtlbench.tables.leaderboard import Leaderboard, Report, report
from mtlbench.tables.tuned import is_at_edge

LR = "protocol.optimizer.lr"


def trials(words: str = "method=uniform", budget: int = 8) -> list[Cell]:
    return parse([*words.split(), "task=multimnist", f"tune={budget}"]).cells


def scored(cell: Any, val: float, test: float | None = None) -> Record:
    """A finished cell with this score on validation, and on test if no other is given."""
    splits = [{"left": score, "right": score} for score in (val, val if test is None else test)]
    return record(cell=cell, curves=[(splits[0], splits[1])])


def search(made: Sequence[Cell], found: int, second: int = 0, seeds: Sequence[int] = (0, 1)) -> list[Record]:
    """A whole search, in which two trials are the best ones and one of them wins the run-off; reruns score 50."""
    good = {found: 80.0, second: 81.0}
    done = [scored(cell, good.get(index, 10.0)) for index, cell in enumerate(made)]
    done += [
        scored(cell, 75.0 if cell.tuning and cell.tuning.trial == found else 60.0)
        for cell in runoff([made[second], made[found]])
    ]
    return done + [scored(cell, 50.0) for cell in reruns(made[found], len(made), seeds)]


def earlier(cell: Cell) -> CellInfo:
    """The cell as it would have been in the first design, with other values perhaps."""
    content = cell.canonical()
    content["tuning"] = {key: value for key, value in content["tuning"].items() if key != "design"}
    return CellInfo(**content)


def of(records: Sequence[Record]) -> Report:
    return report(Collection([Run.of(r, Path(r.label) / f"{r.id}.json") for r in records]))


def only(records: Sequence[Record]) -> Leaderboard:
    (board,) = of(records).boards
    return board


def notes(board: Leaderboard) -> str:
    return "\n".join(note.text for note in board.table.notes)


# --- designs


def test_the_notes_say_how_values_were_searched_and_how_the_winner_was_found() -> None:
    board = only([*search(trials(), 1), *search(trials("method=gradvac"), 2)])
    assert (
        "Tuned: 8 trials for every method, at the same points of the protocol's space (optimizer.lr, options.dropout, "
        "optimizer.weight_decay) and of its own (gradvac: method.beta): 5 of optimizer.lr alone, with all else at its "
        "default, then of all together. The best 2 on validation were run on 2 further seeds each, the better one of "
        "these on fresh seeds."
    ) in notes(board)
    assert "Halton" not in notes(board)


def test_without_the_learning_rate_the_notes_speak_of_the_defaults() -> None:
    board = only(search(trials("method=uniform protocol.optimizer.lr=0.01"), 1))
    assert "(options.dropout, optimizer.weight_decay): the defaults, then all together." in notes(board)


def test_searches_of_the_first_design_have_a_table_of_their_own_that_says_so() -> None:
    made = trials()
    old = [scored(earlier(cell), 90.0 if index == 1 else 10.0) for index, cell in enumerate(made)]
    old += [scored(earlier(cell), 70.0) for cell in reruns(made[1], 8, [0, 1])]
    boards = of([*old, *search(made, 2)]).boards
    assert len(boards) == 2
    assert sorted(float(board.entries[0].scores.mean()) for board in boards) == [50.0, 70.0]
    (first,) = (board for board in boards if board.entries[0].scores.mean() == 70.0)
    assert "points of a Halton sequence" in notes(first)
    assert "tune=8 now makes others, and a table of their own" in notes(first)
    assert "missing" not in notes(first)
    assert "further seeds" not in notes(first)


# --- the run-off


def test_reruns_of_the_trial_that_won_the_run_off_count_though_its_trial_was_second() -> None:
    board = only(search(trials(), found=3, second=1))
    (entry,) = board.entries
    assert entry.search is not None
    assert (entry.search.winner, entry.search.best) == (3, 3)
    assert entry.search.runoff_merit[[1, 3]].tolist() == [60.0, 75.0]
    assert "was rerun, but" not in notes(board)
    seconds = [run.cost.seconds_training for run in entry.runs]
    assert entry.search.seconds == pytest.approx((8 + 4) * seconds[0])


def test_of_reruns_of_both_trials_those_of_the_winner_of_the_run_off_count() -> None:
    made = trials()
    lost = [scored(cell, 99.0) for cell in reruns(made[1], 8, range(5))]
    board = only([*search(made, found=3, second=1), *lost])
    assert board.table.rows[0].values["mean"].mean == 50.0


def test_reruns_of_the_trial_that_lost_the_run_off_are_told() -> None:
    made = trials()
    given = [r for r in search(made, found=3, second=1) if r.cell.tuning and r.cell.tuning.budget is None]
    board = only([*given, *(scored(cell, 50.0) for cell in reruns(made[1], 8, [0, 1]))])
    assert "uniform: trial 1 was rerun, but trial 3 is the best on validation now" in notes(board)


def test_what_is_missing_in_the_run_off_is_told_with_its_file(tmp_path: Path) -> None:
    made = trials()
    for r, cell in zip(
        search(made, 3, 1), [*made, *runoff([made[1], made[3]]), *reruns(made[3], 8, [0, 1])], strict=True
    ):
        folder = cell.folder(tmp_path)
        folder.mkdir(parents=True)
        if cell.tuning and cell.tuning.runoff == 2 and cell.tuning.trial == 1:
            r = r.model_copy(update={"status": "diverged", "reason": "nan"})
        r.save(folder)
        if cell.tuning and cell.tuning.runoff == 1 and cell.tuning.trial == 3:
            (folder / "record.json").write_text("{")
            broken = folder
    (board,) = report(collect(cells(tmp_path))).boards
    assert f"uniform, run-off of trial 3: unreadable: {broken}" in notes(board)
    assert "uniform, run-off of trial 1: diverged: nan" in notes(board)
    assert FAILURE in {path.name for path in tmp_path.rglob("*.json")}


def test_the_interval_knows_the_runner_up_by_its_runs_in_the_run_off() -> None:
    made = trials(budget=4)

    def low(runner_up: float) -> float:
        given = [scored(cell, [80.0, 81.0, 10.0, 10.0][index], 80.0) for index, cell in enumerate(made)]
        given += [
            scored(cell, 80.0 if cell.tuning and cell.tuning.trial == 0 else runner_up)
            for cell in runoff([made[1], made[0]])
        ]
        given += [scored(cell, 80.0 + cell.seed / 10) for cell in reruns(made[0], 4, [0, 1, 2])]
        board = only(given)
        interval = board.table.rows[0].values["mean"].interval
        assert interval is not None
        return interval.low

    assert low(30.0) < low(79.0) - 10


# --- edges


def tuning(space: Space, budget: int = 8, design: Any = 2) -> Tuning:
    return Tuning(design=design, space=space, trial=0, budget=budget)


def test_the_outermost_levels_of_the_sweep_are_edges_of_the_learning_rate() -> None:
    space: Space = {LR: Range(low=0.0003, high=0.03, scale="log")}
    swept = [cell.protocol.optimizer.lr for cell in trials(budget=5)]
    assert [is_at_edge(tuning(space), LR, lr) for lr in swept] == [False, False, False, True, True]
    assert [is_at_edge(tuning(space, 3), LR, lr) for lr in swept[:3]] == [False, True, True]  # were tried
    assert [is_at_edge(tuning(space, 8, 1), LR, lr) for lr in (0.000533, 0.0006, 0.016, 0.02)] == [
        True,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("searched", "inside", "at_edge"),
    [
        (Range(low=0.0, high=0.8), [0.11, 0.4, 0.69], [0.0, 0.09, 0.71, 0.8, 0.9]),
        (Range(low=1e-6, high=1e-2, scale="log"), [4e-6, 1e-3], [0.0, 2e-6, 9e-3, 1.0]),
        (Range(low=1, high=3), [2], [1, 3]),
        (Choice(values=("a", "b")), ["a", "b"], []),
        (Choice(values=(1, 2, 3)), [1, 3], []),
    ],
)
def test_the_outermost_share_of_one_trial_is_an_edge_of_other_numbers(
    searched: Range | Choice, inside: list[Any], at_edge: list[Any]
) -> None:
    for value in [*inside, *at_edge]:
        assert is_at_edge(tuning({"method.x": searched}), "method.x", value) == (value in at_edge), value
    assert not is_at_edge(tuning({"method.x": Range(low=0.0, high=1.0)}), "method.x", None)


def test_the_table_names_method_key_value_and_range_of_what_was_selected_at_an_edge() -> None:
    board = only([*search(trials(), 3), *search(trials("method=gradvac"), 3), *search(trials("method=pcgrad"), 1)])
    (note,) = (note for note in board.table.notes if "edge" in note.text)
    assert note.kind == "warning"
    assert "optimizer.lr=0.000646 of 0.0003 .. 0.03 (log) (" in note.text
    assert "pcgrad" not in note.text.partition("optimizer.lr")[2].partition(";")[0]
    # The protocol's own value lies outside of the range, where no search would have found it.
    assert "optimizer.weight_decay=0.0 of 1e-06 .. 0.01 (log)" in note.text


def test_where_nothing_is_at_an_edge_the_table_says_nothing_of_edges() -> None:
    made = trials("method=uniform protocol.optimizer.weight_decay=0.001")
    assert "edge" not in notes(only(search(made, 1)))
