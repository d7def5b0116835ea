"""Tables of many objectives: means over named groups, extra test splits, signatures; what must not be mixed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtlbench.cells.request import parse
from mtlbench.cells.trials import reruns
from mtlbench.errors import UsageError
from mtlbench.record.runs import Collection, Run
from mtlbench.record.schema import MetricInfo, Record
from mtlbench.record.selection import Rule, choose
from mtlbench.rendering.files import render
from mtlbench.tables.across import Across
from mtlbench.tables.figures import draw_all, scores
from mtlbench.tables.leaderboard import Leaderboard, Report, report
from mtlbench.tables.making import make
from mtlbench.tables.options import TableOptions
from mtlbench.tables.wording import listed
from tests.handmade import BLEU, ERROR, multilingual, record, save

METHODS = {"single_task": 0.0, "uniform": 1.0, "gradvac": 2.0}


def grid(seeds: int = 3, **changes: Any) -> list[Record]:
    return [multilingual(m, s, gain, **changes) for m, gain in METHODS.items() for s in range(seeds)]


def of(given: list[Record], **options: Any) -> Report:
    runs = [Run.of(r, Path(f"{r.cell.method}-{r.cell.seed}.json")) for r in given]
    return report(Collection(runs), TableOptions(**options))


def only(made: Report) -> Leaderboard:
    assert not made.refused
    (board,) = made.boards
    return board


def mean_of(board: Leaderboard | Across, label: str, key: str) -> float:
    return next(row for row in board.table.rows if row.label == label).values[key].mean


def notes(board: Leaderboard) -> list[str]:
    return [note.text for note in board.table.notes]


# --- groups


def test_beside_the_mean_over_all_there_is_one_over_each_group() -> None:
    board = only(of(grid()))
    for label, gain in METHODS.items():
        first = 2 + gain + 0.1  # l0 after the second epoch, mean over seeds
        assert mean_of(board, label, "mean.low") == pytest.approx(first + 10 * np.mean(range(5)))
        assert mean_of(board, label, "mean.high") == pytest.approx(first + 10 * np.mean(range(5, 20)))
        assert mean_of(board, label, "mean") == pytest.approx(first + 10 * np.mean(range(20)))
    assert [c.title for c in board.table.columns[:3]] == ["mean bleu", "mean low bleu", "mean high bleu"]
    value = next(row for row in board.table.rows if row.label == "gradvac").values["mean.low"]
    assert value.interval is not None
    assert value.interval.high - value.mean == pytest.approx(4.302652729911275 * 0.1 / np.sqrt(3))
    assert value.best
    assert "mean low: over 5 objectives: l0, l1, l2, l3, l4." in notes(board)
    assert "mean high: over 15 objectives: l5, l6, l7, l8, l9, l10, l11, l12 and 7 more." in notes(board)


def test_groups_stand_with_the_means_when_there_are_many_objectives_and_after_the_scores_when_few() -> None:
    many, few = only(of(grid())).table.columns, only(of(grid(languages=4, lacking=0))).table.columns
    assert [c.key for c in many][:4] == ["mean", "mean.low", "mean.high", "delta_m"]
    assert [c.key for c in few][:8] == [*(f"l{k}.bleu" for k in range(4)), "mean", "mean.low", "mean.high", "delta_m"]
    oracle = [c.key for c in only(of(grid(), selection="oracle")).table.columns]
    assert oracle[:4] == [c.key for c in many][:4]


def test_a_group_adds_its_column_and_changes_no_other_number() -> None:
    with_groups, without = only(of(grid())).table, only(of(grid(groups={}))).table
    assert {"mean.low", "mean.high"} == {c.key for c in with_groups.columns} - {c.key for c in without.columns}
    for one, other in zip(with_groups.rows, without.rows, strict=True):
        kept = {key: value for key, value in one.values.items() if not key.startswith("mean.")}
        assert kept == other.values


def test_a_group_of_one_objective_has_a_mean_and_one_of_different_metrics_has_none() -> None:
    names = [f"l{k}" for k in range(20)]
    base = multilingual()
    mixed = tuple(o.model_copy(update={"metrics": (ERROR,)}) if o.name == "l0" else o for o in base.objectives)
    error = tuple(
        e.model_copy(
            update={"scores": {s: {**found, "l0": {"error": 0.5}} for s, found in e.scores.items() if s != "news"}}
        )
        for e in base.evaluations
    )
    groups = {"one": ("l7",), "odd": ("l0", "l1"), "even": tuple(names[1:])}
    columns = [
        c.key for c in only(of([multilingual(objectives=mixed, evaluations=error, groups=groups)])).table.columns
    ]
    assert [key for key in columns if key.startswith("mean")] == ["mean.one", "mean.even"]


def test_groups_of_records_that_name_none_do_not_hinder_those_that_do() -> None:
    old = [r.model_copy(update={"groups": {}}) for r in grid() if r.cell.method == "uniform"]
    new = [r for r in grid() if r.cell.method != "uniform"]
    assert mean_of(only(of([*old, *new])), "uniform", "mean.low") == pytest.approx(23.1)


# --- extra splits


def test_an_extra_split_has_a_leaderboard_of_the_objectives_that_it_has() -> None:
    board = only(of(grid(), split="news"))
    assert [m.objective for m in board.measures] == [f"l{k}" for k in range(6, 20)]
    assert mean_of(board, "gradvac", "l6.bleu") == pytest.approx((60 + 2 + 2 + 0.1) / 2)
    assert mean_of(board, "gradvac", "mean") == pytest.approx((10 * np.mean(range(6, 20)) + 4.1) / 2)
    assert mean_of(board, "gradvac", "mean.high") == pytest.approx((10 * np.mean(range(6, 20)) + 4.1) / 2)
    assert "mean high: over 14 objectives: l6, l7, l8, l9, l10, l11, l12, l13 and 6 more." in notes(board)
    assert "mean.low" not in [c.key for c in board.table.columns]
    base, gained = (10 * np.arange(6, 20) + x for x in (2.1, 4.1))
    assert mean_of(board, "gradvac", "delta_m") == pytest.approx(100 * np.mean(gained / base - 1))
    assert board.table.title == "multimnist/digits, protocol digits@1, split news"
    assert board.table.slug == "multimnist-digits-digits-1-news"
    assert board.table.facts["split"] == "news"
    assert notes(board)[0].startswith("Scores on the extra test split news: mean over n seeds (0..2)")
    assert "The split news lacks 6 objectives: l0, l1, l2, l3, l4, l5." in notes(board)
    test = only(of(grid()))
    assert "split" not in test.table.facts
    assert test.table.slug == "multimnist-digits-digits-1"


def test_an_extra_split_never_selects() -> None:
    # On the extra split the first epoch is better, on validation the second.
    def turned(r: Record) -> Record:
        first, second = r.evaluations
        one = first.model_copy(update={"scores": {**first.scores, "news": second.scores["news"]}})
        two = second.model_copy(update={"scores": {**second.scores, "news": first.scores["news"]}})
        return r.model_copy(update={"evaluations": (one, two)})

    board = only(of([turned(r) for r in grid(1)], split="news"))
    assert mean_of(board, "uniform", "l6.bleu") == pytest.approx((60 + 1 + 1) / 2)


def test_separate_models_are_selected_apart_on_an_extra_split_too() -> None:
    base = multilingual("single_task", separate=True)
    first, second = base.evaluations
    better = {**first.scores["val"], "l7": {"bleu": 1000.0}}
    made = base.model_copy(
        update={"evaluations": (first.model_copy(update={"scores": {**first.scores, "val": better}}), second)}
    )
    found = choose(Run.of(made), Rule("best-val"), "news").scores
    assert found[:2].tolist() == [(60 + 2) / 2, (70 + 1) / 2]


def test_a_split_that_was_scored_last_only_is_reported_by_rules_that_need_no_more() -> None:
    given = grid(extra_epochs=(2,))
    assert mean_of(only(of(given, split="news", selection="last")), "uniform", "l6.bleu") == pytest.approx(61.55 - 30)
    with pytest.raises(
        UsageError,
        match=r"selection=mean-last-2 takes the scores of single_task-0.json after epoch 1, 2; on the split news it "
        r"was scored after epoch 2. Choose --selection last.",
    ):
        of(given, split="news", selection="mean-last-2")


def test_a_run_without_the_split_is_named() -> None:
    given = [*grid(1), multilingual("pcgrad", extra_epochs=())]
    with pytest.raises(
        UsageError, match=r"pcgrad-0.json after epoch 2; on the split news it was scored after epoch none"
    ):
        of(given, split="news")
    other = [*grid(1), multilingual("pcgrad", lacking=7)]
    (message,) = of(other, split="news").refused
    assert "objectives on news: " in message
    assert "pcgrad-0.json" in message
    marked = only(of(other, split="news", allow_mixed=True))
    assert [m.objective for m in marked.measures] == [f"l{k}" for k in range(7, 20)]
    assert mean_of(marked, "pcgrad", "l7.bleu") == pytest.approx((70 + 2) / 2)
    assert mean_of(marked, "uniform", "l7.bleu") == pytest.approx((70 + 1 + 2) / 2)


def test_unknown_splits_and_the_oracle_on_extra_ones_are_refused() -> None:
    with pytest.raises(UsageError, match=r"Unknown split 'new'. Did you mean 'news'. Known: news, test"):
        of(grid(), split="new")
    with pytest.raises(UsageError, match="Unknown split 'val'"):
        of(grid(), split="val")
    with pytest.raises(UsageError, match="oracle chooses by scores on test"):
        of(grid(), split="news", selection="oracle")


def test_tasks_without_the_split_have_no_table_then() -> None:
    assert [b.table.title for b in of([*grid(), record(task="multimnist/mnist")], split="news").boards] == [
        "multimnist/digits, protocol digits@1, split news"
    ]


def test_tuned_methods_are_reported_on_an_extra_split_with_their_search() -> None:
    cells = parse(["method=uniform", "task=multimnist", "tune=2"]).cells
    trials = [multilingual(cell=cell, gain=float(k)) for k, cell in enumerate(cells)]
    finals = [multilingual(cell=cell, seed=cell.seed, gain=1.0) for cell in reruns(cells[1], 2, [0, 1, 2])]
    board = only(of([*trials, *finals], split="news"))
    (entry,) = board.entries
    assert entry.search is not None
    assert entry.search.scores.shape == (2, 14)
    assert entry.search.scores[:, 0].tolist() == [(60 + 2) / 2, (60 + 1 + 2) / 2]


def test_tables_over_several_tasks_say_which_split() -> None:
    other = [multilingual(m, s, g, task="multimnist/mnist") for m, g in METHODS.items() for s in range(2)]
    given = [*other, *(multilingual(m, s, g, task="multimnist/fashion") for m, g in METHODS.items() for s in range(2))]
    runs = Collection([Run.of(r, Path(f"{r.id}.json")) for r in given])
    for split, slug in (("test", "across-real-data"), ("news", "across-real-data-news")):
        (across,) = make(runs, TableOptions(split=split)).across
        assert across.table.slug == slug
        assert across.table.facts.get("split", "test") == split
        count = 20 if split == "test" else 14
        assert mean_of(across, "gradvac", "mean") == pytest.approx(
            100 * np.mean([2 / (10 * k + 2.05) for k in range(20 - count, 20)])
        )


# --- signatures and mixtures


def test_signatures_are_listed_with_the_objectives_where_they_differ() -> None:
    told = (
        "bleu: nrefs:1|tok:char|version:2.6.0 (l0, l1); nrefs:1|tok:13a|version:2.6.0 (l2, l3, l4, l5, l6, l7, l8, l9"
    )
    assert f"{told} and 10 more)." in notes(only(of(grid())))
    assert "bleu: nrefs:1|tok:13a|version:2.6.0." in notes(only(of(grid(), split="news")))
    assert not [note for note in notes(only(of([record()]))) if note.startswith("accuracy:")]


def differing(**changes: Any) -> list[Record]:
    odd = multilingual("gradvac", 0)
    assert odd.provenance is not None
    provenance = odd.provenance.model_copy(update=changes.pop("provenance", {}))
    return [
        *(multilingual("uniform", s) for s in range(2)),
        odd.model_copy(update={"provenance": provenance, **changes}),
    ]


@pytest.mark.parametrize(
    ("changes", "one", "other"),
    [
        ({"provenance": {"precision": "bfloat16 autocast"}}, "precision: float32 (2", "bfloat16 autocast (1"),
        ({"groups": {"low": ("l1",), "high": ("l2",)}}, "group low: (l0, l1, l2, l3, l4) ", "(l1) "),
    ],
)
def test_what_must_not_differ_within_a_table_is_refused(changes: dict[str, Any], one: str, other: str) -> None:
    made = of(differing(**changes))
    assert not made.boards
    (message,) = made.refused
    assert one in message
    assert other in message
    assert "gradvac-0.json" in message
    marked = only(of(differing(**changes), allow_mixed=True)).table
    assert [row.label for row in marked.rows if row.marks] == ["gradvac"]


def test_scores_of_metrics_with_other_signatures_are_refused() -> None:
    newer: MetricInfo = BLEU.model_copy(update={"signature": "nrefs:1|tok:13a|version:3.0.0"})
    objectives = tuple(o.model_copy(update={"metrics": (newer,)}) for o in multilingual().objectives)
    (message,) = of(differing(objectives=objectives)).refused
    assert "metric bleu: " in message
    assert "version:3.0.0" in message
    # Which objective has which of two definitions counts too, though both sides have both.
    turned = multilingual().objectives
    swapped = tuple(o.model_copy(update={"metrics": turned[19 - k].metrics}) for k, o in enumerate(turned))
    assert of(differing(objectives=swapped)).refused


# --- what people see


@pytest.mark.parametrize(
    ("form", "mean", "split"),
    [
        ("md", "| mean low bleu ↑ |", "split: news"),
        ("csv", '"mean.low","mean.low.low","mean.low.high","mean.low.best"', "# split: news"),
        ("tex", r"mean low \\ bleu", "% split: news"),
        ("html", "mean low bleu", "<dt>split</dt><dd>news</dd>"),
        ("json", '"mean.low": {', '"split": "news"'),
    ],
)
def test_every_rendering_has_the_means_over_groups_and_names_the_split(form: str, mean: str, split: str) -> None:
    assert mean in render(form, [only(of(grid())).table])
    assert split in render(form, [only(of(grid(), split="news")).table])


def test_the_command_makes_the_table_of_a_split(command: Callable[..., Any], tmp_path: Path) -> None:
    save(grid(), tmp_path / "runs")
    table = json.loads(command("table --split news --format json").output)
    assert table["facts"]["split"] == "news"
    assert "mean.high" in table["rows"][0]["values"]
    refused = command("table --split talks")
    assert refused.code == 2
    assert "Known: news, test" in refused.output
    assert "mean low" in " ".join(command("table").output.split())
    assert command("table --split news --out site").code == 0
    assert (tmp_path / "site" / "leaderboards" / "multimnist-digits-digits-1-news.html").exists()
    assert "| split |" in (tmp_path / "site" / "leaderboards" / "README.md").read_text()


def test_published_rows_of_test_do_not_stand_beside_another_split() -> None:
    board = only(of(grid(), split="news", published=True))
    assert not [row for row in board.table.rows if row.role == "published"]
    assert "Published rows are not shown: they are not of the split news." in notes(board)


@pytest.mark.parametrize("languages", [20, 32])
def test_figures_of_many_objectives_show_their_means(languages: int) -> None:
    board = only(of(grid(languages=languages)))
    figures = draw_all(board)
    assert set(figures) == {"scores", "learning-curves", "score-against-cost"}
    labels = [axes.get_xlabel() for axes in figures["scores"].axes]
    assert [label.split(",")[0] for label in labels] == ["mean bleu", "mean low bleu", "mean high bleu"]
    few = scores(only(of(grid(languages=4, lacking=0))))
    assert [axes.get_xlabel().split(" ")[0] for axes in few.axes] == ["l0", "l1", "l2", "l3"]


def test_figures_of_an_extra_split_show_the_validation_curves_of_its_objectives() -> None:
    board = only(of(grid(languages=8, lacking=6), split="news"))
    axes = draw_all(board)["learning-curves"].axes
    assert [a.get_ylabel().split(" ")[0] for a in axes] == ["l6", "l7"]
    drawn = [line.get_ydata()[-1] for line in axes[0].get_lines() if len(line.get_ydata()) == 2]
    assert sorted(drawn) == pytest.approx([61.1, 62.1, 63.1])  # l6 on validation after the second epoch


def test_long_lists_are_shortened_where_that_saves_something() -> None:
    names = [f"l{k}" for k in range(12)]
    assert listed(names[:9]) == ", ".join(names[:9])
    assert listed(names) == f"{', '.join(names[:8])} and 4 more"
