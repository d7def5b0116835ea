"""A table says what longer training would add, where cells that differ in their length alone are there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from handmade import record

from mtlbench.record.runs import Collection, Run
from mtlbench.record.schema import Record
from mtlbench.tables.leaderboard import Report, report


def trained(epochs: int, gains: dict[int, float], method: str = "uniform", words: str = "") -> list[Record]:
    """Cells of so many epochs: seed -> by how much they exceed 50 in both objectives."""
    curve = lambda by: [({"left": 1.0, "right": 1.0}, {"left": 50 + by, "right": 50 + by})]  # noqa: E731
    said = f"protocol.epochs={epochs} {words}"
    return [record(method, seed, curve(by), words=said) for seed, by in gains.items()]


def notes_by_title(records: list[Record], **options: Any) -> dict[str, str]:
    made: Report = report(Collection([Run.of(r, Path(f"{r.id}.json")) for r in records], []))
    return {b.protocol: "\n".join(note.text for note in b.table.notes) for b in made.boards}


def test_a_table_tells_the_paired_gain_of_longer_training_with_its_interval_and_its_seeds() -> None:
    short = trained(4, {0: 0.0, 1: 2.0, 2: 9.0})
    long = trained(6, {0: 1.0, 1: 5.0})  # gains 1 and 3: mean 2, t interval 2 ± 12.7062 * sqrt(2) / sqrt(2)
    notes = notes_by_title([*short, *long])
    (brief,) = (text for name, text in notes.items() if "epochs=4" in name)
    assert "Trained 1.5 times as long: uniform +2.00 ± 12.71 in mean accuracy [%] (2 seeds)." in brief


def test_the_longer_table_itself_tells_nothing_of_its_length() -> None:
    notes = notes_by_title([*trained(4, {0: 0.0}), *trained(6, {0: 1.0})])
    (full,) = (text for name, text in notes.items() if "epochs=6" in name)
    assert "times as long" not in full


def test_one_seed_has_a_gain_and_no_interval() -> None:
    notes = notes_by_title([*trained(4, {0: 0.0}), *trained(6, {0: 1.5})])
    assert any("uniform +1.50 in mean accuracy [%] (1 seed)." in text for text in notes.values())


def test_cells_that_differ_in_more_than_their_length_are_not_compared() -> None:
    notes = notes_by_title([*trained(4, {0: 0.0}), *trained(6, {0: 1.0}, words="protocol.batch_size=7")])
    assert not any("times as long" in text for text in notes.values())


def test_other_methods_and_other_seeds_are_no_gain() -> None:
    notes = notes_by_title([*trained(4, {0: 0.0}), *trained(6, {1: 1.0}), *trained(6, {0: 1.0}, "pcgrad")])
    assert not any("times as long" in text for text in notes.values())
