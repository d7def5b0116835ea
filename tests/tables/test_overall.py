"""The score over a task's variants is the mean of their scores, says what is absent, and mixes no encoders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from handmade import record

from mtlbench.catalogue import registry
from mtlbench.catalogue.variants import task_data
from mtlbench.cells.request import parse
from mtlbench.errors import UsageError
from mtlbench.record.runs import Collection, Run
from mtlbench.record.schema import Evaluation, MetricInfo, ObjectiveInfo, Record
from mtlbench.rendering.table import Table
from mtlbench.statistics import t_interval
from mtlbench.tables.leaderboard import report
from mtlbench.tables.making import make
from mtlbench.tables.options import TableOptions
from mtlbench.tables.overall import overall

METRICS = {"xnli": ["accuracy"], "pawsx": ["accuracy"], "udpos": ["f1", "accuracy"], "xquad": ["f1", "exact_match"]}
METRICS |= {"tatoeba": ["accuracy"], "bucc2018": ["f1"]}


def of(
    variant: str, scores: Mapping[str, tuple[float, ...]], method: str = "uniform", seed: int = 0, words: str = ""
) -> Record:
    """A record of an XTREME problem: language -> its scores by the problem's metrics."""
    encoder = "" if "encoder=" in words else "encoder=here"
    words = f"method={method} task=xtreme/{variant} seed={seed} {encoder} against=none {words}"
    (cell,) = parse(words.split()).cells
    metrics = [MetricInfo(name=n, higher_is_better=True, unit="%") for n in METRICS[variant.removesuffix("-zeroshot")]]
    values = {name: {m.name: v for m, v in zip(metrics, of, strict=True)} for name, of in scores.items()}
    epochs = cell.protocol.epochs
    return record(
        cell=cell,
        objectives=tuple(ObjectiveInfo(name=name, metrics=tuple(metrics)) for name in scores),
        evaluations=(Evaluation(epoch=epochs, step=epochs, losses={}, scores={"val": values, "test": values}),),
    )


def tables(*records: Record, **options: Any) -> list[Table]:
    chosen = TableOptions(**options)
    return overall(report(Collection([Run.of(r, Path(r.id)) for r in records]), chosen).boards, chosen)


def values(table: Table, label: str) -> dict[str, float]:
    titles = {column.key: column.title for column in table.columns}
    (row,) = (row for row in table.rows if row.label == label)
    return {titles[key]: round(value.mean, 6) for key, value in row.values.items()}


def text(table: Table) -> str:
    return "\n".join(note.text for note in table.notes)


ZERO_SHOT = (
    of("xnli-zeroshot", {"en": (80,), "de": (60,)}),
    of("pawsx-zeroshot", {"en": (90,)}),
    of("udpos-zeroshot", {"en": (50, 99), "de": (30, 99)}),
    of("xquad-zeroshot", {"en": (80, 60), "de": (40, 20)}),
    of("tatoeba", {"de": (20,), "fr": (40,)}),
    of("bucc2018", {"de": (50,)}),
)


def test_a_score_is_the_mean_over_problems_of_the_mean_over_languages_and_of_questions_that_of_two_metrics() -> None:
    (table,) = tables(*ZERO_SHOT)
    assert table.title == (
        "XTREME score over the 6 of 9 problems present: xnli-zeroshot, pawsx-zeroshot, udpos-zeroshot, xquad-zeroshot, "
        "bucc2018, tatoeba (options.encoder here)"
    )
    problems = {"xnli-zeroshot": 70, "pawsx-zeroshot": 90, "udpos-zeroshot": 40, "xquad-zeroshot": 50}
    problems |= {"bucc2018": 50, "tatoeba": 30}
    groups = {"sentence pairs": 80, "retrieval": 40}
    assert values(table, "uniform") == {"score over 6": 55, **groups, **problems}
    assert "Not the score over all problems: panx-zeroshot, mlqa-zeroshot, tydiqa-zeroshot are absent." in text(table)
    assert table.facts["absent"] == "panx-zeroshot, mlqa-zeroshot, tydiqa-zeroshot"
    assert table.slug == "xtreme-score-zeroshot"


