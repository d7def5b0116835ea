"""What is told to be detectable is detected in 80 of 100 tables, and seeds that are told to be needed are enough."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from handmade import constant, record, save
from scipy import stats

from mtlbench.cli.main import main
from mtlbench.errors import UsageError
from mtlbench.record.runs import Collection, Run
from mtlbench.record.schema import Record
from mtlbench.rendering import page
from mtlbench.rendering.files import FORMATS, render
from mtlbench.statistics import holm, paired_difference
from mtlbench.tables.making import Tables, make, plans
from mtlbench.tables.options import TableOptions
from mtlbench.tables.power import amount, detectable, detectable_mean, pooled, searched, seeds_needed
from tests.handmade import multilingual


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- closed forms and simulations


@pytest.mark.parametrize(("effect", "seeds"), [(0.5, 34), (0.8, 15), (1.0, 10)])
def test_one_comparison_needs_the_number_of_pairs_of_the_textbooks(effect: float, seeds: int) -> None:
    assert seeds_needed(1.0, effect, 1) == seeds
    assert seeds_needed(10.0, 10 * effect, 1) == seeds


@pytest.mark.parametrize(("seeds", "others"), [(3, 1), (3, 7), (5, 4), (10, 7)])
def test_a_detectable_difference_is_detected_in_80_of_100_tables(seeds: int, others: int) -> None:
    """One method differs by it, the others not at all; all have the noise 1, and seeds something in common."""
    tables, size = 6000, detectable(math.sqrt(2 / seeds), seeds - 1, others)
    rng = generator(seeds)
    scores = rng.standard_normal((tables, others + 1, seeds)) + 5 * rng.standard_normal((tables, 1, seeds))
    scores[:, 1] += size
    behind = scores[:, 1:] - scores[:, :1]
    p_values = stats.ttest_1samp(behind, 0, axis=-1).pvalue
    found = np.mean([holm(row)[0] < 0.05 for row in p_values])
    assert found == pytest.approx(0.8, abs=3 * math.sqrt(0.8 * 0.2 / tables) + 0.003)  # later steps add a little


def test_the_test_that_is_planned_for_is_that_of_the_tables() -> None:
    rng, size = generator(1), detectable(math.sqrt(2 / 5), 4, 1)
    found = [paired_difference(x + size, y).p < 0.05 for x, y in rng.standard_normal((3000, 2, 5))]
    assert np.mean(found) == pytest.approx(0.8, abs=0.025)


@pytest.mark.parametrize(("seeds", "others"), [(3, 1), (3, 7), (5, 4), (10, 7)])
@pytest.mark.parametrize("noise", [1.0, 2.0])
def test_the_interval_of_the_spread_covers_it_95_times_in_100(seeds: int, others: int, noise: float) -> None:
    """Of differences to one row, which have its noise in common; one of the methods may be noisier."""
    rng, covered = generator(seeds), []
    sizes = np.array([1.0, noise, *[1.0] * (others - 1)])[:, None]
    true = math.sqrt(np.mean(sizes[1:] ** 2) + 1)
    for scores in sizes * rng.standard_normal((2500, others + 1, seeds)):
        low, high = pooled([row - scores[0] for row in scores[1:]]).interval()
        covered.append(low <= true <= high)
    assert 0.93 <= np.mean(covered) <= 0.985


def test_more_seeds_detect_less_and_more_comparisons_more() -> None:
    by_seeds = [detectable(1 / math.sqrt(n), n - 1, 5) for n in (2, 3, 5, 10, 100, 5000)]
    assert by_seeds == sorted(by_seeds, reverse=True)
    by_family = [detectable(1.0, 4, m) for m in (1, 2, 5, 30)]
    assert by_family == sorted(by_family)
    assert detectable(1.0, 4, 5, level=0.99) > detectable(1.0, 4, 5)


def test_the_seeds_that_are_needed_are_just_enough() -> None:
    for size in (0.2, 0.7, 3.0, 40.0):
        count = seeds_needed(1.0, size, 6)
        assert count is not None
        assert detectable(1 / math.sqrt(count), count - 1, 6) <= size
        assert count == 2 or detectable(1 / math.sqrt(count - 1), count - 2, 6) > size
    assert seeds_needed(1.0, 1e-6, 6) is None


def test_rounding_is_the_least_that_differences_spread() -> None:
    assert pooled([np.array([1.0, 1.0, 1.0])], floor=0.04).sd == pytest.approx(0.2)
    assert pooled([np.array([1.0, 1.0, 1.0])]).sd == 0.0


def test_a_mean_over_tasks_is_planned_for_as_one_task_with_its_error() -> None:
    found = detectable_mean([(0.5, 8.0)])
    assert found.difference == pytest.approx(detectable(0.5, 8.0, 1))
    assert found.low < found.difference < found.high
    assert detectable_mean([(0.5, 8.0)] * 3).difference == pytest.approx(detectable(0.5, 8.0, 3))


def test_searches_are_planned_for_by_their_repetitions() -> None:
    normal = 2 * generator(2).standard_normal(200_000)
    found = searched([(np.abs(normal), normal)] * 2 + [(np.abs(3 * normal), 3 * normal)], 3)
    expected = 2 * (stats.norm.ppf(1 - 0.025 / 3) + stats.norm.ppf(0.8))
    assert found.difference == found.low == pytest.approx(expected, rel=0.02)
    assert found.high == pytest.approx(3 * expected, rel=0.02)


def test_amounts_show_two_digits_at_least() -> None:
    assert [amount(x) for x in (12.345, 0.456, 0.0123, 0.00045, 0.0)] == ["12.35", "0.46", "0.012", "0.00045", "0.00"]


# --- tables


def grid(methods: int = 3, seeds: int = 3, noise: float = 1.0) -> list[Record]:
    """Methods whose two scores have noise of this size, on seeds that have 5 in common."""
    rng, names = generator(4), ["uniform", "gradvac", "mgda", "pcgrad", "gradnorm"][:methods]
    base = 5 * rng.standard_normal((5, 1))
    scores = {name: 80 + base + noise * rng.standard_normal((5, 2)) for name in names}
    return [r for name in names for r in constant(name, [(x, y) for x, y in scores[name][:seeds].tolist()])]


def tables(given: list[Record], **options: Any) -> Tables:
    return make(Collection([Run.of(r, Path(f"{r.id}.json")) for r in given]), TableOptions(**options))


def only(made: Tables) -> Any:
    (board,) = made.report.boards
    return board


def notes(table: Any) -> str:
    return "\n".join(note.text for note in table.notes)


def means(given: list[Record], method: str) -> np.ndarray:
    scores = [r.evaluations[0].scores["test"] for r in given if r.cell.method == method]
    return np.array([(s["left"]["accuracy"] + s["right"]["accuracy"]) / 2 for s in scores])


def test_a_leaderboard_tells_what_its_own_noise_makes_detectable() -> None:
    given = grid()
    board = only(tables(given))
    behind = [means(given, method) - means(given, "uniform") for method in ("gradvac", "mgda")]
    sd = math.sqrt(np.mean([d.var(ddof=1) for d in behind]))
    expected = detectable(sd / math.sqrt(3), 2, 2)
    found = board.plan.detectable["mean"]
    assert found.difference == pytest.approx(expected)
    low, high = pooled(behind).interval()
    assert (found.low, found.high) == (pytest.approx(expected * low / sd), pytest.approx(expected * high / sd))
    told = f"mean accuracy [%] {expected:.2f} ({found.low:.2f} to {found.high:.2f})"
    assert board.table.facts["detectable"] == f"{told} to uniform, 80 % power"
    (bold,) = [n.text for n in board.table.notes if "told apart from the best" in n.text]
    assert bold.endswith(f"It need not be as good: detectable is {told}.")
    (said,) = [n.text for n in board.table.notes if n.text.startswith("Detectable")]
    assert f"told from uniform if they differ by {told}; left accuracy [%] " in said
    assert "over 2 comparisons" in said
    assert "Every further row enlarges Holm's family" in said
    assert list(board.plan.detectable) == ["mean", "left.accuracy", "right.accuracy"]


def test_every_further_row_makes_differences_harder_to_detect() -> None:
    few, more = (only(tables(grid(methods))).plan for methods in (2, 5))
    assert (few.comparisons, more.comparisons) == (1, 4)
    ratio = detectable(1.0, 2, 4) / detectable(1.0, 2, 1)
    spreads = more.spreads["mean"].sd / few.spreads["mean"].sd
    assert more.detectable["mean"].difference / few.detectable["mean"].difference == pytest.approx(ratio * spreads)


def test_without_two_common_seeds_nothing_is_detectable_and_nothing_is_said() -> None:
    for given in (grid(seeds=1), grid(methods=1), [*grid(1), record("mgda", seed=7), record("mgda", seed=8)]):
        board = only(tables(given))
        assert board.plan is None
        assert "etectable" not in notes(board.table)
        assert "detectable" not in board.table.facts


def test_most_rows_decide_for_how_many_seeds_it_is_told() -> None:
    given = [r for r in grid(4, seeds=5) if r.cell.method != "mgda" or r.cell.seed < 2]
    assert only(tables(given)).plan.seeds == 5


def test_without_the_baseline_it_is_told_for_the_best_row() -> None:
    board = only(tables([r for r in grid(4) if r.cell.method != "uniform"]))
    assert board.plan.against == board.table.rows[0].label
    assert only(tables(grid(), against="mgda")).plan.against == "mgda"


def test_of_many_objectives_it_is_told_for_their_means() -> None:
    rng = generator(5)
    given = [multilingual(m, s, float(rng.normal())) for m in ("uniform", "gradvac") for s in range(3)]
    assert [*only(tables(given)).plan.detectable] == ["mean", "mean.low", "mean.high"]


def test_equal_methods_on_a_grid_have_a_detectable_difference_from_rounding() -> None:
    base = [(95.5, 94.0), (96.0, 93.5), (94.5, 95.0)]
    given = [*constant("uniform", base), *constant("mgda", [(x + 0.5, y) for x, y in base])]
    plan = only(tables(given)).plan
    assert plan.detectable["left.accuracy"].difference == pytest.approx(detectable(0.5 / math.sqrt(6 * 3), 2, 1))


def test_the_index_tells_it_beside_what_cannot_be_told_apart() -> None:
    table = only(tables(grid())).table
    said = page.finding(table)
    assert said.endswith(f"cannot be told apart from it. Detectable: {table.facts['detectable']}.")


# --- how many seeds


def test_the_plan_of_a_leaderboard_goes_both_ways() -> None:
    made = tables(grid(seeds=5))
    (table,), plan = plans(made, 0.9), only(made).plan
    rows = {row.label: row for row in table.rows}
    assert [*rows] == [
        "3 seeds",
        "5 seeds (this table)",
        "10 seeds",
        "20 seeds",
        "detectable with these seeds",
        "half of that",
        "asked for",
    ]
    now = plan.detectable["mean"]
    assert rows["5 seeds (this table)"].values["mean"].mean == pytest.approx(now.difference)
    assert rows["5 seeds (this table)"].values["mean"].interval.high == pytest.approx(now.high)
    assert rows["detectable with these seeds"].n == 5
    sd = plan.spreads["mean"].sd
    assert rows["half of that"].n == seeds_needed(sd, now.difference / 2, 2)
    assert rows["asked for"].values["seeds"].mean == seeds_needed(sd, 0.9, 2)
    assert rows["asked for"].values["mean"].mean == 0.9
    few, many = rows["asked for"].values["seeds"].interval.low, rows["asked for"].values["seeds"].interval.high
    assert few < rows["asked for"].n < many
    assert rows["20 seeds"].values["mean"].mean < rows["3 seeds"].values["mean"].mean / 2
    assert "the 2 comparisons of this table" in notes(table)
    assert {"text", "power"} & {*table.facts} == {"power"}


def test_a_difference_that_no_number_of_seeds_shows_is_told_as_such() -> None:
    (table,) = plans(tables(grid()), 1e-6)
    assert table.rows[-1].label == "asked for: more than 10000 seeds"


@pytest.mark.parametrize("form", [*FORMATS])
def test_every_rendering_shows_a_plan_and_what_its_rows_are(form: str) -> None:
    text = render(form, plans(tables(grid())))
    assert "this table" in text
    assert "Seeds or difference" in text or form in ("csv", "json")


def code(*words: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as stopped:
        main(words)
    return int(stopped.value.code or 0)


def test_the_command_answers_with_and_without_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(grid(), tmp_path)
    assert code("table", "--power", f"results={tmp_path}") == 0
    assert "half of that" in capsys.readouterr().out
    assert code("table", f"results={tmp_path}", "--power", "0.5", "--format", "csv") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("# ")]
    rows = [*csv.DictReader(io.StringIO("\n".join(lines)))]
    assert (rows[-1]["method"], float(rows[-1]["mean"])) == ("asked for", 0.5)
    assert code("table", f"results={tmp_path}", "--out", str(tmp_path / "a.md"), "--power=0.5") == 0
    assert "asked for" in (tmp_path / "a.md").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--power --out FOLDER/", "name a file"),
        ("--power=-1", "a difference is a positive number"),
        ("--power much", "a difference is a positive number"),
    ],
)
def test_the_command_says_what_power_takes(
    words: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(grid(), tmp_path)
    assert code("table", f"results={tmp_path}", *words.replace("FOLDER", str(tmp_path)).split()) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_one_seed_gives_nothing_to_plan_with() -> None:
    with pytest.raises(UsageError, match=r"two seeds in common\. Run two seeds at least"):
        plans(tables(grid(seeds=1)))
