"""A report on gradient geometry: seeds are averaged, controls stand beside answers, gaps are said, pages are safe."""

from __future__ import annotations

import base64
import csv
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic_runs import FAMILIES, OBJECTIVES, relations, run, trajectory

from mtlbench.errors import UsageError
from mtlbench.geometry import combined, files, followed, tabulated
from mtlbench.geometry import report as report_module
from mtlbench.geometry.analysis import studies
from mtlbench.geometry.contents import Part, Report, Section
from mtlbench.geometry.drawn import Options
from mtlbench.geometry.files import as_csv, markdown, write
from mtlbench.geometry.loading import load
from mtlbench.geometry.page import Image, page
from mtlbench.geometry.report import analyse
from mtlbench.record.reading import cells
from mtlbench.record.runs import Run, collect
from mtlbench.record.trajectory import GEOMETRY, Relation
from mtlbench.rendering.table import Column, Value

HOSTILE = '<script>alert(1)</script>"'
SHORT = Options(steps=("last",))


@pytest.fixture(autouse=True, scope="module")
def few_permutations() -> Iterable[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(followed, "PERMUTATIONS", 199)
        yield


def runs(results: Path) -> list[Run]:
    return collect(cells(results)).runs


def part(section: Section, words: str) -> Part:
    """The first part whose title holds the words."""
    return next(p for p in section.every() if words in p.title)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        run(folder, seed)
    run(folder, 0, "single_task", geometry=False, quality=45.0, separate=True)
    run(folder, 0, "pcgrad", geometry=False)
    return folder


@pytest.fixture(scope="module")
def report(results: Path) -> Report:
    return analyse(runs(results))


@pytest.fixture(scope="module")
def written(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write(report, folder)
    return folder


# --- what stands in it


@pytest.mark.parametrize(
    ("split", "said"), [("train", "models have seen"), ("val", "not trained on"), ("", "not name")]
)
def test_of_which_split_the_probes_are_is_said(tmp_path: Path, split: str, said: str) -> None:
    run(tmp_path, 0, recorded=replace(trajectory(0), split=split))
    (section,) = analyse(runs(tmp_path), SHORT).sections
    assert said in section.facts["probe batches"]


def test_seeds_of_one_setting_are_one_row_with_the_mean_over_them(report: Report, results: Path) -> None:
    (section,) = report.sections
    (row,) = section.summary.rows
    assert row.n == 3
    trajectories = [load(r.path.parent).trajectory for r in runs(results) if (r.path.parent / GEOMETRY).exists()]
    assert len(trajectories) == 3
    for pairs in ("within", "between", "contrast"):
        expected = combined.mean(trajectories, pairs)
        assert row.values[pairs].mean == expected.values[-1]
        assert row.values[pairs].interval.low == expected.low[-1]
    assert "seeds 0, 1, 2" in section.settings[0].title


def test_no_answer_on_proximity_stands_without_its_controls(report: Report) -> None:
    table, rivals = part(report.sections[0], "What similarity follows").tables
    assert "Mantel r.overlap" in rivals.rows[-1].values
    by_label = {row.label: row.values for row in table.rows}
    asked = [key for key in by_label["mean over training"] if key in ("Mantel r.tree", "adjusted Rand index.family")]
    assert len(asked) == 2
    labels = [row.label for row in table.rows]
    for control in ("overlap alone, no model", "untrained model"):
        assert all(key in by_label[control] for key in asked)
        assert labels.index(control) < labels.index("mean over training")
    partial = {key for key in by_label["mean over training"] if key.startswith("partial")}
    assert {"partial Mantel r.tree.overlap", "partial Mantel r.tree.sentences"} <= partial
    text = " ".join(part(report.sections[0], "What similarity follows").findings)
    assert "overlap" in text
    assert "untrained model" in text


def test_planted_families_are_found_and_their_absence_is_too(report: Report, tmp_path: Path) -> None:
    (row,) = report.sections[0].summary.rows
    assert row.values["contrast"].interval.low > 0.3
    assert row.values["mantel.similarity"].mean > 0.9
    run(tmp_path, 0, recorded=trajectory(3, affinity=0.0))
    (section,) = analyse(runs(tmp_path), SHORT).sections
    (row,) = section.summary.rows
    assert row.values["contrast"].interval.low < 0 < row.values["contrast"].interval.high
    assert row.values["mantel.similarity"].mean < 0.7
    assert any("cannot be told from zero" in text for text in part(section, "while the model trains").findings)


def test_how_much_of_an_aligned_plot_is_shared_noise_is_said(report: Report, results: Path) -> None:
    of = [load(r.path.parent).trajectory for r in runs(results) if (r.path.parent / GEOMETRY).exists()]
    aligned, apart = (combined.mean(of, "all", kind).values[-1] for kind in ("aligned", "unaligned"))
    text = " ".join(part(report.sections[0], "while the model trains").findings)
    assert f"{apart / aligned:.0%} of it is left; the rest is noise that the examples share" in text
    drawings = {d.name: d.caption for d in report.sections[0].drawings()}
    assert "contains the noise that aligned examples share" in drawings["gradvac-aligned-last"]


def test_an_unaligned_recording_is_not_said_to_be_aligned(tmp_path: Path) -> None:
    run(tmp_path, 0, recorded=trajectory(0, aligned=False))
    (section,) = analyse(runs(tmp_path), SHORT).sections
    said = " ".join([*part(section, "while the model trains").findings, *(d.caption for d in section.drawings())])
    assert "aligned examples share" not in said
    assert "not aligned over objectives" in said


def test_corrections_of_the_method_stand_beside_what_pcgrad_would_correct(report: Report) -> None:
    (table,) = part(report.sections[0], "Conflicts").tables
    assert [row.label for row in table.rows] == ["encoder", "decoder"]
    for row in table.rows:
        assert row.values["would"].mean == pytest.approx(0.2, abs=0.02)
        assert row.values["did"].mean == pytest.approx(0.6, abs=0.02)
        assert row.values["did"].interval.n == 3


def test_a_method_that_saw_no_gramian_has_the_conflicts_of_probes(tmp_path: Path) -> None:
    run(tmp_path, 0, "uniform", recorded=trajectory(0, method=False))
    (section,) = analyse(runs(tmp_path), SHORT).sections
    (table,) = part(section, "Conflicts").tables
    assert [row.label for row in table.rows] == ["all", "embedding", "encoder.0", "encoder.1", "decoder.0"]
    assert all(0 <= row.values["negative"].mean <= 1 for row in table.rows)


# --- quality


def test_a_gain_is_the_mean_over_seeds_less_that_of_single_task_training(report: Report) -> None:
    (table,) = part(report.sections[0], "Do objectives gain").tables
    assert [row.label for row in table.rows] == list(OBJECTIVES)
    for row in table.rows:
        assert row.values["gain"].mean == pytest.approx(5.1)  # 50 and seeds 0, 0.1, 0.2 against 45


def test_quality_that_follows_similarity_is_seen_at_equal_step_and_equal_loss(tmp_path: Path) -> None:
    for place, common in enumerate((0.2, 0.4, 0.6, 0.8, 1.0), 1):
        run(
            tmp_path,
            0,
            quality=30 + 10 * common,
            words=f"protocol.optimizer.lr=0.0{place}",
            recorded=trajectory(place, common=common, steps=(0, 20, 40)),
        )
    (section,) = analyse(runs(tmp_path), SHORT).sections
    assert len(section.settings) == 5
    quality = part(section, "better models")
    (sentence,) = quality.findings
    found = re.findall(r"r = (-?[\d.]+) \[(-?[\d.]+), (-?[\d.]+)\]", sentence)
    assert len(found) == 2
    assert all(float(r) > 0.8 and float(low) > 0 for r, low, _ in found)
    assert "Over 5 settings" in sentence
    assert "positive" in sentence
    assert len(quality.drawings) == 1


def test_of_many_settings_those_with_most_seeds_have_figures_and_all_have_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_module, "MOST_DRAWN", 1)
    run(tmp_path, 0, "gradvac")
    for seed in range(2):
        run(tmp_path, seed, "pcgrad")
    (section,) = analyse(runs(tmp_path), SHORT).sections
    drawn = {setting.slug: sum(len(p.drawings) for p in setting.parts) for setting in section.settings}
    assert drawn["gradvac"] == 0 < drawn["pcgrad"]
    assert all(any(p.tables for p in setting.parts) for setting in section.settings)
    assert any("1 of 2 settings" in text for text in section.missing)


def test_too_few_settings_for_a_correlation_are_said(report: Report) -> None:
    (sentence,) = part(report.sections[0], "better models").findings
    assert "Too few settings" in sentence


# --- what is missing


def test_what_the_runs_lack_is_said(report: Report, tmp_path: Path) -> None:
    (told,) = report.sections[0].missing
    assert "1 runs have no geometry.npz" in told
    assert "pcgrad" in told
    assert "geometry.every=epoch" in told
    run(tmp_path, 0, recorded=trajectory(0, with_relations=False))
    (section,) = analyse(runs(tmp_path), SHORT).sections
    said = " ".join(section.missing)
    assert "One seed alone" in said
    assert "single-task" in said
    follows = part(section, "What similarity follows")
    assert "no relation" in follows.findings[0]
    assert not follows.tables
    assert "all" in section.summary.rows[0].values


def test_runs_without_any_geometry_are_refused_with_the_word_that_records_it(tmp_path: Path) -> None:
    run(tmp_path, 0, geometry=False)
    with pytest.raises(UsageError, match=r"geometry\.every=epoch"):
        analyse(runs(tmp_path))


def test_a_broken_file_is_told_and_leaves_the_other_seeds(tmp_path: Path) -> None:
    run(tmp_path, 0)
    (run(tmp_path, 1) / GEOMETRY).write_bytes(b"nothing")
    (section,) = analyse(runs(tmp_path), SHORT).sections
    assert section.summary.rows[0].n == 1
    assert any("is not a whole trajectory" in text for text in section.missing)


def test_seeds_with_other_snapshots_are_left_out_and_counted(tmp_path: Path) -> None:
    run(tmp_path, 0)
    run(tmp_path, 1, recorded=trajectory(1, steps=(0, 10, 40)))
    (section,) = analyse(runs(tmp_path), SHORT).sections
    assert section.summary.rows[0].n == 1
    assert any("1 of 2 seeds" in text for text in section.missing)


def test_other_objectives_make_a_section_of_their_own(tmp_path: Path) -> None:
    run(tmp_path, 0)
    others = tuple(name[::-1] for name in OBJECTIVES)
    run(tmp_path, 1, objectives=others, recorded=trajectory(0, objectives=others))
    found = studies(runs(tmp_path))
    assert [study.objectives for study in found] == sorted([OBJECTIVES, others])
    assert len({study.slug for study in found}) == 2


def test_variants_are_compared_where_their_losses_are_equal(tmp_path: Path) -> None:
    for seed in range(2):
        fast = trajectory(seed, method=False)
        slow = replace(
            fast, gramians=fast.gramians[:3], losses=fast.losses[:3], steps=np.array([0, 40, 80]), total_steps=80
        )
        run(tmp_path, seed, recorded=fast)
        run(tmp_path, seed, recorded=slow, task="multimnist/mnist")
        run(tmp_path, seed, "pcgrad", recorded=fast)
    made = analyse(runs(tmp_path), SHORT)
    assert len(made.sections) == 3
    compared = made.sections[-1]
    assert "at equal loss" in compared.title
    of_fast, of_slow = (row.values for row in compared.summary.rows)  # pcgrad is on one variant alone
    assert (of_fast["step"].mean, of_slow["step"].mean) == (20, 80)
    trained = [trajectory(seed, method=False) for seed in range(2)]
    expected = np.mean([combined.mean([one], "contrast").at("20").mean for one in trained])
    assert of_fast["contrast"].mean == of_slow["contrast"].mean == pytest.approx(expected)
    assert of_fast["mantel.tree"] == of_slow["mantel.tree"]
    assert f"{compared.slug}-summary.csv" in page(made, defaultdict(lambda: Image(b"", 4.0)))


def test_one_variant_has_nothing_to_be_compared_with(report: Report) -> None:
    assert len(report.sections) == 1


# --- choices


def test_steps_are_the_nearest_snapshots_and_those_beyond_training_are_refused(tmp_path: Path) -> None:
    run(tmp_path, 0)
    (section,) = analyse(runs(tmp_path), Options(steps=("12", "half"))).sections
    (table,) = part(section, "while the model trains").tables
    assert [row.label for row in table.rows] == ["step 10", "half-trained (step 20)"]
    for step in ("41", "first", "-1"):
        with pytest.raises(UsageError, match=f"--step {step}"):
            analyse(runs(tmp_path), Options(steps=(step,)))


def test_parts_of_the_model_have_rows_and_maps_of_their_own(tmp_path: Path) -> None:
    run(tmp_path, 0)
    (section,) = analyse(runs(tmp_path), replace(SHORT, granularity="enc_dec", kind="unaligned")).sections
    table, _ = part(section, "What similarity follows").tables
    labels = [row.label for row in table.rows]
    assert {"encoder: mean over training", "decoder: mean over training"} <= {*labels}
    names = [d.name for d in section.drawings()]
    assert "gradvac-unaligned-last-encoder" in names
    assert len(names) == len(set(names))


# --- files


def test_every_link_of_the_page_and_the_summary_leads_to_a_file(written: Path) -> None:
    whole = (written / files.PAGE).read_text()
    links = set(re.findall(r'href="([^"#:]+)"', whole))
    links |= set(re.findall(r"\]\(([^)#]+)\)", (written / files.SUMMARY).read_text()))
    assert len(links) > 20
    assert not [link for link in links if not (written / link).is_file()]


def test_the_page_asks_for_nothing_and_lets_only_its_own_style_and_script_in(written: Path) -> None:
    whole = (written / files.PAGE).read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', whole)[1]
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", whole, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src &#x27;sha256-{digest}&#x27;" in policy or f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src" in policy
    assert not re.search(r'(?:src|href)="(?:https?:)?//', whole)
    assert " style=" not in whole


def test_the_figures_in_the_page_are_those_on_disk(written: Path, report: Report) -> None:
    whole = (written / files.PAGE).read_text()
    images = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', whole)
    assert len(images) == len(report.sections[0].drawings())
    on_disk = {path.read_bytes() for path in (written / "figures").glob("*.svg")}
    assert {base64.b64decode(image) for image in images} == on_disk


def test_names_that_others_wrote_do_nothing_in_the_page(tmp_path: Path) -> None:
    relation = Relation("tree", "distance", HOSTILE, relations()[0].values)
    label = Relation("family", "label", HOSTILE, np.array([HOSTILE if f == "Aic" else f for f in FAMILIES]))
    objectives = (HOSTILE, *OBJECTIVES[1:])
    recorded = replace(trajectory(0, objectives=objectives), relations=(relation, label))
    run(tmp_path / "runs", 0, objectives=objectives, recorded=recorded)
    report = analyse(runs(tmp_path / "runs"), SHORT)
    whole = page(report, defaultdict(lambda: Image(b"", 4.0)))
    assert "alert(1)" in whole
    assert "<script>alert" not in whole
    assert "<script>alert" not in markdown(report).replace("\\<", "")


def test_tables_as_csv_have_full_precision_and_no_formulas() -> None:
    inside = Value(1 / 3)
    table = tabulated.table(
        "t", "t", [Column("x", "x"), Column("y", "y")], [("=1+1", 2, {"x": inside, "y": Value(0.5, p=0.25)})], "pair"
    )
    header, row = csv.reader(as_csv(table).splitlines())
    assert header == ["pair", "seeds", "x", "y", "y.p"]
    assert row[0] == "'=1+1"
    assert float(row[2]) == 1 / 3
    assert [float(text) for text in row[3:]] == [0.5, 0.25]


def test_every_pair_is_in_the_csv_with_its_relations(written: Path) -> None:
    with (written / "tables" / "multimnist-digits-digits-1-gradvac-pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15
    for row in rows:
        first, second = row["pair"].split(", ")
        same = FAMILIES[OBJECTIVES.index(first)] == FAMILIES[OBJECTIVES.index(second)]
        assert float(row["relation.tree"]) == (1.0 if same else 2.0)
        assert (float(row["disattenuated.last"]) > 0.45) is same


def test_a_folder_that_cannot_be_written_is_told(report: Report, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--out DIR"):
        write(report, tmp_path / "file" / "below")