def test_zero_shot_and_joint_problems_share_no_score_and_encoders_neither() -> None:
    joint = [of("xnli", {"en": (50,)}), of("pawsx", {"en": (70,)})]
    found = {t.slug: t for t in tables(*ZERO_SHOT, *joint)}
    assert [*found] == ["xtreme-score-zeroshot", "xtreme-score-joint"]
    assert values(found["xtreme-score-joint"], "uniform")["score over 4"] == pytest.approx((50 + 70 + 50 + 30) / 4)
    assert "No score of XTREME's" in text(found["xtreme-score-joint"])
    other = [of(r.cell.variant, {"en": (10,)}, words="encoder=there") for r in joint]
    slugs = [t.slug for t in tables(*joint, *other)]
    assert slugs == ["xtreme-score-joint-1", "xtreme-score-joint-2"]
    assert tables(joint[0], of("pawsx", {"en": (70,)}, words="encoder=there")) == []


def test_what_is_only_scored_counts_for_every_method() -> None:
    other = [of("xnli-zeroshot", {"en": (60,), "de": (60,)}, "gradvac"), of("pawsx-zeroshot", {"en": (60,)}, "gradvac")]
    (table,) = tables(*ZERO_SHOT[:2], *ZERO_SHOT[4:], *other)
    assert values(table, "gradvac")["score over 4"] == pytest.approx((60 + 60 + 50 + 30) / 4)
    assert [row.label for row in table.rows] == ["uniform", "gradvac"]
    assert "bucc2018, tatoeba: nothing is trained there, so that every method has the same score." in text(table)


def test_a_method_that_lacks_a_problem_has_no_score_and_is_named() -> None:
    (table,) = tables(*ZERO_SHOT[:2], of("xnli-zeroshot", {"en": (99,), "de": (99,)}, "gradvac"))
    assert "score over 2" not in values(table, "gradvac")
    assert table.heading.endswith("(incomplete: 3 of 4 methods x problems)")
    assert "gradvac: no result on pawsx-zeroshot, so no score over all." in text(table)
    assert [row.label for row in table.rows] == ["uniform", "gradvac"]


def test_seeds_make_an_interval_in_which_a_fixed_model_has_no_spread() -> None:
    seeds = [of("xnli-zeroshot", {"en": (value,)}, seed=seed) for seed, value in enumerate((70, 72, 77))]
    (table,) = tables(*seeds, ZERO_SHOT[4])
    found = table.rows[0].values["score"]
    alone = t_interval([70, 72, 77])
    assert found.mean == pytest.approx((73 + 30) / 2)
    assert found.interval is not None
    assert found.interval.high - found.interval.low == pytest.approx((alone.high - alone.low) / 2)


def test_one_problem_alone_has_no_score_and_two_scores_over_the_same_boards_are_one() -> None:
    assert tables(ZERO_SHOT[0]) == []
    (table,) = tables(*ZERO_SHOT[4:])
    assert values(table, "uniform") == {"score over 2": 40, "bucc2018": 50, "tatoeba": 30}


def test_tables_of_other_tasks_are_as_they_were() -> None:
    made = make(Collection([Run.of(record())]))
    assert made.overall == []
    assert len(made.all) == 1


def test_every_variant_of_a_declared_score_has_its_metrics() -> None:
    scores = task_data("xtreme").scores
    assert {name: len(score.variants) for name, score in scores.items()} == {"zeroshot": 9, "joint": 9}
    for score in scores.values():
        for variant, metrics in score.variants.items():
            assert metrics[0] == METRICS.get(variant.removesuffix("-zeroshot"), ["f1"])[0]


def test_a_score_that_names_an_unknown_variant_is_refused() -> None:
    protocol = {"version": 1, "description": "", "variants": ["a"], "epochs": 1, "batch_size": 1}
    content = {
        "variants": {"a": {"description": "", "protocol": "p"}},
        "protocols": {"p": {**protocol, "optimizer": {"name": "sgd", "lr": 0.1}}},
        "scores": {"all": {"title": "All", "groups": {"g": {"a": ["x"], "b": ["x"]}}}},
    }
    registry.register_task("with_a_score", protocols=content)(type("Task", (), {}))
    with pytest.raises(UsageError, match="the score 'All' names the unknown variant 'b'"):
        task_data("with_a_score")
