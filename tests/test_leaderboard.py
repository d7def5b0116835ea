"""Tables say what the records say: which epoch counts, over which seeds, at what cost, and what failed."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from mtlbench.config import identity, parse
from mtlbench.leaderboard import Table, selected, tables
from mtlbench.record import CellInfo, Cost, Evaluation, MetricInfo, ObjectiveInfo, Provenance, Record

ACCURACY = MetricInfo(name="accuracy", higher_is_better=True, unit="%")
ERROR = MetricInfo(name="error", higher_is_better=False, unit="")


def record(
    method: str = "uniform",
    seed: int = 0,
    curves: list[tuple[dict[str, float], dict[str, float]]] | None = None,
    metric: MetricInfo = ACCURACY,
    separate: bool = False,
    seconds: float = 0.01,
    host: str = "one",
    words: str = "",
    protocol: dict[str, Any] | None = None,
    **changes: Any,
) -> Record:
    """A finished record by hand; `curves` holds, by epoch, validation and test scores of each objective."""
    (cell,) = parse([f"method={method}", "task=multimnist", f"seed={seed}", *words.split()]).cells
    content = cell.canonical()
    content["protocol"].update(protocol or {})
    curves = curves or [({"left": 1.0, "right": 2.0}, {"left": 3.0, "right": 4.0})]

    def by_metric(scores: dict[str, float]) -> dict[str, dict[str, float]]:
        return {name: {metric.name: value} for name, value in scores.items()}

    return Record(
        **{
            "id": identity(content),
            "status": "finished",
            "cell": CellInfo(**content),
            "separate_models": separate,
            "objectives": tuple(ObjectiveInfo(name=name, metrics=(metric,)) for name in curves[0][0]),
            "evaluations": tuple(
                Evaluation(epoch=e, step=e, losses={}, scores={"val": by_metric(val), "test": by_metric(test)})
                for e, (val, test) in enumerate(curves, 1)
            ),
            "cost": Cost(
                steps=1,
                seconds_per_step=seconds,
                seconds_training=1,
                seconds_evaluation=1,
                peak_memory_bytes=1,
                memory="process",
            ),
            "provenance": Provenance(
                started="",
                finished="",
                resumed=0,
                packages={"torch": "2"},
                commit="c" * 40,
                dirty=False,
                method_digest="",
                data_digest="d",
                host=host,
                hardware=f"cpu of {host}",
                device="cpu",
                threads=1,
            ),
            **changes,
        }
    )


def failed(method: str, seed: int, reason: str) -> Record:
    (cell,) = parse([f"method={method}", "task=multimnist", f"seed={seed}"]).cells
    return Record(id=cell.id, status="diverged", reason=reason, cell=CellInfo(**cell.canonical()))


def only(made: list[Table]) -> Table:
    (table,) = made
    return table


def row(table: Table, label: str) -> list[str]:
    return next(cells for cells in table.cells() if cells[0] == label)


CURVES = [
    ({"left": 90.0, "right": 80.0}, {"left": 91.0, "right": 81.0}),  # mean of validation 85
    ({"left": 88.0, "right": 84.0}, {"left": 87.0, "right": 83.0}),  # 86: the best
    ({"left": 84.0, "right": 88.0}, {"left": 99.0, "right": 99.0}),  # 86: as good, but later
    ({"left": 70.0, "right": 85.0}, {"left": 60.0, "right": 86.0}),
]


def test_the_epoch_with_the_best_mean_validation_score_counts_and_the_earliest_of_equals() -> None:
    assert selected(record(curves=CURVES)) == {"left": {"accuracy": 87.0}, "right": {"accuracy": 83.0}}


def test_lower_is_better_where_the_metric_says_so() -> None:
    assert selected(record(curves=CURVES, metric=ERROR)) == {"left": {"error": 60.0}, "right": {"error": 86.0}}


def test_separate_models_are_selected_apart() -> None:
    found = selected(record("single_task", curves=CURVES, separate=True))
    assert found == {"left": {"accuracy": 91.0}, "right": {"accuracy": 99.0}}


def test_the_last_epoch_counts_where_the_protocol_says_so() -> None:
    found = selected(record(curves=CURVES, words="protocol.selection=last"))
    assert found == {"left": {"accuracy": 60.0}, "right": {"accuracy": 86.0}}


def test_test_scores_never_select() -> None:
    worse = [(val, {"left": -test["left"], "right": 7.0}) for val, test in CURVES]
    assert selected(record(curves=worse))["left"]["accuracy"] == -87.0


def test_means_and_deviations_over_seeds() -> None:
    left, right = [90.0, 92.0, 97.0], [80.0, 81.0, 85.0]
    made = only(
        tables(
            record(seed=s, curves=[({"left": 1.0, "right": 1.0}, {"left": x, "right": y})])
            for s, (x, y) in enumerate(zip(left, right, strict=True))
        )
    )
    means = [(x + y) / 2 for x, y in zip(left, right, strict=True)]

    def text(values: list[float]) -> str:
        return f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}"

    assert made.header() == [
        "Method",
        "n",
        "left accuracy [%] ↑",
        "right accuracy [%] ↑",
        "mean",
        "ms/step",
        "cost / uniform",
    ]
    assert row(made, "uniform") == ["uniform", "3", text(left), text(right), text(means), "10.0", "1.00x"]
    assert any("seeds 0..2" in note for note in made.notes)


def test_one_seed_has_no_spread() -> None:
    assert row(only(tables([record()])), "uniform")[2] == "3.00"


def test_rows_are_sorted_by_the_last_score_in_its_direction() -> None:
    def with_score(method: str, score: float, metric: MetricInfo) -> Record:
        return record(method, curves=[({"left": 1.0, "right": 1.0}, {"left": score, "right": score})], metric=metric)

    for metric, order in ((ACCURACY, ["mgda", "uniform", "pcgrad"]), (ERROR, ["pcgrad", "uniform", "mgda"])):
        given = [with_score(m, s, metric) for m, s in (("uniform", 2.0), ("pcgrad", 1.0), ("mgda", 3.0))]
        assert [r.label for r in only(tables(given)).rows] == order


def test_the_cost_ratio_compares_medians_of_the_same_host_only() -> None:
    given = [
        *(record(seed=s, seconds=t, host="one") for s, t in enumerate((0.010, 0.012, 0.9))),
        *(record("gradvac", seed=s, seconds=t, host="one") for s, t in enumerate((0.018, 0.030, 0.020))),
        record("pcgrad", seconds=0.5, host="two"),
    ]
    made = only(tables(given))
    assert row(made, "gradvac")[-1] == f"{0.020 / 0.012:.2f}x"
    assert row(made, "pcgrad")[-1] == "-"
    assert any("cpu of one; cpu of two" in note for note in made.notes)


def test_parameters_make_rows_of_their_own() -> None:
    given = [
        record("gradvac"),
        record("gradvac", words="method.beta=0.1"),
        record("gradvac", words="granularity=all_layer"),
    ]
    made = only(tables(given))
    assert sorted(r.label for r in made.rows) == ["gradvac", "gradvac(all_layer)", "gradvac(beta=0.1)"]
    assert all(r.count == "1" for r in made.rows)


def test_failed_cells_are_counted_and_their_reason_is_told() -> None:
    made = only(
        tables([record(), record("mgda", seed=0)], [failed("mgda", 1, "loss is nan"), failed("pcgrad", 0, "no")])
    )
    assert row(made, "mgda")[1] == "1/2"
    assert row(made, "pcgrad") == ["pcgrad", "0/1", "-", "-", "-", "-", "-"]
    assert made.rows[-1].label == "pcgrad"
    assert "mgda, seed 1: diverged: loss is nan" in made.notes


def test_a_table_of_failures_alone_is_a_table() -> None:
    made = only(tables([], [failed("mgda", 1, "loss is nan")]))
    assert made.cells() == [["mgda", "0/1", "-", "-"]]
    assert "diverged: loss is nan" in made.markdown()


def test_markdown_survives_bars_and_line_breaks() -> None:
    objective = ObjectiveInfo(name="a|b\nc", metrics=(ACCURACY,))
    scores = {"a|b\nc": {"accuracy": 1.0}}
    odd = record(
        objectives=(objective,),
        evaluations=(Evaluation(epoch=1, step=1, losses={}, scores={"val": scores, "test": scores}),),
    )
    text = only(tables([odd], [failed("mgda", 0, "one\ntwo | three")])).markdown()
    title, blank, *grid = text.splitlines()
    assert title == "### multimnist/digits, protocol digits@1"
    assert blank == ""
    assert grid[0] == r"| Method | n | a\|b c accuracy [%] ↑ | ms/step | cost / uniform |"
    assert grid[1] == "| --- | ---: | ---: | ---: | ---: |"
    assert all(line.replace(r"\|", "").count("|") == 6 for line in grid[:4])
    assert "- mgda, seed 0: diverged: one two | three" in grid
    assert all(line.startswith(("- ", "| ")) for line in grid if line)


@pytest.mark.parametrize(
    "other",
    [
        {"words": "protocol.epochs=3"},
        {"protocol": {"version": 2}},
        {"words": "protocol.options.dropout=0.3"},
        {"protocol": {"batch_size": 7}},  # changed without a new version
    ],
)
def test_protocols_that_differ_never_share_a_table(other: dict[str, Any]) -> None:
    made = tables([record(), record("gradvac"), record(**other), record("gradvac", **other)], [])
    assert [len(table.rows) for table in made] == [2, 2]
    assert len({table.title for table in made}) == 2


def test_what_differs_in_provenance_is_noted() -> None:
    base = record()
    assert base.provenance is not None
    other = record("gradvac", provenance=base.provenance.model_copy(update={"commit": "e" * 40, "data_digest": "f"}))
    notes = only(tables([base, other])).notes
    assert any(note.startswith("Rows differ in commits: cccccccccccc, eeeeeeeeeeee") for note in notes)
    assert any(note.startswith("Rows differ in data") for note in notes)
