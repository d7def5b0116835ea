"""`mtlbench table` as people type it: filters, formats, files, options, exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from handmade import constant, record, save

import mtlbench
from mtlbench.cells.request import parse
from mtlbench.record.schema import Provenance, Record
from mtlbench.tables.options import TableOptions

SCORES = [(80.0, 50.0), (82.0, 52.0), (78.0, 48.0)]
METHODS = ("single_task", "uniform", "gradvac")


def on(variant: str, protocol: str, methods: tuple[str, ...] = METHODS) -> list[Record]:
    return [
        record(
            r.cell.method,
            r.cell.seed,
            [({"left": x, "right": y}, {"left": x, "right": y})],
            task=f"multimnist/{variant}",
            words=f"protocol={protocol}",
        )
        for method in methods
        for r, (x, y) in zip(constant(method, SCORES), SCORES, strict=True)
    ]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    save([*on("digits", "digits"), *on("mnist", "cpu"), *on("mnist", "sener2018")], tmp_path / "runs")
    return tmp_path / "runs"


FIGURES = ("scores", "trade-off", "learning-curves", "score-against-cost")
Command = Callable[..., Any]


def test_all_tables_by_default_and_those_that_words_choose(command: Command, results: Path) -> None:
    titles = [
        "multimnist/digits, protocol digits@1",
        "multimnist/mnist, protocol cpu@1",
        "multimnist/mnist, protocol sener2018@1",
    ]

    def shown(words: str) -> list[int]:
        told = command(f"table {words}")
        assert told.code == 0, told.output
        return [place for place, title in enumerate(titles) if title in told.output]

    assert shown("") == [0, 1, 2]
    assert shown("task=multimnist/mnist") == [1, 2]
    assert shown("protocol=cpu,digits") == [0, 1]
    assert shown("protocol=sener2018@1") == [2]
    assert shown("task=multimnist regime=fixed") == [0, 1, 2]


def test_a_choice_of_methods_keeps_the_base_row_and_a_choice_of_seeds_holds_for_all(
    command: Command, results: Path
) -> None:
    told = command("table task=multimnist/digits method=gradvac seed=0,1 --format json")
    table = json.loads(told.output)
    assert [(row["label"], row["n"]) for row in table["rows"]] == [("single_task", 2), ("gradvac", 2)]
    assert "delta_m" in table["rows"][1]["values"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("task=multimnst", "No records under runs fit. There are records of: multimnist/digits, multimnist/mnist"),
        ("method=pcgrad task=multimnist/fashion", "No records under runs fit"),
        ("regime=tunde", "regime=tunde is not allowed: it is fixed or tuned"),
        ("tsk=multimnist", "Did you mean 'task'"),
        ("--selection best", "selection=best is not allowed. Rules: best-val"),
        ("--selection mean-last-7", "needs 7 evaluations"),
        ("--against unifrom", "Did you mean 'uniform'"),
        ("--level 95", "95 is not allowed: a level is between 0 and 1"),
        ("--format csv", "A CSV file holds one table"),
        ("results=nowhere", "No cells under nowhere"),
        ("--out in_the_way/site", "cannot be written to in_the_way/site/leaderboards/figures: Not a directory"),
        ("--out in_the_way/table.md", "in_the_way/table.md cannot be written: File exists"),
    ],
)
def test_bad_words_are_refused_and_say_what_is_allowed(command: Command, results: Path, words: str, says: str) -> None:
    (results.parent / "in_the_way").touch()
    told = command(f"table {words}")
    assert told.code == 2
    assert says in " ".join(told.output.split())
    assert "Traceback" not in told.output


@pytest.mark.parametrize("form", ["md", "csv", "latex", "html", "json"])
def test_every_format_is_printed_and_written_to_a_file_of_that_name_alike(
    command: Command, results: Path, tmp_path: Path, form: str
) -> None:
    suffix = "tex" if form == "latex" else form
    printed = command(f"table task=multimnist/digits --format {form}")
    written = command(f"table task=multimnist/digits --out deep/er/table.{suffix}")
    assert printed.code == written.code == 0
    assert (tmp_path / "deep" / "er" / f"table.{suffix}").read_text() == printed.output
    assert "multimnist/digits, protocol digits@1" in printed.output.split("</title>")[0][:2000]


def test_a_folder_gets_every_rendering_the_figures_and_an_index(
    command: Command, results: Path, tmp_path: Path
) -> None:
    told = command("table --out site")
    assert told.code == 0
    assert "open site/index.html" in told.output
    made = {str(path.relative_to(tmp_path / "site")) for path in (tmp_path / "site").rglob("*") if path.is_file()}
    for slug in ("multimnist-digits-digits-1", "multimnist-mnist-cpu-1", "multimnist-mnist-sener2018-1"):
        assert {f"leaderboards/{slug}.{suffix}" for suffix in ("md", "csv", "tex", "html", "json")} <= made
        for figure in FIGURES:
            assert {f"leaderboards/figures/{slug}-{figure}.{suffix}" for suffix in ("png", "svg")} <= made
    assert {"index.html", "leaderboards/README.md"} <= made
    text = (tmp_path / "site" / "leaderboards" / "multimnist-mnist-cpu-1.md").read_text()
    shown = [line.partition("](")[2].rstrip(")") for line in text.splitlines() if line.startswith("![")]
    assert shown == [f"figures/multimnist-mnist-cpu-1-{name}.png" for name in FIGURES]
    again = {path: path.read_bytes() for path in (tmp_path / "site").rglob("*") if path.is_file()}
    command("table --out site")
    assert {path: path.read_bytes() for path in again} == again


def test_tables_written_among_the_records_do_not_disturb_them(command: Command, results: Path) -> None:
    assert command("table --out runs").code == 0
    assert "multimnist/mnist, protocol cpu@1" in command("table").output


def test_published_rows_stand_apart_under_their_protocol_only(command: Command, results: Path) -> None:
    table = json.loads(command("table protocol=sener2018 --published --format json").output)
    published = [row for row in table["rows"] if row["role"] == "published"]
    assert {"left.accuracy": 96.46, "right.accuracy": 94.99} in [
        {key: value["mean"] for key, value in row["values"].items()} for row in published
    ]
    assert not any(value["best"] or value["p"] for row in published for value in row["values"].values())
    assert "rank" not in [column["key"] for column in table["columns"]]  # of two metrics
    assert [row["role"] for row in table["rows"]][-len(published) :] == ["published"] * len(published)
    other = command("table protocol=cpu --published").output
    assert (
        "There are no published rows for multimnist/mnist under the protocol cpu@1; sener2018@1 has some."
        in " ".join(other.split())
    )


def test_what_must_not_be_mixed_is_refused_with_the_other_tables_shown(command: Command, results: Path) -> None:
    base = record().provenance
    assert isinstance(base, Provenance)
    (path,) = save(
        [
            record(
                "mgda",
                task="multimnist/mnist",
                words="protocol=cpu",
                provenance=base.model_copy(update={"data_digest": "e" * 64}),
            )
        ],
        results,
    )
    told = command("table")
    assert told.code == 1
    assert "multimnist/digits, protocol digits@1" in told.output
    message = " ".join(told.output.split("refused:")[1].split())
    assert "data: dd" not in message
    assert "multimnist/mnist, protocol cpu@1: no table" in message
    assert str(path.relative_to(results.parent)) in message
    marked = command("table --allow-mixed")
    assert marked.code == 0
    assert "mgda†" in marked.output


def test_trials_alone_make_no_table_and_that_is_said(command: Command, tmp_path: Path) -> None:
    trials = parse(["method=uniform", "task=multimnist", "tune=2"]).cells
    save([record(cell=cell) for cell in trials], tmp_path / "runs")
    told = command("table")
    assert told.code == 2
    assert "mtlbench status" in told.output
    assert "digits@1 trials" in command("status").output


def test_the_same_tables_are_there_in_python(results: Path) -> None:
    tables = mtlbench.leaderboards(results, TableOptions(selection="last"))
    assert [table.slug for table in tables.all][1] == "multimnist-mnist-cpu-1-last"
    assert tables.all[0].facts["selection"] == "last (official: best-val)"


def test_what_is_missing_is_warned_of_in_every_format(command: Command, results: Path) -> None:
    broken = next(results.glob("multimnist/digits/digits@1/gradvac/seed1-*/record.json"))
    broken.write_text("{")
    for words in ("", "--format md", "--out table.html"):
        told = command(f"table task=multimnist/digits {words}")
        assert told.code == 0
        assert "warning: multimnist/digits: gradvac, seed 1: unreadable" in " ".join(told.output.split())
        assert broken.parent.name in told.output.replace("\n", "")
