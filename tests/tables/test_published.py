"""Published rows are quoted faithfully, apart from measured ones, and our statistics recompute their summaries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from mtlbench.catalogue.building import task_class
from mtlbench.catalogue.registry import tasks
from mtlbench.catalogue.variants import task_data
from mtlbench.errors import UsageError
from mtlbench.statistics import delta_m, mean_ranks, measure_weights
from mtlbench.tables.published import Result, Source, published, published_protocols, published_rows, read

NASH, FAMO, DBMTL = read(ROOT / "tasks" / "nyuv2" / "published.yaml")[:3]
TABLE_A = [*NASH.rows, *FAMO.rows]
TABLE_B = [*DBMTL.rows]
COLUMNS = list(TABLE_A[0].values)
OBJECTIVES = [key.split(".")[0] for key in COLUMNS]
SIGNS = np.array(
    [-1.0 if key.startswith("depth") or key in ("normal.mean", "normal.median") else 1.0 for key in COLUMNS]
)


def agrees(recomputed: float, printed: float) -> bool:
    """Whether both differ by 0.01 at most, as printed with two decimals: the rows are rounded themselves."""
    return abs(round(recomputed, 2) - printed) < 0.011


def scores(rows: list[Result]) -> np.ndarray:
    return np.array([[row.values[key] for key in COLUMNS] for row in rows])


def multi_task(rows: list[Result]) -> list[Result]:
    return [row for row in rows if row.method != "single_task"]


def improvements(rows: list[Result], weighting: str) -> dict[str, float]:
    """Delta-m against single-task training, positive is better."""
    (base,) = (row for row in rows if row.method == "single_task")
    weights = measure_weights(OBJECTIVES, weighting)
    values = delta_m(scores(rows), scores([base])[0], SIGNS, weights)
    return dict(zip((row.label for row in rows), values.tolist(), strict=True))


def ranks(rows: list[Result]) -> dict[str, float]:
    pool = multi_task(rows)
    return dict(zip((row.label for row in pool), mean_ranks(scores(pool), SIGNS).tolist(), strict=True))


def order(values: dict[str, float]) -> list[str]:
    """Labels of the multi-task rows, best first."""
    return sorted((label for label in values if label != "STL"), key=lambda label: -values[label])


# --- NYUv2: the published summaries follow from the published rows


def test_the_tables_are_whole() -> None:
    assert (len(TABLE_A), len(TABLE_B)) == (13, 19)
    assert all(list(row.values) == COLUMNS for row in [*TABLE_A, *TABLE_B])
    assert len(COLUMNS) == 9


def test_published_delta_m_is_recomputed_from_its_rows_within_rounding() -> None:
    recomputed = improvements(TABLE_A, "metric")
    for row in TABLE_A:
        if row.label != "IMTL-G":
            assert agrees(-recomputed[row.label], row.summaries["delta_m"]), row.label


def test_the_printed_delta_m_of_imtl_g_does_not_follow_from_its_row() -> None:
    (imtl,) = (row for row in TABLE_A if row.label == "IMTL-G")
    assert imtl.summaries["delta_m"] == -0.76
    assert round(-improvements(TABLE_A, "metric")["IMTL-G"], 2) == -0.60


def test_the_task_weighted_variant_is_recomputed_within_rounding() -> None:
    recomputed = improvements(TABLE_A, "objective")
    for row in TABLE_A:
        assert agrees(-recomputed[row.label], row.summaries["task_weighted"]), row.label


def test_published_delta_p_is_recomputed_from_its_rows_within_rounding() -> None:
    recomputed = improvements(TABLE_B, "objective")
    for row in TABLE_B:
        assert agrees(recomputed[row.label], row.summaries["delta_p"]), row.label


def test_published_mean_ranks_are_those_among_the_twelve_multi_task_rows() -> None:
    recomputed = ranks(TABLE_A)
    assert len(recomputed) == 12
    for row in multi_task(TABLE_A):
        assert agrees(recomputed[row.label], row.summaries["mean_rank"]), row.label


def test_mean_ranks_depend_on_the_pool_and_without_famo_differ_from_the_printed_ones() -> None:
    recomputed = ranks([*NASH.rows])
    expected = {"SI": 7.00, "RLW": 10.22, "UW": 6.56, "PCGrad": 7.00, "GradDrop": 6.33, "LS": 8.11}
    assert {label: round(recomputed[label], 2) for label in expected} == expected
    assert round(ranks(TABLE_A)["LS"], 2) == 8.89


def test_the_weighting_decides_who_is_first() -> None:
    by_metric, by_task = (order(improvements(TABLE_A, weighting)) for weighting in ("metric", "objective"))
    assert (by_metric[0], by_task[0]) == ("FAMO", "Nash-MTL")
    assert (by_metric.index("MGDA") + 1, by_task.index("MGDA") + 1) == (5, 11)


# --- MultiMNIST: the rows that a table shows


def test_rows_are_shown_for_the_protocol_that_reproduces_their_set_up_and_no_other() -> None:
    rows, _ = published_rows("multimnist", "mnist", "sener2018@1")
    assert {row.label: {k: v.mean for k, v in row.values.items()} for row in rows} == {
        "single task (Sener & Koltun 2018)": {"left.accuracy": 97.23, "right.accuracy": 95.90},
        "uniform (Sener & Koltun 2018)": {"left.accuracy": 96.46, "right.accuracy": 94.99},
        "uncertainty weighting (Sener & Koltun 2018)": {"left.accuracy": 96.47, "right.accuracy": 95.29},
        "GradNorm (Sener & Koltun 2018)": {"left.accuracy": 96.27, "right.accuracy": 94.84},
        "MGDA-UB (Sener & Koltun 2018)": {"left.accuracy": 97.26, "right.accuracy": 95.90},
        "MGDA, rerun (Yu et al. 2020)": {"left.accuracy": 96.45, "right.accuracy": 94.95},
        "PCGrad (Yu et al. 2020)": {"left.accuracy": 96.58, "right.accuracy": 95.50},
        "joint (Tseng, Pytorch-PCGrad 2020)": {"left.accuracy": 90.30, "right.accuracy": 90.01},
        "PCGrad (Tseng, Pytorch-PCGrad 2020)": {"left.accuracy": 95.00, "right.accuracy": 92.00},
    }
    assert all(row.role == "published" and row.count == "?" for row in rows)
    assert not any(value.best or value.interval or value.p for row in rows for value in row.values.values())
    for variant, protocol in [("mnist", "cpu@1"), ("fashion", "sener2018@1"), ("mnist", "sener2018@1+epochs=2")]:
        assert published("multimnist", variant, protocol) == []


def test_every_source_has_a_note_with_its_seeds_evidence_and_caveat() -> None:
    _, notes = published_rows("multimnist", "mnist", "sener2018@1")
    texts = [note.text for note in notes[1:]]
    sources = published("multimnist", "mnist", "sener2018@1")
    assert len(texts) == len(sources) == 3
    for text, source in zip(texts, sources, strict=True):
        assert text.startswith(f"{source.short}: {source.source}")
        assert "number of seeds not known" in text
        assert source.caveat in text
    assert "read in the paper" in texts[0]
    assert "0.8 and 1.0 points lower" in texts[0]
    assert "under-trained" in texts[2]


def test_a_table_without_published_rows_says_where_some_are() -> None:
    rows, (note,) = published_rows("multimnist", "mnist", "cpu@1")
    assert rows == []
    assert "multimnist/mnist under the protocol cpu@1; sener2018@1 has some" in note.text
    _, (note,) = published_rows("multimnist", "digits", "digits@1")
    assert note.text.endswith("under the protocol digits@1.")


def test_a_task_without_the_file_has_no_published_rows(tiny: Path) -> None:
    assert published_protocols("tiny", "plain") == []


def test_the_files_of_all_tasks_name_variants_protocols_and_measures_that_exist() -> None:
    seen = 0
    for name in tasks.names():
        protocols = tasks.entry(name).protocols
        if not isinstance(protocols, Path) or not (file := protocols.parent / "published.yaml").exists():
            continue
        data = task_data(name)
        measures = {f"{o.name}.{m.name}" for o in task_class(name).objectives for m in o.metrics}
        for source in read(file):
            seen += 1
            assert set(source.variants) <= set(data.variants)
            for label in source.protocols:
                (protocol,) = (p for p in data.protocols.values() if p.label == label)
                assert set(source.variants) <= set(protocol.variants)
            assert all(set(row.values) <= measures for row in source.rows)
    assert seen


def test_unverified_numbers_and_unknown_keys_are_refused(tmp_path: Path) -> None:
    good = FAMO.model_dump(mode="json")
    assert Source.model_validate(good) == FAMO
    for change in ({"evidence": "M"}, {"seeds": 0}, {"remark": "x"}):
        file = tmp_path / "published.yaml"
        file.write_text(f"[{ {**good, **change} }]")
        with pytest.raises(UsageError, match="cannot be read"):
            read(file)
